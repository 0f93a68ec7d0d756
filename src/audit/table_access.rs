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

use super::event::{Event, Statement, StatementOutcome, StatementResult};
use super::filter::Filter;
use super::record::{EventName, LogRecord};
use super::rollbacks::Rollbacks;
use super::sql_analysis::{AnalysisCache, CommandClass, SqlAnalysis};
use super::timeline::{OutcomeCounts, add_new};
use crate::model::ids::SessionId;
use crate::model::names::{IdentityName, TargetName};

/// Access of an identity to a table on a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableAccess {
    /// Identity of the statements.
    pub identity: IdentityName,
    /// Target of the statements.
    pub target: TargetName,
    /// Sessions of the statements.
    pub sessions: BTreeSet<SessionId>,
    /// Numbers of the statements that have the table's name, by outcome.
    #[serde(flatten)]
    pub counts: OutcomeCounts,
    /// Number of further executed statements, without the name, that could not be parsed. Each may have accessed the table.
    pub unread: u64,
    /// Number of rows returned or changed by these statements, whichever of their tables the rows came from.
    pub rows: u64,
    /// Time of the first statement.
    pub first: Timestamp,
    /// Time of the last statement.
    pub last: Timestamp,
    /// Classes of their commands.
    pub classes: Vec<CommandClass>,
}

/// Identifier of a statement: session and number.
type StatementKey = (SessionId, u64);

/// Number of items that are kept of each kind: identities on targets, sessions, statements without an outcome, statements that
/// could not be parsed.
const MAX_KEPT_ENTRIES: usize = 1_000_000;

/// Identity and target of a total.
type SumKey = (IdentityName, TargetName);

/// Accumulator of the totals.
#[derive(Debug, Default)]
pub struct TableAccessSums {
    by: BTreeMap<SumKey, TableAccess>,
    /// Statements without an outcome so far, each with the analysis of its text.
    open: BTreeMap<StatementKey, (SumKey, Arc<SqlAnalysis>)>,
    /// Statements that have the name and could not be parsed.
    named: HashSet<StatementKey>,
    /// Statements that could not be parsed, without an outcome so far.
    open_unread: HashMap<StatementKey, SumKey>,
    readings: AnalysisCache,
    /// Time from which statements do not count; outcomes do.
    until: Option<Timestamp>,
    undone: Rollbacks,
    /// Number of sessions in the totals.
    sessions: usize,
    left_out: AccessLeftOut,
    max_kept: usize,
}

/// Numbers of what the totals lack because a limit was reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct AccessLeftOut {
    /// Statements of identities that have no total.
    pub statements: u64,
    /// Statements whose outcome could not be followed, or that may be counted twice as not parsed.
    pub not_followed: u64,
    /// Statements whose session is not listed.
    pub sessions: u64,
}

impl AccessLeftOut {
    /// Returns true if nothing is left out.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Filters that find what the totals of a table are made of.
#[derive(Debug, Clone)]
pub struct AccessFilters {
    /// Time from which statements do not count. The outcome of a statement may be recorded after it, so no filter has it.
    pub until: Option<Timestamp>,
    /// Steps of transactions, which show what was rolled back.
    pub steps: Filter,
    /// Statements with the table's name, and their outcomes.
    pub statements: Filter,
    /// Statements that could not be parsed, and their outcomes.
    pub unread: Filter,
}

impl AccessFilters {
    /// Returns the filters for the statements that match `filter`, which names the table.
    #[must_use]
    pub fn new(mut filter: Filter) -> Self {
        let until = filter.until.take();
        let steps = Filter {
            table: None,
            class: None,
            event: Some(EventName::TransactionChanged),
            ..filter.clone()
        };
        let unread = filter.of_unread();
        Self {
            until,
            steps,
            statements: filter,
            unread,
        }
    }
}

impl TableAccessSums {
    /// Returns an accumulator for statements before `until`, whenever their outcomes came; `undone` has those that were rolled
    /// back.
    #[must_use]
    pub fn new(until: Option<Timestamp>, undone: Rollbacks) -> Self {
        Self {
            until,
            undone,
            max_kept: MAX_KEPT_ENTRIES,
            ..Self::default()
        }
    }

    /// Takes a record that was found, in order.
    pub fn add(&mut self, record: &LogRecord) {
        match &record.event {
            Event::Statement(statement) if self.counts(record, statement) => {
                let reading = self.readings.of_statement(statement);
                let key = (statement.who.session.clone(), statement.statement);
                let has_room = self.sessions < self.max_kept;
                let Some(toucher) = self.toucher(record, statement) else {
                    return;
                };
                toucher.last = toucher.last.max(record.time);
                let by = (toucher.identity.clone(), toucher.target.clone());
                let is_new = !toucher.sessions.contains(&statement.who.session);
                if is_new && has_room {
                    toucher.sessions.insert(statement.who.session.clone());
                }
                self.sessions += usize::from(is_new && has_room);
                self.left_out.sessions += u64::from(is_new && !has_room);
                if !reading.is_read() {
                    self.note_named(key.clone());
                }
                if self.open.len() < self.max_kept {
                    self.open.insert(key, (by, reading));
                } else {
                    self.left_out.not_followed += 1;
                    self.by.entry(by).and_modify(|toucher| toucher.counts.statements += 1);
                }
            }
            Event::Outcome(outcome) => self.outcome(outcome),
            _ => {}
        }
    }

    /// Takes a record of the statements that could not be parsed, after all records that were found.
    pub fn add_unread(&mut self, record: &LogRecord) {
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

    fn counts(&self, record: &LogRecord, statement: &Statement<'_>) -> bool {
        statement.kind.executes() && self.until.is_none_or(|until| record.time < until)
    }

    /// Remembers that a statement which could not be parsed is counted by its name.
    fn note_named(&mut self, key: StatementKey) {
        if self.named.len() < self.max_kept {
            self.named.insert(key);
        } else {
            self.left_out.not_followed += 1;
        }
    }

    /// Returns the total that a statement belongs to; `None` if there are too many.
    fn toucher(&mut self, record: &LogRecord, statement: &Statement<'_>) -> Option<&mut TableAccess> {
        let who = &statement.who;
        let key = (who.identity.clone(), who.target.clone());
        if self.by.len() >= self.max_kept && !self.by.contains_key(&key) {
            self.left_out.statements += 1;
            return None;
        }
        let toucher = self.by.entry(key).or_insert_with(|| TableAccess {
            identity: who.identity.clone(),
            target: who.target.clone(),
            sessions: BTreeSet::new(),
            counts: OutcomeCounts::default(),
            unread: 0,
            rows: 0,
            first: record.time,
            last: record.time,
            classes: Vec::new(),
        });
        Some(toucher)
    }

    fn outcome(&mut self, outcome: &StatementOutcome<'_>) {
        let key = (outcome.who.session.clone(), outcome.statement);
        let Some((by, reading)) = self.open.remove(&key) else { return };
        let reading = reading.with_outcome(outcome);
        if !reading.is_read() {
            self.note_named(key);
        }
        let Some(toucher) = self.by.get_mut(&by) else { return };
        let undone = outcome.result.ran() && self.undone.of(&outcome.who.session, outcome.statement).is_some();
        toucher.rows += outcome.rows;
        toucher.settle(outcome.execution(), undone, &reading);
    }

    /// Returns the numbers of what the totals lack.
    #[must_use]
    pub fn left_out(&self) -> AccessLeftOut {
        self.left_out
    }

    /// Returns the totals, by identity and target.
    #[must_use]
    pub fn sums(mut self) -> Vec<TableAccess> {
        for (by, reading) in self.open.into_values() {
            if let Some(toucher) = self.by.get_mut(&by) {
                toucher.settle(StatementResult::Unknown, false, &reading);
            }
        }
        let noteworthy = |toucher: &TableAccess| toucher.counts.statements + toucher.counts.skipped + toucher.unread > 0;
        self.by.into_values().filter(noteworthy).collect()
    }
}

impl TableAccess {
    fn settle(&mut self, result: StatementResult, rolled_back: bool, reading: &SqlAnalysis) {
        if self.counts.add(result, rolled_back, reading.is_complete()) {
            add_new(&mut self.classes, &reading.classes);
        }
    }
}

#[cfg(test)]
mod tests;
