//! Requests as rows: the request itself as JSON, beside the columns that are searched.
//!
//! This module does not judge a step; the store's triggers refuse an illegal one.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};

use super::super::sqlite::{StoreError, together};
use super::{NO_SECRET, damaged, insert_within, micros};
use crate::model::grant::Grant;
use crate::model::ids::{GrantId, RequestId};
use crate::model::names::{IdentityName, TargetName};
use crate::model::request::{Request, RequestState};

const REQUEST_COLUMNS: &str = "number, id, identity, target, outcome, activate_within_us, body";

/// Request as it is stored.
#[derive(Debug, Clone)]
pub(in crate::ledger) struct StoredRequest {
    /// Number in the order of arrival.
    pub(in crate::ledger) number: i64,
    pub(in crate::ledger) request: Request,
    /// Time that its grant waits for the first connect.
    pub(in crate::ledger) activate_within: Duration,
}

/// Filter and page over the requests in the store.
#[derive(Debug, Clone)]
pub(in crate::ledger) struct RequestPage {
    /// Status other than [`RequestState::Pending`]: pending requests are in memory.
    pub(in crate::ledger) status: Option<RequestState>,
    pub(in crate::ledger) identity: Option<IdentityName>,
    pub(in crate::ledger) target: Option<TargetName>,
    pub(in crate::ledger) unreviewed: bool,
    pub(in crate::ledger) before: Option<i64>,
    pub(in crate::ledger) limit: usize,
    pub(in crate::ledger) now: Timestamp,
}

pub(in crate::ledger) fn load_pending(connection: &Connection, now: Timestamp) -> Result<Vec<StoredRequest>, StoreError> {
    let sql = format!("SELECT {REQUEST_COLUMNS} FROM requests WHERE outcome IS NULL AND expires_at > ?1");
    many(connection, &sql, [Value::Integer(now.as_microsecond())])
}

pub(in crate::ledger) fn find(connection: &Connection, id: &RequestId) -> Result<Option<StoredRequest>, StoreError> {
    one(connection, "id = ?1", [id.as_str()])
}

pub(in crate::ledger) fn find_by_key(
    connection: &Connection,
    identity: &IdentityName,
    key: &str,
) -> Result<Option<StoredRequest>, StoreError> {
    one(connection, "identity = ?1 AND key = ?2", [identity.as_str(), key])
}

/// Returns a page of requests, the latest first.
pub(in crate::ledger) fn page(connection: &Connection, page: &RequestPage) -> Result<Vec<StoredRequest>, StoreError> {
    let (conditions, mut values) = conditions(page);
    values.push(Value::Integer(i64::try_from(page.limit).unwrap_or(i64::MAX)));
    let sql = format!("SELECT {REQUEST_COLUMNS} FROM requests WHERE {conditions} ORDER BY number DESC LIMIT ?");
    many(connection, &sql, values)
}

/// Returns the conditions of a page in SQL, with their values. SQLite does not know which of two conditions matches fewer rows:
/// unreviewed requests are the fewest, then those of one identity. If there is such a condition, a `+` keeps SQLite from using
/// the index of the others (SQLite: "The SQLite Query Optimizer Overview", unary "+"), which could go through everything that
/// was ever approved.
fn conditions(page: &RequestPage) -> (String, Vec<Value>) {
    let (mut conditions, mut values) = ("1".to_owned(), Vec::new());
    let mut add = |condition: &str, value: Option<Value>| {
        conditions.push_str(" AND ");
        conditions.push_str(condition);
        values.extend(value);
    };
    let text = |text: &str| Some(Value::Text(text.to_owned()));
    let now = Some(Value::Integer(page.now.as_microsecond()));
    let narrow = page.unreviewed || page.identity.is_some();
    let beside = |narrow: bool| if narrow { "+" } else { "" };
    match page.status {
        None => {}
        Some(RequestState::Pending) => add("outcome IS NULL AND expires_at > ?", now),
        Some(RequestState::Lapsed) => add("outcome IS NULL AND +expires_at <= ?", now),
        Some(settled) => add(&format!("{}outcome = ?", beside(narrow)), text(settled.name())),
    }
    if let Some(identity) = &page.identity {
        add(&format!("{}identity = ?", beside(page.unreviewed)), text(identity.as_str()));
    }
    if let Some(target) = &page.target {
        add(&format!("{}target = ?", beside(narrow)), text(target.as_str()));
    }
    if page.unreviewed {
        add("unreviewed = 1", None);
    }
    if let Some(before) = page.before {
        add("number < ?", Some(Value::Integer(before)));
    }
    (conditions, values)
}

/// Stores a new request and the grant that it became at once, both or neither. Returns the request's number.
pub(in crate::ledger) fn insert(
    connection: &Connection,
    stored: &StoredRequest,
    key: Option<&str>,
    grant: Option<&Grant>,
) -> Result<i64, StoreError> {
    let request = &stored.request;
    let body = body(request)?;
    together(connection, |connection| {
        if let Some(grant) = grant {
            insert_within(connection, grant, NO_SECRET)?;
        }
        connection
            .prepare_cached(
                "INSERT INTO requests (id, identity, target, expires_at, activate_within_us, outcome, grant_id, unreviewed, key, \
                 body) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)",
            )?
            .execute(params![
                request.id.as_str(),
                request.wish.identity.as_str(),
                request.wish.target.as_str(),
                request.expires_at.as_microsecond(),
                micros(stored.activate_within),
                outcome(request),
                request.grant().map(GrantId::as_str),
                request.wants_review(),
                key,
                body,
            ])?;
        Ok(connection.last_insert_rowid())
    })
}

/// Stores the result of a step of a pending request and the grant that it became, both or neither.
pub(in crate::ledger) fn step(
    connection: &Connection,
    request: &Request,
    grant: Option<&Grant>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let body = body(request)?;
    together(connection, |connection| {
        if let Some(grant) = grant {
            insert_within(connection, grant, NO_SECRET)?;
        }
        let rows = connection
            .prepare_cached(
                "UPDATE requests SET outcome = ?2, grant_id = ?3, unreviewed = ?4, body = ?5 \
                 WHERE id = ?1 AND outcome IS NULL AND expires_at > ?6",
            )?
            .execute(params![
                request.id.as_str(),
                outcome(request),
                request.grant().map(GrantId::as_str),
                request.wants_review(),
                body,
                now.as_microsecond(),
            ])?;
        exactly_one(rows, request)
    })
}

/// Stores the outcome of a pending request that did not become a grant; a settled request keeps its outcome.
pub(in crate::ledger) fn settle(connection: &Connection, request: &Request) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE requests SET outcome = ?2, unreviewed = 0, body = ?3 WHERE id = ?1 AND outcome IS NULL")?
        .execute(params![request.id.as_str(), outcome(request), body(request)?])?;
    Ok(())
}

/// Stores the review of a request that had none.
pub(in crate::ledger) fn review(connection: &Connection, request: &Request) -> Result<(), StoreError> {
    let body = body(request)?;
    together(connection, |connection| {
        let rows = connection
            .prepare_cached("UPDATE requests SET unreviewed = 0, body = ?2 WHERE id = ?1 AND unreviewed = 1")?
            .execute(params![request.id.as_str(), body])?;
        exactly_one(rows, request)
    })
}

fn exactly_one(rows: usize, request: &Request) -> Result<(), StoreError> {
    if rows == 1 {
        Ok(())
    } else {
        Err(damaged("state", request.id.as_str()))
    }
}

fn one<const N: usize>(connection: &Connection, condition: &str, values: [&str; N]) -> Result<Option<StoredRequest>, StoreError> {
    connection
        .prepare_cached(&format!("SELECT {REQUEST_COLUMNS} FROM requests WHERE {condition}"))?
        .query_row(params_from_iter(values), |row| Ok(read(row)))
        .optional()?
        .transpose()
}

fn many(connection: &Connection, sql: &str, values: impl IntoIterator<Item = Value>) -> Result<Vec<StoredRequest>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

fn read(row: &Row<'_>) -> Result<StoredRequest, StoreError> {
    let id: String = row.get("id")?;
    let body: String = row.get("body")?;
    let request: Request = serde_json::from_str(&body).map_err(|_| damaged("body", &id))?;
    // The searched columns and the body must describe the same request.
    let beside: Option<String> = row.get("outcome")?;
    let identity: String = row.get("identity")?;
    let target: String = row.get("target")?;
    let same = request.id.as_str() == id
        && request.wish.identity.as_str() == identity
        && request.wish.target.as_str() == target
        && outcome(&request) == beside.as_deref();
    if !same {
        return Err(damaged("body", &id));
    }
    let activate_within: i64 = row.get("activate_within_us")?;
    Ok(StoredRequest {
        number: row.get("number")?,
        activate_within: Duration::from_micros(u64::try_from(activate_within).map_err(|_| damaged("activate_within_us", &id))?),
        request,
    })
}

fn body(request: &Request) -> Result<String, StoreError> {
    serde_json::to_string(request).map_err(|_| damaged("body", request.id.as_str()))
}

fn outcome(request: &Request) -> Option<&'static str> {
    request.outcome.as_ref().map(|outcome| outcome.status().name())
}
