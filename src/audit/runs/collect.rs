//! Collects the statements of a run from its records, in the order of the log. Pure.
//!
//! It is given the records of the run's sessions alone, and the statements that were rolled back; it reads no log.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::application::ApplicationChange;
use super::comment::StatementOrigin;
use super::label::SessionApplication;
use super::normalized::NormalizedStatement;
use super::report::StatementPlace;
use super::statements::{ExecutedStatement, RunStatements, StatementRow, TextAt};
use crate::audit::event::{Event, SessionEnded, Statement, StatementOutcome, Who};
use crate::audit::record::LogRecord;
use crate::audit::rollbacks::Rollbacks;
use crate::audit::sql_analysis::{AnalysisCache, CommandClass, SqlAnalysis};
use crate::model::ids::SessionId;

/// Number of statements without an outcome that are followed at once.
const MAX_OPEN: usize = 200_000;
/// Number of executions of one text in a row from which they count as repeated.
pub(super) const MIN_ROW: u64 = 10;
/// Number of bytes up to which a text's normalised form is remembered, and of such texts in all.
const MAX_CACHED_TEXT_BYTES: usize = 4 << 10;
const MAX_CACHE_BYTES: usize = 8 << 20;

/// Commands whose repetition a single one could do away with.
const REPEATABLE: [CommandClass; 7] = [
    CommandClass::Select,
    CommandClass::Insert,
    CommandClass::Update,
    CommandClass::Delete,
    CommandClass::Merge,
    CommandClass::Execute,
    CommandClass::Call,
];

/// Accumulator of the records read so far.
#[derive(Debug, Default)]
pub(super) struct RunCollector {
    statements: RunStatements,
    sessions: HashMap<SessionId, SessionState>,
    open: usize,
    undone: Rollbacks,
    readings: AnalysisCache,
    texts: TextCache,
}

/// Session as far as it was read.
#[derive(Debug, Default)]
struct SessionState {
    application: SessionApplication,
    open: BTreeMap<u64, OpenStatement>,
    row: Option<StatementRow>,
}

/// Statement without an outcome so far.
#[derive(Debug)]
struct OpenStatement {
    executed: ExecutedStatement,
    reading: Arc<SqlAnalysis>,
}

/// Places of texts that were met before, as they came.
#[derive(Debug, Default)]
struct TextCache {
    known: HashMap<Box<str>, TextAt>,
    bytes: usize,
}

impl RunCollector {
    /// Returns a collector; `undone` has the statements of the run that were rolled back.
    pub(super) fn new(undone: Rollbacks) -> Self {
        Self {
            undone,
            ..Self::default()
        }
    }

    /// Takes the next record of the run.
    pub(super) fn take(&mut self, record: &LogRecord) {
        if record.event.session().is_none() {
            return;
        }
        self.statements.at(record.time);
        match &record.event {
            Event::SessionStarted(started) => {
                if let Some(state) = self.session(&started.who) {
                    state.application = SessionApplication::at_start(started.application.as_deref());
                }
            }
            Event::Statement(statement) if statement.kind.executes() => self.statement(record.time, statement),
            Event::Outcome(outcome) => self.outcome(outcome),
            Event::SessionEnded(ended) => self.ended(ended),
            _ => {}
        }
    }

    /// Returns the statements; those without an outcome count as unknown. `unreadable` is the number of lines that could not be read.
    pub(super) fn finish(mut self, unreadable: u64) -> RunStatements {
        self.statements.left_out.lines = unreadable;
        for state in std::mem::take(&mut self.sessions).into_values() {
            self.end(state);
        }
        self.statements
    }

    /// Returns the state of a session; `None` if there are too many.
    fn session(&mut self, who: &Who) -> Option<&mut SessionState> {
        if !self.statements.session(&who.session, &who.identity) {
            return None;
        }
        Some(self.sessions.entry(who.session.clone()).or_default())
    }

    fn statement(&mut self, time: Timestamp, statement: &Statement<'_>) {
        if self.session(&statement.who).is_none() {
            self.statements.left_out.sessions += 1;
            return;
        }
        let reading = self.readings.of_statement(statement);
        let origin = statement.sql.as_ref().map(StatementOrigin::of).unwrap_or_default();
        let text = self.text(statement);
        let Some(state) = self.sessions.get_mut(&statement.who.session) else {
            return;
        };
        if let Some(change) = ApplicationChange::of(statement) {
            state.application.change(statement.statement, change);
        }
        let label = state.application.label(&origin);
        let place = StatementPlace {
            session: statement.who.session.clone(),
            number: statement.statement,
            time,
            trace: origin.trace,
        };
        let test = self.statements.test(label, &place);
        let step = if statement.continued {
            None
        } else {
            self.statements.step(test, text)
        };
        let executed = ExecutedStatement {
            test,
            text,
            target: statement.who.target.clone(),
            place,
            step,
            continued: statement.continued,
        };
        state.follow_row(&executed, &reading, &mut self.statements);
        if self.open >= MAX_OPEN {
            self.statements.left_out.open += 1;
            self.statements.settle(&executed, None, false, &reading);
            return;
        }
        self.open += 1;
        let before = state.open.insert(statement.statement, OpenStatement { executed, reading });
        self.open -= usize::from(before.is_some());
    }

    /// Returns the place of a statement's normalised text.
    fn text(&mut self, statement: &Statement<'_>) -> Option<TextAt> {
        let whole = statement
            .sql
            .as_ref()
            .filter(|sql| !sql.is_cut() && sql.settings() == Some(Default::default()));
        let cached = whole
            .map(|sql| &*sql.text.0)
            .filter(|text| text.len() <= MAX_CACHED_TEXT_BYTES);
        if let Some(at) = cached.and_then(|text| self.texts.known.get(text)) {
            return Some(*at);
        }
        let at = self.statements.text(NormalizedStatement::of(statement))?;
        if let Some(text) = cached {
            self.texts.keep(text, at);
        }
        Some(at)
    }

    fn outcome(&mut self, outcome: &StatementOutcome<'_>) {
        let Some(state) = self.sessions.get_mut(&outcome.who.session) else {
            return;
        };
        let ran = outcome.result.ran();
        state.application.settle(outcome.statement, ran);
        let Some(open) = state.open.remove(&outcome.statement) else {
            return;
        };
        self.open -= 1;
        let rolled_back = ran && self.undone.of(&outcome.who.session, outcome.statement).is_some();
        let reading = open.reading.with_outcome(outcome);
        self.statements.settle(&open.executed, Some(outcome), rolled_back, &reading);
    }

    fn ended(&mut self, ended: &SessionEnded) {
        if self.session(&ended.who).is_none() {
            return;
        }
        self.statements.session_ended(ended.ending.as_str());
        if let Some(state) = self.sessions.remove(&ended.who.session) {
            self.end(state);
        }
    }

    fn end(&mut self, state: SessionState) {
        self.open -= state.open.len();
        for open in state.open.into_values() {
            self.statements.settle(&open.executed, None, false, &open.reading);
        }
        if let Some(row) = state.row {
            end_row(row, &mut self.statements);
        }
    }
}

impl SessionState {
    /// Goes on with the row of executions of one text, or begins the next one. Commands of transactions and settings belong to none.
    fn follow_row(&mut self, executed: &ExecutedStatement, reading: &SqlAnalysis, statements: &mut RunStatements) {
        let is_repeatable = reading.classes.iter().any(|class| REPEATABLE.contains(class));
        let Some(text) = executed.text.filter(|_| is_repeatable && !executed.continued) else {
            return;
        };
        match &mut self.row {
            Some(row) if (row.test, row.text) == (executed.test, text) => row.length += 1,
            _ => {
                let next = StatementRow {
                    test: executed.test,
                    text,
                    length: 1,
                    first: executed.place.clone(),
                };
                if let Some(row) = self.row.replace(next) {
                    end_row(row, statements);
                }
            }
        }
    }
}

fn end_row(row: StatementRow, statements: &mut RunStatements) {
    if row.length >= MIN_ROW {
        statements.row(row);
    }
}

impl TextCache {
    fn keep(&mut self, text: &str, at: TextAt) {
        if self.bytes + text.len() > MAX_CACHE_BYTES {
            (self.known, self.bytes) = Default::default();
        }
        self.bytes += text.len();
        self.known.insert(text.into(), at);
    }
}

#[cfg(test)]
mod tests;
