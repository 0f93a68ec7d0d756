//! State of the audit log as the ledger remembers it: the last signed tip, and the line up to which the store reflects the log.
//!
//! A log that was cut or replaced together with its `checkpoint.json` cannot be told from a whole one by its files alone. The
//! store is in another folder, so it can contradict the files.
//!
//! This module does not read the log and judges nothing: the start of the gate, `audit verify` and `report` compare.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, Row, params};

use super::sqlite::{BUSY_TIMEOUT, StoreError, execute, first, has_table, parsed, signed, unsigned};
use super::{Ledger, LedgerError};
use crate::audit::SignedTip;

impl Ledger {
    /// Keeps the newest signed tip of the log. It is not synced to the disk: after a power failure an older tip is found, which
    /// is no accusation. A tip before the known one of the same log changes nothing.
    pub async fn remember_log_tip(&self, tip: SignedTip, now: Timestamp) -> Result<(), LedgerError> {
        Ok(self.0.store.call(move |connection| put(connection, &tip, now)).await?)
    }

    /// Takes this tip as the end of its log, even if a later one was known: the missing lines are on record by then and must
    /// not be reported again.
    pub async fn accept_log_tip(&self, tip: SignedTip, now: Timestamp) -> Result<(), LedgerError> {
        let accept = move |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM log_tips WHERE log = ?1", [tip.log.as_str()])?;
            put(&transaction, &tip, now)?;
            Ok(transaction.commit()?)
        };
        Ok(self.0.store.call(accept).await?)
    }

    /// Returns the last signed tip that the ledger knows, as [`read_log_tip`] does.
    pub async fn log_tip(&self) -> Result<Option<SignedTip>, LedgerError> {
        Ok(self.0.store.call(|connection| newest(connection)).await?)
    }
}

/// Reads the last signed tip from the store at `path`, without a gate or beside a running one: it opens the SQLite file
/// read-only, takes no lock that a gate would wait for, and changes nothing. Returns `None` if there is no store, or if its
/// version is too old to have tips.
///
/// A starting gate has to call it before [`Ledger::open`] and before it opens the log.
pub fn read_log_tip(path: &Path) -> Result<Option<SignedTip>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let connection = open_to_read(path)?;
    if !has_table(&connection, "log_tips")? {
        return Ok(None);
    }
    newest(&connection)
}

fn newest(connection: &Connection) -> Result<Option<SignedTip>, StoreError> {
    let sql = "SELECT log, segment, seq, link, line FROM log_tips ORDER BY noted_at DESC, seq DESC LIMIT 1";
    first(connection, sql, [], read)
}

/// Opens a store for reading. It also reads the write-ahead log of a gate that runs or was killed: SQLite needs the companion
/// files (`-wal`, `-shm`) for that and creates them for the file's owner. In a folder without write permission it cannot; if
/// there is no write-ahead log either, the file alone has everything.
fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let read: rusqlite::Result<i64> = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0));
    let Err(error) = read else { return Ok(connection) };
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let alone = std::fs::metadata(&wal).is_ok_and(|wal| wal.len() == 0) || !Path::new(&wal).exists();
    let Some(path) = path.to_str().filter(|_| alone) else {
        return Err(error.into());
    };
    // SQLite: "Uniform Resource Identifiers", section 3.1.
    let escaped = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Ok(Connection::open_with_flags(format!("file:{escaped}?immutable=1"), flags)?)
}

fn put(connection: &Connection, tip: &SignedTip, now: Timestamp) -> Result<(), StoreError> {
    let sql = "INSERT INTO log_tips (log, segment, seq, link, line, noted_at) VALUES (?1,?2,?3,?4,?5,?6) \
         ON CONFLICT (log) DO UPDATE SET segment = excluded.segment, seq = excluded.seq, link = excluded.link, \
         line = excluded.line, noted_at = excluded.noted_at WHERE excluded.seq >= seq";
    let values = params![
        tip.log.as_str(),
        tip.segment,
        signed(tip.seq),
        tip.link.to_string(),
        tip.line,
        now.as_microsecond(),
    ];
    execute(connection, sql, values).map(drop)
}

fn read(row: &Row<'_>) -> Result<SignedTip, StoreError> {
    let log: String = row.get("log")?;
    Ok(SignedTip {
        segment: row.get("segment")?,
        seq: unsigned(row, "seq", &log)?,
        link: parsed(row, "link", &log)?,
        line: row.get("line")?,
        log: parsed(row, "log", &log)?,
    })
}
