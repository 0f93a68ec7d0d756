//! The audit log: what happened, in one order, in files on the local disk.
//!
//! It does not decide anything and sends nothing anywhere. [`Journal`] is the one writer, [`event`] the one vocabulary;
//! [`read`](fn@read) and [`follow()`] are for those who look.
//!
//! The law: a record that was reported as written is with the operating system (or on the disk, see [`Durability`]), whole,
//! on one line, numbered without gaps; a record that could not be written is reported as such, and nothing of it remains.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::ending::Ending;
use key::KeyError;

pub mod chain;
pub mod checkpoint;
pub mod compactor;
mod desk;
mod encode;
pub mod event;
pub(crate) mod excerpt;
mod extent;
mod filter;
mod follow;
mod hostile;
mod journal;
pub mod kept;
pub mod key;
mod queue;
mod read;
pub mod reading;
mod record;
pub mod redact;
pub mod render;
pub mod segment;
pub mod story;
mod summary;
mod survey;
mod tally;
#[cfg(test)]
pub(crate) mod testing;
pub mod touched;
pub mod undone;
pub mod values;
pub mod verify;
mod writer;

pub use encode::Batch;
pub use excerpt::hex;
pub use extent::{DEFAULT_SORTED, Extent, InvalidExtent, MAX_HELD_BACK, SortKey};
pub use filter::Filter;
pub use follow::{Follow, follow};
pub(crate) use hostile::{folder_hostile, packed_hostile, show_hostile, summary_hostile};
pub use journal::{Health, Journal, Submission, Waiting};
pub use kept::{CHECKPOINT, LEDGER_CHECKPOINT, RememberedTip};
pub use read::{ReadError, Records, read, read_since, read_whole};
pub use record::{EventName, NotARecord, Record, UnknownEvent, VERSION};
pub use tally::{SignedTip, Written};

/// How the journal is to work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The folder of the log's files; made if it does not exist.
    pub dir: PathBuf,
    /// The file of the key that signs checkpoints; made if it does not exist.
    pub key: PathBuf,
    /// A segment is closed when it has this many bytes.
    pub segment_bytes: u64,
    /// A segment is closed when it is this old, at the next record.
    pub segment_age: Duration,
    /// Closed segments older than this are removed; without it, none ever is.
    pub keep: Option<Duration>,
    /// What a record must survive before the statement it announces is forwarded.
    pub durability: Durability,
    /// SQL text longer than this is recorded in part, with its length and hash. Bytes.
    pub max_sql_bytes: usize,
    /// A parameter longer than this is recorded in part, with its length and hash. Bytes.
    pub max_parameter_bytes: usize,
}

impl Settings {
    /// What holds for a gate with this state folder where nothing else is said.
    #[must_use]
    pub fn in_folder(state: &Path) -> Self {
        Self {
            dir: state.join("audit"),
            key: state.join("audit-key.pem"),
            segment_bytes: 64 * 1024 * 1024,
            segment_age: Duration::from_hours(24),
            keep: None,
            durability: Durability::Process,
            max_sql_bytes: 1024 * 1024,
            max_parameter_bytes: 64 * 1024,
        }
    }

    /// The file of the key that hashes parameters, beside the other key; made when a target asks for it.
    #[must_use]
    pub fn value_key(&self) -> PathBuf {
        self.key.with_extension("values")
    }
}

/// What a record must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The death of the gate: the record is with the operating system.
    #[default]
    Process,
    /// The death of the machine: the record is on the disk (one sync for all that wait).
    Power,
}

/// Why a record is not in the log, or the log cannot be opened. Cheap to clone: one fault fails many waiting records.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuditError {
    /// The folder or a file cannot be made, opened or read.
    #[error("the audit log at {} cannot be opened: {source}", path.display())]
    Open {
        /// The folder or file.
        path: PathBuf,
        /// The operating system's reason.
        source: Arc<io::Error>,
    },
    /// Another gate writes there.
    #[error("the audit log at {} is in use by another gate", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The operating system did not take the record.
    #[error("the audit log cannot be written: {source}")]
    Write {
        /// Whether it is for lack of space (of the disk, the quota or the allowed file size).
        disk_full: bool,
        /// The operating system's reason.
        source: Arc<io::Error>,
    },
    /// There is no key to sign with.
    #[error(transparent)]
    Key(Arc<KeyError>),
    /// An event could not be encoded.
    #[error("a record could not be encoded")]
    Encode,
    /// The journal was closed.
    #[error("the audit log is closed")]
    Closed,
}

impl From<KeyError> for AuditError {
    fn from(error: KeyError) -> Self {
        Self::Key(Arc::new(error))
    }
}

impl AuditError {
    /// Whether the reason is lack of space.
    #[must_use]
    pub fn disk_full(&self) -> bool {
        matches!(self, Self::Write { disk_full: true, .. })
    }

    /// How the session ends whose statement could not be put on record.
    #[must_use]
    pub fn ending(&self) -> Ending {
        Ending::AuditFailed {
            disk_full: self.disk_full(),
        }
    }

    fn open(path: &Path, error: io::Error) -> Self {
        Self::Open {
            path: path.to_owned(),
            source: Arc::new(error),
        }
    }

    fn write(error: io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        Self::Write {
            disk_full: matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge),
            source: Arc::new(error),
        }
    }
}
