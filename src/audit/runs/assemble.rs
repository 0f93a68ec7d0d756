//! Makes the report of a run's statements: what is listed, in which order, and what is said to be missing. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::collect::MIN_ROW;
use super::report::{ConcurrentWrites, FailedStatement, RepeatedStatement, RunReport, StatementUse, TableUse, TestUse};
use super::selector::RunSelector;
use super::statements::{LeftOut, RunStatements, TestAt, TextAt};
use crate::audit::report::BoundedList;

/// Number of items of each list.
const MAX_TESTS: usize = 2_000;
const MAX_TABLES: usize = 1_000;
const MAX_FAILURES: usize = 500;
const MAX_REPEATED: usize = 200;
const MAX_BUSIEST: usize = 100;
const MAX_IDENTITIES: usize = 100;

/// SQLSTATEs by which a statement tells that others were in its way, or that it was stopped while it may have waited
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
const CONFLICTS: [&str; 4] = ["55P03", "40P01", "40001", "57014"];

/// Returns the report; `None` if there is no record of the run. `unreadable` is the number of lines that could not be read besides.
pub(super) fn assemble(
    run: &RunSelector,
    statements: &RunStatements,
    meanwhile: Option<ConcurrentWrites>,
    unreadable: u64,
) -> Option<RunReport> {
    let (first, last) = statements.times?;
    let failures = failures(statements);
    let is_conflict = |failure: &&FailedStatement| CONFLICTS.contains(&failure.sqlstate.as_str()) && failure.rule.is_none();
    let conflicts: Vec<_> = failures.iter().filter(is_conflict).cloned().collect();
    Some(RunReport {
        run: run.to_string(),
        first,
        last,
        identities: BoundedList::first(statements.identities.iter().cloned().collect(), MAX_IDENTITIES, 0),
        totals: statements.totals.clone(),
        endings: statements.endings.clone(),
        tests: BoundedList::first(statements.tests.clone(), MAX_TESTS, 0),
        tables: BoundedList::first(tables(statements), MAX_TABLES, 0),
        failures: BoundedList::first(failures, MAX_FAILURES, 0),
        conflicts: BoundedList::first(conflicts, MAX_FAILURES, 0),
        slowest: BoundedList::first(statements.slowest.clone(), usize::MAX, 0),
        busiest: BoundedList::first(busiest(statements), MAX_BUSIEST, 0),
        repeated: BoundedList::first(repeated(statements), MAX_REPEATED, 0),
        meanwhile,
        limits: limits(&statements.left_out, unreadable),
    })
}

fn test_name(statements: &RunStatements, at: Option<TestAt>) -> Option<String> {
    statements.test_at(at).and_then(|test: &TestUse| test.test.clone())
}

fn text(statements: &RunStatements, at: TextAt) -> (String, String) {
    statements
        .text_at(at)
        .map_or_else(Default::default, |text| (text.text.clone(), text.id.clone()))
}

/// Returns the tables: those that it changes first, then those that it uses most.
fn tables(statements: &RunStatements) -> Vec<TableUse> {
    let mut tables: Vec<TableUse> = statements.tables.values().cloned().collect();
    tables.sort_by_cached_key(|uses| {
        let names = (uses.target.clone(), uses.table.to_string());
        (Reverse(uses.writes), Reverse(uses.reads + uses.not_done), names)
    });
    tables
}

/// Returns the failures, the most frequent first.
fn failures(statements: &RunStatements) -> Vec<FailedStatement> {
    let failed = statements.failures.iter().map(|(key, failures)| {
        let (statement, id) = text(statements, key.text);
        FailedStatement {
            sqlstate: key.sqlstate.clone(),
            rule: key.rule.clone(),
            test: test_name(statements, key.test),
            statement,
            id,
            count: failures.count,
            longest_us: failures.longest_us,
            first: failures.first.clone(),
        }
    });
    let mut failed: Vec<_> = failed.collect();
    failed.sort_by_cached_key(|failed| (Reverse(failed.count), failed.first.order()));
    failed
}

/// Returns the texts by the time that they took in all tests.
fn busiest(statements: &RunStatements) -> Vec<StatementUse> {
    let mut by_text: BTreeMap<TextAt, (StatementUse, BTreeSet<Option<TestAt>>)> = BTreeMap::new();
    for ((test, at), uses) in &statements.uses {
        let (sum, tests) = by_text.entry(*at).or_insert_with(|| {
            let (statement, id) = text(statements, *at);
            let sum = StatementUse {
                statement,
                id,
                executions: 0,
                failed: 0,
                tests: 0,
                rows: 0,
                duration_us: 0,
                longest_us: 0,
            };
            (sum, BTreeSet::new())
        });
        for (outcome, count) in &uses.outcomes {
            sum.executions += count;
            sum.failed += if statements.is_failure(*outcome) { *count } else { 0 };
        }
        sum.rows = sum.rows.saturating_add(uses.rows);
        sum.duration_us = sum.duration_us.saturating_add(uses.duration_us);
        sum.longest_us = sum.longest_us.max(uses.longest_us);
        tests.insert(*test);
    }
    let mut sums: Vec<StatementUse> = by_text
        .into_values()
        .map(|(sum, tests)| StatementUse {
            tests: tests.len() as u64,
            ..sum
        })
        .collect();
    // The order of the texts decides between equal ones: they are in that of the log.
    sums.sort_by_key(|sum| Reverse(sum.duration_us));
    sums
}

/// Returns the statements that were executed many times in a row, the longest row first.
fn repeated(statements: &RunStatements) -> Vec<RepeatedStatement> {
    let rows = statements.rows.iter().map(|((test, at), rows)| {
        let (statement, id) = text(statements, *at);
        RepeatedStatement {
            test: test_name(statements, *test),
            statement,
            id,
            longest_row: rows.longest,
            times: rows.times,
            executions: rows.executions,
            first: rows.first.clone(),
        }
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_cached_key(|row| (Reverse(row.longest_row), row.first.order()));
    rows
}

/// Returns what is missing, in sentences.
pub(super) fn limits(left_out: &LeftOut, unreadable: u64) -> Vec<String> {
    let LeftOut {
        sessions,
        tests,
        texts,
        steps,
        tables,
        groups,
        open,
        lines,
    } = left_out;
    let sentences = [
        (
            lines + unreadable,
            "lines of the log cannot be read: statements may be missing",
        ),
        (*sessions, "statements are missing: there were too many sessions"),
        (*tests, "statements are in no test's row: there were too many tests"),
        (*texts, "statements are not counted by their text: there were too many texts"),
        (*steps, "statements are not compared by their order: there were too many"),
        (*tables, "uses of tables are missing: there were too many tables"),
        (
            *groups,
            "groups of failures or repeated statements are missing: there were too many",
        ),
        (*open, "statements count as of unknown outcome: too many were in flight"),
    ];
    let reached = sentences.into_iter().filter(|(count, _)| *count > 0);
    reached.map(|(count, sentence)| format!("{count} {sentence}.")).collect()
}

/// Returns the sentence about what counts as repeated.
pub(super) fn repeated_note() -> String {
    format!(
        "The same normalised statement, executed {MIN_ROW} times or more in a row by one session within a test: often one for each row \
         of another one's result (N+1), or a batch that was sent row by row."
    )
}
