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

use super::{RENEWAL_SECONDS, log, show};
use crate::audit::render::columns;
use crate::audit::timeline::{OUTCOME_UNKNOWN, SessionTimeline, TimelineStatement};
use crate::audit::{Filter, LogRecord, SearchExtent};
use crate::console::answer::PageAnswer;
use crate::console::form::{self, QueryFields};
use crate::console::templates::frame::{Frame, Section};
use crate::console::templates::text::{count, names, shown};
use crate::console::templates::{state, time};
use crate::control::model::{LogQuery, SessionsQuery};
use crate::control::{ApiError, Call, LogReader, LongPollLimiter, Renewal, log_error, named};
use crate::gate::session::SessionView;
use crate::model::ids::{GrantId, SessionId};

/// Number of records of a session that a page reads.
const MAX_RECORDS: u32 = 2_000;
/// Number of statements on a page.
const MAX_STATEMENTS: usize = 500;
/// Number of bytes of the log that a page reads.
const MAX_BYTES: usize = 32 << 20;
/// Extent of a reading from the beginning.
const FIRST: SearchExtent = SearchExtent {
    follow: false,
    last: None,
    sort: None,
    limit: Some(MAX_RECORDS),
};
/// Outcome of a statement of a session that is open: it may still come.
const UNANSWERED: &str = "no outcome yet";
/// Time that the reading may take.
const READ_TIME: Duration = Duration::from_secs(8);
/// Field of the query with the grant of the session: for those who may watch its sessions, and read nothing else of the log.
const GRANT_FIELD: &str = "grant";
/// Field of the query for the newest statements, the newest first.
const NEWEST_FIELD: &str = "newest";

/// Content of the page.
pub(in crate::console) struct StoryView<'a> {
    pub(in crate::console) id: &'a SessionId,
    pub(in crate::console) timeline: &'a SessionTimeline,
    /// True if there is more than was read.
    pub(in crate::console) cut: bool,
    /// True if the newest statements are shown, the newest first; otherwise the first ones.
    pub(in crate::console) newest: bool,
    /// True if the whole log can be searched.
    pub(in crate::console) reads_log: bool,
    /// Session, while it runs.
    pub(in crate::console) live: Option<&'a SessionView>,
}

/// Returns the path of the newest statements of a session.
pub(super) fn newest(session: &SessionView) -> String {
    let path = format!("/log/sessions/{}", session.who.session);
    form::path(&path, &[(GRANT_FIELD, session.who.grant.as_str()), (NEWEST_FIELD, "yes")])
}

/// Shows the story.
pub(in crate::console) async fn page(
    call: Call,
    Extension(limiter): Extension<LongPollLimiter>,
    Path(id): Path<String>,
    query: QueryFields,
    renewal: Renewal,
) -> PageAnswer {
    let id: SessionId = named(&id)?;
    let grant: Option<GrantId> = query.0.parsed(GRANT_FIELD)?;
    let newest = query.0.checked(NEWEST_FIELD);
    let watched = match &grant {
        Some(grant) if newest => call.reader_of_grant(&limiter, grant, renewal).await?,
        _ => None,
    };
    let reader = match watched {
        Some(reader) => reader,
        None => call.log_reader_of(&limiter, grant.as_ref(), renewal).await?,
    };
    let told = tokio::time::timeout(READ_TIME, tell(&reader, &id, newest)).await;
    let (timeline, cut) = told.map_err(|_| ApiError::SearchStopped(READ_TIME))??;
    reader.still_allowed()?;
    let of_grant = SessionsQuery {
        grant: timeline.who.as_ref().map(|who| who.grant.clone()),
        ..SessionsQuery::default()
    };
    let sessions = call.sessions(&of_grant).await;
    let live = sessions.iter().find(|session| session.who.session == id);
    let title = format!("Session {id}");
    let frame = Frame {
        section: Some(if reader.reads_all() { Section::Log } else { Section::Live }),
        follow: "session",
        subject: Some(id.as_str()),
        renews: live.map(|_| RENEWAL_SECONDS),
        ..Frame::bare(&title)
    };
    let view = StoryView {
        id: &id,
        timeline: &timeline,
        cut,
        newest,
        reads_log: reader.reads_all(),
        live,
    };
    Ok(show(&call, &query, frame, &body(&view)))
}

/// Returns the timeline, and true if not all of it was read.
async fn tell(reader: &LogReader<'_>, id: &SessionId, newest: bool) -> Result<(SessionTimeline, bool), ApiError> {
    let of_session = Filter {
        session: Some(id.clone()),
        ..Filter::default()
    };
    let extent = if newest {
        SearchExtent {
            last: Some(MAX_RECORDS),
            ..SearchExtent::default()
        }
    } else {
        FIRST
    };
    let (records, cut) = read(reader, of_session, extent).await?;
    let Some(who) = records.iter().find_map(|record| record.event.who().cloned()) else {
        return Err(ApiError::NoSuchSession(id.clone()));
    };
    let mut background = Vec::new();
    if !newest {
        for filter in SessionTimeline::background_of_grant(&who.grant) {
            background.extend(read(reader, filter, FIRST).await?.0);
        }
        for filter in SessionTimeline::background_of_request(&background) {
            background.extend(read(reader, filter, FIRST).await?.0);
        }
    }
    Ok((SessionTimeline::of(records, background), cut))
}

/// Returns records, and true if there are more.
async fn read(reader: &LogReader<'_>, filter: Filter, extent: SearchExtent) -> Result<(Vec<LogRecord>, bool), ApiError> {
    let mut stream = reader.find(&LogQuery { filter, extent })?;
    let (mut records, mut bytes) = (Vec::new(), 0);
    while let Some(item) = stream.next().await {
        let record = item.map_err(|error| ApiError::Log(log_error(&error, reader.reads_all())))?;
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
pub(in crate::console) fn body(view: &StoryView<'_>) -> Markup {
    let StoryView { id, timeline, .. } = view;
    let totals = &timeline.totals;
    html! {
        p.crumb {
            @if view.reads_log && !view.newest { a href="/log" { "Log" } } @else { a href="/live" { "Live" } }
        }
        h1 { "Session " span.id { (id) } }
        @if let Some(who) = &timeline.who {
            p.lead {
                (shown(who.identity.as_str())) " on " (who.target.with(who.profile.as_ref())) ", under "
                a.id href={ "/grants/" (who.grant) } { (who.grant) }
            }
        }
        @if let Some(live) = view.live { (now(live)) }
        p {
            @if view.newest { "Of the newest: " }
            (count(totals.counts.statements, "statement", "statements")) ", " (totals.counts.failed) " failed, "
            (totals.counts.outcome_unknown) " with " @if view.live.is_some() { (UNANSWERED) } @else { (OUTCOME_UNKNOWN) } "; " (count(totals.rows, "row", "rows"))
            @if !totals.tables.is_empty() { "; tables: " (names(&totals.tables)) }
            "."
        }
        @if view.cut || timeline.statements.len() > MAX_STATEMENTS {
            p.empty {
                "Only " @if view.newest { "the newest part" } @else { "its first part" } " is shown. "
                @if view.reads_log { a href={ "/log?session=" (id) } { "All its records, the newest first" } }
            }
        }
        @if !timeline.background.is_empty() {
            h2 { "How it came about" }
            ol.story { @for record in &timeline.background { (line(record)) } }
        }
        h2 { "What happened" }
        ol.story { @for part in in_order(view) { (part) } }
    }
}

/// Shows what a session does now.
fn now(live: &SessionView) -> Markup {
    html! {
        p { (state::session(live)) ", " (count(live.statements, "statement", "statements")) " in all" }
        @if let Some(running) = &live.running { pre { code { (shown(running)) } } }
    }
}

/// Returns the session's events and statements in the order of the log, or the newest first.
fn in_order(view: &StoryView<'_>) -> Vec<Markup> {
    let timeline = view.timeline;
    let mut parts: Vec<(u64, Markup)> = timeline.events.iter().map(|record| (record.seq, line(record))).collect();
    let left_out = if view.newest {
        timeline.statements.len().saturating_sub(MAX_STATEMENTS)
    } else {
        0
    };
    let statements = timeline.statements.iter().skip(left_out).take(MAX_STATEMENTS);
    parts.extend(statements.filter_map(|told| {
        let record = told.statement.as_ref().or(told.outcome.as_ref())?;
        let unanswered = if view.live.is_some() { UNANSWERED } else { OUTCOME_UNKNOWN };
        Some((record.seq, statement(record, told, unanswered)))
    }));
    parts.sort_by_key(|(seq, _)| if view.newest { u64::MAX - seq } else { *seq });
    parts.into_iter().map(|(_, part)| part).collect()
}

fn line(record: &LogRecord) -> Markup {
    let told = columns(record, &TimeZone::UTC);
    html! { li { (time::precise(record.time)) code { (told.event) } " " (told.text) } }
}

/// Shows a statement with its outcome.
fn statement(record: &LogRecord, told: &TimelineStatement, unanswered: &str) -> Markup {
    let outcome = told.outcome.as_ref().filter(|_| told.statement.is_some());
    let outcome = outcome.map(|outcome| columns(outcome, &TimeZone::UTC).text);
    html! {
        li {
            (time::precise(record.time))
            code { (columns(record, &TimeZone::UTC).text) }
            " " (log::whole(record))
            @if told.statement.is_some() { div.note { "→ " (outcome.as_deref().unwrap_or(unanswered)) } }
            @if let Some(sqlstate) = &told.rolled_back { div.note { "then rolled back (" (shown(sqlstate)) ")" } }
        }
    }
}
