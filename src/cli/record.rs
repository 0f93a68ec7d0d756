//! One record of the audit log as one line for people.
//!
//! It leaves out what a table of lines has no room for; `--output json` has everything.

use jiff::Timestamp;
use serde::Deserialize;

use super::render::visible;
use crate::audit::event::{
    Done, Event, GrantChanged, Kind, Outcome, Parameter, Refused, SessionEnded, SessionStarted, Statement,
};
use crate::config::duration;
use std::time::Duration;

/// A line of the log, as far as it is shown.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    time: Timestamp,
    #[serde(flatten)]
    event: Event<'static>,
}

impl Line {
    /// Reads a line of the log.
    pub(super) fn read(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }

    /// `2026-08-01 12:00:00.123Z  ana@example.com  orders  se_…  what happened`
    pub(super) fn show(&self) -> String {
        let time = self.time.strftime("%Y-%m-%d %H:%M:%S%.3fZ");
        format!("{time}  {}", visible(&said(&self.event)))
    }
}

fn said(event: &Event<'_>) -> String {
    match event {
        Event::GateStarted(started) => format!("gate: started, version {}, process {}", started.version, started.pid),
        Event::GateStopped {} => "gate: stopped".to_owned(),
        Event::Reloaded(reloaded) if reloaded.accepted => format!("gate: reloaded: {}", reloaded.detail),
        Event::Reloaded(reloaded) => format!("gate: reload refused, the old settings stay: {}", reloaded.detail),
        Event::Refused(refused) => refusal(refused),
        Event::CancelRequested(cancel) => match &cancel.who {
            Some(who) => format!(
                "{}  {}  {}  cancel requested from {}",
                who.identity, who.target, who.session, cancel.client
            ),
            None => format!("cancel requested from {} with a key of no live session", cancel.client),
        },
        Event::GrantChanged(change) => grant(change),
        Event::SessionStarted(started) => session_started(started),
        Event::SessionEnded(ended) => session_ended(ended),
        Event::Statement(statement) => {
            let who = &statement.who;
            format!(
                "{}  {}  {}  #{}  {}",
                who.identity,
                who.target,
                who.session,
                statement.statement,
                text(statement)
            )
        }
        Event::Outcome(outcome) => {
            let who = &outcome.who;
            format!(
                "{}  {}  {}  #{}  = {}",
                who.identity,
                who.target,
                who.session,
                outcome.statement,
                result(outcome)
            )
        }
        other => other_event(other),
    }
}

/// An event this version has no sentence for: its own JSON, which is readable enough.
fn other_event(event: &Event<'_>) -> String {
    serde_json::to_string(event).unwrap_or_else(|_| "(a record that cannot be shown)".to_owned())
}

fn refusal(refused: &Refused) -> String {
    let user = match (&refused.identity, &refused.user) {
        (Some(identity), _) => identity.to_string(),
        (None, Some(user)) => format!("\"{user}\""),
        (None, None) => "somebody".to_owned(),
    };
    let mut text = format!(
        "refused {user} from {}: {} ({})",
        refused.client, refused.ending, refused.sqlstate
    );
    if let Some(detail) = &refused.detail {
        text.push_str(": ");
        text.push_str(detail);
    }
    text
}

fn grant(change: &GrantChanged) -> String {
    let mut text = format!(
        "{}  {}  {} {} by {}",
        change.identity, change.target, change.grant, change.change, change.by
    );
    match change.until {
        Some(until) => text.push_str(&format!(", until {}", super::render::time(until))),
        None => text.push_str(&format!(
            ", for {}",
            duration::show(Duration::from_secs(change.window_seconds))
        )),
    }
    if let Some(reason) = &change.reason {
        text.push_str(": ");
        text.push_str(reason);
    }
    text
}

fn session_started(started: &SessionStarted) -> String {
    let who = &started.who;
    let until = super::render::time(started.until);
    let application = started
        .application
        .as_deref()
        .map(|name| format!(" by {name}"))
        .unwrap_or_default();
    let (identity, target, session, grant, client) = (&who.identity, &who.target, &who.session, &who.grant, started.client);
    format!("{identity}  {target}  {session}  connected from {client}{application} under {grant}, until {until}")
}

fn session_ended(ended: &SessionEnded) -> String {
    let who = &ended.who;
    let mut text = format!(
        "{}  {}  {}  ended: {} after {}, {} statements, {} rows",
        who.identity,
        who.target,
        who.session,
        ended.ending,
        micros(ended.duration_us),
        ended.statements,
        ended.rows,
    );
    if ended.fate != "none" {
        text.push_str(&format!(", transaction {}", ended.fate));
    }
    match (ended.backend_gone, ended.overshoot_us) {
        (Some(true), Some(overshoot)) => text.push_str(&format!(", backend gone {} after the order", micros(overshoot))),
        (Some(false), _) => text.push_str(", backend NOT confirmed gone"),
        _ => {}
    }
    text
}

fn text(statement: &Statement<'_>) -> String {
    let mut text = match (&statement.sql, statement.function) {
        (Some(sql), _) => sql.text.0.to_string(),
        (None, Some(function)) => format!("(function {function})"),
        (None, None) => "(text unknown)".to_owned(),
    };
    if let Some(length) = statement.sql.as_ref().and_then(|sql| sql.length) {
        text.push_str(&format!("… ({length} bytes)"));
    }
    if !statement.parameters.is_empty() {
        let parameters: Vec<String> = statement.parameters.iter().map(parameter).collect();
        text.push_str(&format!("  [{}]", parameters.join(", ")));
    }
    match statement.kind {
        Kind::Parse => format!("prepare: {text}"),
        Kind::Execute if statement.continued => format!("(continued) {text}"),
        Kind::Query | Kind::Execute | Kind::FunctionCall => text,
    }
}

fn parameter(parameter: &Parameter<'_>) -> String {
    match parameter {
        Parameter::Null => "NULL".to_owned(),
        Parameter::Text(value) => format!("'{}'", value.0),
        Parameter::Binary { hex, .. } => format!("\\x{hex}"),
        Parameter::Long { start, length, .. } => format!("'{}…' ({length} bytes)", start.0),
    }
}

fn result(outcome: &Outcome<'_>) -> String {
    let time = micros(outcome.duration_us);
    let tags: Vec<&str> = outcome.tags.iter().map(|tag| tag.0.as_ref()).collect();
    match outcome.result {
        Done::Completed => format!(
            "{} in {time}",
            if tags.is_empty() { "done".to_owned() } else { tags.join("; ") }
        ),
        Done::Failed => {
            let code = outcome.sqlstate.as_ref().map_or("?", |code| code.0.as_ref());
            format!("ERROR {code} in {time}")
        }
        Done::Suspended => format!("{} rows so far in {time}", outcome.rows),
        Done::Skipped => "skipped: a statement before it failed".to_owned(),
        Done::Unknown => "outcome unknown: the session ended first".to_owned(),
    }
}

/// Microseconds as a person reads them.
fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        _ => duration::show(Duration::from_secs(micros / 1_000_000)),
    }
}
