//! Counts of statements that could not be parsed, by identity, target and reason. Pure.
//!
//! This module keeps the analysis of each statement that has no outcome yet, because the server's command tag may contradict
//! it.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::report::UnreadStatement;
use crate::audit::event::{Statement, StatementOutcome, Who};
use crate::audit::report::Groups;
use crate::audit::sql_analysis::{AnalysisCache, ParseFailure, SqlAnalysis};
use crate::model::ids::SessionId;

/// Number of statements without an outcome that are followed at once.
const MAX_IN_FLIGHT: usize = 2_000_000;

/// Accumulator of the statements seen so far.
#[derive(Debug, Default)]
pub(super) struct UnreadCollector {
    readings: AnalysisCache,
    /// Executed statements without an outcome, by session and number.
    flying: HashMap<SessionId, HashMap<u64, StatementInFlight>>,
    /// Number of executed statements without an outcome.
    in_flight: usize,
    /// Statements that could not be parsed.
    pub(super) groups: Groups<UnreadStatement>,
}

#[derive(Debug)]
struct StatementInFlight {
    time: Timestamp,
    who: Who,
    reading: Arc<SqlAnalysis>,
}

impl UnreadCollector {
    /// Takes a statement that is executed; returns false if it is beyond the limit and not followed.
    pub(super) fn statement(&mut self, time: Timestamp, event: &Statement<'_>) -> bool {
        if self.in_flight >= MAX_IN_FLIGHT {
            return false;
        }
        let flying = StatementInFlight {
            time,
            who: event.who.clone().into_owned(),
            reading: self.readings.of_statement(event),
        };
        let session = self.flying.entry(event.who.session.clone()).or_default();
        self.in_flight += usize::from(session.insert(event.statement, flying).is_none());
        true
    }

    /// Takes the outcome of a statement; returns true if that statement is followed.
    pub(super) fn outcome(&mut self, event: &StatementOutcome<'_>) -> bool {
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

    /// Takes the end of a session; returns the number of its statements without an outcome.
    pub(super) fn end(&mut self, session: &SessionId) -> u64 {
        let left = self.flying.remove(session).unwrap_or_default();
        self.in_flight -= left.len();
        for flying in left.values() {
            self.count(flying, flying.reading.unparsed);
        }
        left.len() as u64
    }

    /// Takes the end of all sessions; returns the number of statements without an outcome.
    pub(super) fn end_all(&mut self) -> u64 {
        let sessions: Vec<SessionId> = self.flying.keys().cloned().collect();
        sessions.iter().map(|session| self.end(session)).sum()
    }

    fn count(&mut self, flying: &StatementInFlight, why: Option<ParseFailure>) {
        if let Some(why) = why {
            let (identity, target) = (flying.who.identity.clone(), flying.who.target.clone());
            let of = UnreadStatement { identity, target, why };
            self.groups.add(of, 1, (flying.time, flying.time));
        }
    }
}
