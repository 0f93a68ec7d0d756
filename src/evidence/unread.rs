//! Statements that could not be read: how many, whose, and why. Pure.
//!
//! It keeps the readings of statements that have no outcome yet, for what the server ran may contradict them.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::listed::Listed;
use crate::audit::event::{Outcome, Statement, Who};
use crate::audit::reading::{Reading, Readings, Unparsed};
use crate::ids::SessionId;
use crate::names::{IdentityName, TargetName};

/// Kinds that are kept apart: reasons are few, but people and targets may be many.
const MAX_KINDS: usize = 20_000;

/// Statements without an outcome that are followed at once.
const MAX_IN_FLIGHT: usize = 2_000_000;

/// Statements that could not be read, for the same reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadStatements {
    /// Whose.
    pub identity: IdentityName,
    /// Where.
    pub target: TargetName,
    /// Why.
    pub why: Unparsed,
    /// How many.
    pub count: u64,
    /// The first.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
}

/// What has been seen so far.
#[derive(Debug, Default)]
pub(super) struct Unread {
    readings: Readings,
    /// Executed statements that have no outcome yet.
    flying: HashMap<SessionId, HashMap<u64, Flying>>,
    /// How many those are.
    in_flight: usize,
    kinds: HashMap<(IdentityName, TargetName, Unparsed), UnreadStatements>,
    more: u64,
}

#[derive(Debug)]
struct Flying {
    time: Timestamp,
    who: Who,
    reading: Arc<Reading>,
}

impl Unread {
    /// Takes a statement that is executed; returns false for one too many, which is not followed.
    pub(super) fn statement(&mut self, time: Timestamp, event: &Statement<'_>) -> bool {
        if self.in_flight >= MAX_IN_FLIGHT {
            return false;
        }
        let flying = Flying {
            time,
            who: event.who.clone().into_owned(),
            reading: self.readings.of_statement(event),
        };
        let session = self.flying.entry(event.who.session.clone()).or_default();
        self.in_flight += usize::from(session.insert(event.statement, flying).is_none());
        true
    }

    /// Takes the outcome of a statement; returns whether it is of one that was taken.
    pub(super) fn outcome(&mut self, event: &Outcome<'_>) -> bool {
        let session = self.flying.get_mut(&event.who.session);
        let Some(flying) = session.and_then(|session| session.remove(&event.statement)) else {
            return false;
        };
        self.in_flight -= 1;
        if event.was_executed() {
            let why = flying.reading.with_outcome(event).unparsed;
            self.count(&flying, why);
        }
        true
    }

    /// Takes the end of a session; returns how many of its statements have no outcome.
    pub(super) fn end(&mut self, session: &SessionId) -> u64 {
        let left = self.flying.remove(session).unwrap_or_default();
        self.in_flight -= left.len();
        for flying in left.values() {
            self.count(flying, flying.reading.unparsed);
        }
        left.len() as u64
    }

    /// Takes the end of all sessions there are; returns how many statements have no outcome.
    pub(super) fn end_all(&mut self) -> u64 {
        let sessions: Vec<SessionId> = self.flying.keys().cloned().collect();
        sessions.iter().map(|session| self.end(session)).sum()
    }

    fn count(&mut self, flying: &Flying, why: Option<Unparsed>) {
        let Some(why) = why else { return };
        let kind = (flying.who.identity.clone(), flying.who.target.clone(), why);
        if self.kinds.len() >= MAX_KINDS && !self.kinds.contains_key(&kind) {
            self.more += 1;
            return;
        }
        let (identity, target, _) = kind.clone();
        let unread = self.kinds.entry(kind).or_insert(UnreadStatements {
            identity,
            target,
            why,
            count: 0,
            first: flying.time,
            last: flying.time,
        });
        unread.count += 1;
        unread.first = unread.first.min(flying.time);
        unread.last = unread.last.max(flying.time);
    }

    /// Returns the kinds, the most frequent first.
    pub(super) fn finish(self) -> Listed<UnreadStatements> {
        let mut items: Vec<UnreadStatements> = self.kinds.into_values().collect();
        items.sort_by(|a, b| {
            b.count
                .cmp(&a.count)
                .then_with(|| (a.first, &a.identity, &a.target).cmp(&(b.first, &b.identity, &b.target)))
        });
        Listed { items, more: self.more }
    }
}

impl Listed<UnreadStatements> {
    /// Returns how many statements could not be read.
    #[must_use]
    pub fn statements(&self) -> u64 {
        self.more + self.items.iter().map(|kind| kind.count).sum::<u64>()
    }
}
