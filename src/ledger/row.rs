//! Grants, sessions, logins, users and the state of the log as rows of the store; requests are in [`requests`], sign-ins in
//! [`sign_ins`]. Times are microseconds since the epoch. Of a user's token, only the SHA-256 is stored.
//!
//! This module does not judge rows, but a row that cannot be read is an error and never skipped: it could be a revocation.

pub(super) mod requests;
pub(super) mod sign_ins;

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params, params_from_iter};

use super::OpenSession;
use super::cache::{GrantEntry, GrantLogins, StoredUser};
use super::record::LogLine;
use super::sqlite::{
    StoreError, all, damaged, execute, first, json, optional, optional_time, parsed, signed, time, to_json, unsigned,
};
use super::views::GrantFilter;
use crate::audit::event::Event;
use crate::model::grant::{Grant, Revocation, canonical_network};
use crate::model::ids::{GrantId, SessionId};
use crate::model::names::{IdentityName, TargetName};
use crate::protocol::scram::Verifier;

/// Columns of a grant in the order of [`grant_values`]: first the id and those that restrictions change, then the one that
/// changes otherwise.
const GRANT_COLUMNS: &str = "id, activate_by, window_us, deadline, until, revoked_at, revoked_by, revoke_reason, activated_at, \
    identity, target, reason, created_at, created_by, max_sessions, client_network, profile, request, verifier";
const RESTRICTED_COLUMNS: usize = 8;
const CHANGED_COLUMNS: usize = 9;

/// Verifier column of a grant that has logins only.
pub(super) const NO_SECRET: &str = "";

/// Returns the grants that have not ended, and those revoked ones that would not have ended otherwise.
pub(super) fn load(connection: &Connection, now: Timestamp) -> Result<Vec<GrantEntry>, StoreError> {
    let now = [now.as_microsecond()];
    // `CROSS` makes SQLite begin with the few grants, and not with all logins ever made, which already have the order (SQLite:
    // "Query Planner", manual control of join order).
    let sql = "SELECT l.name, l.grant_id, l.verifier FROM grants g CROSS JOIN logins l ON l.grant_id = g.id \
         WHERE coalesce(g.until, g.activate_by) > ?1 ORDER BY l.number";
    let mut logins: HashMap<GrantId, GrantLogins> = HashMap::new();
    for (grant, name, verifier) in all(connection, sql, now, read_login)? {
        logins.entry(grant).or_default().add(name, verifier);
    }
    let mut entry = |row: &Row<'_>| read_entry(row, |grant| Ok(logins.remove(grant).unwrap_or_default()));
    all(connection, &unended_query(), now, &mut entry)
}

/// Returns the same grants without their logins.
pub(super) fn unended(connection: &Connection, now: Timestamp) -> Result<Vec<Grant>, StoreError> {
    all(connection, &unended_query(), [now.as_microsecond()], read_grant)
}

fn unended_query() -> String {
    format!("SELECT {GRANT_COLUMNS} FROM grants WHERE coalesce(until, activate_by) > ?1")
}

/// Returns a grant with the verifiers of its logins.
pub(super) fn recall(connection: &Connection, id: &GrantId) -> Result<Option<GrantEntry>, StoreError> {
    let sql = format!("SELECT {GRANT_COLUMNS} FROM grants WHERE id = ?1");
    first(connection, &sql, [id.as_str()], |row| {
        read_entry(row, |grant| {
            let sql = "SELECT name, grant_id, verifier FROM logins WHERE grant_id = ?1 ORDER BY number";
            let mut logins = GrantLogins::default();
            for (_, name, verifier) in all(connection, sql, [grant.as_str()], read_login)? {
                logins.add(name, verifier);
            }
            Ok(logins)
        })
    })
}

pub(super) fn find(connection: &Connection, id: &GrantId) -> Result<Option<Grant>, StoreError> {
    let sql = format!("SELECT {GRANT_COLUMNS} FROM grants WHERE id = ?1");
    first(connection, &sql, [id.as_str()], read_grant)
}

/// Returns a page of all grants that were ever made, the latest first, by the index on the identity or on creation (SQLite: "Row
/// Values", "Scrolling Window Queries").
pub(super) fn page(
    connection: &Connection,
    filter: &GrantFilter,
    before: Option<&Grant>,
    limit: usize,
) -> Result<Vec<Grant>, StoreError> {
    let identity = if filter.identity.is_some() {
        "identity = ?1"
    } else {
        "?1 IS NULL"
    };
    let sql = format!(
        "SELECT {GRANT_COLUMNS} FROM grants WHERE {identity} AND (?2 IS NULL OR target = ?2) AND (created_at, id) < (?3, ?4) \
         ORDER BY created_at DESC, id DESC LIMIT ?5"
    );
    let values = params![
        filter.identity.as_ref().map(IdentityName::as_str),
        filter.target.as_ref().map(TargetName::as_str),
        before.map_or(i64::MAX, |grant| grant.created_at.as_microsecond()),
        before.map_or("", |grant| grant.id.as_str()),
        signed(limit),
    ];
    all(connection, &sql, values, read_grant)
}

pub(super) fn insert(connection: &Connection, grant: &Grant, verifier: &str) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO grants ({GRANT_COLUMNS}) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19)"
    );
    let values = grant_values(grant).into_iter().chain([verifier.to_owned().into()]);
    execute(connection, &sql, params_from_iter(values)).map(drop)
}

/// Updates the columns of a grant that can change. A revoked grant cannot be updated.
pub(super) fn update(connection: &Connection, grant: &Grant) -> Result<(), StoreError> {
    let sql = "UPDATE grants SET activate_by = ?2, window_us = ?3, deadline = ?4, until = ?5, revoked_at = ?6, revoked_by = ?7, \
         revoke_reason = ?8, activated_at = ?9 WHERE id = ?1 AND revoked_at IS NULL";
    let values = grant_values(grant).into_iter().take(CHANGED_COLUMNS);
    exactly_one(execute(connection, sql, params_from_iter(values))?, "row", grant.id.as_str())
}

/// Reduces a grant to what this one allows. A row that is missing, or already allows less, is no error: the restriction holds all
/// the same.
pub(super) fn restrict(connection: &Connection, less: &Grant) -> Result<(), StoreError> {
    let sql = "UPDATE grants SET activate_by = min(activate_by, ?2), window_us = min(window_us, ?3), \
         deadline = min(coalesce(deadline, ?4), coalesce(?4, deadline)), until = min(until, coalesce(?5, until)), \
         revoked_at = ?6, revoked_by = ?7, revoke_reason = ?8 WHERE id = ?1 AND revoked_at IS NULL";
    let values = grant_values(less).into_iter().take(RESTRICTED_COLUMNS);
    execute(connection, sql, params_from_iter(values)).map(drop)
}

fn grant_values(grant: &Grant) -> [Value; 18] {
    let revoked = grant.revoked.as_ref();
    let micros = |time: Option<Timestamp>| time.map(Timestamp::as_microsecond).into();
    [
        grant.id.to_string().into(),
        grant.activate_by.as_microsecond().into(),
        signed(grant.window.as_micros()).into(),
        micros(grant.deadline),
        micros(grant.until),
        micros(revoked.map(|revoked| revoked.at)),
        revoked.map(|revoked| revoked.by.clone()).into(),
        revoked.and_then(|revoked| revoked.reason.clone()).into(),
        micros(grant.activated_at),
        grant.identity.to_string().into(),
        grant.target.to_string().into(),
        grant.reason.clone().into(),
        grant.created_at.as_microsecond().into(),
        grant.created_by.clone().into(),
        grant.max_sessions.into(),
        grant.client_network.map(|network| network.to_string()).into(),
        grant.profile.as_ref().map(ToString::to_string).into(),
        grant.request.as_ref().map(ToString::to_string).into(),
    ]
}

fn read_entry(row: &Row<'_>, logins: impl FnOnce(&GrantId) -> Result<GrantLogins, StoreError>) -> Result<GrantEntry, StoreError> {
    let grant = read_grant(row)?;
    let verifier: String = row.get("verifier")?;
    let verifier = match verifier.as_str() {
        NO_SECRET if grant.request.is_some() => None,
        text => Some(text.parse().map_err(|_| damaged("verifier", grant.id.as_str()))?),
    };
    let logins = logins(&grant.id)?;
    Ok(GrantEntry::new(grant, verifier, logins))
}

fn read_grant(row: &Row<'_>) -> Result<Grant, StoreError> {
    let id: String = row.get("id")?;
    let revoked = match optional_time(row, "revoked_at", &id)? {
        Some(at) => Some(Revocation {
            at,
            by: row.get("revoked_by")?,
            reason: row.get("revoke_reason")?,
        }),
        None => None,
    };
    Ok(Grant {
        identity: parsed(row, "identity", &id)?,
        target: parsed(row, "target", &id)?,
        reason: row.get("reason")?,
        created_at: time(row, "created_at", &id)?,
        created_by: row.get("created_by")?,
        activate_by: time(row, "activate_by", &id)?,
        window: Duration::from_micros(unsigned(row, "window_us", &id)?),
        deadline: optional_time(row, "deadline", &id)?,
        max_sessions: row.get("max_sessions")?,
        client_network: optional(row, "client_network", &id)?.map(canonical_network),
        activated_at: optional_time(row, "activated_at", &id)?,
        until: optional_time(row, "until", &id)?,
        revoked,
        profile: optional(row, "profile", &id)?,
        request: optional(row, "request", &id)?,
        id: parsed(row, "id", &id)?,
    })
}

fn read_login(row: &Row<'_>) -> Result<(GrantId, String, Verifier), StoreError> {
    let name: String = row.get("name")?;
    let grant: GrantId = parsed(row, "grant_id", &name)?;
    if GrantId::of_login(&name).as_ref() != Some(&grant) {
        return Err(damaged("name", &name));
    }
    let verifier = parsed(row, "verifier", &name)?;
    Ok((grant, name, verifier))
}

/// Stores a login and deletes `dropped`. It is not synced to the disk: a client that loses its login in a power failure
/// requests another one.
pub(super) fn insert_login(
    connection: &Connection,
    grant: &GrantId,
    (name, verifier): (&str, &str),
    dropped: Option<&str>,
) -> Result<(), StoreError> {
    let transaction = connection.unchecked_transaction()?;
    if let Some(dropped) = dropped {
        execute(&transaction, "DELETE FROM logins WHERE name = ?1", [dropped])?;
    }
    let sql = "INSERT INTO logins (name, grant_id, verifier) VALUES (?1,?2,?3)";
    execute(&transaction, sql, params![name, grant.as_str(), verifier])?;
    Ok(transaction.commit()?)
}

pub(super) fn insert_session(connection: &Connection, session: &OpenSession) -> Result<(), StoreError> {
    let sql = "INSERT INTO sessions (id, grant_id, identity, target, backend_pid, opened_at) VALUES (?1,?2,?3,?4,?5,?6)";
    let values = params![
        session.session.as_str(),
        session.grant.as_str(),
        session.identity.as_str(),
        session.target.as_str(),
        session.backend_pid,
        session.opened_at.as_microsecond(),
    ];
    execute(connection, sql, values).map(drop)
}

pub(super) fn delete_session(connection: &Connection, session: &SessionId) -> Result<(), StoreError> {
    execute(connection, "DELETE FROM sessions WHERE id = ?1", [session.as_str()]).map(drop)
}

pub(super) fn open_sessions(connection: &Connection) -> Result<Vec<OpenSession>, StoreError> {
    let sql = "SELECT id, grant_id, identity, target, backend_pid, opened_at FROM sessions ORDER BY opened_at, id";
    all(connection, sql, [], |row| {
        let id: String = row.get("id")?;
        Ok(OpenSession {
            grant: parsed(row, "grant_id", &id)?,
            identity: parsed(row, "identity", &id)?,
            target: parsed(row, "target", &id)?,
            backend_pid: row.get("backend_pid")?,
            opened_at: time(row, "opened_at", &id)?,
            session: parsed(row, "id", &id)?,
        })
    })
}

pub(super) fn load_users(connection: &Connection) -> Result<Vec<StoredUser>, StoreError> {
    let sql = "SELECT name, in_groups, token_hash, token_until, disabled, created_at FROM users";
    all(connection, sql, [], |row| {
        let name: String = row.get("name")?;
        Ok(StoredUser {
            groups: json(row, "in_groups", &name)?,
            token_hash: row.get("token_hash")?,
            token_until: optional_time(row, "token_until", &name)?,
            disabled: row.get("disabled")?,
            created_at: time(row, "created_at", &name)?,
            name: parsed(row, "name", &name)?,
        })
    })
}

/// Inserts or replaces a user.
pub(super) fn put_user(connection: &Connection, user: &StoredUser) -> Result<(), StoreError> {
    let sql = "INSERT INTO users (name, in_groups, token_hash, disabled, created_at, token_until) VALUES (?1,?2,?3,?4,?5,?6) \
         ON CONFLICT (name) DO UPDATE SET in_groups = excluded.in_groups, token_hash = excluded.token_hash, \
         disabled = excluded.disabled, token_until = excluded.token_until";
    let name = user.name.as_str();
    let groups = to_json(&user.groups, "in_groups", name)?;
    let token_until = user.token_until.map(Timestamp::as_microsecond);
    let created_at = user.created_at.as_microsecond();
    let values = params![name, groups, user.token_hash, user.disabled, created_at, token_until];
    execute(connection, sql, values).map(drop)
}

/// Stores an event that took effect and is not on record yet; returns its row.
pub(super) fn put_unrecorded(connection: &Connection, event: &Event<'_>) -> Result<i64, StoreError> {
    let text = to_json(event, "event", "unrecorded")?;
    execute(connection, "INSERT INTO unrecorded (event) VALUES (?1)", [text])?;
    Ok(connection.last_insert_rowid())
}

pub(super) fn remove_unrecorded(connection: &Connection, row: i64) -> Result<(), StoreError> {
    execute(connection, "DELETE FROM unrecorded WHERE number = ?1", [row]).map(drop)
}

/// Returns the events that a former run stored and, as far as it knew, did not put on record.
pub(super) fn unrecorded(connection: &Connection) -> Result<Vec<(i64, Event<'static>)>, StoreError> {
    let sql = "SELECT number, event FROM unrecorded ORDER BY number";
    all(connection, sql, [], |row| {
        Ok((row.get("number")?, json(row, "event", "unrecorded")?))
    })
}

/// Returns the line up to which the store reflects the log.
pub(super) fn reflected(connection: &Connection) -> Result<Option<LogLine>, StoreError> {
    first(connection, "SELECT log, segment, seq FROM log_reflected", [], |row| {
        Ok(LogLine {
            log: parsed(row, "log", "log_reflected")?,
            segment: row.get("segment")?,
            seq: unsigned(row, "seq", "log_reflected")?,
        })
    })
}

pub(super) fn put_reflected(connection: &Connection, to: &LogLine) -> Result<(), StoreError> {
    let sql = "INSERT INTO log_reflected (only, log, segment, seq) VALUES (1, ?1, ?2, ?3) \
         ON CONFLICT (only) DO UPDATE SET log = excluded.log, segment = excluded.segment, seq = excluded.seq";
    execute(connection, sql, params![to.log.as_str(), to.segment, signed(to.seq)]).map(drop)
}

fn exactly_one(rows: usize, what: &'static str, of: &str) -> Result<(), StoreError> {
    (rows == 1).then_some(()).ok_or_else(|| damaged(what, of))
}
