//! Checkpoints outside the log that tell where its end has to be: beside it, kept elsewhere, remembered by the ledger.
//!
//! It compares nothing: a start (`audit::recovery`) and [`super::verify`] hold the log against them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::checkpoint::Checkpoint;
use super::event::Event;
use super::record::LogRecord;

/// The file beside the segments that holds the last checkpoint, as its line.
pub const CHECKPOINT_FILE: &str = "checkpoint.json";
/// The checkpoint that the gate's ledger remembers, where the log is handed out.
pub const LEDGER_CHECKPOINT_FILE: &str = "ledger-checkpoint.json";
/// No checkpoint is longer.
pub const MAX_CHECKPOINT_BYTES: u64 = 64 * 1024;

/// A checkpoint as it was printed, sent or put beside the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedCheckpoint {
    /// Signed content.
    pub checkpoint: Checkpoint,
    /// Time of the signature.
    pub time: Timestamp,
    /// The line as it was written.
    pub line: String,
}

/// A text that is not a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a checkpoint; expected the line that `tidegate audit checkpoint` prints")]
pub struct CheckpointError;

impl SavedCheckpoint {
    /// Reads the line of a checkpoint, and checks that it was signed with the key it names.
    pub fn parse(text: &[u8]) -> Result<Self, CheckpointError> {
        let line = str::from_utf8(text.trim_ascii()).map_err(|_| CheckpointError)?;
        match LogRecord::parse(line.as_bytes()).map_err(|_| CheckpointError)? {
            LogRecord {
                time,
                event: Event::Checkpoint(checkpoint),
                ..
            } if checkpoint.is_genuine(time) => Ok(Self {
                checkpoint: checkpoint.into_owned(),
                time,
                line: line.to_owned(),
            }),
            _ => Err(CheckpointError),
        }
    }

    /// Reads one from a file or another stream, and no more of it than a checkpoint has.
    pub fn read(from: impl Read) -> io::Result<Result<Self, CheckpointError>> {
        let mut text = Vec::new();
        from.take(MAX_CHECKPOINT_BYTES).read_to_end(&mut text)?;
        Ok(Self::parse(&text))
    }

    /// Reads the one that the gate left beside the log in this folder, if there is one.
    pub fn beside(dir: &Path) -> Result<Option<Self>, NoCheckpointError> {
        let path = dir.join(CHECKPOINT_FILE);
        match File::open(&path).and_then(Self::read) {
            Ok(found) => Ok(Some(found?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(UnreadableError::new(&path, error).into()),
        }
    }
}

/// Error of a checkpoint beside a log that cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NoCheckpointError {
    /// There is one, or there may be, and it cannot be read.
    #[error(transparent)]
    Unreadable(#[from] UnreadableError),
    /// The file holds something else.
    #[error(transparent)]
    NotACheckpoint(#[from] CheckpointError),
}

/// A folder or file that could not be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
pub struct UnreadableError {
    /// The folder or file.
    pub path: PathBuf,
    /// The operating system's reason.
    pub source: Arc<io::Error>,
}

impl UnreadableError {
    pub(super) fn new(path: &Path, error: io::Error) -> Self {
        Self {
            path: path.to_owned(),
            source: Arc::new(error),
        }
    }
}

/// A place that a checkpoint comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointSource {
    /// Kept elsewhere, and given by whoever verifies.
    Given,
    /// The file beside the log.
    Beside,
    /// The gate's ledger.
    Ledger,
}

impl fmt::Display for CheckpointSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Given => "the checkpoint that was given",
            Self::Beside => "the checkpoint beside the log",
            Self::Ledger => "the ledger",
        })
    }
}

/// The end of the log as the ledger remembers it: what a start holds the log against.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RememberedTip {
    /// No ledger belongs to the log.
    #[default]
    NotAsked,
    /// There is no ledger.
    NoLedger,
    /// The ledger knows no log yet.
    None,
    /// The ledger's text about it is not a checkpoint.
    Damaged,
    /// The last checkpoint that the ledger was told.
    At(SavedCheckpoint),
}

impl RememberedTip {
    /// Reads what a ledger has: nothing, or the line of a checkpoint.
    #[must_use]
    pub fn of_ledger(line: Option<&str>) -> Self {
        match line.map(|line| SavedCheckpoint::parse(line.as_bytes())) {
            None => Self::None,
            Some(Ok(kept)) => Self::At(kept),
            Some(Err(CheckpointError)) => Self::Damaged,
        }
    }

    /// The checkpoint, if there is one.
    #[must_use]
    pub fn kept(&self) -> Option<&SavedCheckpoint> {
        match self {
            Self::At(kept) => Some(kept),
            _ => None,
        }
    }
}
