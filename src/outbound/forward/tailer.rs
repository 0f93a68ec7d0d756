//! Lines of the log after a position, as bytes, also while segments are written, rolled, packed and removed. Blocks.
//!
//! This module parses nothing of a line but its sequence number and its mark. The position of a line comes from its place in
//! the file: a line's own content cannot cause it, or other lines, to be left out.
//!
//! INVARIANT: lines come in the order of the log, each whole, and none that is there is left out; where segments are missing,
//! [`LogTailer::gap`] returns the range of the lines that were in them. If the log does not confirm a position (lines taken back for
//! want of space or lost in a power failure, another log in the same folder), reading goes back to the last position that it
//! confirms, so lines may come twice.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::position::LogPosition;
use crate::audit::chain::{ChainLink, LinkMark, number, split};
use crate::audit::segment::{self, MAX_LINE_BYTES, Segment, SegmentReader};

/// Number of positions that are remembered in case the newest lines are taken back; a batch of the journal has fewer lines.
const MAX_REMEMBERED_LINES: usize = 4096;

/// Reader that continues from a position.
#[derive(Debug, Default)]
pub(super) struct LogTailer {
    dir: PathBuf,
    /// Position after the last line that was returned.
    position: LogPosition,
    /// Positions of the lines returned from this segment, the newest last.
    given: VecDeque<LogPosition>,
    open: Option<OpenSegment>,
    /// Sequence numbers of the first and the last line that are no longer in the log.
    gap: Option<(u64, u64)>,
}

#[derive(Debug)]
struct OpenSegment {
    segment: Segment,
    lines: SegmentReader,
    offset: u64,
    /// True if the end was reached, so the last lines may have been taken back before reading continues.
    paused: bool,
    /// True if a newer segment was seen; the end of this one is read once more because it may have grown until then.
    last_look: bool,
}

impl LogTailer {
    pub(super) fn new(dir: &Path, position: LogPosition) -> Self {
        Self {
            dir: dir.to_owned(),
            position,
            ..Self::default()
        }
    }

    /// Returns, once, the first and the last sequence number that are missing before the line returned last.
    pub(super) fn gap(&mut self) -> Option<(u64, u64)> {
        self.gap.take()
    }

    /// Reads the next line (without its newline) and returns the position after it; `None` at the current end of the log.
    pub(super) fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Option<LogPosition>> {
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
            if !open.line(line)? {
                open.paused = true;
                if open.last_look {
                    self.leave();
                } else if newer(&self.dir, open.segment.number)? {
                    open.last_look = true;
                } else {
                    return Ok(None);
                }
                continue;
            }
            let (segment, offset) = (open.segment.number, open.offset);
            return Ok(Some(self.give(line, segment, offset, start)));
        }
    }

    /// Advances the position past a line of `segment` that ends at `offset`.
    fn give(&mut self, line: &[u8], segment: u32, offset: u64, start: bool) -> LogPosition {
        let (found, chain) = (number(line), mark(line));
        let due = self.position.seq + 1;
        if start
            && segment > self.position.segment.max(1)
            && let Some(found) = found.filter(|found| *found > due)
        {
            self.gap = Some((due, found - 1));
        }
        self.position = LogPosition {
            segment,
            offset,
            length: line.len() as u64 + 1,
            // A line that is no record is sent as it is, so that a verification of the copy finds it.
            seq: found.unwrap_or(self.position.seq),
            chain,
            began: if start { chain } else { self.position.began },
        };
        if self.given.len() == MAX_REMEMBERED_LINES {
            self.given.pop_front();
        }
        self.given.push_back(self.position);
        self.position
    }

    /// Opens the segment of the position, or the first one after it.
    fn find(&mut self) -> io::Result<Option<OpenSegment>> {
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
            return OpenSegment::new(segment.clone(), 0).map(Some);
        }
        let mut open = OpenSegment::new(segment.clone(), self.position.offset.saturating_sub(self.position.length))?;
        if open.ends_with(&self.position)? {
            return Ok(Some(open));
        }
        let (mut open, mut first) = (OpenSegment::new(segment.clone(), 0)?, Vec::new());
        if open.line(&mut first)? && mark(&first) == self.position.began {
            tracing::warn!(
                segment = segment.number,
                "the audit segment does not match the forwarding position; sending the segment again"
            );
            self.position.offset = 0;
        } else {
            self.begin_anew();
        }
        // Lists the segments once more.
        self.find()
    }

    /// Resets the position to the beginning, because this is another log: all of it is sent.
    fn begin_anew(&mut self) {
        tracing::warn!("the audit log does not match the forwarding position; sending all of it");
        self.position = LogPosition::default();
        self.given.clear();
    }

    /// Goes back to the last line that is still there, after lines that were returned have been taken back.
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

    /// Moves on to the next segment.
    fn leave(&mut self) {
        if let Some(open) = self.open.take() {
            self.position.segment = open.segment.number + 1;
            self.position.offset = 0;
            self.given.clear();
        }
    }
}

/// Returns the mark of a line, or one computed from its bytes if it is no record.
fn mark(line: &[u8]) -> LinkMark {
    split(line).map_or_else(|| ChainLink::START.after(line).mark(), |(_, mark)| mark)
}

/// Reports whether there is a segment with a higher number.
fn newer(dir: &Path, number: u32) -> io::Result<bool> {
    Ok(segment::list(dir)?.last().is_some_and(|last| last.number > number))
}

impl OpenSegment {
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
            SegmentReader::Plain(_) => open.go_to(offset)?,
            lines @ SegmentReader::Packed(_) => open.offset = io::copy(&mut Read::take(lines, offset), &mut io::sink())?,
        }
        Ok(open)
    }

    /// Seeks to an offset in a segment that is not packed.
    fn go_to(&mut self, offset: u64) -> io::Result<()> {
        if let SegmentReader::Plain(reader) = &mut self.lines {
            reader.seek(SeekFrom::Start(offset))?;
            self.offset = offset;
        }
        Ok(())
    }

    /// Seeks past `position` and reports whether its line is still there. A packed segment does not change any more.
    fn bears_out(&mut self, position: &LogPosition) -> io::Result<bool> {
        if self.offset == 0 || !matches!(self.lines, SegmentReader::Plain(_)) {
            return Ok(true);
        }
        if position.segment != self.segment.number {
            return Ok(false);
        }
        self.go_to(position.offset.saturating_sub(position.length))?;
        self.ends_with(position)
    }

    /// Reports whether the next line is the one of `position`.
    fn ends_with(&mut self, position: &LogPosition) -> io::Result<bool> {
        let mut line = Vec::new();
        Ok(self.line(&mut line)? && self.offset == position.offset && mark(&line) == position.chain)
    }

    /// Reads the next whole line; returns false if there is none. A line without a newline is read again from its beginning, because
    /// it may be taken back meanwhile.
    fn line(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        line.clear();
        let read = Read::take(&mut self.lines, MAX_LINE_BYTES).read_until(b'\n', line)? as u64;
        if line.pop_if(|byte| *byte == b'\n').is_some() {
            self.offset += read;
            return Ok(true);
        }
        self.go_to(self.offset)?;
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
