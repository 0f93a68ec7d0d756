//! Who touched a table: sums over the statements that name it.
//!
//! It chooses no records (the filter does); it is given those of statements that were found, and their outcomes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use serde::Serialize;

use super::event::{Done, Event, Kind};
use super::reading::{Class, Readings};
use super::record::Record;
use super::story::add_new;
use super::undone::Undone;
use crate::ids::SessionId;
use crate::names::{IdentityName, TargetName};

/// What an identity did with a table on a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Toucher {
    /// Who.
    pub identity: IdentityName,
    /// Where.
    pub target: TargetName,
    /// In which sessions.
    pub sessions: BTreeSet<SessionId>,
    /// Statements executed, or sent to be.
    pub statements: u64,
    /// Beside them: statements that were not executed, for one before them failed.
    pub skipped: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that ran and were undone, for their transaction failed later.
    pub rolled_back: u64,
    /// Those without an outcome, or whose outcome is not known.
    pub outcome_unknown: u64,
    /// Those that have the table's name, but could not be read or do not show what they run.
    pub not_read: u64,
    /// Rows returned or changed by these statements, whichever of their tables they came from.
    pub rows: u64,
    /// The first of them.
    pub first: Timestamp,
    /// The last of them.
    pub last: Timestamp,
    /// What they did.
    pub classes: Vec<Class>,
}

/// Sums as they grow.
#[derive(Debug, Default)]
pub struct Touched {
    by: BTreeMap<(IdentityName, TargetName), Toucher>,
    /// Statements without an outcome so far.
    open: HashMap<(SessionId, u64), (IdentityName, TargetName)>,
    readings: Readings,
    /// Statements from then on do not count; outcomes do.
    until: Option<Timestamp>,
    undone: Undone,
}

impl Touched {
    /// Statements before that time, whenever their outcomes came, of which these were undone.
    #[must_use]
    pub fn new(until: Option<Timestamp>, undone: Undone) -> Self {
        Self {
            until,
            undone,
            ..Self::default()
        }
    }

    /// Takes a record that was found, in order.
    pub fn add(&mut self, record: &Record) {
        match &record.event {
            Event::Statement(_) if self.until.is_some_and(|until| record.time >= until) => {}
            Event::Statement(statement) if statement.kind != Kind::Parse => {
                let who = &statement.who;
                let key = (who.identity.clone(), who.target.clone());
                let toucher = self.by.entry(key.clone()).or_insert_with(|| Toucher {
                    identity: who.identity.clone(),
                    target: who.target.clone(),
                    sessions: BTreeSet::new(),
                    statements: 0,
                    skipped: 0,
                    failed: 0,
                    rolled_back: 0,
                    outcome_unknown: 0,
                    not_read: 0,
                    rows: 0,
                    first: record.time,
                    last: record.time,
                    classes: Vec::new(),
                });
                toucher.sessions.insert(who.session.clone());
                toucher.statements += 1;
                toucher.last = toucher.last.max(record.time);
                if let Some(sql) = &statement.sql {
                    let reading = self.readings.of(sql);
                    add_new(&mut toucher.classes, &reading.classes);
                    toucher.not_read += u64::from(!reading.is_complete());
                }
                self.open.insert((who.session.clone(), statement.statement), key);
            }
            Event::Outcome(outcome) => {
                let open = self.open.remove(&(outcome.who.session.clone(), outcome.statement));
                if let Some(toucher) = open.and_then(|key| self.by.get_mut(&key)) {
                    let undone = outcome.result.ran() && self.undone.of(&outcome.who.session, outcome.statement).is_some();
                    let skipped = u64::from(outcome.result == Done::Skipped);
                    toucher.statements -= skipped;
                    toucher.skipped += skipped;
                    toucher.rolled_back += u64::from(undone);
                    toucher.rows += outcome.rows;
                    toucher.failed += u64::from(outcome.result == Done::Failed);
                    toucher.outcome_unknown += u64::from(outcome.result == Done::Unknown);
                }
            }
            _ => {}
        }
    }

    /// The sums, by identity and target.
    #[must_use]
    pub fn sums(mut self) -> Vec<Toucher> {
        for key in self.open.into_values() {
            if let Some(toucher) = self.by.get_mut(&key) {
                toucher.outcome_unknown += 1;
            }
        }
        self.by.into_values().collect()
    }
}

#[cfg(test)]
mod tests;
