//! Who touched a table: the statements that name it, by person and target.
//!
//! The sums are the audit log's.
//!
//! INVARIANT: the page never suggests that a table was not touched while there are statements that could not be read, or while
//! the search was not finished.

use std::time::Duration;

use axum::Extension;
use maud::{Markup, html};

use super::log::conditions;
use super::show_with;
use crate::audit::rollbacks::Rollbacks;
use crate::audit::table_access::{AccessFilters, TableAccess, TableAccessSums};
use crate::audit::{Filter, LogRecord, SearchExtent};
use crate::console::answer::PageAnswer;
use crate::console::form::{self, FormError, FormFields, QueryFields, RefusedForm};
use crate::console::page_status::PageStatus;
use crate::console::templates::field::{self, TextField};
use crate::console::templates::frame::{Frame, Section};
use crate::console::templates::table::{TableColumn, table};
use crate::console::templates::text::{cut, names, shown};
use crate::console::templates::{problem, time};
use crate::control::model::LogQuery;
use crate::control::{ApiError, Call, LogReader, LongPollLimiter};

/// Number of rows on the page.
const MAX_ROWS: usize = 200;
/// Time that the search may take.
const SEARCH_TIME: Duration = Duration::from_secs(20);

/// Shows the sums, or the form alone.
pub(in crate::console) async fn page(
    call: Call,
    Extension(limiter): Extension<LongPollLimiter>,
    query: QueryFields,
) -> PageAnswer {
    let reader = call.log_reader(&limiter).await?;
    let fields = &query.0;
    let (found, refused) = match searched(&call, &reader, fields).await {
        Ok(found) => (found, None),
        Err(error) => (None, Some(RefusedForm::new("search", fields.clone(), error)?)),
    };
    let frame = Frame {
        section: Some(Section::Log),
        ..Frame::bare("Who touched a table")
    };
    reader.still_allowed()?;
    let status = refused.as_ref().map_or(PageStatus::OK, RefusedForm::status);
    let body = body(fields, found.as_deref(), refused.as_ref());
    Ok(show_with(status, &call, &query, frame, &body))
}

/// Returns the sums for the table in the fields, if there is one.
async fn searched(call: &Call, reader: &LogReader<'_>, fields: &FormFields) -> Result<Option<Vec<TableAccess>>, FormError> {
    if fields.text("table").is_none() {
        return Ok(None);
    }
    let filter = conditions(fields, call.gate.clock.now())?;
    let sums = tokio::time::timeout(SEARCH_TIME, sums(reader, filter)).await;
    Ok(Some(sums.map_err(|_| ApiError::SearchStopped(SEARCH_TIME))??))
}

async fn sums(reader: &LogReader<'_>, filter: Filter) -> Result<Vec<TableAccess>, ApiError> {
    let filters = AccessFilters::new(filter);
    let mut undone = Rollbacks::default();
    each(reader, filters.steps, |record| undone.add(record)).await?;
    let mut sums = TableAccessSums::new(filters.until, undone);
    each(reader, filters.statements, |record| sums.add(record)).await?;
    each(reader, filters.unread, |record| sums.add_unread(record)).await?;
    if !sums.left_out().is_nothing() {
        return Err(ApiError::Log(
            "there are too many statements to sum up; narrow the search".to_owned(),
        ));
    }
    Ok(sums.sums())
}

/// Passes each record that matches to `take`.
async fn each(reader: &LogReader<'_>, filter: Filter, mut take: impl FnMut(&LogRecord)) -> Result<(), ApiError> {
    let extent = SearchExtent::default();
    let mut found = reader.find(&LogQuery { filter, extent })?;
    while let Some(item) = found.next().await {
        take(&item.map_err(|error| ApiError::Log(error.to_string()))?);
    }
    Ok(())
}

/// Returns the content of the page.
pub(in crate::console) fn body(fields: &FormFields, sums: Option<&[TableAccess]>, refused: Option<&RefusedForm>) -> Markup {
    let one = |name: &'static str, label: &'static str, hint: &'static str| {
        let value = fields.text(name).unwrap_or_default();
        let required = name == "table";
        field::text(&TextField {
            name,
            label,
            hint,
            value,
            required,
            wrong: refused.and_then(|refused| refused.wrong(name)),
            ..TextField::default()
        })
    };
    html! {
        p.crumb { a href="/log" { "Log" } }
        h1 { "Who touched a table" }
        (problem::refusal(refused))
        form.card method="get" action="/log/tables" {
            div.row {
                (one("table", "Table", "customers, or shop.customers"))
                (one("target", "Target", "Empty: all"))
                (one("since", "Since", "7d"))
                (one("until", "Until", "Empty: now"))
            }
            div.acts { button { "Search" } }
        }
        @if let Some(sums) = sums { (found(fields, sums)) }
    }
}

fn found(fields: &FormFields, sums: &[TableAccess]) -> Markup {
    let columns: [TableColumn<'_, TableAccess>; 8] = [
        ("Who", &|sum| html! { (cut(sum.identity.as_str())) }),
        ("Target", &|sum| html! { (sum.target) }),
        ("Statements", &|sum| html! { (sum.counts.statements) }),
        (
            "Failed",
            &|sum| html! { (sum.counts.failed) @if sum.counts.rolled_back > 0 { ", " (sum.counts.rolled_back) " rolled back" } },
        ),
        ("Rows", &|sum| html! { (sum.rows) }),
        ("Could not be read", &|sum| html! { (sum.counts.not_read + sum.unread) }),
        ("Commands", &|sum| html! { (names(&sum.classes)) }),
        ("Last", &|sum| time::at(sum.last)),
    ];
    let unread: u64 = sums.iter().map(|sum| sum.unread).sum();
    let rows = sums.get(..MAX_ROWS).unwrap_or(sums);
    html! {
        (table("", rows, &columns, &html! { "No statement in the log names this table." }))
        @if unread > 0 {
            p { (unread) " other statements could not be read and may have touched it, too: " a href=(unread_of(fields)) { "show them" } "." }
        }
        @if sums.len() > MAX_ROWS { p.note { (shown("More than the first rows were found; narrow the search.")) } }
    }
}

/// Returns the path of the statements that could not be read, under the same conditions.
fn unread_of(fields: &FormFields) -> String {
    let conditions = fields.without(&["table"]);
    form::path("/log", &[&[("unread", "true")], &conditions[..]].concat())
}
