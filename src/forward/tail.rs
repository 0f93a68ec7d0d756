//! The log's lines behind a position, as bytes, also while it is written, rolled, packed and removed. Blocking.
//!
//! It does not parse a line, but for its number and its mark. A line's number is its place; the offset only finds it fast.
//!
//! INVARIANT: lines come in the order of the log, each whole and once; where some are missing, [`Tail::gap`] says which.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::position::Position;
use crate::audit::chain::{number, split};
use crate::audit::segment::{self, Lines, Segment};

/// A longer line is not one of ours.
const LONGEST: u64 = 64 * 1024 * 1024;

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
    open: Option<Open>,
    /// Lines that are not in the log any more: the first and the last of them.
    gap: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Open {
    segment: Segment,
    lines: Lines,
    offset: u64,
    /// It was read from its beginning for the line that is due.
    rewound: bool,
    /// A newer segment was seen; its end is looked at once more, for it may have grown until then.
    last_look: bool,
}

impl Tail {
    pub(super) fn new(dir: &Path, position: Position) -> Self {
        Self {
            dir: dir.to_owned(),
            position,
            open: None,
            gap: None,
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
            let Some(bytes) = open.line()? else {
                if open.last_look {
                    self.leave();
                } else if newer(&self.dir, open.segment.number)? {
                    open.last_look = true;
                } else {
                    return Ok(None);
                }
                continue;
            };
            if let Some(line) = self.place(bytes)? {
                return Ok(Some(line));
            }
        }
    }

    /// Puts a line in its place; `None` if it was given out before, or if it is looked for from the segment's beginning.
    fn place(&mut self, bytes: Vec<u8>) -> io::Result<Option<Line>> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let due = self.position.seq + 1;
        let (found, mark) = (number(&bytes), split(&bytes).map(|(_, mark)| mark));
        match found {
            Some(found) if found < due => {
                let same = found < self.position.seq || mark == Some(self.position.chain);
                // A line that was taken back for want of space, and another in its place: it is a new one.
                if same {
                    return Ok(None);
                }
            }
            Some(found) if found == due => {}
            // Not where it should be: the offset is of another time.
            _ if !open.rewound => {
                open.rewind()?;
                return Ok(None);
            }
            Some(found) => self.gap = Some((due, found - 1)),
            // What is no record is sent on as it is: whoever verifies the copy is to see it.
            None => {}
        }
        open.rewound = false;
        let position = Position {
            segment: open.segment.number,
            offset: open.offset,
            seq: found.unwrap_or(self.position.seq),
            chain: mark.unwrap_or(self.position.chain),
        };
        self.position = position;
        Ok(Some(Line { bytes, position }))
    }

    /// Opens the segment of the position, or the first there is after it.
    fn find(&mut self) -> io::Result<Option<Open>> {
        let wanted = self.position.segment;
        let Some(segment) = segment::list(&self.dir)?.into_iter().find(|segment| segment.number >= wanted) else {
            return Ok(None);
        };
        let offset = if segment.number == wanted { self.position.offset } else { 0 };
        Open::new(segment, offset).map(Some)
    }

    /// Goes on to the segment after this one.
    fn leave(&mut self) {
        if let Some(open) = self.open.take() {
            self.position.segment = open.segment.number + 1;
            self.position.offset = 0;
        }
    }
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
            rewound: offset == 0,
            last_look: false,
        };
        if offset > 0 {
            open.skip(offset)?;
        }
        Ok(open)
    }

    /// Goes to a place; what is packed is unpacked up to there.
    fn skip(&mut self, offset: u64) -> io::Result<()> {
        match &mut self.lines {
            Lines::Plain(reader) => {
                reader.seek(SeekFrom::Start(offset))?;
            }
            lines @ Lines::Packed(_) => {
                io::copy(&mut Read::take(lines, offset), &mut io::sink())?;
            }
        }
        self.offset = offset;
        Ok(())
    }

    fn rewind(&mut self) -> io::Result<()> {
        match &mut self.lines {
            Lines::Plain(reader) => reader.rewind()?,
            Lines::Packed(_) => self.lines = self.segment.open()?,
        }
        (self.offset, self.rewound) = (0, true);
        Ok(())
    }

    /// The next whole line. One that has no end yet is read again from its beginning: it may be taken back meanwhile.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let read = Read::take(&mut self.lines, LONGEST).read_until(b'\n', &mut line)? as u64;
        if line.pop_if(|byte| *byte == b'\n').is_some() {
            self.offset += read;
            return Ok(Some(line));
        }
        if let Lines::Plain(reader) = &mut self.lines {
            back(reader, self.offset)?;
        }
        Ok(None)
    }
}

fn back(reader: &mut BufReader<File>, offset: u64) -> io::Result<()> {
    reader.seek(SeekFrom::Start(offset)).map(drop)
}

#[cfg(test)]
mod tests;
