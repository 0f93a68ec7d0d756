//! Requests as rows: the request itself as JSON, beside the columns that are searched.
//!
//! This module does not judge a step; the store's triggers refuse an illegal one.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, Params, Row, params_from_iter};

use super::super::cache::{RequestEntry, RequestExtra};
use super::super::sqlite::{StoreError, all, damaged, execute, first, json, signed, to_json, unsigned};
use super::super::views::RequestFilter;
use super::exactly_one;
use crate::model::ids::RequestId;
use crate::model::names::IdentityName;
use crate::model::request::{Request, RequestState};

const REQUEST_COLUMNS: &str = "number, id, identity, target, outcome, activate_within_us, body";

pub(in crate::ledger) fn load_pending(connection: &Connection, now: Timestamp) -> Result<Vec<RequestEntry>, StoreError> {
    let sql = format!("SELECT {REQUEST_COLUMNS} FROM requests WHERE outcome IS NULL AND expires_at > ?1");
    all(connection, &sql, [now.as_microsecond()], read)
}

pub(in crate::ledger) fn find(connection: &Connection, id: &RequestId) -> Result<Option<RequestEntry>, StoreError> {
    one(connection, "id = ?1", [id.as_str()])
}

pub(in crate::ledger) fn find_by_key(
    connection: &Connection,
    identity: &IdentityName,
    key: &str,
) -> Result<Option<RequestEntry>, StoreError> {
    one(connection, "identity = ?1 AND key = ?2", [identity.as_str(), key])
}

fn one(connection: &Connection, condition: &str, values: impl Params) -> Result<Option<RequestEntry>, StoreError> {
    let sql = format!("SELECT {REQUEST_COLUMNS} FROM requests WHERE {condition}");
    first(connection, &sql, values, read)
}

/// Returns a page of requests, the latest first: those before the number `before`, with their status at `now`.
pub(in crate::ledger) fn page(
    connection: &Connection,
    filter: &RequestFilter,
    before: Option<i64>,
    limit: usize,
    now: Timestamp,
) -> Result<Vec<RequestEntry>, StoreError> {
    let (conditions, mut values) = conditions(filter, before, now);
    values.push(signed(limit).into());
    let sql = format!("SELECT {REQUEST_COLUMNS} FROM requests WHERE {conditions} ORDER BY number DESC LIMIT ?");
    all(connection, &sql, params_from_iter(values), read)
}

/// Returns the conditions of a page in SQL, with their values. SQLite does not know which of two conditions matches fewer rows:
/// unreviewed requests are the fewest, then those of one identity. If there is such a condition, a `+` keeps SQLite from using
/// the index of the others (SQLite: "The SQLite Query Optimizer Overview", unary "+"), which could go through everything that
/// was ever approved.
fn conditions(filter: &RequestFilter, before: Option<i64>, now: Timestamp) -> (String, Vec<Value>) {
    let (mut conditions, mut values) = ("1".to_owned(), Vec::new());
    let mut add = |condition: &str, value: Option<Value>| {
        conditions.push_str(" AND ");
        conditions.push_str(condition);
        values.extend(value);
    };
    let text = |text: &str| Some(Value::Text(text.to_owned()));
    let now = || Some(Value::Integer(now.as_microsecond()));
    let narrow = filter.unreviewed || filter.identity.is_some();
    let beside = |narrow: bool| if narrow { "+" } else { "" };
    match filter.status {
        None => {}
        Some(RequestState::Pending) => add("outcome IS NULL AND expires_at > ?", now()),
        Some(RequestState::Lapsed) => add("outcome IS NULL AND +expires_at <= ?", now()),
        Some(settled) => add(&format!("{}outcome = ?", beside(narrow)), text(settled.name())),
    }
    if let Some(identity) = &filter.identity {
        add(&format!("{}identity = ?", beside(filter.unreviewed)), text(identity.as_str()));
    }
    if let Some(target) = &filter.target {
        add(&format!("{}target = ?", beside(narrow)), text(target.as_str()));
    }
    if filter.unreviewed {
        add("unreviewed = 1", None);
    }
    if filter.settled {
        add("(outcome IS NOT NULL OR +expires_at <= ?)", now());
    }
    if let Some(before) = before {
        add("number < ?", Some(Value::Integer(before)));
    }
    (conditions, values)
}

/// Stores a new request. Returns its number.
pub(in crate::ledger) fn insert(
    connection: &Connection,
    request: &Request,
    activate_within: Duration,
    key: Option<&str>,
) -> Result<i64, StoreError> {
    let sql = "INSERT INTO requests (id, outcome, grant_id, unreviewed, body, identity, target, expires_at, activate_within_us, key) \
         VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)";
    let fixed: [Value; 5] = [
        request.wish.identity.to_string().into(),
        request.wish.target.to_string().into(),
        request.expires_at.as_microsecond().into(),
        signed(activate_within.as_micros()).into(),
        key.map(str::to_owned).into(),
    ];
    execute(connection, sql, params_from_iter(values(request)?.into_iter().chain(fixed)))?;
    Ok(connection.last_insert_rowid())
}

/// Stores the result of a step of a pending request.
pub(in crate::ledger) fn step(connection: &Connection, request: &Request, now: Timestamp) -> Result<(), StoreError> {
    let now = Value::Integer(now.as_microsecond());
    let rows = update(connection, request, "outcome IS NULL AND expires_at > ?6", Some(now))?;
    exactly_one(rows, "state", request.id.as_str())
}

/// Stores the outcome of a pending request that did not become a grant; a settled request keeps its outcome.
pub(in crate::ledger) fn settle(connection: &Connection, request: &Request) -> Result<(), StoreError> {
    update(connection, request, "outcome IS NULL", None).map(drop)
}

/// Stores the review of a request that had none.
pub(in crate::ledger) fn review(connection: &Connection, request: &Request) -> Result<(), StoreError> {
    let rows = update(connection, request, "unreviewed = 1", None)?;
    exactly_one(rows, "state", request.id.as_str())
}

fn update(connection: &Connection, request: &Request, condition: &str, value: Option<Value>) -> Result<usize, StoreError> {
    let sql =
        format!("UPDATE requests SET outcome = ?2, grant_id = ?3, unreviewed = ?4, body = ?5 WHERE id = ?1 AND {condition}");
    execute(connection, &sql, params_from_iter(values(request)?.into_iter().chain(value)))
}

/// Returns the id of a request and the values of the columns that can change.
fn values(request: &Request) -> Result<[Value; 5], StoreError> {
    Ok([
        request.id.to_string().into(),
        outcome(request).map(str::to_owned).into(),
        request.grant().map(ToString::to_string).into(),
        request.wants_review().into(),
        to_json(request, "body", request.id.as_str())?.into(),
    ])
}

fn read(row: &Row<'_>) -> Result<RequestEntry, StoreError> {
    let id: String = row.get("id")?;
    let request: Request = json(row, "body", &id)?;
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
    let extra = RequestExtra {
        number: row.get("number")?,
        activate_within: Duration::from_micros(unsigned(row, "activate_within_us", &id)?),
    };
    Ok(RequestEntry::with(request, extra))
}

fn outcome(request: &Request) -> Option<&'static str> {
    request.outcome.as_ref().map(|outcome| outcome.status().name())
}
