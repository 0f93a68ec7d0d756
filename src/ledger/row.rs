//! Grants, sessions, requests, logins and users as rows of the store. Times are microseconds since the epoch.
//!
//! This module does not judge rows, but a row that cannot be read is an error and never skipped: it could be a revocation.

pub(super) mod logins;
pub(super) mod requests;
pub(super) mod restrict;
pub(super) mod users;

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::OpenSession;
use super::logins::GrantLogins;
use super::sqlite::{StoreError, onto_the_disk};
use crate::model::grant::{Grant, Revocation, canonical_network};
use crate::model::ids::{GrantId, RequestId, SessionId};
use crate::model::names::{IdentityName, ProfileName, TargetName};
use crate::protocol::scram::Verifier;

const GRANT_COLUMNS: &str = "id, identity, target, reason, created_at, created_by, activate_by, window_us, deadline, max_sessions, \
    client_network, activated_at, until, revoked_at, revoked_by, revoke_reason, profile, request, verifier";

/// Verifier column of a grant that has logins only.
const NO_SECRET: &str = "";

/// Filter and page over all grants that were ever made.
#[derive(Debug)]
pub(super) struct GrantPage {
    pub(super) identity: Option<IdentityName>,
    pub(super) target: Option<TargetName>,
    /// Only grants made before this one.
    pub(super) before: Option<(Timestamp, GrantId)>,
    pub(super) limit: usize,
}

/// Returns the grants that have not ended, and those revoked ones that would not have ended otherwise.
pub(super) fn load(connection: &Connection, now: Timestamp) -> Result<Vec<(Grant, Option<Verifier>)>, StoreError> {
    let mut statement = connection.prepare(&format!(
        "SELECT {GRANT_COLUMNS} FROM grants WHERE coalesce(until, activate_by) > ?1"
    ))?;
    let mut rows = statement.query([now.as_microsecond()])?;
    let mut grants = Vec::new();
    while let Some(row) = rows.next()? {
        grants.push(with_verifier(row)?);
    }
    Ok(grants)
}

/// Returns a grant with the verifiers of its logins.
pub(super) fn recall(
    connection: &Connection,
    id: &GrantId,
) -> Result<Option<(Grant, Option<Verifier>, GrantLogins)>, StoreError> {
    let found = connection
        .prepare_cached(&format!("SELECT {GRANT_COLUMNS} FROM grants WHERE id = ?1"))?
        .query_row([id.as_str()], |row| Ok(with_verifier(row)))
        .optional()?
        .transpose()?;
    let Some((grant, verifier)) = found else { return Ok(None) };
    Ok(Some((grant, verifier, logins::of(connection, id)?)))
}

fn with_verifier(row: &Row<'_>) -> Result<(Grant, Option<Verifier>), StoreError> {
    let grant = read(row)?;
    let verifier: String = row.get("verifier")?;
    let verifier = match verifier.as_str() {
        NO_SECRET if grant.request().is_some() => None,
        text => Some(text.parse().map_err(|_| damaged("verifier", grant.id().as_str()))?),
    };
    Ok((grant, verifier))
}

/// Returns a page of grants, the latest first, by the index on the identity or on creation (SQLite: "Row Values", "Scrolling
/// Window Queries").
pub(super) fn page(connection: &Connection, page: &GrantPage) -> Result<Vec<Grant>, StoreError> {
    let (before, id) = match &page.before {
        Some((created_at, id)) => (created_at.as_microsecond(), id.as_str()),
        None => (i64::MAX, ""),
    };
    let identity = if page.identity.is_some() {
        "identity = ?1"
    } else {
        "?1 IS NULL"
    };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {GRANT_COLUMNS} FROM grants WHERE {identity} AND (?2 IS NULL OR target = ?2) AND (created_at, id) < (?3, ?4) \
         ORDER BY created_at DESC, id DESC LIMIT ?5"
    ))?;
    let mut rows = statement.query(params![
        page.identity.as_ref().map(IdentityName::as_str),
        page.target.as_ref().map(TargetName::as_str),
        before,
        id,
        i64::try_from(page.limit).unwrap_or(i64::MAX),
    ])?;
    let mut grants = Vec::new();
    while let Some(row) = rows.next()? {
        grants.push(read(row)?);
    }
    Ok(grants)
}

pub(super) fn find(connection: &Connection, id: &GrantId) -> Result<Option<Grant>, StoreError> {
    connection
        .prepare_cached(&format!("SELECT {GRANT_COLUMNS} FROM grants WHERE id = ?1"))?
        .query_row([id.as_str()], |row| Ok(read(row)))
        .optional()?
        .transpose()
}

pub(super) fn insert(connection: &Connection, grant: &Grant, verifier: &str) -> Result<(), StoreError> {
    onto_the_disk(connection, |connection| insert_within(connection, grant, verifier))
}

fn insert_within(connection: &Connection, grant: &Grant, verifier: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached(&format!(
            "INSERT INTO grants ({GRANT_COLUMNS}) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19)"
        ))?
        .execute(params![
            grant.id.as_str(),
            grant.identity.as_str(),
            grant.target.as_str(),
            grant.reason,
            grant.created_at.as_microsecond(),
            grant.created_by,
            grant.activate_by.as_microsecond(),
            micros(grant.window),
            grant.deadline.map(Timestamp::as_microsecond),
            grant.max_sessions,
            grant.client_network.map(|network| network.to_string()),
            grant.activated_at.map(Timestamp::as_microsecond),
            grant.until.map(Timestamp::as_microsecond),
            grant.revoked.as_ref().map(|revoked| revoked.at.as_microsecond()),
            grant.revoked.as_ref().map(|revoked| &revoked.by),
            grant.revoked.as_ref().and_then(|revoked| revoked.reason.as_ref()),
            grant.profile.as_ref().map(ProfileName::as_str),
            grant.request.as_ref().map(RequestId::as_str),
            verifier,
        ])?;
    Ok(())
}

/// Updates the columns of a grant that can change. A revoked grant cannot be updated.
pub(super) fn update(connection: &Connection, grant: &Grant) -> Result<(), StoreError> {
    onto_the_disk(connection, |connection| {
        let rows = connection.execute(
            "UPDATE grants SET activate_by = ?2, window_us = ?3, deadline = ?4, activated_at = ?5, until = ?6, revoked_at = ?7, \
             revoked_by = ?8, revoke_reason = ?9 WHERE id = ?1 AND revoked_at IS NULL",
            params![
                grant.id.as_str(),
                grant.activate_by.as_microsecond(),
                micros(grant.window),
                grant.deadline.map(Timestamp::as_microsecond),
                grant.activated_at.map(Timestamp::as_microsecond),
                grant.until.map(Timestamp::as_microsecond),
                grant.revoked.as_ref().map(|revoked| revoked.at.as_microsecond()),
                grant.revoked.as_ref().map(|revoked| &revoked.by),
                grant.revoked.as_ref().and_then(|revoked| revoked.reason.as_ref()),
            ],
        )?;
        if rows == 1 {
            Ok(())
        } else {
            Err(damaged("row", grant.id.as_str()))
        }
    })
}

pub(super) fn insert_session(connection: &Connection, session: &OpenSession) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO sessions (id, grant_id, identity, target, backend_pid, opened_at) VALUES (?1,?2,?3,?4,?5,?6)",
        )?
        .execute(params![
            session.session.as_str(),
            session.grant.as_str(),
            session.identity.as_str(),
            session.target.as_str(),
            session.backend_pid,
            session.opened_at.as_microsecond(),
        ])?;
    Ok(())
}

pub(super) fn delete_session(connection: &Connection, session: &SessionId) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM sessions WHERE id = ?1")?
        .execute([session.as_str()])?;
    Ok(())
}

pub(super) fn open_sessions(connection: &Connection) -> Result<Vec<OpenSession>, StoreError> {
    let mut statement = connection
        .prepare("SELECT id, grant_id, identity, target, backend_pid, opened_at FROM sessions ORDER BY opened_at, id")?;
    let mut rows = statement.query([])?;
    let mut sessions = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get("id")?;
        sessions.push(OpenSession {
            grant: parsed(row, "grant_id", &id)?,
            identity: parsed(row, "identity", &id)?,
            target: parsed(row, "target", &id)?,
            backend_pid: row.get("backend_pid")?,
            opened_at: time(row, "opened_at", &id)?.ok_or_else(|| damaged("opened_at", &id))?,
            session: id.parse().map_err(|_| damaged("id", &id))?,
        });
    }
    Ok(sessions)
}

fn read(row: &Row<'_>) -> Result<Grant, StoreError> {
    let id: String = row.get("id")?;
    let needed = |column| time(row, column, &id)?.ok_or_else(|| damaged(column, &id));
    let network: Option<String> = row.get("client_network")?;
    let revoked = match time(row, "revoked_at", &id)? {
        Some(at) => Some(Revocation {
            at,
            by: row.get("revoked_by")?,
            reason: row.get("revoke_reason")?,
        }),
        None => None,
    };
    let window: i64 = row.get("window_us")?;
    Ok(Grant {
        identity: parsed(row, "identity", &id)?,
        target: parsed(row, "target", &id)?,
        reason: row.get("reason")?,
        created_at: needed("created_at")?,
        created_by: row.get("created_by")?,
        activate_by: needed("activate_by")?,
        window: Duration::from_micros(u64::try_from(window).map_err(|_| damaged("window_us", &id))?),
        deadline: time(row, "deadline", &id)?,
        max_sessions: row.get("max_sessions")?,
        client_network: network
            .map(|network| network.parse().map_err(|_| damaged("client_network", &id)))
            .transpose()?
            .map(canonical_network),
        activated_at: time(row, "activated_at", &id)?,
        until: time(row, "until", &id)?,
        revoked,
        profile: optional(row, "profile", &id)?,
        request: optional(row, "request", &id)?,
        id: id.parse().map_err(|_| damaged("id", &id))?,
    })
}

fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: &'static str, of: &str) -> Result<T, StoreError> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| damaged(column, of))
}

fn optional<T: std::str::FromStr>(row: &Row<'_>, column: &'static str, of: &str) -> Result<Option<T>, StoreError> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse().map_err(|_| damaged(column, of))).transpose()
}

fn time(row: &Row<'_>, column: &'static str, of: &str) -> Result<Option<Timestamp>, StoreError> {
    let micros: Option<i64> = row.get(column)?;
    micros
        .map(|micros| Timestamp::from_microsecond(micros).map_err(|_| damaged(column, of)))
        .transpose()
}

fn damaged(what: &'static str, of: &str) -> StoreError {
    StoreError::Damaged { what, of: of.to_owned() }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
