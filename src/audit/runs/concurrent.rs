//! Changes that other sessions made to a run's tables while it ran. Pure.
//!
//! It is given the records of the run's targets between its first and its last record.
//!
//! INVARIANT: the result never suggests that a table was not changed while there are statements that could not be read.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::report::{ConcurrentWrites, OtherWriter, TableUse};
use super::statements::{RunStatements, changed_rows};
use crate::audit::event::{Event, Statement, StatementOutcome, StatementResult};
use crate::audit::record::LogRecord;
use crate::audit::report::BoundedList;
use crate::audit::rollbacks::Rollbacks;
use crate::audit::sql_analysis::{AnalysisCache, CommandClass, SqlAnalysis, TableName};
use crate::audit::timeline::OutcomeCounts;
use crate::model::ids::SessionId;
use crate::model::names::TargetName;

/// Number of pairs of a session and a table that are added up.
const MAX_WRITERS: usize = 20_000;
/// Number of pairs that are listed.
const MAX_LISTED: usize = 200;
/// Number of statements without an outcome that are followed at once.
const MAX_OPEN: usize = 200_000;
/// Number of sessions whose run is remembered.
const MAX_RUNS: usize = 100_000;

/// Commands that change no table by themselves.
const READING: [CommandClass; 8] = [
    CommandClass::Select,
    CommandClass::Show,
    CommandClass::Set,
    CommandClass::Transaction,
    CommandClass::Explain,
    CommandClass::Prepare,
    CommandClass::Cursor,
    CommandClass::Notify,
];

/// Table of the run, as it uses it.
#[derive(Debug, Clone)]
struct RunTable {
    table: TableName,
    writes: bool,
}

/// Accumulator of the records read so far.
#[derive(Debug)]
pub(super) struct ConcurrentWriteCollector {
    own: HashSet<SessionId>,
    targets: BTreeSet<TargetName>,
    /// Tables of the run by target, and by their names without a schema.
    tables: HashMap<(TargetName, String), Vec<RunTable>>,
    /// Span of time of the run.
    times: Option<(Timestamp, Timestamp)>,
    undone: Rollbacks,
    readings: AnalysisCache,
    open: HashMap<(SessionId, u64), OpenWrite>,
    writers: HashMap<(SessionId, TableName), OtherWriter>,
    runs: HashMap<SessionId, String>,
    not_read: u64,
    more: u64,
}

/// Statement without an outcome so far.
#[derive(Debug)]
struct OpenWrite {
    /// Tables of the run that it changes; none if its text may hide them.
    tables: Vec<TableName>,
    reading: Arc<SqlAnalysis>,
}

impl ConcurrentWriteCollector {
    /// Returns a collector for a run; `undone` has the statements that were rolled back.
    pub(super) fn new(run: &RunStatements, undone: Rollbacks) -> Self {
        let mut tables: HashMap<_, Vec<RunTable>> = HashMap::new();
        for ((target, table), TableUse { writes, .. }) in &run.tables {
            tables
                .entry((target.clone(), table.name.clone()))
                .or_default()
                .push(RunTable {
                    table: table.clone(),
                    writes: *writes > 0,
                });
        }
        Self {
            own: run.sessions.clone(),
            targets: run.targets().into_iter().cloned().collect(),
            tables,
            times: run.times,
            undone,
            readings: AnalysisCache::default(),
            open: HashMap::new(),
            writers: HashMap::new(),
            runs: HashMap::new(),
            not_read: 0,
            more: 0,
        }
    }

    /// Takes the next record.
    pub(super) fn take(&mut self, record: &LogRecord) {
        let is_own = record.event.session().is_none_or(|session| self.own.contains(session));
        if is_own {
            return;
        }
        match &record.event {
            Event::SessionStarted(started) => {
                if let Some(run) = started.run.as_ref().filter(|_| self.runs.len() < MAX_RUNS) {
                    self.runs.insert(started.who.session.clone(), run.clone());
                }
            }
            Event::Statement(statement) if statement.kind.executes() && self.is_meanwhile(record.time) => {
                self.statement(record.time, statement);
            }
            Event::Outcome(outcome) => self.outcome(outcome),
            _ => {}
        }
    }

    fn is_meanwhile(&self, time: Timestamp) -> bool {
        self.times.is_some_and(|(first, last)| first <= time && time <= last)
    }

    fn statement(&mut self, time: Timestamp, statement: &Statement<'_>) {
        let reading = self.readings.of_statement(statement);
        let target = &statement.who.target;
        let changed: Vec<RunTable> = reading.written.iter().filter_map(|table| self.table(target, table)).collect();
        let hides = || !reading.is_complete() && reading.classes.iter().any(|class| !READING.contains(class));
        if changed.is_empty() && !(self.targets.contains(target) && hides()) {
            return;
        }
        let (mut tables, mut left_out) = (Vec::new(), false);
        for table in changed {
            let key = (statement.who.session.clone(), table.table.clone());
            if self.writers.len() >= MAX_WRITERS && !self.writers.contains_key(&key) {
                self.more += 1;
                left_out = true;
                continue;
            }
            let writer = self.writers.entry(key).or_insert_with(|| writer(time, statement, &table));
            writer.last = writer.last.max(time);
            tables.push(table.table);
        }
        if left_out && tables.is_empty() {
            return;
        }
        if self.open.len() < MAX_OPEN {
            let key = (statement.who.session.clone(), statement.statement);
            self.open.insert(key, OpenWrite { tables, reading });
        } else {
            self.settle(&statement.who.session, &tables, None, false, &reading);
        }
    }

    /// Returns the run's table that may be this one, under the most similar name that the run has for it.
    fn table(&self, target: &TargetName, table: &TableName) -> Option<RunTable> {
        let named = self.tables.get(&(target.clone(), table.name.clone()))?;
        let same = || named.iter().filter(|known| known.table.may_be(table));
        let shown = same().max_by_key(|known| (known.table == *table, known.writes, known.table.to_string()))?;
        Some(RunTable {
            table: shown.table.clone(),
            writes: same().any(|known| known.writes),
        })
    }

    fn outcome(&mut self, outcome: &StatementOutcome<'_>) {
        let key = (outcome.who.session.clone(), outcome.statement);
        let Some(open) = self.open.remove(&key) else { return };
        let rolled_back = outcome.result.ran() && self.undone.of(&key.0, key.1).is_some();
        self.settle(&key.0, &open.tables, Some(outcome), rolled_back, &open.reading);
    }

    fn settle(
        &mut self,
        session: &SessionId,
        tables: &[TableName],
        outcome: Option<&StatementOutcome<'_>>,
        rolled_back: bool,
        reading: &SqlAnalysis,
    ) {
        let result = outcome.map_or(StatementResult::Unknown, |outcome| outcome.result);
        let rows = outcome.filter(|outcome| outcome.result.ran()).map_or(0, changed_rows);
        if tables.is_empty() {
            self.not_read += u64::from(result.ran() || result == StatementResult::Unknown);
        }
        for table in tables {
            if let Some(writer) = self.writers.get_mut(&(session.clone(), table.clone())) {
                writer.counts.add(result, rolled_back, reading.is_complete());
                // Rows of a statement that changes several tables cannot be told apart.
                let alone = reading.written.len() == 1;
                writer.rows_changed = writer.rows_changed.saturating_add(if alone { rows } else { 0 });
            }
        }
    }

    /// Returns the changes; a statement without an outcome counts as unknown.
    pub(super) fn finish(mut self) -> ConcurrentWrites {
        for ((session, _), open) in std::mem::take(&mut self.open) {
            self.settle(&session, &open.tables, None, false, &open.reading);
        }
        let runs = &self.runs;
        let mut writers: Vec<OtherWriter> = self.writers.into_values().collect();
        writers.retain(|writer| writer.counts.statements > 0);
        for writer in &mut writers {
            writer.run = runs.get(&writer.session).cloned();
        }
        writers.sort_by(|a, b| {
            let rank = |writer: &OtherWriter| (writer.rows_changed, writer.counts.statements);
            let names = |writer: &OtherWriter| (writer.table.to_string(), writer.first, writer.session.clone());
            rank(b).cmp(&rank(a)).then_with(|| names(a).cmp(&names(b)))
        });
        ConcurrentWrites {
            writers: BoundedList::first(writers, MAX_LISTED, self.more),
            not_read: self.not_read,
        }
    }
}

fn writer(time: Timestamp, statement: &Statement<'_>, table: &RunTable) -> OtherWriter {
    let who = &statement.who;
    OtherWriter {
        target: who.target.clone(),
        table: table.table.clone(),
        run_writes: table.writes,
        identity: who.identity.clone(),
        grant: who.grant.clone(),
        session: who.session.clone(),
        run: None,
        counts: OutcomeCounts::default(),
        rows_changed: 0,
        first: time,
        last: time,
    }
}

#[cfg(test)]
mod tests;
