//! Restrictions as rows: each write can only reduce the rights in the store, whatever they are.
//!
//! This module does not know the reason. A row that is missing, or already allows less, is no error: the restriction holds all
//! the same.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::sqlite::StoreError;
use super::users::StoredUser;
use super::{damaged, micros, requests, users};
use crate::audit::event::Event;
use crate::model::grant::Grant;
use crate::model::ids::LogId;
use crate::model::request::Request;

/// Restriction of a row.
#[derive(Debug, Clone)]
pub(in crate::ledger) enum RestrictWrite {
    /// Reduces the grant to this one.
    Grant(Grant),
    /// Settles the request like this one, if it is pending.
    Request(Request),
    /// Replaces the user by this one.
    User(StoredUser),
}

/// Line of a log up to which the store reflects it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ledger) struct ReflectedLog {
    pub(in crate::ledger) log: LogId,
    pub(in crate::ledger) segment: u32,
    pub(in crate::ledger) seq: u64,
}

pub(in crate::ledger) fn apply(connection: &Connection, write: &RestrictWrite) -> Result<(), StoreError> {
    match write {
        RestrictWrite::Grant(grant) => restrict_grant(connection, grant),
        RestrictWrite::Request(request) => requests::settle(connection, request),
        RestrictWrite::User(user) => users::put_within(connection, user),
    }
}

fn restrict_grant(connection: &Connection, grant: &Grant) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE grants SET activate_by = min(activate_by, ?2), window_us = min(window_us, ?3), \
             deadline = min(coalesce(deadline, ?4), coalesce(?4, deadline)), until = min(until, coalesce(?5, until)), \
             revoked_at = ?6, revoked_by = ?7, revoke_reason = ?8 WHERE id = ?1 AND revoked_at IS NULL",
        )?
        .execute(params![
            grant.id.as_str(),
            grant.activate_by.as_microsecond(),
            micros(grant.window),
            grant.deadline.map(Timestamp::as_microsecond),
            grant.until.map(Timestamp::as_microsecond),
            grant.revoked.as_ref().map(|revoked| revoked.at.as_microsecond()),
            grant.revoked.as_ref().map(|revoked| &revoked.by),
            grant.revoked.as_ref().and_then(|revoked| revoked.reason.as_ref()),
        ])?;
    Ok(())
}

pub(in crate::ledger) fn put_unrecorded(connection: &Connection, event: &Event<'_>) -> Result<i64, StoreError> {
    let text = serde_json::to_string(event).map_err(|_| damaged("event", "unrecorded"))?;
    connection
        .prepare_cached("INSERT INTO unrecorded (event) VALUES (?1)")?
        .execute([text])?;
    Ok(connection.last_insert_rowid())
}

pub(in crate::ledger) fn remove_unrecorded(connection: &Connection, row: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM unrecorded WHERE number = ?1")?
        .execute([row])?;
    Ok(())
}

/// Returns the events that a former run stored and, as far as it knew, did not put on record.
pub(in crate::ledger) fn unrecorded(connection: &Connection) -> Result<Vec<(i64, Event<'static>)>, StoreError> {
    let mut statement = connection.prepare("SELECT number, event FROM unrecorded ORDER BY number")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let text: String = row.get("event")?;
        let event = serde_json::from_str(&text).map_err(|_| damaged("event", "unrecorded"))?;
        found.push((row.get("number")?, event));
    }
    Ok(found)
}

pub(in crate::ledger) fn reflected(connection: &Connection) -> Result<Option<ReflectedLog>, StoreError> {
    let found = connection
        .query_row("SELECT log, segment, seq FROM log_reflected", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?, row.get::<_, i64>(2)?))
        })
        .optional()?;
    let Some((log, segment, seq)) = found else { return Ok(None) };
    Ok(Some(ReflectedLog {
        log: log.parse().map_err(|_| damaged("log", "log_reflected"))?,
        segment,
        seq: u64::try_from(seq).map_err(|_| damaged("seq", "log_reflected"))?,
    }))
}

pub(in crate::ledger) fn put_reflected(connection: &Connection, to: &ReflectedLog) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO log_reflected (only, log, segment, seq) VALUES (1, ?1, ?2, ?3) \
             ON CONFLICT (only) DO UPDATE SET log = excluded.log, segment = excluded.segment, seq = excluded.seq",
        )?
        .execute(params![
            to.log.as_str(),
            to.segment,
            i64::try_from(to.seq).unwrap_or(i64::MAX)
        ])?;
    Ok(())
}
