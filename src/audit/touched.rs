//! Who touched a table: sums over the statements that name it.
//!
//! It chooses no records (the filter does); it is given those of statements that were found, those of statements that could not be
//! read, and their outcomes.
//!
//! The law: nobody may conclude that a table was not touched as long as there are statements that could not be read.

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
    /// Beside them: executed statements without the name that could not be read. Each may have touched the table.
    pub unread: u64,
    /// Rows returned or changed by these statements, whichever of their tables they came from.
    pub rows: u64,
    /// The first of them.
    pub first: Timestamp,
    /// The last of them.
    pub last: Timestamp,
    /// What they did.
    pub classes: Vec<Class>,
}

/// What makes a statement one.
type Key = (SessionId, u64);

/// The most that is kept account of at once: identities on targets, sessions, statements without an outcome, statements that could
/// not be read.
const MAX_KEPT: usize = 1_000_000;

/// A statement that waits for its outcome.
#[derive(Debug)]
struct Open {
    by: (IdentityName, TargetName),
    reading: Arc<Reading>,
}

/// Sums as they grow.
#[derive(Debug)]
pub struct Touched {
    by: BTreeMap<(IdentityName, TargetName), Toucher>,
    /// Statements without an outcome so far.
    open: BTreeMap<Key, Open>,
    /// Statements that have the name and could not be read.
    named: HashSet<Key>,
    /// Statements that could not be read, without an outcome so far.
    open_unread: HashMap<Key, (IdentityName, TargetName)>,
    readings: Readings,
    /// Statements from then on do not count; outcomes do.
    until: Option<Timestamp>,
    undone: Undone,
    /// Sessions that are named in sums.
    sessions: usize,
    left_out: LeftOut,
    max_kept: usize,
}

/// What the sums leave out or cannot tell, for there was more than is kept account of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Statements of identities that have no sum.
    pub statements: u64,
    /// Statements whose outcome, or whether they are counted twice as not read, could not be followed.
    pub not_followed: u64,
    /// Statements whose session is not named.
    pub sessions: u64,
}

impl LeftOut {
    /// Whether nothing is.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Touched {
    /// Statements before that time, whenever their outcomes came, of which these were undone.
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

    /// Takes a record of those that could not be read, when all that were found are added.
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

    /// Keeps in mind that a statement which could not be read is counted by its name.
    fn note_named(&mut self, key: Key) {
        if self.named.len() < self.max_kept {
            self.named.insert(key);
        } else {
            self.left_out.not_followed += 1;
        }
    }

    /// The sum a statement belongs to; `None` where there are too many.
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

    /// Returns what the sums leave out or cannot tell.
    #[must_use]
    pub fn left_out(&self) -> LeftOut {
        self.left_out
    }

    /// The sums, by identity and target.
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
