//! Errors of reading the log.
//!
//! This module detects nothing (the reader does).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::MAX_LINE_BYTES;

/// Error of a line, or of reading as such.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The folder or a file cannot be read. Reading ends here.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Path of the folder or file.
        path: PathBuf,
        /// Error of the operating system.
        source: Arc<io::Error>,
    },
    /// A line is not a record.
    #[error("{}, line {line}: not a record: {source}", file.display())]
    Malformed {
        /// Path of the file.
        file: PathBuf,
        /// Number of the line, from 1.
        line: u64,
        /// Error of the parser.
        source: Arc<serde_json::Error>,
    },
    /// The line was written by a newer program.
    #[error("{}, line {line}: unknown record version {version}; use a newer tidegate", file.display())]
    Version {
        /// Path of the file.
        file: PathBuf,
        /// Number of the line, from 1.
        line: u64,
        /// Version of the line.
        version: u32,
    },
    /// The line is longer than any record.
    #[error("{}, line {line}: longer than {MAX_LINE_BYTES} bytes", file.display())]
    TooLong {
        /// Path of the file.
        file: PathBuf,
        /// Number of the line, from 1.
        line: u64,
    },
    /// More statements without an outcome, or more wanted sessions, than can be remembered: no gate leaves as many.
    #[error("{}, line {line}: too many records before it to keep track of; the output may be incomplete", file.display())]
    TooMuch {
        /// Path of the file.
        file: PathBuf,
        /// Number of the line, from 1.
        line: u64,
    },
    /// Records that were to be held back, to be sorted or for the newest of them, take too much memory.
    #[error("{count} of the requested records are too large to sort; ask for fewer, or for a shorter time")]
    NotHeldBack {
        /// Number of the records that were not held back.
        count: u64,
    },
    /// A packed segment cannot be unpacked. Reading continues with the next one.
    #[error("{}: damaged after line {after}; the rest of the file is not shown: {source}", file.display())]
    Damaged {
        /// Path of the file.
        file: PathBuf,
        /// Number of the last line that was read, from 1.
        after: u64,
        /// Error of the decompression.
        source: Arc<io::Error>,
    },
    /// A file ends in the middle of a line: the gate crashed while writing it (its next start cuts it off and records that).
    #[error("{}, line {line}: the file ends inside the line, after {bytes} bytes", file.display())]
    Unfinished {
        /// Path of the file.
        file: PathBuf,
        /// Number of the line, from 1.
        line: u64,
        /// Number of bytes of the line.
        bytes: u64,
    },
}

impl ReadError {
    pub(in crate::audit) fn io(path: &Path, error: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source: Arc::new(error),
        }
    }
}
