//! Logins of grants as rows: name and verifier, in the order of creation.
//!
//! This module does not know when a login is valid.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::super::logins::GrantLogins;
use super::super::sqlite::StoreError;
use super::{damaged, parsed};
use crate::model::ids::GrantId;
use crate::protocol::scram::Verifier;

/// Returns the logins of all grants that have not ended.
pub(in crate::ledger) fn load(connection: &Connection, now: Timestamp) -> Result<HashMap<GrantId, GrantLogins>, StoreError> {
    // `CROSS` makes SQLite begin with the few grants, and not with all logins ever made, which already have the order (SQLite:
    // "Query Planner", manual control of join order).
    let mut statement = connection.prepare(
        "SELECT l.name, l.grant_id, l.verifier FROM grants g CROSS JOIN logins l ON l.grant_id = g.id \
         WHERE coalesce(g.until, g.activate_by) > ?1 ORDER BY l.number",
    )?;
    let mut rows = statement.query([now.as_microsecond()])?;
    let mut logins: HashMap<GrantId, GrantLogins> = HashMap::new();
    while let Some(row) = rows.next()? {
        let (grant, name, verifier) = read(row)?;
        logins.entry(grant).or_default().add(name, verifier);
    }
    Ok(logins)
}

/// Returns the logins of one grant.
pub(super) fn of(connection: &Connection, grant: &GrantId) -> Result<GrantLogins, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT name, grant_id, verifier FROM logins WHERE grant_id = ?1 ORDER BY number")?;
    let mut rows = statement.query([grant.as_str()])?;
    let mut logins = GrantLogins::default();
    while let Some(row) = rows.next()? {
        let (_, name, verifier) = read(row)?;
        logins.add(name, verifier);
    }
    Ok(logins)
}

fn read(row: &Row<'_>) -> Result<(GrantId, String, Verifier), StoreError> {
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
pub(in crate::ledger) fn insert(
    connection: &Connection,
    grant: &GrantId,
    (name, verifier): (&str, &str),
    dropped: Option<&str>,
) -> Result<(), StoreError> {
    let transaction = connection.unchecked_transaction()?;
    if let Some(dropped) = dropped {
        transaction
            .prepare_cached("DELETE FROM logins WHERE name = ?1")?
            .execute([dropped])?;
    }
    transaction
        .prepare_cached("INSERT INTO logins (name, grant_id, verifier) VALUES (?1,?2,?3)")?
        .execute(params![name, grant.as_str(), verifier])?;
    Ok(transaction.commit()?)
}
