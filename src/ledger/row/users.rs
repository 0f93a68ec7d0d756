//! Users as rows. Of a token, only the SHA-256 is stored.
//!
//! This module does not judge rows.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::super::sqlite::{StoreError, onto_the_disk};
use super::{damaged, time};
use crate::model::names::{GroupName, IdentityName};

/// User as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ledger) struct StoredUser {
    pub(in crate::ledger) name: IdentityName,
    pub(in crate::ledger) groups: BTreeSet<GroupName>,
    /// SHA-256 of the token in hexadecimal; `None`: an identity of an issuer.
    pub(in crate::ledger) token_hash: Option<String>,
    pub(in crate::ledger) disabled: bool,
    pub(in crate::ledger) created_at: Timestamp,
}

pub(in crate::ledger) fn load(connection: &Connection) -> Result<Vec<StoredUser>, StoreError> {
    let mut statement = connection.prepare("SELECT name, in_groups, token_hash, disabled, created_at FROM users")?;
    let mut rows = statement.query([])?;
    let mut users = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get("name")?;
        let groups: String = row.get("in_groups")?;
        users.push(StoredUser {
            groups: serde_json::from_str(&groups).map_err(|_| damaged("in_groups", &name))?,
            token_hash: row.get("token_hash")?,
            disabled: row.get("disabled")?,
            created_at: time(row, "created_at", &name)?.ok_or_else(|| damaged("created_at", &name))?,
            name: name.parse().map_err(|_| damaged("name", &name))?,
        });
    }
    Ok(users)
}

/// Inserts or replaces a user.
pub(in crate::ledger) fn put(connection: &Connection, user: &StoredUser) -> Result<(), StoreError> {
    onto_the_disk(connection, |connection| put_within(connection, user))
}

pub(super) fn put_within(connection: &Connection, user: &StoredUser) -> Result<(), StoreError> {
    let groups = serde_json::to_string(&user.groups).map_err(|_| damaged("in_groups", user.name.as_str()))?;
    connection
        .prepare_cached(
            "INSERT INTO users (name, in_groups, token_hash, disabled, created_at) VALUES (?1,?2,?3,?4,?5) \
             ON CONFLICT (name) DO UPDATE SET in_groups = excluded.in_groups, token_hash = excluded.token_hash, \
             disabled = excluded.disabled",
        )?
        .execute(params![
            user.name.as_str(),
            groups,
            user.token_hash,
            user.disabled,
            user.created_at.as_microsecond(),
        ])?;
    Ok(())
}
