//! Which records somebody wants to see.
//!
//! It reads no files. A statement and its outcome are two records; [`Selector`] brings them together, so that a search for
//! an SQLSTATE finds the statement and a search for a text finds what became of it.

use std::collections::{HashMap, HashSet};

use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use super::encode::{TIME_LENGTH, timestamp};
use super::event::{Event, Kind, Parameter, Statement};
use super::record::{EventName, Record};
use crate::ids::{GrantId, SessionId};
use crate::names::{IdentityName, TargetName};

/// What a record must have. Conditions that are not set hold for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Under whose name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityName>,
    /// Under which grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantId>,
    /// In which session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// On which target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetName>,
    /// At this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// A part of the SQL text, of a parameter, or of the free texts of other events; capital and small letters are equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The SQLSTATE, or its first letters (`42` is the whole class).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    /// The kind of event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventName>,
    /// How the statement came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
}

impl Filter {
    /// Whether a record, looked at alone, has all that is asked for. [`Selector`] also knows what belongs together.
    #[must_use]
    pub fn matches(&self, record: &Record) -> bool {
        self.wants_event(record)
            && self.in_time(record)
            && self.has_names(record)
            && self.has_content(record)
            && self.has_sqlstate(record)
    }

    fn wants_event(&self, record: &Record) -> bool {
        self.event.is_none_or(|wanted| wanted == record.event.name())
    }

    pub(super) fn in_time(&self, record: &Record) -> bool {
        self.since.is_none_or(|since| record.time >= since) && self.until.is_none_or(|until| record.time < until)
    }

    fn has_names(&self, record: &Record) -> bool {
        let event = &record.event;
        fits(self.identity.as_ref(), event.identity())
            && fits(self.grant.as_ref(), event.grant())
            && fits(self.session.as_ref(), event.session())
            && fits(self.target.as_ref(), event.target())
    }

    /// The conditions that an outcome cannot meet by itself: of how its statement came and what was in it.
    fn has_content(&self, record: &Record) -> bool {
        let kind = match &record.event {
            Event::Statement(statement) => Some(&statement.kind),
            _ => None,
        };
        fits(self.kind.as_ref(), kind) && self.text.as_ref().is_none_or(|text| contains_text(&record.event, text))
    }

    fn has_sqlstate(&self, record: &Record) -> bool {
        self.sqlstate.as_ref().is_none_or(|wanted| {
            let found = record.event.sqlstate().and_then(|found| found.get(..wanted.len()));
            found.is_some_and(|found| found.eq_ignore_ascii_case(wanted))
        })
    }

    /// A quick look at a line that was not parsed: `false` only if it begins and ends like a record and cannot be one that is
    /// wanted, nor a statement whose outcome is. Ids and names consist of characters that JSON writes as they are, and times
    /// in the log have a fixed width, so that their order is that of their letters.
    pub(super) fn may_match(&self, line: &str, bounds: &Bounds) -> bool {
        let Some(time) = time_of(line) else {
            return true;
        };
        bounds.since.as_deref().is_none_or(|since| time >= since)
            && bounds.until.as_deref().is_none_or(|until| time < until)
            && self.mentions_names(line)
    }

    fn mentions_names(&self, line: &str) -> bool {
        let mentions = |name: Option<&str>| name.is_none_or(|name| line.contains(name));
        mentions(self.session.as_ref().map(SessionId::as_str))
            && mentions(self.grant.as_ref().map(GrantId::as_str))
            && mentions(self.identity.as_ref().map(IdentityName::as_str))
            && mentions(self.target.as_ref().map(TargetName::as_str))
    }
}

/// The limits of time as they would stand in a line.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    since: Option<String>,
    until: Option<String>,
}

impl Bounds {
    fn of(filter: &Filter) -> Self {
        let written = |time: Timestamp| {
            let mut text = Vec::new();
            timestamp(&mut text, time);
            String::from_utf8(text).ok().filter(|text| text.len() == TIME_LENGTH)
        };
        // Times in a line have microseconds: one that is cut down to them may belong to a record of the next one.
        let until = filter
            .until
            .and_then(|until| until.checked_add(Span::new().microseconds(1)).ok());
        Self {
            // When an SQLSTATE is asked for, a statement before that time may have its outcome in it.
            since: filter.since.filter(|_| filter.sqlstate.is_none()).and_then(written),
            until: until.and_then(written),
        }
    }
}

/// The time in a line that begins and ends like a record.
fn time_of(line: &str) -> Option<&str> {
    let rest = line.strip_suffix('}')?.strip_prefix(r#"{"v":2,"seq":"#)?;
    let rest = rest
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .strip_prefix(r#","time":""#)?;
    let (time, rest) = rest.split_at_checked(TIME_LENGTH)?;
    (time.ends_with('Z') && rest.starts_with('"')).then_some(time)
}

fn fits<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
    wanted.is_none() || wanted == found
}

/// Whether a text stands in one of the event's free texts.
fn contains_text(event: &Event<'_>, text: &str) -> bool {
    let needle = text.to_lowercase();
    let has = |hay: &str| hay.to_lowercase().contains(&needle);
    let may_have = |hay: &Option<String>| hay.as_deref().is_some_and(has);
    match event {
        Event::GateStarted(event) => has(&event.version),
        Event::GateStopped {}
        | Event::SegmentBegan(_)
        | Event::Checkpoint(_)
        | Event::SegmentsRemoved(_)
        | Event::CancelRequested(_)
        | Event::Outcome(_)
        | Event::TransactionChanged(_) => false,
        Event::JournalHealed(event) => may_have(&event.detail),
        Event::KeyChanged(event) => has(&event.by),
        Event::Reloaded(event) => has(&event.detail),
        Event::Refused(event) => {
            has(&event.ending) || may_have(&event.user) || may_have(&event.database) || may_have(&event.detail)
        }
        Event::GrantChanged(event) => has(&event.change) || has(&event.by) || may_have(&event.reason),
        Event::RequestChanged(event) => {
            has(event.request.as_str())
                || has(&event.change)
                || has(event.by.as_str())
                || may_have(&event.reason)
                || may_have(&event.ticket)
                || event.claims.values().any(|claim| has(claim))
        }
        Event::DecisionMade(event) => has(&event.action) || has(&event.about),
        Event::UserChanged(event) => has(&event.change) || has(&event.by),
        Event::IdentityRefused(event) => may_have(&event.claimed) || has(&event.detail),
        Event::PolicyLoaded(event) => has(&event.detail),
        Event::SessionStarted(event) => may_have(&event.application),
        Event::SessionEnded(event) => has(&event.ending) || may_have(&event.detail),
        Event::Statement(statement) => statement_texts(statement).any(has),
    }
}

fn statement_texts<'a>(statement: &'a Statement<'_>) -> impl Iterator<Item = &'a str> {
    let parameters = statement.parameters.iter().filter_map(|parameter| match parameter {
        Parameter::Null | Parameter::Redacted => None,
        Parameter::Hashed(hash) => Some(hash.as_ref()),
        Parameter::Text(text) | Parameter::Long { start: text, .. } => Some(text.0.as_ref()),
        Parameter::Binary { hex, .. } => Some(hex.as_ref()),
    });
    let named = [statement.sql.as_ref().map(|sql| &sql.text), statement.prepared.as_ref()];
    named.into_iter().flatten().map(|text| text.0.as_ref()).chain(parameters)
}

/// Chooses from a sequence of records, with memory of the statements that have no outcome yet (few: those in flight).
#[derive(Debug, Default)]
pub struct Selector {
    filter: Filter,
    bounds: Bounds,
    /// Statements that are wanted if their outcome has the SQLSTATE asked for.
    held: HashMap<(SessionId, u64), Record>,
    /// Statements that were given out and whose outcome is wanted, too.
    given: HashSet<(SessionId, u64)>,
}

impl Selector {
    /// A selector that has seen nothing yet.
    #[must_use]
    pub fn new(filter: Filter) -> Self {
        Self {
            bounds: Bounds::of(&filter),
            filter,
            ..Self::default()
        }
    }

    /// A quick look at a line: see [`Filter::may_match`].
    pub(super) fn may_want(&self, line: &str) -> bool {
        self.filter.may_match(line, &self.bounds)
    }

    /// Looks at the next record; `give` gets what is wanted now: nothing, the record, or a statement with its outcome.
    pub fn offer(&mut self, record: Record, mut give: impl FnMut(Record)) {
        let joined = self.filter.sqlstate.is_some() || self.filter.text.is_some() || self.filter.kind.is_some();
        match &record.event {
            Event::Statement(statement) if joined => {
                let key = (statement.who.session.clone(), statement.statement);
                if !(self.filter.has_names(&record) && self.filter.has_content(&record)) {
                    return;
                }
                if self.filter.sqlstate.is_some() {
                    self.held.insert(key, record);
                } else if self.filter.in_time(&record) {
                    self.given.insert(key);
                    self.give(record, &mut give);
                }
            }
            Event::Outcome(outcome) if joined => {
                let key = (outcome.who.session.clone(), outcome.statement);
                let (held, given) = (self.held.remove(&key), self.given.remove(&key));
                let by_itself = self.filter.text.is_none() && self.filter.kind.is_none() && self.filter.has_names(&record);
                if (held.is_some() || given || by_itself) && self.filter.in_time(&record) && self.filter.has_sqlstate(&record) {
                    if let Some(statement) = held {
                        self.give(statement, &mut give);
                    }
                    self.give(record, &mut give);
                }
            }
            event => {
                match event {
                    // What had no outcome by then never gets one.
                    Event::SessionEnded(ended) => {
                        self.held.retain(|(session, _), _| *session != ended.who.session);
                        self.given.retain(|(session, _)| *session != ended.who.session);
                    }
                    Event::GateStarted(_) => {
                        self.held.clear();
                        self.given.clear();
                    }
                    _ => {}
                }
                if self.filter.matches(&record) {
                    give(record);
                }
            }
        }
    }

    fn give(&self, record: Record, give: &mut impl FnMut(Record)) {
        if self.filter.wants_event(&record) {
            give(record);
        }
    }
}

#[cfg(test)]
mod tests;
