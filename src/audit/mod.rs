//! Audit log: all events, in one order, in files on the local disk.
//!
//! This module decides nothing and sends nothing anywhere. [`Journal`] is the only writer, [`event`] the only vocabulary;
//! [`read`](fn@read) and [`follow()`] read the log.
//!
//! INVARIANT: a record that was reported as written is with the operating system (or on the disk, see [`Durability`]), whole,
//! on one line, numbered without gaps; a record that could not be written is reported as such, and nothing of it remains.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::model::ending::Ending;
use key::KeyError;

pub mod chain;
pub mod checkpoint;
pub mod compactor;
mod encode;
pub mod event;
pub mod evidence;
mod extent;
mod filter;
mod follow;
mod group_commit;
mod hostile;
mod journal;
pub mod key;
mod read;
mod record;
mod recovery;
pub mod redact;
pub mod render;
pub mod report;
pub mod rollbacks;
pub mod row_history;
pub mod runs;
pub mod saved_checkpoint;
pub mod segment;
pub(crate) mod session_line;
pub mod sql_analysis;
mod stats;
mod summary;
pub mod table_access;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod text;
pub mod timeline;
pub(crate) mod truncate;
pub mod values;
pub mod verify;
mod writer;

pub use encode::RecordBatch;
pub use extent::{DEFAULT_SORTED_RECORDS, ExtentError, MAX_HELD_BACK, SearchExtent, SortKey};
pub use filter::Filter;
pub use follow::{RecordStream, follow};
pub use group_commit::{JournalHealth, SubmissionFuture, SubmissionResult};
pub(crate) use hostile::{folder_hostile, packed_hostile, show_hostile, summary_hostile};
pub use journal::Journal;
pub use read::{LogRecords, ReadError, read, read_since, read_whole};
pub use record::{EventName, EventNameError, LogRecord, RecordEncoder, RecordError, VERSION};
pub use saved_checkpoint::{CHECKPOINT_FILE, LEDGER_CHECKPOINT_FILE, RememberedTip};
pub use stats::{SignedTip, StatsSnapshot};

/// Settings of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalSettings {
    /// Folder of the log's files; created if it does not exist.
    pub dir: PathBuf,
    /// File of the key that signs checkpoints; created if it does not exist.
    pub key: PathBuf,
    /// Size in bytes from which a segment is closed.
    pub segment_bytes: u64,
    /// Age from which a segment is closed, at the next record.
    pub segment_age: Duration,
    /// Age from which closed segments are removed; `None`: never.
    pub keep: Option<Duration>,
    /// Durability that a record needs before the statement it announces is forwarded.
    pub durability: Durability,
    /// Length in bytes from which SQL text is recorded in part, with its length and hash.
    pub max_sql_bytes: usize,
    /// Length in bytes from which a parameter is recorded in part, with its length and hash.
    pub max_parameter_bytes: usize,
}

impl JournalSettings {
    /// Returns the default settings for a gate with this state folder.
    #[must_use]
    pub fn in_folder(state: &Path) -> Self {
        Self {
            dir: state.join("audit"),
            key: state.join("audit-key.pem"),
            segment_bytes: 64 * 1024 * 1024,
            segment_age: Duration::from_hours(24),
            keep: None,
            durability: Durability::Process,
            max_sql_bytes: 64 * 1024,
            max_parameter_bytes: 4 * 1024,
        }
    }

    /// Returns the path of the key that hashes parameters, beside the other key; created when a target needs it.
    #[must_use]
    pub fn value_key(&self) -> PathBuf {
        self.key.with_extension("values")
    }
}

/// Failure that a record must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Crash of the gate: the record is with the operating system.
    #[default]
    Process,
    /// Crash of the machine or power failure: the record is on the disk (one sync for all that wait).
    Power,
}

/// Error of writing a record or opening the log. Cheap to clone: one fault fails many waiting records.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuditError {
    /// The folder or a file cannot be created, opened or read.
    #[error("cannot open the audit log at {}: {source}", path.display())]
    Open {
        /// Path of the folder or file.
        path: PathBuf,
        /// Error of the operating system.
        source: Arc<io::Error>,
    },
    /// Another gate writes to the folder.
    #[error("the audit log at {} is in use by another gate", dir.display())]
    Locked {
        /// Path of the folder.
        dir: PathBuf,
    },
    /// The operating system did not accept the record.
    #[error("cannot write the audit log: {source}")]
    Write {
        /// True if the cause is lack of space (of the disk, the quota or the allowed file size).
        disk_full: bool,
        /// Error of the operating system.
        source: Arc<io::Error>,
    },
    /// The signing key cannot be used.
    #[error(transparent)]
    Key(Arc<KeyError>),
    /// An event could not be encoded.
    #[error("cannot encode a record")]
    Encode,
    /// The journal is closed.
    #[error("the audit log is closed")]
    Closed,
}

impl From<KeyError> for AuditError {
    fn from(error: KeyError) -> Self {
        Self::Key(Arc::new(error))
    }
}

impl AuditError {
    /// Returns true if the cause is lack of space.
    #[must_use]
    pub fn disk_full(&self) -> bool {
        matches!(self, Self::Write { disk_full: true, .. })
    }

    /// Returns the ending of a session whose statement could not be recorded.
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
