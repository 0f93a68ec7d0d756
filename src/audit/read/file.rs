//! A file of the log, read line by line.
//!
//! It parses nothing. A line that somebody may still be writing is read anew from its beginning.

use std::io::{self, BufRead, Read};
use std::path::PathBuf;

use super::source::Source;
use crate::audit::segment::{LONGEST, Segment};

/// The file being read.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) number: u32,
    pub(super) path: PathBuf,
    pub(super) reader: Source,
    /// Lines so far, with those that were left out.
    pub(super) lines: u64,
    /// There is a newer file, so this one does not grow any more: its end was read once more since that was seen.
    pub(super) final_look: bool,
}

/// The next line of a file.
pub(super) enum Line {
    /// A whole line; the newline is cut off.
    Whole,
    TooLong,
    /// Nothing more, or this many bytes of a line without its end.
    End(u64),
}

impl Open {
    pub(super) fn new(segment: Segment, reader: Source) -> Self {
        Self {
            number: segment.number,
            path: segment.path,
            reader,
            lines: 0,
            final_look: false,
        }
    }

    pub(super) fn line(&mut self, line: &mut Vec<u8>) -> io::Result<Line> {
        line.clear();
        let read = Read::take(&mut self.reader, LONGEST).read_until(b'\n', line)? as u64;
        if line.last() == Some(&b'\n') {
            line.pop();
            self.lines = self.reader.jumped().unwrap_or(self.lines) + 1;
            return Ok(Line::Whole);
        }
        if read == LONGEST {
            self.lines = self.reader.jumped().unwrap_or(self.lines) + 1;
            self.reader.skip_until(b'\n')?;
            line.clear();
            line.shrink_to(0);
            return Ok(Line::TooLong);
        }
        // The writer may take an unfinished line back and write another: it is read anew from its beginning.
        self.lines = self.reader.jumped().unwrap_or(self.lines);
        self.reader.take_back(read);
        Ok(Line::End(read))
    }
}
