//! The log's lines behind a position, as bytes, also while it is written, rolled, packed and removed. Blocking.
//!
//! It does not parse a line, but for its number and its mark. A line's place is where it stands in its file: what a line says of
//! itself cannot make it, or others, be left out.
//!
//! INVARIANT: lines come in the order of the log, each whole, none left out that is there; where segments are missing,
//! [`Tail::gap`] says which lines were in them. A position that the log does not bear out (lines taken back for want of space,
//! lost with the machine's power, another log in the same folder) leads back to where it does, so lines may come twice.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::position::Position;
use crate::audit::chain::{Link, Mark, number, split};
use crate::audit::segment::{self, LONGEST, Lines, Segment};

/// Lines given out that are remembered, in case that the newest are taken back: a batch of the journal is smaller.
const REMEMBERED: usize = 4096;

/// A line and where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Without its newline.
    pub(super) bytes: Vec<u8>,
    /// Behind it.
    pub(super) position: Position,
}

/// Reads on.
#[derive(Debug, Default)]
pub(super) struct Tail {
    dir: PathBuf,
    /// Behind the last line that was given out.
    position: Position,
    /// Such positions of this segment, the newest last.
    given: VecDeque<Position>,
    open: Option<Open>,
    /// Lines that are not in the log any more: the first and the last of them.
    gap: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Open {
    segment: Segment,
    lines: Lines,
    offset: u64,
    /// Its end was reached, so that its last lines may have been taken back before it is read on.
    paused: bool,
    /// A newer segment was seen; its end is looked at once more, for it may have grown until then.
    last_look: bool,
}

impl Tail {
    pub(super) fn new(dir: &Path, position: Position) -> Self {
        Self {
            dir: dir.to_owned(),
            position,
            ..Self::default()
        }
    }

    /// The first and the last of the lines that are missing before the one given out last. Says it once.
    pub(super) fn gap(&mut self) -> Option<(u64, u64)> {
        self.gap.take()
    }

    /// The next line; `None` at the end of the log, for now.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let Some(open) = &mut self.open else {
                match self.find()? {
                    Some(open) => self.open = Some(open),
                    None => return Ok(None),
                }
                continue;
            };
            if std::mem::take(&mut open.paused) && !open.bears_out(&self.position)? {
                self.go_back()?;
                continue;
            }
            let start = open.offset == 0;
            let Some(bytes) = open.line()? else {
                open.paused = true;
                if open.last_look {
                    self.leave();
                } else if newer(&self.dir, open.segment.number)? {
                    open.last_look = true;
                } else {
                    return Ok(None);
                }
                continue;
            };
            let (segment, offset) = (open.segment.number, open.offset);
            return Ok(Some(self.give(bytes, segment, offset, start)));
        }
    }

    /// Moves behind a line of that segment, which ends at `offset`.
    fn give(&mut self, bytes: Vec<u8>, segment: u32, offset: u64, start: bool) -> Line {
        let (found, chain) = (number(&bytes), mark(&bytes));
        let due = self.position.seq + 1;
        if start
            && segment > self.position.segment.max(1)
            && let Some(found) = found.filter(|found| *found > due)
        {
            self.gap = Some((due, found - 1));
        }
        self.position = Position {
            segment,
            offset,
            length: bytes.len() as u64 + 1,
            // What is no record is sent on as it is: whoever verifies the copy is to see it.
            seq: found.unwrap_or(self.position.seq),
            chain,
            began: if start { chain } else { self.position.began },
        };
        if self.given.len() == REMEMBERED {
            self.given.pop_front();
        }
        self.given.push_back(self.position);
        Line {
            bytes,
            position: self.position,
        }
    }

    /// Opens the segment of the position, or the first there is after it.
    fn find(&mut self) -> io::Result<Option<Open>> {
        let segments = segment::list(&self.dir)?;
        let wanted = self.position.segment;
        if segments.last().is_some_and(|last| last.number < wanted) {
            self.begin_anew();
        }
        let wanted = self.position.segment;
        let Some(segment) = segments.iter().find(|segment| segment.number >= wanted) else {
            return Ok(None);
        };
        if segment.number != wanted || self.position.offset == 0 {
            return Open::new(segment.clone(), 0).map(Some);
        }
        let mut open = Open::new(segment.clone(), self.position.offset.saturating_sub(self.position.length))?;
        if open.ends_with(&self.position)? {
            return Ok(Some(open));
        }
        let mut open = Open::new(segment.clone(), 0)?;
        if open.line()?.is_some_and(|first| mark(&first) == self.position.began) {
            tracing::warn!(
                segment = segment.number,
                "the audit segment does not match the forwarding position; sending the segment again"
            );
            self.position.offset = 0;
        } else {
            self.begin_anew();
        }
        // With another look at what there is.
        self.find()
    }

    /// The log is another one: all of it is sent.
    fn begin_anew(&mut self) {
        tracing::warn!("the audit log does not match the forwarding position; sending all of it");
        self.position = Position::default();
        self.given.clear();
    }

    /// Lines given out were taken back: goes on behind the last one that is still there.
    fn go_back(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        while let Some(position) = self.given.pop_back() {
            if open.bears_out(&position)? {
                self.position = position;
                self.given.push_back(position);
                return Ok(());
            }
        }
        self.position.offset = 0;
        open.go_to(0)
    }

    /// Goes on to the segment after this one.
    fn leave(&mut self) {
        if let Some(open) = self.open.take() {
            self.position.segment = open.segment.number + 1;
            self.position.offset = 0;
            self.given.clear();
        }
    }
}

/// What a line is known by: its mark, or one made of it if it is no record.
fn mark(line: &[u8]) -> Mark {
    split(line).map_or_else(|| Link::START.after(line).mark(), |(_, mark)| mark)
}

/// Whether there is a segment with a higher number.
fn newer(dir: &Path, number: u32) -> io::Result<bool> {
    Ok(segment::list(dir)?.last().is_some_and(|last| last.number > number))
}

impl Open {
    fn new(segment: Segment, offset: u64) -> io::Result<Self> {
        let lines = segment.open()?;
        let mut open = Self {
            segment,
            lines,
            offset: 0,
            paused: false,
            last_look: false,
        };
        match &mut open.lines {
            Lines::Plain(_) => open.go_to(offset)?,
            lines @ Lines::Packed(_) => open.offset = io::copy(&mut Read::take(lines, offset), &mut io::sink())?,
        }
        Ok(open)
    }

    /// Goes to a place in a segment as it is written.
    fn go_to(&mut self, offset: u64) -> io::Result<()> {
        if let Lines::Plain(reader) = &mut self.lines {
            reader.seek(SeekFrom::Start(offset))?;
            self.offset = offset;
        }
        Ok(())
    }

    /// Goes behind the position, and says whether its line is there. What is packed does not change any more.
    fn bears_out(&mut self, position: &Position) -> io::Result<bool> {
        if self.offset == 0 || !matches!(self.lines, Lines::Plain(_)) {
            return Ok(true);
        }
        if position.segment != self.segment.number {
            return Ok(false);
        }
        self.go_to(position.offset.saturating_sub(position.length))?;
        self.ends_with(position)
    }

    /// Whether the next line is the position's.
    fn ends_with(&mut self, position: &Position) -> io::Result<bool> {
        let line = self.line()?;
        Ok(self.offset == position.offset && line.is_some_and(|line| mark(&line) == position.chain))
    }

    /// The next whole line. One that has no end yet is read again from its beginning: it may be taken back meanwhile.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let read = Read::take(&mut self.lines, LONGEST).read_until(b'\n', &mut line)? as u64;
        if line.pop_if(|byte| *byte == b'\n').is_some() {
            self.offset += read;
            return Ok(Some(line));
        }
        self.go_to(self.offset)?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
