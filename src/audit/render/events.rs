//! Short descriptions of all events.
//!
//! This module prints nothing; its callers make the result safe for a terminal.

use std::fmt::Display;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::statement::{outcome_text, statement_text};
use super::{place, span};
use crate::audit::event::{
    ClockSet, DecisionMade, Event, JournalHealed, KeyChanged, RefusalsCounted, RequestChanged, SessionEnded, SessionStarted,
    TransactionChanged,
};
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
        Event::UserChanged(event) => format!("{} {} by {}", event.change, event.identity, event.by),
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
    format!(
        "{} {} {asked} by {}{glass}{ticket}{why}{policies}",
        event.change, event.request, event.by
    )
}

fn decision_made(event: &DecisionMade) -> String {
    let (allowed, policies) = (either(event.allowed, "allowed", "forbidden"), event.policies.join(", "));
    format!("{allowed} {} on {} [{policies}]", event.action, event.about)
}

fn session_started(event: &SessionStarted, zone: &TimeZone) -> String {
    let application = event.application.as_deref().unwrap_or("unnamed");
    let masked = match event.masked_tables {
        0 => String::new(),
        1 => ", 1 table masked".to_owned(),
        tables => format!(", {tables} tables masked"),
    };
    let (place, until) = (place(&event.who), until(Some(event.until), zone));
    format!(
        "on {place} from {} ({application}, TLS {}){until}{masked}",
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
