//! Access to a table: totals of the statements that name it, by identity and target.
//!
//! This module does not choose records (the filter does); it is given the statements that were found, those that could not be
//! parsed, and their outcomes.
//!
//! INVARIANT: the result never suggests that a table was not accessed while there are statements that could not be parsed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::event::{Done, Event, Outcome, Statement};
use super::reading::{Class, Reading, Readings};
use super::record::Record;
use super::story::add_new;
use super::undone::Undone;
use crate::ids::SessionId;
use crate::names::{IdentityName, TargetName};

/// Access of an identity to a table on a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Toucher {
    /// Identity of the statements.
    pub identity: IdentityName,
    /// Target of the statements.
    pub target: TargetName,
    /// Sessions of the statements.
    pub sessions: BTreeSet<SessionId>,
    /// Number of statements executed, or sent for execution.
    pub statements: u64,
    /// Number of statements that were not executed, in addition to those: see [`Done::Skipped`].
    pub skipped: u64,
    /// Number of statements that failed.
    pub failed: u64,
    /// Number of statements that ran and were rolled back because their transaction failed later.
    pub rolled_back: u64,
    /// Number of statements without a known outcome.
    pub outcome_unknown: u64,
    /// Number of statements that have the table's name, but could not be parsed or do not show what they run.
    pub not_read: u64,
    /// Number of further executed statements, without the name, that could not be parsed. Each may have accessed the table.
    pub unread: u64,
    /// Number of rows returned or changed by these statements, whichever of their tables the rows came from.
    pub rows: u64,
    /// Time of the first statement.
    pub first: Timestamp,
    /// Time of the last statement.
    pub last: Timestamp,
    /// Classes of their commands.
    pub classes: Vec<Class>,
}

/// Identifier of a statement: session and number.
type Key = (SessionId, u64);

/// Number of items that are kept of each kind: identities on targets, sessions, statements without an outcome, statements that
/// could not be parsed.
const MAX_KEPT: usize = 1_000_000;

/// Statement that waits for its outcome.
#[derive(Debug)]
struct Open {
    by: (IdentityName, TargetName),
    reading: Arc<Reading>,
}

/// Accumulator of the totals.
#[derive(Debug)]
pub struct Touched {
    by: BTreeMap<(IdentityName, TargetName), Toucher>,
    /// Statements without an outcome so far.
    open: BTreeMap<Key, Open>,
    /// Statements that have the name and could not be parsed.
    named: HashSet<Key>,
    /// Statements that could not be parsed, without an outcome so far.
    open_unread: HashMap<Key, (IdentityName, TargetName)>,
    readings: Readings,
    /// Time from which statements do not count; outcomes do.
    until: Option<Timestamp>,
    undone: Undone,
    /// Number of sessions in the totals.
    sessions: usize,
    left_out: LeftOut,
    max_kept: usize,
}

/// Numbers of what the totals lack because a limit was reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Statements of identities that have no total.
    pub statements: u64,
    /// Statements whose outcome could not be followed, or that may be counted twice as not parsed.
    pub not_followed: u64,
    /// Statements whose session is not listed.
    pub sessions: u64,
}

impl LeftOut {
    /// Returns true if nothing is left out.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Touched {
    /// Returns an accumulator for statements before `until`, whenever their outcomes came; `undone` has those that were rolled
    /// back.
    #[must_use]
    pub fn new(until: Option<Timestamp>, undone: Undone) -> Self {
        Self {
            by: BTreeMap::new(),
            open: BTreeMap::new(),
            named: HashSet::new(),
            open_unread: HashMap::new(),
            readings: Readings::default(),
            until,
            undone,
            sessions: 0,
            left_out: LeftOut::default(),
            max_kept: MAX_KEPT,
        }
    }

    /// Takes a record that was found, in order.
    pub fn add(&mut self, record: &Record) {
        match &record.event {
            Event::Statement(statement) if self.counts(record, statement) => {
                let reading = self.readings.of_statement(statement);
                let key = (statement.who.session.clone(), statement.statement);
                let named_sessions = self.sessions;
                let room_for_sessions = named_sessions < self.max_kept;
                let Some(toucher) = self.toucher(record, statement) else {
                    return;
                };
                let known = toucher.sessions.contains(&statement.who.session);
                if !known && room_for_sessions {
                    toucher.sessions.insert(statement.who.session.clone());
                }
                toucher.statements += 1;
                toucher.last = toucher.last.max(record.time);
                let by = (toucher.identity.clone(), toucher.target.clone());
                if !known {
                    self.sessions += usize::from(room_for_sessions);
                    self.left_out.sessions += u64::from(!room_for_sessions);
                }
                if !reading.is_read() {
                    self.note_named(key.clone());
                }
                if self.open.len() < self.max_kept {
                    self.open.insert(key, Open { by, reading });
                } else {
                    self.left_out.not_followed += 1;
                }
            }
            Event::Outcome(outcome) => self.outcome(outcome),
            _ => {}
        }
    }

    /// Takes a record of the statements that could not be parsed, after all records that were found.
    pub fn add_unread(&mut self, record: &Record) {
        match &record.event {
            Event::Statement(statement) if self.counts(record, statement) => {
                let key = (statement.who.session.clone(), statement.statement);
                if !self.named.contains(&key) {
                    let Some(toucher) = self.toucher(record, statement) else {
                        return;
                    };
                    toucher.unread += 1;
                    let by = (toucher.identity.clone(), toucher.target.clone());
                    if self.open_unread.len() < self.max_kept {
                        self.open_unread.insert(key, by);
                    } else {
                        self.left_out.not_followed += 1;
                    }
                }
            }
            Event::Outcome(outcome) => {
                let key = (outcome.who.session.clone(), outcome.statement);
                let by = self.open_unread.remove(&key).filter(|_| !outcome.was_executed());
                if let Some(toucher) = by.and_then(|by| self.by.get_mut(&by)) {
                    toucher.unread -= 1;
                }
            }
            _ => {}
        }
    }

    fn counts(&self, record: &Record, statement: &Statement<'_>) -> bool {
        statement.kind.executes() && self.until.is_none_or(|until| record.time < until)
    }

    /// Remembers that a statement which could not be parsed is counted by its name.
    fn note_named(&mut self, key: Key) {
        if self.named.len() < self.max_kept {
            self.named.insert(key);
        } else {
            self.left_out.not_followed += 1;
        }
    }

    /// Returns the total that a statement belongs to; `None` if there are too many.
    fn toucher(&mut self, record: &Record, statement: &Statement<'_>) -> Option<&mut Toucher> {
        let who = &statement.who;
        let key = (who.identity.clone(), who.target.clone());
        if self.by.len() >= self.max_kept && !self.by.contains_key(&key) {
            self.left_out.statements += 1;
            return None;
        }
        let toucher = self.by.entry(key).or_insert_with(|| Toucher {
            identity: who.identity.clone(),
            target: who.target.clone(),
            sessions: BTreeSet::new(),
            statements: 0,
            skipped: 0,
            failed: 0,
            rolled_back: 0,
            outcome_unknown: 0,
            not_read: 0,
            unread: 0,
            rows: 0,
            first: record.time,
            last: record.time,
            classes: Vec::new(),
        });
        Some(toucher)
    }

    fn outcome(&mut self, outcome: &Outcome<'_>) {
        let key = (outcome.who.session.clone(), outcome.statement);
        let Some(open) = self.open.remove(&key) else { return };
        let reading = open.reading.with_outcome(outcome);
        if !reading.is_read() {
            self.note_named(key);
        }
        let Some(toucher) = self.by.get_mut(&open.by) else { return };
        let undone = outcome.result.ran() && self.undone.of(&outcome.who.session, outcome.statement).is_some();
        let skipped = u64::from(outcome.result == Done::Skipped);
        toucher.statements -= skipped;
        toucher.skipped += skipped;
        toucher.rolled_back += u64::from(undone);
        toucher.rows += outcome.rows;
        toucher.failed += u64::from(outcome.result == Done::Failed);
        toucher.outcome_unknown += u64::from(outcome.result == Done::Unknown);
        if skipped == 0 {
            toucher.read(&reading);
        }
    }

    /// Returns the numbers of what the totals lack.
    #[must_use]
    pub fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// Returns the totals, by identity and target.
    #[must_use]
    pub fn sums(mut self) -> Vec<Toucher> {
        for open in self.open.into_values() {
            if let Some(toucher) = self.by.get_mut(&open.by) {
                toucher.outcome_unknown += 1;
                toucher.read(&open.reading);
            }
        }
        let noteworthy = |toucher: &Toucher| toucher.statements + toucher.skipped + toucher.unread > 0;
        self.by.into_values().filter(noteworthy).collect()
    }
}

impl Toucher {
    fn read(&mut self, reading: &Reading) {
        add_new(&mut self.classes, &reading.classes);
        self.not_read += u64::from(!reading.is_complete());
    }
}

#[cfg(test)]
mod tests;
