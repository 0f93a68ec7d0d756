//! *Log*: the records that match some conditions, the newest first; the state of the log.
//!
//! Searching is the reader's; a page has its rows and a time limit, whatever the log's size. `story` shows one session.

use std::time::Duration;

use axum::Extension;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::{show, show_with};
use crate::audit::event::Event;
use crate::audit::render::{RecordColumns, columns};
use crate::audit::{EventName, Filter, LogRecord, ReadError, SearchExtent};
use crate::base::times::When;
use crate::console::answer::{PageAnswer, see};
use crate::console::form::{self, FormError, FormFields, QueryFields, RefusedForm};
use crate::console::page_status::PageStatus;
use crate::console::templates::field::{self, TextField};
use crate::console::templates::frame::{Frame, Section};
use crate::console::templates::table::{TableColumn, pages, table};
use crate::console::templates::text::{count, shown};
use crate::console::templates::{problem, state, time};
use crate::control::model::{LogQuery, LogStatus, VerificationBody};
use crate::control::{ApiError, Call, LogReader, LongPollLimiter, log_query};

/// Number of records on a page.
const LOG_ROWS: usize = 50;
/// Number of records that are searched for: those of a page, a statement whose outcome is its last one, one that was shown
/// already, and one more if there is a next page.
const SEARCHED_ROWS: u32 = 53;
/// Field with the number before which a page begins.
const BEFORE_FIELD: &str = "before";
/// Size of an SQL text from which it is cut and its size is told, in bytes.
const MAX_UNCUT_BYTES: u64 = 160;
/// Time that a search of a page may take.
const SEARCH_TIME: Duration = Duration::from_secs(8);
/// Fields that the filter of the API does not have.
const OWN_FIELDS: [&str; 3] = [SHOWN_FIELD, "did", "zone"];
/// Field with the number of a record that the page before has shown, and that is found again.
const SHOWN_FIELD: &str = "shown";

/// Result of a search.
#[derive(Debug, Default)]
pub(in crate::console) struct LogPage {
    /// Records, the newest first.
    pub(in crate::console) records: Vec<LogRecord>,
    /// Reasons why lines could not be read.
    pub(in crate::console) unreadable: Vec<String>,
    /// True if records were too large to be held together: there are more behind these.
    pub(in crate::console) more: bool,
    /// True if the search took too long: there may be more.
    pub(in crate::console) stopped: bool,
}

/// Shows a page of records.
pub(in crate::console) async fn page(
    call: Call,
    Extension(limiter): Extension<LongPollLimiter>,
    query: QueryFields,
) -> PageAnswer {
    let fields = &query.0;
    let reader = call.log_reader(&limiter).await?;
    let (found, links, refused) = match searched(&call, &reader, fields).await {
        Ok((found, links)) => (found, links, None),
        Err(error) => {
            let refused = RefusedForm::new("search", fields.clone(), error)?;
            (LogPage::default(), html! {}, Some(refused))
        }
    };
    let body = html! {
        (body(fields, &found, &reader.status(), refused.as_ref()))
        (links)
    };
    let frame = Frame {
        section: Some(Section::Log),
        ..Frame::bare("Log")
    };
    reader.still_allowed()?;
    let status = refused.as_ref().map_or(PageStatus::OK, RefusedForm::status);
    Ok(show_with(status, &call, &query, frame, &body))
}

/// Returns the records of a page, and the links to others.
async fn searched(call: &Call, reader: &LogReader<'_>, fields: &FormFields) -> Result<(LogPage, Markup), FormError> {
    let shown: Option<u64> = fields.parsed(SHOWN_FIELD)?;
    let wanted = wanted(fields, call.gate.clock.now())?;
    let mut found = search(reader, &wanted).await?;
    found.records.retain(|record| Some(record.seq) != shown);
    let next = cut(&mut found.records, !wanted.filter.looks_at_each_alone(), found.more);
    let kept = fields.without(&[&OWN_FIELDS[..], &[BEFORE_FIELD]].concat());
    let next = next.map(|next| next.path(&kept));
    let first = wanted.filter.before.map(|_| form::path("/log", &kept));
    Ok((found, pages(first.as_deref(), next.as_deref())))
}

/// Beginning of the next page. It is a number and not a time: the log is in the order of its numbers, also where the clock was
/// set back.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::console) struct NextPage {
    before: u64,
    /// Number of a record of this page that may be found again.
    shown: u64,
}

impl NextPage {
    fn path(&self, kept: &[(&str, &str)]) -> String {
        let (before, shown) = (self.before.to_string(), self.shown.to_string());
        let mut own = vec![(BEFORE_FIELD, before.as_str())];
        own.extend((self.shown < self.before).then_some((SHOWN_FIELD, shown.as_str())));
        form::path("/log", &[kept, &own].concat())
    }
}

/// Cuts records, the newest first, to a page. Returns where the next one begins, if there is one. Where statements are found by
/// their outcomes (`joins`), the two stand side by side, have the place of the outcome, and are not torn apart. `more`: there are more than these, which are fewer than a page.
pub(in crate::console) fn cut(records: &mut Vec<LogRecord>, joins: bool, more: bool) -> Option<NextPage> {
    let is_pair = |at: usize| match (
        records.get(at).map(|record| &record.event),
        records.get(at + 1).map(|record| &record.event),
    ) {
        (Some(Event::Outcome(outcome)), Some(Event::Statement(statement))) => {
            joins && outcome.who.session == statement.who.session && outcome.statement == statement.statement
        }
        _ => false,
    };
    let rows = LOG_ROWS + usize::from(is_pair(LOG_ROWS - 1));
    if records.len() <= rows && !more {
        return None;
    }
    let pair = rows.min(records.len()).checked_sub(2).filter(|at| is_pair(*at));
    records.truncate(rows);
    let shown = records.last()?.seq;
    let before = pair.and_then(|at| records.get(at)).map_or(shown, |outcome| outcome.seq);
    Some(NextPage { before, shown })
}

/// Leads to the evidence of a period, which the API makes.
pub(in crate::console) async fn report(call: Call, query: QueryFields) -> PageAnswer {
    match report_path(&query.0, call.gate.clock.now()) {
        Ok(path) => Ok(see(&path)),
        Err(error) => {
            let refused = RefusedForm::new("report", query.0.clone(), error)?;
            let body = html! {
                p.crumb { a href="/log" { "Log" } }
                h1 { "Evidence report" }
                (problem::refusal(Some(&refused)))
                (evidence_form(Some(&refused)))
            };
            let frame = Frame {
                section: Some(Section::Log),
                ..Frame::bare("Evidence report")
            };
            Ok(show_with(refused.status(), &call, &QueryFields::default(), frame, &body))
        }
    }
}

/// Returns the path of the evidence of the period in the fields.
fn report_path(fields: &FormFields, now: Timestamp) -> Result<String, FormError> {
    let missing = || FormError::of_field("since", &"since when? Like 30d, or 2026-07-01");
    let since = at(fields, "since", now)?.ok_or_else(missing)?;
    let until = at(fields, "until", now)?;
    let mut period = vec![("since", since.as_str())];
    period.extend(until.as_deref().map(|until| ("until", until)));
    Ok(form::path("/v1/audit/report", &period))
}

/// Returns the conditions of the fields, as the API knows them.
pub(super) fn conditions(fields: &FormFields, now: Timestamp) -> Result<Filter, FormError> {
    let (since, until) = (at(fields, "since", now)?, at(fields, "until", now)?);
    let mut pairs = fields.without(&[&OWN_FIELDS[..], &["since", "until", "last"]].concat());
    pairs.extend(since.as_deref().map(|since| ("since", since)));
    pairs.extend(until.as_deref().map(|until| ("until", until)));
    let path = form::path("/log", &pairs);
    let uri = path
        .parse()
        .map_err(|_| ApiError::Malformed("a condition is not a text".to_owned()))?;
    Ok(log_query(&uri)?.filter)
}

/// Returns the search of a page.
fn wanted(fields: &FormFields, now: Timestamp) -> Result<LogQuery, FormError> {
    let extent = SearchExtent {
        last: Some(SEARCHED_ROWS),
        ..SearchExtent::default()
    };
    let filter = conditions(fields, now)?;
    Ok(LogQuery { filter, extent })
}

/// Returns a time as people write it as the API takes it.
fn at(fields: &FormFields, name: &'static str, now: Timestamp) -> Result<Option<String>, FormError> {
    let when = fields.parsed_with(name, When::parse)?;
    Ok(when.map(|when| when.time(&now.to_zoned_datetime(TimeZone::UTC)).to_string()))
}

/// Searches for as long as a page may take.
async fn search(reader: &LogReader<'_>, wanted: &LogQuery) -> Result<LogPage, ApiError> {
    let mut stream = reader.find(wanted)?;
    let mut found = LogPage::default();
    let read = async {
        while let Some(item) = stream.next().await {
            match item {
                Ok(record) => found.records.push(record),
                Err(ReadError::NotHeldBack { .. }) => found.more = true,
                Err(error) => found.unreadable.push(error.to_string()),
            }
        }
    };
    let whole = tokio::time::timeout(SEARCH_TIME, read).await;
    found.stopped = whole.is_err();
    found.records.reverse();
    Ok(found)
}

/// Shows the way to a whole record, with the size of its SQL text where that is cut.
pub(super) fn whole(record: &LogRecord) -> Markup {
    let after = record.seq.saturating_sub(1).to_string();
    let grant = record.event.grant().map(|grant| ("grant", grant.as_str()));
    let fields: Vec<_> = [("limit", "1"), ("after", after.as_str())].into_iter().chain(grant).collect();
    let sql = match &record.event {
        Event::Statement(statement) => statement.sql.as_ref(),
        _ => None,
    };
    let bytes = sql.map_or(0, |sql| sql.length.unwrap_or(sql.text.0.len() as u64));
    html! {
        a.note href=(form::path("/v1/log", &fields)) aria-label={ "#" (record.seq) ", the whole record" } { "#" (record.seq) }
        @if bytes > MAX_UNCUT_BYTES { span.note { " of " (bytes) " bytes" } }
    }
}

/// Shows how much of the log there is, and how much of it is signed.
pub(super) fn extent(log: &LogStatus) -> Markup {
    let unsigned = log.last.saturating_sub(log.signed_to.unwrap_or(0));
    html! {
        @match &log.not_ready {
            None => { (state::good(true, "written")) }
            Some(trouble) => { (state::good(false, &shown(trouble))) }
        }
        " " (count(log.last, "record", "records"))
        @if let (Some(to), Some(at)) = (log.signed_to, log.signed_at) {
            ", signed up to " (to) " at " (time::at(at))
            @if unsigned > 0 { ", " (unsigned) " not yet" }
        } @else { ", not signed since the gate's start" }
        @if let Some(gap) = &log.gap { " " (state::good(false, &shown(gap))) }
    }
}

/// Verifies the newest part of the log, and shows the result.
pub(in crate::console) async fn verify(
    call: Call,
    Extension(limiter): Extension<LongPollLimiter>,
    query: QueryFields,
) -> PageAnswer {
    let verified = call.verification(&limiter).await?;
    let frame = Frame {
        section: Some(Section::Log),
        ..Frame::bare("Verification")
    };
    Ok(show(&call, &query, frame, &verify_body(&verified)))
}

/// Returns the content of the page with a verification.
pub(in crate::console) fn verify_body(verified: &VerificationBody) -> Markup {
    let VerificationBody { first, last, proven, .. } = verified;
    html! {
        p.crumb { a href="/log" { "Log" } }
        h1 { "Verification" }
        p {
            (state::good(verified.whole, if verified.whole { "whole" } else { "not whole" }))
            " Records " (first) " to " (last) ", at " (time::at(verified.checked_at))
        }
        @if let Some(flaw) = &verified.flaw {
            div.problem role="alert" {
                p { strong { (shown(flaw)) } }
                @if let Some(remedy) = &verified.remedy { p { "What to do: " (shown(remedy)) } }
            }
        } @else {
            p { "Each record follows the one before it, byte by byte, and the gate's key has signed them up to " (proven) "." }
        }
        @for remark in &verified.remarks { p.note { (shown(remark)) } }
        h2 { "What this does not prove" }
        ul {
            @if *first > 1 { li { "That the records before " (first) " are whole: they were not read." } }
            @if last > proven { li { "That the last records are all there: those after " (proven) " are not signed yet." } }
            li { "Anything against somebody who has the gate's key, or has changed this gate: it verifies itself." }
        }
        p { code { "tidegate audit verify" } " reads the whole log, on another machine if you like, with a checkpoint that was kept elsewhere." }
    }
}

/// Returns the content of the page, without the links to others.
pub(in crate::console) fn body(fields: &FormFields, found: &LogPage, log: &LogStatus, refused: Option<&RefusedForm>) -> Markup {
    let of_session = |record: &LogRecord, shown: &str| {
        html! {
            @if record.event.session().is_some() { a.id href={ "/log/sessions/" (shown) } { (shown) } }
            @else if record.event.grant().is_some() { a.id href={ "/grants/" (shown) } { (shown) } }
        }
    };
    let rows: Vec<(&LogRecord, RecordColumns)> = found
        .records
        .iter()
        .map(|record| (record, columns(record, &TimeZone::UTC)))
        .collect();
    let shown_columns: [TableColumn<'_, (&LogRecord, RecordColumns)>; 5] = [
        ("Time", &|(record, _)| time::precise(record.time)),
        ("Who", &|(_, shown)| html! { (self::shown(&shown.identity)) }),
        ("Session", &|(record, shown)| of_session(record, &shown.session)),
        ("Event", &|(_, shown)| html! { code { (shown.event) } }),
        ("What", &|(record, shown)| {
            html! { (shown.text) " " (whole(record)) }
        }),
    ];
    html! {
        h1 { "Log" }
        p { (extent(log)) ". " a href="/log/verify" { "Verify the newest part" } }
        (problem::refusal(refused))
        (filters(fields, refused))
        @if found.stopped {
            div.problem role="alert" { p { "The search was stopped after " (SEARCH_TIME.as_secs()) " s: there may be more. Narrow it: a shorter time, one person, one target." } }
        }
        @for error in &found.unreadable { div.problem role="alert" { p { (shown(error)) } } }
        @if refused.is_none() { (table("", &rows, &shown_columns, &html! { @if found.stopped { "None was found before that." } @else { "No record matches. Fewer conditions find more." } })) }
        (evidence())
    }
}

/// Shows the form for the evidence of a period, folded.
fn evidence() -> Markup {
    html! {
        details {
            summary { "Evidence report" }
            (evidence_form(None))
        }
    }
}

fn evidence_form(refused: Option<&RefusedForm>) -> Markup {
    html! {
        form.card method="get" action="/log/report" {
            div.row {
                (field::text(&TextField { name: "since", label: "Since", value: "30d", required: true, ..TextField::default() }.again(refused)))
                (field::text(&TextField { name: "until", label: "Until", hint: "Empty: now", ..TextField::default() }.again(refused)))
            }
            div.acts { button { "Download" } }
            p.note { "One page to keep. The log is verified for it, which takes a while where there is much of it." }
        }
    }
}

fn filters(fields: &FormFields, refused: Option<&RefusedForm>) -> Markup {
    let given = |name: &'static str| fields.text(name).unwrap_or_default();
    let field = |name: &'static str, label: &'static str, hint: &'static str| {
        field::text(&TextField {
            name,
            label,
            hint,
            value: given(name),
            wrong: refused.and_then(|refused| refused.wrong(name)),
            ..TextField::default()
        })
    };
    let any = std::iter::once((String::new(), "any".to_owned()));
    let events: Vec<_> = any
        .chain(EventName::ALL.iter().map(|event| (event.to_string(), event.to_string())))
        .collect();
    let rare = ["text", "table", "sqlstate", "session", "grant", "min_rows", "until"];
    html! {
        form.card method="get" action="/log" {
            div.row {
                (field("identity", "Who", ""))
                (field("target", "Target", ""))
                (field::choice("event", "Event", "", &events, given("event")))
                (field("since", "Since", ""))
            }
            details open[rare.iter().any(|name| fields.text(name).is_some())] {
                summary { "More conditions" }
                div.row {
                    (field("until", "Until", ""))
                    (field("text", "Text in it", ""))
                    (field("table", "Table", ""))
                    (field("sqlstate", "SQLSTATE", ""))
                    (field("session", "Session", ""))
                    (field("grant", "Grant", ""))
                    (field("min_rows", "Rows at least", ""))
                }
                p.note { "Times: 2h ago, yesterday 17:30, last tuesday, 2026-08-01T12:00Z. Without a zone they are UTC." }
            }
            div.acts { button { "Search" } a.button.plain href="/log" { "All" } a.button.plain href="/log/tables" { "Who touched a table" } }
        }
    }
}
