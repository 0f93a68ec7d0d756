//! A session as its story: how its grant came about, what it ran, how it ended.
//!
//! The timeline is the audit log's; here it is shown.
//!
//! INVARIANT: a statement without an outcome is shown as such; what a page leaves out is said on it.

use std::time::Duration;

use axum::Extension;
use axum::extract::Path;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::show;
use crate::audit::render::columns;
use crate::audit::timeline::{OUTCOME_UNKNOWN, SessionTimeline, TimelineStatement};
use crate::audit::{Filter, LogRecord, SearchExtent};
use crate::console::answer::PageAnswer;
use crate::console::form::QueryFields;
use crate::console::templates::frame::{Frame, Section};
use crate::console::templates::text::{count, names, shown};
use crate::console::templates::time;
use crate::control::model::LogQuery;
use crate::control::{ApiError, Call, LogReader, LongPollLimiter, named};
use crate::model::ids::SessionId;

/// Number of records of a session that a page reads.
const MAX_RECORDS: u32 = 2_000;
/// Number of statements on a page.
const MAX_STATEMENTS: usize = 500;
/// Number of bytes of the log that a page reads.
const MAX_BYTES: usize = 32 << 20;
/// Time that the reading may take.
const READ_TIME: Duration = Duration::from_secs(8);

/// Shows the story.
pub(in crate::console) async fn page(
    call: Call,
    Extension(limiter): Extension<LongPollLimiter>,
    Path(id): Path<String>,
    query: QueryFields,
) -> PageAnswer {
    let id: SessionId = named(&id)?;
    let reader = call.log_reader(&limiter).await?;
    let told = tokio::time::timeout(READ_TIME, tell(&reader, &id)).await;
    let slow = || ApiError::Log("the session's records were not found in time; search the log by its time first".to_owned());
    let (timeline, cut) = told.map_err(|_| slow())??;
    let title = format!("Session {id}");
    let frame = Frame {
        section: Some(Section::Log),
        follow: "session",
        subject: Some(id.as_str()),
        ..Frame::bare(&title)
    };
    Ok(show(&call, &query, frame, &body(&id, &timeline, cut)))
}

/// Returns the timeline, and true if not all of it was read.
async fn tell(reader: &LogReader<'_>, id: &SessionId) -> Result<(SessionTimeline, bool), ApiError> {
    let of_session = Filter {
        session: Some(id.clone()),
        ..Filter::default()
    };
    let (records, cut) = read(reader, of_session).await?;
    let Some(who) = records.iter().find_map(|record| record.event.who().cloned()) else {
        return Err(ApiError::NoSuchSession(id.clone()));
    };
    let mut background = Vec::new();
    for filter in SessionTimeline::background_of_grant(&who.grant) {
        background.extend(read(reader, filter).await?.0);
    }
    for filter in SessionTimeline::background_of_request(&background) {
        background.extend(read(reader, filter).await?.0);
    }
    Ok((SessionTimeline::of(records, background), cut))
}

/// Returns records, and true if there are more.
async fn read(reader: &LogReader<'_>, filter: Filter) -> Result<(Vec<LogRecord>, bool), ApiError> {
    let extent = SearchExtent {
        limit: Some(MAX_RECORDS),
        ..SearchExtent::default()
    };
    let mut stream = reader.find(&LogQuery { filter, extent })?;
    let (mut records, mut bytes) = (Vec::new(), 0);
    while let Some(item) = stream.next().await {
        let record = item.map_err(|error| ApiError::Log(error.to_string()))?;
        bytes += record.json().len();
        records.push(record);
        if bytes > MAX_BYTES {
            return Ok((records, true));
        }
    }
    let cut = records.len() >= MAX_RECORDS as usize;
    Ok((records, cut))
}

/// Returns the content of the page.
pub(in crate::console) fn body(id: &SessionId, timeline: &SessionTimeline, cut: bool) -> Markup {
    let totals = &timeline.totals;
    html! {
        p.crumb { a href="/log" { "Log" } }
        h1 { "Session " span.id { (id) } }
        @if let Some(who) = &timeline.who {
            p.lead {
                (shown(who.identity.as_str())) " on " (who.target.with(who.profile.as_ref())) ", under "
                a.id href={ "/grants/" (who.grant) } { (who.grant) }
            }
        }
        p {
            (count(totals.counts.statements, "statement", "statements")) ", " (totals.counts.failed) " failed, "
            (totals.counts.outcome_unknown) " with " (OUTCOME_UNKNOWN) "; " (count(totals.rows, "row", "rows"))
            @if !totals.tables.is_empty() { "; tables: " (names(&totals.tables)) }
            "."
        }
        @if cut || timeline.statements.len() > MAX_STATEMENTS {
            p.empty { "Only its first part is shown. " a href={ "/log?session=" (id) } { "All its records, the newest first" } }
        }
        @if !timeline.background.is_empty() {
            h2 { "How it came about" }
            ol.story { @for record in &timeline.background { (line(record)) } }
        }
        h2 { "What happened" }
        ol.story { @for part in in_order(timeline) { (part) } }
    }
}

/// Returns the session's events and statements in the order of the log.
fn in_order(timeline: &SessionTimeline) -> Vec<Markup> {
    let mut parts: Vec<(u64, Markup)> = timeline.events.iter().map(|record| (record.seq, line(record))).collect();
    let statements = timeline.statements.iter().take(MAX_STATEMENTS);
    parts.extend(statements.filter_map(|told| {
        let record = told.statement.as_ref().or(told.outcome.as_ref())?;
        Some((record.seq, statement(record, told)))
    }));
    parts.sort_by_key(|(seq, _)| *seq);
    parts.into_iter().map(|(_, part)| part).collect()
}

fn line(record: &LogRecord) -> Markup {
    let told = columns(record, &TimeZone::UTC);
    html! { li { (time::precise(record.time)) code { (told.event) } " " (told.text) } }
}

/// Shows a statement with its outcome. Long texts are cut; the number leads to the whole record.
fn statement(record: &LogRecord, told: &TimelineStatement) -> Markup {
    let outcome = told.outcome.as_ref().filter(|_| told.statement.is_some());
    let outcome = outcome.map(|outcome| columns(outcome, &TimeZone::UTC).text);
    let whole = format!("/v1/log?limit=1&after={}", record.seq.saturating_sub(1));
    html! {
        li {
            (time::precise(record.time))
            code { (columns(record, &TimeZone::UTC).text) }
            " " a.note href=(whole) aria-label={ "#" (record.seq) ", the whole record" } { "#" (record.seq) }
            @if told.statement.is_some() { div.note { "→ " (outcome.as_deref().unwrap_or(OUTCOME_UNKNOWN)) } }
            @if let Some(sqlstate) = &told.rolled_back { div.note { "then rolled back (" (shown(sqlstate)) ")" } }
        }
    }
}
