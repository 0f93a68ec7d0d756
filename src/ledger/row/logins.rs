//! Logins of grants as rows: the name and the verifier, in the order they were made.
//!
//! It does not know when a login is good.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::super::logins::Logins;
use super::super::store::StoreError;
use super::{damaged, parsed};
use crate::ids::GrantId;
use crate::scram::Verifier;

/// Of the grants that have not ended.
pub(in crate::ledger) fn load(connection: &Connection, now: Timestamp) -> Result<HashMap<GrantId, Logins>, StoreError> {
    // CROSS: the few grants first, and not all logins that there ever were because these have the order (SQLite: "Query
    // Planner", manual control of join order).
    let mut statement = connection.prepare(
        "SELECT l.name, l.grant_id, l.verifier FROM grants g CROSS JOIN logins l ON l.grant_id = g.id \
         WHERE coalesce(g.until, g.activate_by) > ?1 ORDER BY l.number",
    )?;
    let mut rows = statement.query([now.as_microsecond()])?;
    let mut logins: HashMap<GrantId, Logins> = HashMap::new();
    while let Some(row) = rows.next()? {
        let (grant, name, verifier) = read(row)?;
        logins.entry(grant).or_default().add(name, verifier);
    }
    Ok(logins)
}

/// Of one grant.
pub(super) fn of(connection: &Connection, grant: &GrantId) -> Result<Logins, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT name, grant_id, verifier FROM logins WHERE grant_id = ?1 ORDER BY number")?;
    let mut rows = statement.query([grant.as_str()])?;
    let mut logins = Logins::default();
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

/// Stores a login, and forgets `dropped`. With the operating system, not on the disk: whoever loses one to a power cut
/// asks for another.
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
