//! State in the store beside rights: open sessions, the time, the line of the log that the store reflects; and the health of
//! the store.
//!
//! This module changes no grant, request or user.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;

use super::record::LogLine;
use super::sqlite::{StoreError, execute, first, open_existing};
use super::store::SessionChange;
use super::{Ledger, LedgerError, OpenSession, row};
use crate::model::ids::{LogId, SessionId};

impl Ledger {
    /// Returns the reason why no rights can be given now, if there is one: the store cannot be written, or a restriction is not
    /// durable yet.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let overdue = self.0.pending.overdue(self.0.clock.moment().instant);
        if overdue > 0 {
            return Some(format!("{overdue} revocations are in effect but not yet stored and recorded"));
        }
        self.0
            .store
            .is_failing()
            .then(|| "cannot write the store in the state folder".to_owned())
    }

    /// Notes that the store reflects the log up to this line, if nothing is pending: `seq` and `segment` are from before this
    /// call.
    pub async fn reflects_log(&self, log: &LogId, segment: u32, seq: u64) -> Result<(), LedgerError> {
        if !self.0.pending.is_empty() {
            return Ok(());
        }
        let to = LogLine {
            log: log.clone(),
            segment,
            seq,
        };
        let write = move |connection: &mut Connection| row::put_reflected(connection, &to);
        Ok(self.0.store.write(write).await?)
    }

    /// Waits until all restrictions are stored and on record, at most for `limit`: before an orderly stop.
    pub async fn finish(&self, limit: Duration) -> bool {
        self.0.pending.settles(limit, || self.0.pending.is_empty()).await
    }

    /// Remembers a session, so that the next start knows which backends this run had. The caller awaits it before the session's
    /// first statement. The row survives a crash of the gate; it is not synced to the disk, because no backend survives a power
    /// failure for longer than its own check interval.
    pub async fn session_opened(&self, session: OpenSession) -> Result<(), LedgerError> {
        Ok(self.0.store.session(SessionChange::Opened(session)).await?)
    }

    /// Forgets a session whose backend is confirmed gone.
    pub async fn session_closed(&self, session: &SessionId) -> Result<(), LedgerError> {
        Ok(self.0.store.session(SessionChange::Closed(session.clone())).await?)
    }

    /// Returns the sessions that are remembered as open. At start, before the first session of this run: those that the last
    /// run left behind.
    pub async fn leftovers(&self) -> Result<Vec<OpenSession>, LedgerError> {
        Ok(self.0.store.call(|connection| row::open_sessions(connection)).await?)
    }

    /// Puts gate time on disk, so that a wall clock set back while the gate is down lengthens nothing; see
    /// [`highest_time`]. The app calls it every few seconds.
    pub async fn remember_time(&self, now: Timestamp) -> Result<(), LedgerError> {
        let sql = "UPDATE gate SET highest_time = max(highest_time, ?1)";
        let write = move |connection: &mut Connection| execute(connection, sql, [now.as_microsecond()]);
        Ok(self.0.store.write(write).await.map(drop)?)
    }
}

/// Returns the latest gate time on disk, if the store exists. It is needed before the clock is created, hence before
/// [`Ledger::open`].
pub fn highest_time(path: &Path) -> Result<Option<Timestamp>, StoreError> {
    let Some(connection) = open_existing(path, "gate")? else {
        return Ok(None);
    };
    let micros: Option<i64> = first(&connection, "SELECT highest_time FROM gate", [], |row| Ok(row.get(0)?))?;
    Ok(micros.and_then(|micros| Timestamp::from_microsecond(micros).ok()))
}
