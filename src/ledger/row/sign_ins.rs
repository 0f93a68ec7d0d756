//! Sign-ins as rows of the store. Of the secret, and of the token it was made with, only the SHA-256 is stored.
//!
//! This module judges none of them.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::super::sign_in_cache::StoredSignIn;
use super::super::sqlite::{StoreError, all, damaged, execute, json, optional, parsed, time, to_json};
use crate::model::ids::SignInId;
use crate::model::names::Vocabulary as _;
use crate::model::sign_in::{SignIn, SignInEnd, SignInVia};

/// Returns the sign-ins that have not ended.
pub(in crate::ledger) fn load(connection: &Connection, now: Timestamp) -> Result<Vec<StoredSignIn>, StoreError> {
    let sql = "SELECT id, identity, in_groups, claims, issuer, via, client, secret_hash, token_hash, created_at, last_used_at, \
         expires_at FROM sign_ins WHERE ended_at IS NULL AND expires_at > ?1 ORDER BY created_at, id";
    all(connection, sql, [now.as_microsecond()], |row| {
        let id: String = row.get("id")?;
        let via: String = row.get("via")?;
        let last_used_at = time(row, "last_used_at", &id)?;
        Ok(StoredSignIn {
            secret_hash: row.get("secret_hash")?,
            token_hash: row.get("token_hash")?,
            stored_use: last_used_at,
            sign_in: SignIn {
                identity: parsed(row, "identity", &id)?,
                groups: json(row, "in_groups", &id)?,
                claims: json(row, "claims", &id)?,
                issuer: row.get("issuer")?,
                via: SignInVia::from_name(&via).ok_or_else(|| damaged("via", &id))?,
                client: optional(row, "client", &id)?,
                created_at: time(row, "created_at", &id)?,
                last_used_at,
                expires_at: time(row, "expires_at", &id)?,
                ended: None,
                id: parsed(row, "id", &id)?,
            },
        })
    })
}

pub(in crate::ledger) fn insert(connection: &Connection, stored: &StoredSignIn) -> Result<(), StoreError> {
    let sql = "INSERT INTO sign_ins (id, identity, in_groups, claims, issuer, via, client, secret_hash, token_hash, created_at, \
         last_used_at, expires_at) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)";
    let sign_in = &stored.sign_in;
    let id = sign_in.id.as_str();
    let values = params![
        id,
        sign_in.identity.as_str(),
        to_json(&sign_in.groups, "in_groups", id)?,
        to_json(&sign_in.claims, "claims", id)?,
        sign_in.issuer,
        sign_in.via.as_str(),
        sign_in.client.map(|client| client.to_string()),
        stored.secret_hash,
        stored.token_hash,
        sign_in.created_at.as_microsecond(),
        sign_in.last_used_at.as_microsecond(),
        sign_in.expires_at.as_microsecond(),
    ];
    execute(connection, sql, values).map(drop)
}

/// Notes the last use of a sign-in that has not ended.
pub(in crate::ledger) fn note_use(connection: &Connection, id: &SignInId, at: Timestamp) -> Result<(), StoreError> {
    let sql = "UPDATE sign_ins SET last_used_at = max(last_used_at, ?2) WHERE id = ?1 AND ended_at IS NULL";
    execute(connection, sql, params![id.as_str(), at.as_microsecond()]).map(drop)
}

/// Ends a sign-in; returns true if it had not ended.
pub(in crate::ledger) fn end(connection: &Connection, id: &SignInId, end: &SignInEnd) -> Result<bool, StoreError> {
    let sql = "UPDATE sign_ins SET ended_at = ?2, ended_by = ?3, end_reason = ?4 WHERE id = ?1 AND ended_at IS NULL";
    let values = params![id.as_str(), end.at.as_microsecond(), end.by, end.reason];
    Ok(execute(connection, sql, values)? > 0)
}

/// Forgets the sign-ins that are over.
pub(in crate::ledger) fn forget(connection: &Connection, now: Timestamp) -> Result<(), StoreError> {
    let sql = "DELETE FROM sign_ins WHERE ended_at IS NOT NULL OR expires_at <= ?1";
    execute(connection, sql, [now.as_microsecond()]).map(drop)
}

/// Forgets all sign-ins.
pub(in crate::ledger) fn forget_all(connection: &Connection) -> Result<(), StoreError> {
    execute(connection, "DELETE FROM sign_ins", []).map(drop)
}
