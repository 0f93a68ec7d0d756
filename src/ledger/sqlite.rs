//! Errors of the store's SQLite file, and writes that are on the disk when they return.
//!
//! It does not know the rows.

use std::sync::Arc;

use rusqlite::Connection;

use crate::audit::ReadError;

/// Error of the store. Cheap to clone: one error can fail many changes that were written together.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be created or its mode be set.
    #[error("cannot open {path}: {source}")]
    File {
        /// Path of the file.
        path: String,
        /// Error of the operating system.
        source: Arc<std::io::Error>,
    },
    /// SQLite failed.
    #[error("SQLite: {0}")]
    Sqlite(Arc<rusqlite::Error>),
    /// The file was written by a later version of this program.
    #[error("the store has version {found}, but this program supports up to {known}; use a newer tidegate")]
    TooNew {
        /// The file's version.
        found: u32,
        /// Latest version that this program knows.
        known: u32,
    },
    /// A row has an impossible value; another program wrote it.
    #[error("the store has a damaged row: {what} of `{of}`")]
    Damaged {
        /// Name of the column.
        what: &'static str,
        /// Id or name of the row.
        of: String,
    },
    /// The newest records of the audit log cannot be read, so the rights that they take away are unknown.
    #[error("cannot read the newest records of the audit log: {0}")]
    Log(Arc<ReadError>),
    /// A restriction of the same object overtook the change.
    #[error("rights were revoked meanwhile, so the change was not made")]
    Overtaken,
    /// The store's thread has stopped: the gate is shutting down.
    #[error("the store is closed")]
    Stopped,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

/// Runs `job` so that its writes are on the disk when this returns (SQLite: "PRAGMA synchronous", WAL mode).
pub(super) fn onto_the_disk<T>(
    connection: &Connection,
    job: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    durable(connection, true)?;
    let done = job(connection);
    durable(connection, false)?;
    done
}

pub(super) fn durable(connection: &Connection, onto_the_disk: bool) -> Result<(), StoreError> {
    let level = if onto_the_disk { "FULL" } else { "NORMAL" };
    Ok(connection.pragma_update(None, "synchronous", level)?)
}

/// Runs a job in one transaction, which is on the disk when this returns.
pub(super) fn together<T>(
    connection: &Connection,
    job: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    onto_the_disk(connection, |connection| {
        // Unchecked means only that the compiler cannot rule out another transaction: the store's thread begins none.
        let transaction = connection.unchecked_transaction()?;
        let done = job(&transaction)?;
        transaction.commit()?;
        Ok(done)
    })
}
