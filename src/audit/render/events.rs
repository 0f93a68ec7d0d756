//! Short descriptions of all events.
//!
//! This module prints nothing; its callers make the result safe for a terminal.

use std::fmt::{Display, Write as _};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{MIN_SQL_CHARS, begin, place, span};
use crate::audit::event::{
    ClockSet, CopyChanged, DecisionMade, Event, JournalHealed, KeyChanged, LineChanged, ParameterValue, RefusalsCounted,
    RequestChanged, RowsChanged, SessionEnded, SessionStarted, SignInChangeKind, SignInChanged, SqlText, Statement,
    StatementKind, StatementOutcome, StatementResult, TransactionChanged, TransactionStatus,
};
use crate::audit::row_history;
use crate::audit::sql_analysis::AnalysisCache;
use crate::audit::timeline::OUTCOME_UNKNOWN;
use crate::base::times;

/// Describes an event.
pub(super) fn description(event: &Event<'_>, zone: &TimeZone) -> String {
    match event {
        Event::GateStarted(event) => format!("version {}, process {}", event.version, event.pid),
        Event::GateStopped {} => "in order".to_owned(),
        Event::Reloaded(event) => format!("{}: {}", either(event.accepted, "accepted", "refused"), event.detail),
        Event::ClockSet(event) => clock_set(event, zone),
        Event::JournalHealed(event) => healed(event, zone),
        Event::SegmentBegan(event) => format!("segment {} of log {}, key {}", event.segment, event.log, event.key.id()),
        Event::Checkpoint(event) => format!("lines up to {}, signed with key {}", event.covers, event.key.id()),
        Event::KeyChanged(event) => key_changed(event),
        Event::SegmentsRemoved(event) => format!(
            "{} to {}, up to line {}: older than is to be kept",
            event.first, event.last, event.last_seq
        ),
        Event::Refused(event) => {
            let (user, detail) = (event.user.as_deref().unwrap_or("?"), behind(": ", event.detail.as_ref()));
            let (ending, sqlstate, client) = (&event.ending, &event.sqlstate, event.client);
            format!("{ending} ({sqlstate}) user {user} from {client}{detail}")
        }
        Event::RefusalsCounted(event) => refusals_counted(event, zone),
        Event::CancelRequested(event) => {
            format!("{}, from {}", either(event.forwarded, "handed on", "ignored"), event.client)
        }
        Event::GrantChanged(event) => {
            let (until, reason) = (until(event.until, zone), behind(": ", event.reason.as_ref()));
            let place = event.target.with(event.profile.as_ref());
            format!("{} {} {place} by {}{until}{reason}", event.change, event.grant, event.by)
        }
        Event::GrantJoined(event) => {
            let joined = event.target.with(event.profile.as_ref());
            format!("joined {} for {joined}: {}", event.grant, event.reason)
        }
        Event::RequestChanged(event) => request_changed(event),
        Event::DecisionMade(event) => decision_made(event),
        Event::RoleChanged(event) => {
            let (until, detail) = (until(event.until, zone), behind(": ", event.detail.as_ref()));
            format!("{} role {} on {}{until}{detail}", event.change, event.role, event.target)
        }
        Event::CopyChanged(event) => copy_changed(event),
        Event::LineChanged(event) => line_changed(event),
        Event::UserChanged(event) => format!("{} {} by {}", event.change, event.identity, event.by),
        Event::SignInChanged(event) => sign_in_changed(event, zone),
        Event::IdentityRefused(event) => format!("{}: {}", event.claimed.as_deref().unwrap_or("?"), event.detail),
        Event::PolicyLoaded(event) => format!("{}: {}", either(event.accepted, "in force", "refused"), event.detail),
        Event::SessionStarted(event) => session_started(event, zone),
        Event::SessionEnded(event) => session_ended(event),
        Event::BackendGone(event) => {
            let (place, late) = (place(&event.who), span(event.overshoot_us));
            format!("process {} on {place}, {late} after the order to end it", event.backend_pid)
        }
        Event::Statement(statement) => statement_text(statement),
        Event::Outcome(outcome) => outcome_text(outcome),
        Event::TransactionChanged(event) => transaction_changed(event),
        Event::RowsChanged(event) => rows_changed(event),
    }
}

fn either(first: bool, yes: &'static str, no: &'static str) -> &'static str {
    if first { yes } else { no }
}

/// Returns a part of a description with what separates it from the parts before; nothing if there is no such part.
fn behind(separator: &str, part: Option<impl Display>) -> String {
    part.map(|part| format!("{separator}{part}")).unwrap_or_default()
}

fn until(until: Option<Timestamp>, zone: &TimeZone) -> String {
    behind(" until ", until.map(|until| times::seconds(until, zone)))
}

fn clock_set(event: &ClockSet, zone: &TimeZone) -> String {
    let [from, to] = [event.from, event.to].map(|at| times::millis(at, zone));
    format!("from {from} to {to} by {}{}", event.by, behind(": ", event.reason.as_ref()))
}

fn healed(event: &JournalHealed, zone: &TimeZone) -> String {
    let since = behind(" since ", event.since.map(|since| times::seconds(since, zone)));
    let (refused, lost, cut) = (event.refused, event.lost, event.cut_bytes);
    let detail = behind("; ", event.detail.as_ref());
    format!(
        "{:?}{since}: {refused} refused, {lost} lost, {cut} bytes cut off{detail}",
        event.fault
    )
}

fn key_changed(event: &KeyChanged) -> String {
    let vouched = either(event.vouched, "vouched for by the old one", "not vouched for");
    let (key, previous) = (event.key.id(), event.previous.id());
    format!("{key} instead of {previous} by {}, {vouched}", event.by)
}

fn refusals_counted(event: &RefusalsCounted, zone: &TimeZone) -> String {
    let network = event.network.as_deref().unwrap_or("many addresses");
    let [first, last] = [event.first, event.last].map(|at| times::seconds(at, zone));
    format!("{} more from {network}: {}, {first} to {last}", event.count, event.ending)
}

fn request_changed(event: &RequestChanged) -> String {
    let glass = either(event.break_glass, " (break-glass)", "");
    let ticket = behind("", event.ticket.as_ref().map(|ticket| format!(" ({ticket})")));
    let why = behind(": ", event.reason.as_ref());
    let asked = event.target.with(Some(&event.profile));
    let policies = match event.policies.as_slice() {
        [] => String::new(),
        policies => format!(" [{}]", policies.join(", ")),
    };
    let via = behind(" via ", event.via.as_ref());
    format!(
        "{} {} {asked} by {}{via}{glass}{ticket}{why}{policies}",
        event.change, event.request, event.by
    )
}

fn copy_changed(event: &CopyChanged) -> String {
    let template = behind(" of ", event.template.as_ref());
    let took = behind(" in ", event.took_us.map(span));
    let detail = behind(": ", event.detail.as_ref());
    format!(
        "{} copy {}{template} on {}{took}{detail}",
        event.change, event.database, event.target
    )
}

fn line_changed(event: &LineChanged) -> String {
    let place = event.target.with(event.profile.as_ref());
    let number = behind(" as number ", event.place);
    let waited = behind(" after ", event.waited_us.map(span));
    let ahead = match (&event.behind_identity, &event.behind) {
        (Some(identity), Some(grant)) => format!(" behind {identity} ({grant})"),
        _ => String::new(),
    };
    format!(
        "{} {} on {place} ({}){number}{waited}{ahead}",
        event.change, event.grant, event.mode
    )
}

fn sign_in_changed(event: &SignInChanged, zone: &TimeZone) -> String {
    let client = behind(" from ", event.client);
    let until = match event.change.known() {
        Some(SignInChangeKind::SignedIn) => until(Some(event.until), zone),
        _ => String::new(),
    };
    let reason = behind(": ", event.reason.as_ref());
    format!(
        "{} {} at the {}{client} by {}{until}{reason}",
        event.change, event.sign_in, event.via, event.by
    )
}

fn decision_made(event: &DecisionMade) -> String {
    let (allowed, policies) = (either(event.allowed, "allowed", "forbidden"), event.policies.join(", "));
    let via = behind(" via ", event.via.as_ref());
    format!("{allowed} {} on {}{via} [{policies}]", event.action, event.about)
}

fn session_started(event: &SessionStarted, zone: &TimeZone) -> String {
    let application = event.application.as_deref().unwrap_or("unnamed");
    let masked = match event.masked_tables {
        0 => String::new(),
        1 => ", 1 table masked".to_owned(),
        tables => format!(", {tables} tables masked"),
    };
    let (place, until) = (place(&event.who), until(Some(event.until), zone));
    let copy = behind(", in its copy ", event.copy.as_ref());
    format!(
        "on {place} from {} ({application}, TLS {}){until}{masked}{copy}",
        event.client, event.tls
    )
}

fn session_ended(event: &SessionEnded) -> String {
    let counts = format!(
        "{} statements, {} rows in {}",
        event.statements,
        event.rows,
        span(event.duration_us)
    );
    format!("{} ({}), transaction {}; {counts}", event.ending, event.sqlstate, event.fate)
}

fn transaction_changed(event: &TransactionChanged<'_>) -> String {
    let now = event.transaction;
    match &event.rolled_back {
        Some(undone) => format!(
            "{now}: #{} to #{} rolled back ({})",
            undone.first, undone.last, undone.sqlstate.0
        ),
        None => format!("{now} after #{}", event.statement),
    }
}

fn rows_changed(event: &RowsChanged) -> String {
    let (operation, table, rows) = (&event.operation, event.shown(), event.rows);
    let rows = if rows == 1 {
        "1 row".to_owned()
    } else {
        format!("{rows} rows")
    };
    let past = if event.grant.is_none() {
        format!(" past the gate as {}", event.role)
    } else {
        String::new()
    };
    let mut text = format!("{operation} {table}: {rows}{past}");
    if event.offset > 0 {
        let _ = write!(text, ", from row {}", event.offset + 1);
    }
    if let Some(first) = event.changes.first() {
        let _ = write!(text, "; {}", row_history::words(first));
    }
    text
}

fn statement_text(statement: &Statement<'_>) -> String {
    let mut text = format!("#{} ", statement.statement);
    match (statement.kind, statement.function) {
        (StatementKind::Parse, _) => text.push_str("prepare "),
        (kind @ (StatementKind::Bind | StatementKind::Describe | StatementKind::Close), _) => text.extend([kind.as_str(), " "]),
        (StatementKind::FunctionCall, function) => {
            let _ = write!(text, "function {} ", function.unwrap_or(0));
        }
        _ => {}
    }
    match &statement.sql {
        Some(sql) => {
            text.push_str(&not_shown(statement, sql));
            text.extend([begin(&sql.text.0), cut_note(sql).as_str()]);
        }
        None if statement.prepared.is_none() => {}
        None => {
            let _ = write!(
                text,
                "(prepared elsewhere as {:?})",
                statement.prepared.as_ref().map_or("", |name| name.0.as_ref())
            );
        }
    }
    for (is_so, note) in [
        (statement.text_uncertain, " (text uncertain)"),
        (statement.continued, " (continued)"),
        (statement.opaque, " (opaque)"),
    ] {
        text.push_str(if is_so { note } else { "" });
    }
    for (number, parameter) in (1..).zip(statement.parameters.iter().take(20)) {
        let _ = match parameter {
            ParameterValue::Null => write!(text, " ${number}=NULL"),
            ParameterValue::Redacted => write!(text, " ${number}=***"),
            ParameterValue::Blanked { length, .. } => write!(text, " ${number}=*** ({length} bytes)"),
            ParameterValue::Hashed(hash) => write!(text, " ${number}=#{}", begin(hash)),
            ParameterValue::Text(value) => write!(text, " ${number}='{}'", begin(&value.0)),
            ParameterValue::Long { start, length, .. } => write!(text, " ${number}='{}…' ({length} bytes)", begin(&start.0)),
            ParameterValue::Binary { hex, .. } => write!(text, " ${number}=\\x{}", begin(hex)),
        };
    }
    let listed = statement.parameters.len();
    let count = statement.parameter_count.map_or(listed, |count| count as usize);
    if count > listed.min(20) {
        let _ = write!(text, " and {} more", count - listed.min(20));
    }
    text
}

/// Returns a summary to put before a text that is too long to be shown: its end may be the relevant part.
fn not_shown(statement: &Statement<'_>, sql: &SqlText<'_>) -> String {
    if sql.text.0.chars().nth(MIN_SQL_CHARS).is_none() && !sql.is_cut() {
        return String::new();
    }
    let reading = AnalysisCache::default().of_statement(statement);
    let mut classes: Vec<&str> = reading.classes.iter().map(|class| class.as_str()).collect();
    classes.extend((!reading.is_read()).then_some("not read"));
    let bytes = sql.length.unwrap_or(sql.text.0.len() as u64);
    format!("({bytes} bytes: {}) ", classes.join(", "))
}

fn outcome_text(outcome: &StatementOutcome<'_>) -> String {
    let result = match outcome.result {
        StatementResult::Unknown => OUTCOME_UNKNOWN,
        known => known.as_str(),
    };
    let mut text = format!("#{} {result}", outcome.statement);
    if let Some(code) = &outcome.sqlstate {
        text.extend([" ", code.0.as_ref()]);
    }
    text.push_str(if outcome.parse_failed { " at its Parse" } else { "" });
    if let Some(rule) = &outcome.rule {
        text.extend([", refused by rule ", begin(&rule.0)]);
    }
    for tag in outcome.tags.iter().take(20) {
        text.extend([" ", begin(&tag.0)]);
    }
    let portal = outcome
        .portal_rows_sent
        .map(|rows| format!(" ({rows} of its portal)"))
        .unwrap_or_default();
    let _ = write!(
        text,
        ", {} rows{portal}, {} bytes in {}",
        outcome.rows,
        outcome.bytes,
        span(outcome.duration_us)
    );
    if let Some(status @ (TransactionStatus::Open | TransactionStatus::Failed)) = outcome.transaction {
        let _ = write!(text, ", transaction {status}");
    }
    text
}

fn cut_note(sql: &SqlText<'_>) -> String {
    let bytes = sql.length.map(|length| format!("({length} bytes)")).unwrap_or_default();
    match (sql.is_cut(), sql.unclear) {
        (true, _) => format!("… {bytes}"),
        (false, true) => format!(" (literals unclear) {bytes}"),
        (false, false) => String::new(),
    }
}
