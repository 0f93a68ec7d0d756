//! Comparison of two runs by normalised statement, test by test. Pure.
//!
//! It compares how often each statement was executed and how that ended, and the order within each test. Values, rows and durations
//! do not count, since they differ from run to run.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::assemble::limits;
use super::normalized::NormalizedStatement;
use super::report::StatementPlace;
use super::selector::RunSelector;
use super::statements::{RunStatements, Step};
use crate::audit::report::BoundedList;

/// Number of items of each list.
const MAX_TESTS: usize = 1_000;
const MAX_STATEMENTS: usize = 2_000;
const MAX_DIVERGENCES: usize = 500;

/// Difference between two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunDiff {
    /// Run that is compared with: the one that was well.
    pub green: RunSide,
    /// Run that is compared: the one that was not.
    pub red: RunSide,
    /// True if no difference was found. Of a test with several sessions the order does not count.
    pub same: bool,
    /// Tests of one run only; their statements are not listed one by one.
    pub tests: BoundedList<TestDifference>,
    /// Statements that differ, in tests of both runs.
    pub statements: BoundedList<StatementDifference>,
    /// First place in each test at which the two runs differ in order or outcome.
    pub divergences: BoundedList<Divergence>,
    /// Limits that were reached, as sentences.
    pub limits: Vec<String>,
}

/// One of the two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunSide {
    /// Name of the run, or the id of a grant or a session.
    pub run: String,
    /// Time of its first record.
    pub first: Timestamp,
    /// Time of its last record.
    pub last: Timestamp,
    /// Number of sessions.
    pub sessions: u64,
    /// Number of tests that name themselves.
    pub tests: u64,
    /// Number of statements.
    pub statements: u64,
    /// Number of statements that failed.
    pub failed: u64,
}

/// Run that alone has something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnlySide {
    /// First run.
    Green,
    /// Second run.
    Red,
}

/// Test of one run only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TestDifference {
    /// Name of the test.
    pub test: String,
    /// Run that has it.
    pub only: OnlySide,
    /// Number of its executed statements.
    pub statements: u64,
}

/// Kind of a difference, the most telling first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatementDifferenceKind {
    /// Only the second run executed it.
    OnlyRed,
    /// Only the first run executed it.
    OnlyGreen,
    /// It was executed as often, and ended otherwise.
    Outcome,
    /// It was executed more or less often.
    Count,
}

/// Statement that the two runs executed differently within a test.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatementDifference {
    /// Test; absent for statements that name none.
    #[schema(nullable = false)]
    pub test: Option<String>,
    /// Kind of the difference.
    pub kind: StatementDifferenceKind,
    /// Normalised text.
    pub statement: String,
    /// Id of the normalised text.
    pub id: String,
    /// Executions in the first run.
    pub green: Executions,
    /// Executions in the second run.
    pub red: Executions,
    /// First execution in the second run, or in the first run if the second one has none.
    pub first: StatementPlace,
}

/// Executions of a statement within a test.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Executions {
    /// Number of executions.
    pub count: u64,
    /// Number by outcome: `completed`, `skipped`, `unknown`, or the SQLSTATE of the failure.
    pub outcomes: BTreeMap<String, u64>,
}

/// First difference in the order of a test.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Divergence {
    /// Test; absent for statements that name none.
    #[schema(nullable = false)]
    pub test: Option<String>,
    /// Number of the statement within the test, from 1.
    pub at: u64,
    /// Statement of the first run; absent if the test is over there.
    #[schema(nullable = false)]
    pub green: Option<RunStep>,
    /// Statement of the second run; absent if the test is over there.
    #[schema(nullable = false)]
    pub red: Option<RunStep>,
    /// True if several sessions executed statements of the test in one of the runs: their order may be chance.
    pub several_sessions: bool,
}

/// Statement in the order of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunStep {
    /// Normalised text.
    pub statement: String,
    /// Id of the normalised text.
    pub id: String,
    /// Outcome, named as in [`Executions::outcomes`].
    pub outcome: String,
}

/// Statements of one run, by the names of tests.
struct Side<'s> {
    statements: &'s RunStatements,
    tests: HashMap<Option<&'s str>, TestSide<'s>>,
}

/// Statements of a test.
#[derive(Default)]
struct TestSide<'s> {
    texts: BTreeMap<&'s str, TextSide<'s>>,
    steps: Vec<&'s [Step]>,
    several_sessions: bool,
}

/// Executions of a text.
struct TextSide<'s> {
    text: &'s NormalizedStatement,
    executions: Executions,
    first: &'s StatementPlace,
}

impl<'s> Side<'s> {
    fn of(statements: &'s RunStatements) -> Self {
        let mut tests: HashMap<Option<&str>, TestSide<'s>> = HashMap::new();
        for (test, steps) in statements.tests.iter().zip(&statements.steps) {
            let side = tests.entry(test.test.as_deref()).or_default();
            side.steps.push(steps);
            side.several_sessions |= test.several_sessions;
        }
        for ((test, at), uses) in &statements.uses {
            let (Some(test), Some(text)) = (statements.test_at(*test), statements.text_at(*at)) else {
                continue;
            };
            let side = tests.entry(test.test.as_deref()).or_default();
            let known = side.texts.entry(&text.id).or_insert_with(|| TextSide {
                text,
                executions: Executions::default(),
                first: &uses.first,
            });
            if uses.first.time < known.first.time {
                known.first = &uses.first;
            }
            for (outcome, count) in &uses.outcomes {
                known.executions.count += count;
                let name = statements.outcome_name(*outcome).to_owned();
                *known.executions.outcomes.entry(name).or_default() += count;
            }
        }
        Self { statements, tests }
    }

    /// Returns the names of its tests, in the order of their first statements.
    fn names(&self) -> impl Iterator<Item = Option<&'s str>> {
        let mut known = BTreeSet::new();
        let names = self.statements.tests.iter().map(|test| test.test.as_deref());
        names.filter(move |name| known.insert(*name))
    }

    fn summary(&self, run: &RunSelector) -> RunSide {
        let (first, last) = self.statements.times.unwrap_or_default();
        let counts = &self.statements.totals.counts;
        RunSide {
            run: run.to_string(),
            first,
            last,
            sessions: self.statements.totals.sessions,
            tests: self.tests.keys().filter(|name| name.is_some()).count() as u64,
            statements: counts.statements,
            failed: counts.failed,
        }
    }

    fn step(&self, step: Step) -> Option<RunStep> {
        let text = self.statements.text_at(step.text)?;
        Some(RunStep {
            statement: text.text.clone(),
            id: text.id.clone(),
            outcome: self.statements.outcome_name(step.outcome).to_owned(),
        })
    }

    /// Returns what a step is compared by.
    fn key(&self, step: Step) -> (&str, &str) {
        let id = self.statements.text_at(step.text).map_or("", |text| text.id.as_str());
        (id, self.statements.outcome_name(step.outcome))
    }
}

impl TestSide<'_> {
    fn steps(&self) -> impl Iterator<Item = Step> {
        self.steps.iter().copied().flatten().copied()
    }

    fn executed(&self) -> u64 {
        self.texts.values().map(|text| text.executions.count).sum()
    }
}

impl RunDiff {
    /// Compares two runs.
    pub(super) fn of(
        (green, green_statements): (&RunSelector, &RunStatements),
        (red, red_statements): (&RunSelector, &RunStatements),
    ) -> Self {
        let (one, other) = (Side::of(green_statements), Side::of(red_statements));
        let (mut tests, mut statements, mut divergences) = (Vec::new(), Vec::new(), Vec::new());
        let nothing = TestSide::default();
        let of_both = other
            .names()
            .chain(one.names().filter(|name| !other.tests.contains_key(name)));
        for name in of_both {
            let (green, red) = (one.tests.get(&name), other.tests.get(&name));
            if let Some((name, side, test)) = only_one(name, green, red) {
                tests.push(TestDifference {
                    test: name.to_owned(),
                    only: side,
                    statements: test.executed(),
                });
                continue;
            }
            let (green, red) = (green.unwrap_or(&nothing), red.unwrap_or(&nothing));
            statements.extend(differences(name, green, red));
            divergences.extend(divergence(name, (&one, green), (&other, red)));
        }
        let same = tests.is_empty() && statements.is_empty() && divergences.iter().all(|divergence| divergence.several_sessions);
        let of_side = |side: &str, statements: &RunStatements| {
            let limits = limits(&statements.left_out, 0);
            limits
                .into_iter()
                .map(|sentence| format!("Of the {side} run: {sentence}"))
                .collect::<Vec<_>>()
        };
        Self {
            green: one.summary(green),
            red: other.summary(red),
            same,
            tests: BoundedList::first(tests, MAX_TESTS, 0),
            statements: BoundedList::first(statements, MAX_STATEMENTS, 0),
            divergences: BoundedList::first(divergences, MAX_DIVERGENCES, 0),
            limits: [of_side("green", green_statements), of_side("red", red_statements)].concat(),
        }
    }
}

/// Returns the test, if only one run has it. Statements without a test are compared in any case.
fn only_one<'n, 't, 's>(
    name: Option<&'n str>,
    green: Option<&'t TestSide<'s>>,
    red: Option<&'t TestSide<'s>>,
) -> Option<(&'n str, OnlySide, &'t TestSide<'s>)> {
    match (name?, green, red) {
        (name, Some(test), None) => Some((name, OnlySide::Green, test)),
        (name, None, Some(test)) => Some((name, OnlySide::Red, test)),
        _ => None,
    }
}

/// Returns the statements of a test that differ, the most telling first.
fn differences(name: Option<&str>, green: &TestSide<'_>, red: &TestSide<'_>) -> Vec<StatementDifference> {
    let ids: BTreeSet<&str> = green.texts.keys().chain(red.texts.keys()).copied().collect();
    let mut found: Vec<StatementDifference> = ids
        .into_iter()
        .filter_map(|id| {
            let (green, red) = (green.texts.get(id), red.texts.get(id));
            let of = |side: Option<&TextSide<'_>>| side.map(|side| side.executions.clone()).unwrap_or_default();
            let (in_green, in_red) = (of(green), of(red));
            let kind = kind(&in_green, &in_red)?;
            let shown = red.filter(|red| red.executions.count > 0).or(green).or(red)?;
            Some(StatementDifference {
                test: name.map(str::to_owned),
                kind,
                statement: shown.text.text.clone(),
                id: id.to_owned(),
                green: in_green,
                red: in_red,
                first: shown.first.clone(),
            })
        })
        .collect();
    found.sort_by_cached_key(|difference| {
        (
            difference.kind,
            difference.first.time,
            difference.first.number,
            difference.id.clone(),
        )
    });
    found
}

fn kind(green: &Executions, red: &Executions) -> Option<StatementDifferenceKind> {
    match (green.count, red.count) {
        _ if green == red => None,
        (0, _) => Some(StatementDifferenceKind::OnlyRed),
        (_, 0) => Some(StatementDifferenceKind::OnlyGreen),
        (one, other) if one == other => Some(StatementDifferenceKind::Outcome),
        _ => Some(StatementDifferenceKind::Count),
    }
}

/// Returns the first place at which the steps of a test differ.
fn divergence(
    name: Option<&str>,
    (one, green): (&Side<'_>, &TestSide<'_>),
    (other, red): (&Side<'_>, &TestSide<'_>),
) -> Option<Divergence> {
    let (mut of_green, mut of_red) = (green.steps(), red.steps());
    let mut at = 0;
    loop {
        at += 1;
        let (green_step, red_step) = match (of_green.next(), of_red.next()) {
            (None, None) => return None,
            (Some(green), Some(red)) if one.key(green) == other.key(red) => continue,
            steps => steps,
        };
        // Where steps were left out, the end of the others is none.
        let is_cut = |side: &Side<'_>, step: Option<Step>| step.is_none() && side.statements.left_out.steps > 0;
        if is_cut(one, green_step) || is_cut(other, red_step) {
            return None;
        }
        return Some(Divergence {
            test: name.map(str::to_owned),
            at,
            green: green_step.and_then(|step| one.step(step)),
            red: red_step.and_then(|step| other.step(step)),
            several_sessions: green.several_sessions || red.several_sessions,
        });
    }
}

#[cfg(test)]
mod tests;
