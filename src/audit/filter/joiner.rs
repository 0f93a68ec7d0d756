//! Join of records that belong together: applies a filter to a sequence of records.
//!
//! It reads no files. A statement and its outcome are two records, and a session's groups and its run stand in its first record
//! only, a grant's profile in its own. The joiner brings them together, so that a search for an SQLSTATE finds the statement, a
//! search for a text finds the outcome, and one for a profile finds what happened under the grant.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use super::{Filter, ORIGIN_EVENTS, text_bytes};
use crate::audit::event::Event;
use crate::audit::record::{EventName, LogRecord, name_of, string_field};
use crate::audit::sql_analysis::AnalysisCache;
use crate::audit::summary::{Field, SegmentSummary};
use crate::model::ids::{GrantId, SessionId};

/// A filter with memory: the statements that have no outcome yet (few: those in flight), and the sessions and grants that are wanted.
#[derive(Debug, Default)]
pub(in crate::audit) struct RecordJoiner {
    filter: Filter,
    readings: AnalysisCache,
    /// Sessions found to be of the requested group or run.
    sessions: HashSet<SessionId>,
    /// Grants found to be of the requested profile or break-glass.
    grants: HashSet<GrantId>,
    /// Statements that are wanted if their outcome is what is asked for.
    held: HashMap<(SessionId, u64), Held>,
    /// Statements that were given out and whose outcome is wanted, too.
    given: HashSet<(SessionId, u64)>,
    /// The texts of those that are held. Bytes.
    held_bytes: usize,
    /// Something was let go of, for there was too much to remember.
    overfull: bool,
}

/// The texts of held statements, at most: those in flight in a gate come to a fraction of it.
const MAX_HELD_BYTES: usize = 256 << 20;
/// Held statements, given ones, sessions and grants, at most, of each.
const MAX_REMEMBERED: usize = 1_000_000;

/// Records that may show by themselves that they belong to a grant that is wanted: those that have a profile and need no session.
const OWN_ORIGIN: [EventName; 5] = [
    EventName::GrantChanged,
    EventName::GrantJoined,
    EventName::LineChanged,
    EventName::RequestChanged,
    EventName::RowsChanged,
];

/// A statement that waits for its outcome.
#[derive(Debug)]
struct Held {
    statement: LogRecord,
    /// True if its text does not have the requested content; the server may have run it all the same.
    unseen: bool,
}

impl Held {
    fn weight(&self) -> usize {
        text_bytes(&self.statement.event)
    }
}

impl RecordJoiner {
    /// Returns a joiner that has seen nothing yet.
    pub(in crate::audit) fn new(filter: Filter) -> Self {
        Self {
            filter,
            ..Self::default()
        }
    }

    /// Returns whether it waits for nothing.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty() && self.given.is_empty()
    }

    /// Returns the filter it applies.
    pub(in crate::audit) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Returns whether a session and a grant that are wanted may stand in a segment with this summary. All that begin in the segment or
    /// before it have to be known.
    pub(in crate::audit) fn may_be_in(&self, segment: &SegmentSummary) -> bool {
        let has_own = |event: &str| OWN_ORIGIN.iter().any(|own| own.as_str() == event);
        // Those that begin a session are wanted for what stands in them.
        let begins = self.filter.event == Some(EventName::SessionStarted);
        let by_session =
            begins || !self.filter.by_session() || segment.may_have(Field::Session, |session| self.sessions.contains(session));
        let by_grant = !self.filter.by_grant()
            || segment.may_have(Field::Grant, |grant| self.grants.contains(grant))
            || segment.may_have(Field::Event, has_own);
        by_session && by_grant
    }

    /// Notes a session that began, or a grant that was made, before the records that it is to be offered.
    pub(in crate::audit) fn know(&mut self, event: &Event<'_>) {
        if let Event::SessionStarted(started) = event
            && self.filter.by_session()
            && self.filter.wants_session(started)
        {
            self.overfull |= !remember(&mut self.sessions, started.who.session.clone());
        }
        if let Some(grant) = self.filter.wanted_grant(event).filter(|_| self.filter.by_grant()) {
            self.overfull |= !remember(&mut self.grants, grant.clone());
        }
    }

    /// Returns whether a line that was not parsed may be wanted: `false` only if it is plainly of a session or a grant that is not.
    pub(in crate::audit) fn may_want(&self, line: &[u8]) -> bool {
        let (by_session, by_grant) = (self.filter.by_session(), self.filter.by_grant());
        if !by_session && !by_grant {
            return true;
        }
        let Some(name) = name_of(line).and_then(|name| name.parse().ok()) else {
            return true;
        };
        let of_session = || string_field(line, br#""session":""#).is_some_and(|session| self.sessions.contains(session));
        let of_grant = || string_field(line, br#""grant":""#).is_some_and(|grant| self.grants.contains(grant));
        (by_grant && ORIGIN_EVENTS.contains(&name))
            || (by_session && name == EventName::SessionStarted)
            || ((!by_session || of_session()) && (!by_grant || OWN_ORIGIN.contains(&name) || of_grant()))
    }

    /// Returns whether a record is of a session and a grant that are wanted, as far as these are asked for.
    fn is_of_wanted(&self, event: &Event<'_>) -> bool {
        let of_session = event.session().is_some_and(|session| self.sessions.contains(session));
        let of_grant = event.grant().is_some_and(|grant| self.grants.contains(grant));
        (!self.filter.by_session() || of_session)
            && (!self.filter.by_grant() || of_grant || (event.session().is_none() && self.filter.has_origin(event)))
    }

    /// Takes the next record; `give` gets what is wanted now: nothing, the record, or a statement with its outcome.
    pub(in crate::audit) fn offer(&mut self, record: LogRecord, mut give: impl FnMut(LogRecord)) {
        self.know(&record.event);
        if !self.is_of_wanted(&record.event) {
            return;
        }
        let (content, result) = (self.filter.asks_for_content(), self.filter.asks_for_result());
        match &record.event {
            Event::Statement(statement) if content || result => {
                let key = (statement.who.session.clone(), statement.statement);
                if !self.filter.has_names(&record) {
                    return;
                }
                let unseen = !self.filter.has_content(&record, None, &mut self.readings);
                // What is only prepared runs nothing, and has no outcome.
                if unseen && (!self.filter.asks_for_commands() || !statement.kind.executes()) {
                    return;
                }
                if result || (unseen && self.filter.in_time(&record)) {
                    let statement = record;
                    self.hold(key, Held { statement, unseen });
                } else if !unseen && self.filter.in_time(&record) {
                    self.overfull |= !remember(&mut self.given, key);
                    self.give(record, &mut give);
                }
            }
            Event::Outcome(outcome) if content || result => {
                let key = (outcome.who.session.clone(), outcome.statement);
                let (held, given) = (self.held.remove(&key), self.given.remove(&key));
                self.held_bytes -= held.as_ref().map_or(0, Held::weight);
                let (filter, readings) = (&self.filter, &mut self.readings);
                let held = held.filter(|held| !held.unseen || filter.has_content(&held.statement, Some(outcome), readings));
                let by_itself = !content && self.filter.has_names(&record);
                if (held.is_some() || given || by_itself) && self.filter.in_time(&record) && self.filter.has_result(&record) {
                    if let Some(held) = held {
                        self.give(held.statement, &mut give);
                    }
                    self.give(record, &mut give);
                }
            }
            event => {
                match event {
                    // What had no outcome by then never gets one.
                    Event::SessionEnded(ended) => {
                        self.held.retain(|(session, _), _| *session != ended.who.session);
                        self.held_bytes = self.held.values().map(Held::weight).sum();
                        self.given.retain(|(session, _)| *session != ended.who.session);
                    }
                    Event::GateStarted(_) => {
                        self.held.clear();
                        self.given.clear();
                        self.held_bytes = 0;
                    }
                    _ => {}
                }
                if self.filter.matches(&record, &mut self.readings) {
                    give(record);
                }
            }
        }
    }

    /// Keeps a statement until its outcome is known.
    fn hold(&mut self, key: (SessionId, u64), held: Held) {
        let bytes = held.weight();
        if self.held.len() >= MAX_REMEMBERED || self.held_bytes + bytes > MAX_HELD_BYTES {
            self.overfull = true;
            return;
        }
        self.held_bytes += bytes;
        if let Some(before) = self.held.insert(key, held) {
            self.held_bytes -= before.weight();
        }
    }

    /// Returns whether something was let go of since this was asked last, so that a record may be missing from what was given.
    pub(in crate::audit) fn let_go(&mut self) -> bool {
        std::mem::take(&mut self.overfull)
    }

    fn give(&self, record: LogRecord, give: &mut impl FnMut(LogRecord)) {
        if self.filter.wants_event(&record) {
            give(record);
        }
    }
}

/// Adds to a set; returns false if it is full.
fn remember<T: Eq + Hash>(set: &mut HashSet<T>, item: T) -> bool {
    let fits = set.len() < MAX_REMEMBERED;
    if fits {
        set.insert(item);
    }
    fits
}
