//! File of the log, read line by line.
//!
//! This module parses nothing. A line that may still be in the course of being written is read again from its beginning.

use std::io::{self, BufRead, Read};
use std::path::PathBuf;

use super::source::SegmentLines;
use crate::audit::segment::{MAX_LINE_BYTES, Segment};

/// File that is being read.
#[derive(Debug)]
pub(super) struct OpenLogFile {
    pub(super) number: u32,
    pub(super) path: PathBuf,
    pub(super) reader: SegmentLines,
    /// Number of lines so far, with those that were left out.
    pub(super) lines: u64,
    /// True if there is a newer file, so that this one no longer grows; its end was read once more since that was seen.
    pub(super) final_look: bool,
}

/// Next line of a file.
pub(super) enum FileLine {
    /// Whole line, without its newline.
    Whole,
    TooLong,
    /// End of the file, after this many bytes of a line without its end.
    End(u64),
}

impl OpenLogFile {
    pub(super) fn new(segment: Segment, reader: SegmentLines) -> Self {
        Self {
            number: segment.number,
            path: segment.path,
            reader,
            lines: 0,
            final_look: false,
        }
    }

    pub(super) fn line(&mut self, line: &mut Vec<u8>) -> io::Result<FileLine> {
        line.clear();
        let read = Read::take(&mut self.reader, MAX_LINE_BYTES).read_until(b'\n', line)? as u64;
        if line.last() == Some(&b'\n') {
            line.pop();
            self.lines = self.reader.jumped().unwrap_or(self.lines) + 1;
            return Ok(FileLine::Whole);
        }
        if read == MAX_LINE_BYTES {
            self.lines = self.reader.jumped().unwrap_or(self.lines) + 1;
            self.reader.skip_until(b'\n')?;
            line.clear();
            line.shrink_to(0);
            return Ok(FileLine::TooLong);
        }
        // The writer may take an unfinished line back and write another one, so it is read again from its beginning.
        self.lines = self.reader.jumped().unwrap_or(self.lines);
        self.reader.take_back(read);
        Ok(FileLine::End(read))
    }
}
