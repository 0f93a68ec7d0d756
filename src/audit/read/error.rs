//! What can be wrong with a line of the log, or with reading it, in words.
//!
//! It finds nothing (the reader does).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::LONGEST;

/// What is wrong with a line, or with reading as such.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The folder or a file cannot be read. Reading ends here.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// The operating system's reason.
        source: Arc<io::Error>,
    },
    /// A line is not a record.
    #[error("{}, line {line}: not a record: {source}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What the parser says.
        source: Arc<serde_json::Error>,
    },
    /// A line was written by a program that is newer than this one.
    #[error("{}, line {line}: unknown record version {version}; use a newer tidegate", file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: u64,
        /// Its version.
        version: u32,
    },
    /// A line longer than any record.
    #[error("{}, line {line}: longer than {LONGEST} bytes", file.display())]
    TooLong {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// So many statements have no outcome, or so many sessions are wanted, that not all can be remembered: no gate leaves as many.
    #[error("{}, line {line}: too many records before it to keep track of; the output may be incomplete", file.display())]
    TooMuch {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// Records that were to be held back, to be sorted or for the newest of them, take too much memory.
    #[error("{count} of the requested records are too large to sort; ask for fewer, or for a shorter time")]
    NotHeldBack {
        /// How many.
        count: u64,
    },
    /// A packed segment cannot be unpacked. Reading goes on with the next.
    #[error("{}: damaged after line {after}; the rest of the file is not shown: {source}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The last line of it that was read, from 1.
        after: u64,
        /// What the unpacker says.
        source: Arc<io::Error>,
    },
    /// A file ends in the middle of a line: the gate died while writing it (its next start cuts it off and says so).
    #[error("{}, line {line}: the file ends inside the line, after {bytes} bytes", file.display())]
    Unfinished {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: u64,
        /// How much there is of it.
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
