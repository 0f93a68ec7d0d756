//! Errors of the store's SQLite file, statements and columns, and writes that are on the disk when they return.
//!
//! It does not know the rows.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, Params, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;

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

/// Runs a job in one transaction, which is on the disk when this returns (SQLite: "PRAGMA synchronous", WAL mode).
pub(super) fn together<T>(
    connection: &Connection,
    job: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let work = || {
        // Unchecked means only that the compiler cannot rule out another transaction: the store's thread begins none.
        let transaction = connection.unchecked_transaction()?;
        let done = job(&transaction)?;
        transaction.commit()?;
        Ok(done)
    };
    durable(connection, true)?;
    let done = work();
    durable(connection, false)?;
    done
}

pub(super) fn durable(connection: &Connection, onto_the_disk: bool) -> Result<(), StoreError> {
    let level = if onto_the_disk { "FULL" } else { "NORMAL" };
    Ok(connection.pragma_update(None, "synchronous", level)?)
}

/// Time that SQLite waits for another process that has locked the file (`sqlite3`, a backup).
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens a store in order to read it; `None` if there is none, or its version is too old to have the table.
pub(super) fn open_existing(path: &Path, table: &str) -> Result<Option<Connection>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    // It is not opened read-only: the newest changes of a store that was not closed properly are in the write-ahead log.
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(has_table(&connection, table)?.then_some(connection))
}

pub(super) fn has_table(connection: &Connection, name: &str) -> Result<bool, StoreError> {
    Ok(connection.query_row("SELECT count(*) FROM sqlite_schema WHERE name = ?1", [name], |row| row.get(0))?)
}

/// Returns the rows of a query, each as `read` makes it.
pub(super) fn all<T>(
    connection: &Connection,
    sql: &str,
    values: impl Params,
    read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    connection.prepare_cached(sql)?.query_and_then(values, read)?.collect()
}

/// Returns the first row of a query, if there is one, as `read` makes it.
pub(super) fn first<T>(
    connection: &Connection,
    sql: &str,
    values: impl Params,
    read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    connection
        .prepare_cached(sql)?
        .query_and_then(values, read)?
        .next()
        .transpose()
}

/// Runs a statement and returns the number of rows that it changed.
pub(super) fn execute(connection: &Connection, sql: &str, values: impl Params) -> Result<usize, StoreError> {
    Ok(connection.prepare_cached(sql)?.execute(values)?)
}

/// Returns a column of text that is parsed; `None` for NULL. `of` is the id or name of the row.
pub(super) fn optional<T: FromStr>(row: &Row<'_>, column: &'static str, of: &str) -> Result<Option<T>, StoreError> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse().map_err(|_| damaged(column, of))).transpose()
}

pub(super) fn parsed<T: FromStr>(row: &Row<'_>, column: &'static str, of: &str) -> Result<T, StoreError> {
    optional(row, column, of)?.ok_or_else(|| damaged(column, of))
}

pub(super) fn optional_time(row: &Row<'_>, column: &'static str, of: &str) -> Result<Option<Timestamp>, StoreError> {
    let micros: Option<i64> = row.get(column)?;
    let time = |micros| Timestamp::from_microsecond(micros).map_err(|_| damaged(column, of));
    micros.map(time).transpose()
}

pub(super) fn time(row: &Row<'_>, column: &'static str, of: &str) -> Result<Timestamp, StoreError> {
    optional_time(row, column, of)?.ok_or_else(|| damaged(column, of))
}

/// Returns a column of JSON text.
pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, column: &'static str, of: &str) -> Result<T, StoreError> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|_| damaged(column, of))
}

pub(super) fn to_json(value: &impl Serialize, column: &'static str, of: &str) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| damaged(column, of))
}

/// Returns a column of an unsigned number, such as a sequence number or a duration in microseconds.
pub(super) fn unsigned(row: &Row<'_>, column: &'static str, of: &str) -> Result<u64, StoreError> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| damaged(column, of))
}

/// Returns a number as SQLite stores it; one that is too large is stored as the largest.
pub(super) fn signed(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

pub(super) fn damaged(what: &'static str, of: &str) -> StoreError {
    StoreError::Damaged { what, of: of.to_owned() }
}
