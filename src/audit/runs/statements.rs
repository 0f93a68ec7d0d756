//! Statements of a run, added up: by test, by normalised text, by table; with the order in which each test executed them. Pure.
//!
//! INVARIANT: everything that grows with the run has a limit; [`LeftOut`] counts what is beyond it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use jiff::Timestamp;

use super::label::TestLabel;
use super::normalized::NormalizedStatement;
use super::report::{RunTotals, SlowStatement, StatementPlace, TableUse, TestUse};
use crate::audit::event::{StatementOutcome, StatementResult};
use crate::audit::sql_analysis::{CommandClass, SqlAnalysis, TableName};
use crate::audit::timeline::OutcomeCounts;
use crate::model::ids::SessionId;
use crate::model::names::{IdentityName, TargetName};

/// Number of sessions that are told apart.
const MAX_SESSIONS: usize = 100_000;
/// Number of identities that are listed.
const MAX_IDENTITIES: usize = 1_000;
/// Number of tests: several times those of the largest suites that run in one piece.
const MAX_TESTS: usize = 50_000;
/// Number of normalised texts. Programs have thousands; one that puts names of its own making into its SQL has no end of them.
const MAX_TEXTS: usize = 50_000;
/// Number of pairs of a test and a text.
const MAX_USES: usize = 500_000;
/// Number of steps of a test, and of all tests.
const MAX_STEPS_OF_TEST: usize = 100_000;
const MAX_STEPS: usize = 5_000_000;
/// Number of tables.
const MAX_TABLES: usize = 5_000;
/// Number of groups of failures, and of repeated statements.
const MAX_GROUPS: usize = 20_000;
/// Number of different outcomes; there are some 250 SQLSTATEs.
const MAX_OUTCOMES: usize = 1_000;
/// Number of statements that are listed as the slowest.
pub(super) const MAX_SLOWEST: usize = 20;

/// Place of a test in [`RunStatements::tests`], and of a text in [`RunStatements::texts`].
pub(super) type TestAt = u32;
pub(super) type TextAt = u32;
/// Place of an outcome in [`RunStatements::outcomes`].
pub(super) type OutcomeAt = u16;

/// Outcome of a statement that has none on record.
pub(super) const UNKNOWN: OutcomeAt = 0;
/// Names of the outcomes that are no SQLSTATE, in the order of their places.
const OUTCOME_NAMES: [&str; 4] = ["unknown", "completed", "skipped", "other"];
const COMPLETED: OutcomeAt = 1;
const SKIPPED: OutcomeAt = 2;
const OTHER: OutcomeAt = 3;

/// Numbers of what is left out because a limit was reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Statements of sessions that are not told apart.
    pub(super) sessions: u64,
    /// Statements of tests that have no totals of their own.
    pub(super) tests: u64,
    /// Statements whose text is not counted by itself.
    pub(super) texts: u64,
    /// Statements whose order is not remembered.
    pub(super) steps: u64,
    /// Uses of tables that are not counted.
    pub(super) tables: u64,
    /// Failures and rows of repeated statements that are not listed.
    pub(super) groups: u64,
    /// Statements in flight whose outcome could not be followed.
    pub(super) open: u64,
    /// Lines of the log that cannot be read.
    pub(super) lines: u64,
}

/// Executions of a text within a test.
#[derive(Debug, Clone)]
pub(super) struct TextUse {
    /// Executions by outcome.
    pub(super) outcomes: BTreeMap<OutcomeAt, u64>,
    pub(super) rows: u64,
    pub(super) duration_us: u64,
    pub(super) longest_us: u64,
    /// First execution.
    pub(super) first: StatementPlace,
}

/// Step of a test: a text with its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) text: TextAt,
    pub(super) outcome: OutcomeAt,
}

/// Failures of a text within a test with one SQLSTATE.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct FailureKey {
    pub(super) test: Option<TestAt>,
    pub(super) text: TextAt,
    pub(super) sqlstate: String,
    pub(super) rule: Option<String>,
}

/// Number of equal failures.
#[derive(Debug, Clone)]
pub(super) struct FailureCount {
    pub(super) count: u64,
    pub(super) longest_us: u64,
    pub(super) first: StatementPlace,
}

/// Executions of one text in a row, in one session and test.
#[derive(Debug, Clone)]
pub(super) struct StatementRow {
    pub(super) test: Option<TestAt>,
    pub(super) text: TextAt,
    pub(super) length: u64,
    pub(super) first: StatementPlace,
}

/// Rows of one text within a test.
#[derive(Debug, Clone)]
pub(super) struct RowCount {
    pub(super) longest: u64,
    pub(super) times: u64,
    pub(super) executions: u64,
    pub(super) first: StatementPlace,
}

/// Statement that is executed, as far as it is known before its outcome.
#[derive(Debug)]
pub(super) struct ExecutedStatement {
    pub(super) test: Option<TestAt>,
    pub(super) text: Option<TextAt>,
    pub(super) target: TargetName,
    pub(super) place: StatementPlace,
    /// Place among the steps of its test.
    pub(super) step: Option<usize>,
    /// True if it goes on with a portal: it is no execution of its own.
    pub(super) continued: bool,
}

/// Statements of a run, added up.
#[derive(Debug)]
pub(super) struct RunStatements {
    /// Times of the first and the last record.
    pub(super) times: Option<(Timestamp, Timestamp)>,
    pub(super) identities: BTreeSet<IdentityName>,
    pub(super) sessions: HashSet<SessionId>,
    pub(super) totals: RunTotals,
    pub(super) endings: BTreeMap<String, u64>,
    pub(super) tests: Vec<TestUse>,
    pub(super) texts: Vec<NormalizedStatement>,
    pub(super) outcomes: Vec<String>,
    pub(super) uses: HashMap<(Option<TestAt>, TextAt), TextUse>,
    /// Steps of each test, in the places of the tests.
    pub(super) steps: Vec<Vec<Step>>,
    pub(super) tables: HashMap<(TargetName, TableName), TableUse>,
    pub(super) failures: HashMap<FailureKey, FailureCount>,
    pub(super) rows: HashMap<(Option<TestAt>, TextAt), RowCount>,
    pub(super) slowest: Vec<SlowStatement>,
    pub(super) left_out: LeftOut,
    test_places: HashMap<Option<TestLabel>, TestAt>,
    text_places: HashMap<String, TextAt>,
    outcome_places: HashMap<String, OutcomeAt>,
    /// Last session of each test.
    last_sessions: Vec<SessionId>,
    step_count: usize,
}

impl Default for RunStatements {
    fn default() -> Self {
        let names = OUTCOME_NAMES.map(str::to_owned);
        Self {
            times: None,
            identities: BTreeSet::new(),
            sessions: HashSet::new(),
            totals: RunTotals::default(),
            endings: BTreeMap::new(),
            tests: Vec::new(),
            texts: Vec::new(),
            outcome_places: names.iter().cloned().zip(0..).collect(),
            outcomes: names.into(),
            uses: HashMap::new(),
            steps: Vec::new(),
            tables: HashMap::new(),
            failures: HashMap::new(),
            rows: HashMap::new(),
            slowest: Vec::new(),
            left_out: LeftOut::default(),
            test_places: HashMap::new(),
            text_places: HashMap::new(),
            last_sessions: Vec::new(),
            step_count: 0,
        }
    }
}

/// Returns the result of a statement; without an outcome it is unknown.
fn result_of(outcome: Option<&StatementOutcome<'_>>) -> StatementResult {
    outcome.map_or(StatementResult::Unknown, |outcome| outcome.result)
}

/// Returns true if a map may get one more entry, or has this one.
fn has_room<K: Eq + Hash, V>(map: &HashMap<K, V>, key: &K, most: usize) -> bool {
    map.len() < most || map.contains_key(key)
}

impl RunStatements {
    /// Notes that a record of the run has this time.
    pub(super) fn at(&mut self, time: Timestamp) {
        let (first, last) = self.times.unwrap_or((time, time));
        self.times = Some((first.min(time), last.max(time)));
    }

    /// Notes a session; returns false if there are too many.
    pub(super) fn session(&mut self, session: &SessionId, identity: &IdentityName) -> bool {
        if self.sessions.contains(session) {
            return true;
        }
        if self.sessions.len() >= MAX_SESSIONS {
            return false;
        }
        self.sessions.insert(session.clone());
        self.totals.sessions += 1;
        self.totals.open_sessions += 1;
        if self.identities.len() < MAX_IDENTITIES {
            self.identities.insert(identity.clone());
        }
        true
    }

    /// Notes the end of a session.
    pub(super) fn session_ended(&mut self, ending: &str) {
        self.totals.open_sessions = self.totals.open_sessions.saturating_sub(1);
        *self.endings.entry(ending.to_owned()).or_default() += 1;
    }

    /// Returns the place of a test, which this statement belongs to; `None` if there are too many tests.
    pub(super) fn test(&mut self, label: Option<TestLabel>, place: &StatementPlace) -> Option<TestAt> {
        let known = self.test_places.get(&label).copied();
        let at = match known {
            Some(at) => at,
            None if self.tests.len() >= MAX_TESTS => {
                self.left_out.tests += 1;
                return None;
            }
            None => self.new_test(label, place)?,
        };
        let index = usize::try_from(at).ok()?;
        if let (Some(test), Some(session)) = (self.tests.get_mut(index), self.last_sessions.get_mut(index)) {
            test.last = test.last.max(place.time);
            if *session != place.session {
                test.several_sessions = true;
                session.clone_from(&place.session);
            }
        }
        Some(at)
    }

    fn new_test(&mut self, label: Option<TestLabel>, place: &StatementPlace) -> Option<TestAt> {
        let at = TestAt::try_from(self.tests.len()).ok()?;
        self.tests.push(TestUse {
            test: label.as_ref().map(|label| label.name.clone()),
            named_by: label.as_ref().map(|label| label.source),
            counts: OutcomeCounts::default(),
            rows_returned: 0,
            rows_changed: 0,
            duration_us: 0,
            several_sessions: false,
            first: place.time,
            last: place.time,
        });
        self.steps.push(Vec::new());
        self.last_sessions.push(place.session.clone());
        self.test_places.insert(label, at);
        Some(at)
    }

    /// Returns the place of a text; `None` if there are too many.
    pub(super) fn text(&mut self, statement: NormalizedStatement) -> Option<TextAt> {
        if let Some(at) = self.text_places.get(&statement.id) {
            return Some(*at);
        }
        if self.texts.len() >= MAX_TEXTS {
            self.left_out.texts += 1;
            return None;
        }
        let at = TextAt::try_from(self.texts.len()).ok()?;
        self.text_places.insert(statement.id.clone(), at);
        self.texts.push(statement);
        Some(at)
    }

    /// Returns the targets of the tables that it names.
    pub(super) fn targets(&self) -> BTreeSet<&TargetName> {
        self.tables.keys().map(|(target, _)| target).collect()
    }

    /// Returns the text at a place.
    pub(super) fn text_at(&self, at: TextAt) -> Option<&NormalizedStatement> {
        self.texts.get(usize::try_from(at).ok()?)
    }

    /// Returns the test at a place.
    pub(super) fn test_at(&self, at: Option<TestAt>) -> Option<&TestUse> {
        self.tests.get(usize::try_from(at?).ok()?)
    }

    /// Returns the name of an outcome.
    pub(super) fn outcome_name(&self, at: OutcomeAt) -> &str {
        self.outcomes.get(usize::from(at)).map_or("other", String::as_str)
    }

    /// Returns true for an SQLSTATE, and for a failure whose SQLSTATE is not known.
    pub(super) fn is_failure(&self, at: OutcomeAt) -> bool {
        at >= OTHER
    }

    /// Adds a step to a test; returns its place there.
    pub(super) fn step(&mut self, test: Option<TestAt>, text: Option<TextAt>) -> Option<usize> {
        let place = || usize::try_from(test?).ok();
        let steps = place().and_then(|at| self.steps.get_mut(at));
        let room = steps.filter(|steps| steps.len() < MAX_STEPS_OF_TEST && self.step_count < MAX_STEPS);
        let (Some(steps), Some(text)) = (room, text) else {
            self.left_out.steps += 1;
            return None;
        };
        self.step_count += 1;
        steps.push(Step { text, outcome: UNKNOWN });
        Some(steps.len() - 1)
    }

    /// Adds a statement with its outcome; without one it is unknown. `reading` is what is known of its text with the outcome.
    pub(super) fn settle(
        &mut self,
        statement: &ExecutedStatement,
        outcome: Option<&StatementOutcome<'_>>,
        rolled_back: bool,
        reading: &SqlAnalysis,
    ) {
        let result = result_of(outcome);
        let at = self.outcome_at(result, outcome);
        self.add_totals(statement, outcome, rolled_back, reading);
        if let Some(step) = self.step_mut(statement) {
            step.outcome = at;
        }
        self.add_use(statement, outcome, at);
        self.add_tables(statement, outcome, reading);
        if let Some(outcome) = outcome {
            if result == StatementResult::Failed {
                self.add_failure(statement, outcome);
            }
            self.add_slow(statement, outcome);
        }
    }

    fn outcome_at(&mut self, result: StatementResult, outcome: Option<&StatementOutcome<'_>>) -> OutcomeAt {
        match result {
            StatementResult::Completed | StatementResult::Suspended => COMPLETED,
            StatementResult::Skipped => SKIPPED,
            StatementResult::Unknown => UNKNOWN,
            StatementResult::Failed => {
                let code = outcome.and_then(|outcome| outcome.sqlstate.as_ref());
                code.map_or(OTHER, |code| self.outcome_of(&code.0))
            }
        }
    }

    /// Returns the place of an SQLSTATE.
    fn outcome_of(&mut self, sqlstate: &str) -> OutcomeAt {
        if let Some(at) = self.outcome_places.get(sqlstate) {
            return *at;
        }
        let Some(at) = OutcomeAt::try_from(self.outcomes.len())
            .ok()
            .filter(|at| usize::from(*at) < MAX_OUTCOMES)
        else {
            return OTHER;
        };
        self.outcome_places.insert(sqlstate.to_owned(), at);
        self.outcomes.push(sqlstate.to_owned());
        at
    }

    fn step_mut(&mut self, statement: &ExecutedStatement) -> Option<&mut Step> {
        let test = usize::try_from(statement.test?).ok()?;
        self.steps.get_mut(test)?.get_mut(statement.step?)
    }

    fn add_totals(
        &mut self,
        statement: &ExecutedStatement,
        outcome: Option<&StatementOutcome<'_>>,
        rolled_back: bool,
        reading: &SqlAnalysis,
    ) {
        let result = result_of(outcome);
        let changed = outcome.map_or(0, changed_rows);
        let returned = outcome.map_or(0, |outcome| outcome.rows.saturating_sub(changed));
        let duration = outcome.map_or(0, |outcome| outcome.duration_us);
        let add = |counts: &mut OutcomeCounts, sums: [&mut u64; 3]| {
            counts.add(result, rolled_back, reading.is_complete());
            for (sum, more) in sums.into_iter().zip([returned, changed, duration]) {
                *sum = sum.saturating_add(more);
            }
        };
        let totals = &mut self.totals;
        add(
            &mut totals.counts,
            [&mut totals.rows_returned, &mut totals.rows_changed, &mut totals.duration_us],
        );
        let test = statement.test.and_then(|at| usize::try_from(at).ok());
        if let Some(test) = test.and_then(|at| self.tests.get_mut(at)) {
            add(
                &mut test.counts,
                [&mut test.rows_returned, &mut test.rows_changed, &mut test.duration_us],
            );
        }
    }

    fn add_use(&mut self, statement: &ExecutedStatement, outcome: Option<&StatementOutcome<'_>>, at: OutcomeAt) {
        let Some(text) = statement.text else { return };
        let key = (statement.test, text);
        if !has_room(&self.uses, &key, MAX_USES) {
            self.left_out.texts += 1;
            return;
        }
        let uses = self.uses.entry(key).or_insert_with(|| TextUse {
            outcomes: BTreeMap::new(),
            rows: 0,
            duration_us: 0,
            longest_us: 0,
            first: statement.place.clone(),
        });
        if !statement.continued {
            *uses.outcomes.entry(at).or_default() += 1;
        }
        if let Some(outcome) = outcome {
            uses.rows = uses.rows.saturating_add(outcome.rows);
            uses.duration_us = uses.duration_us.saturating_add(outcome.duration_us);
            uses.longest_us = uses.longest_us.max(outcome.duration_us);
        }
    }

    fn add_tables(&mut self, statement: &ExecutedStatement, outcome: Option<&StatementOutcome<'_>>, reading: &SqlAnalysis) {
        if outcome.is_some_and(|outcome| !outcome.was_executed()) {
            return;
        }
        let ran = outcome.is_some_and(|outcome| outcome.result.ran());
        let changed = outcome.map_or(0, changed_rows);
        for table in &reading.tables {
            let key = (statement.target.clone(), table.clone());
            if !has_room(&self.tables, &key, MAX_TABLES) {
                self.left_out.tables += 1;
                continue;
            }
            let uses = self.tables.entry(key).or_insert_with_key(|(target, table)| TableUse {
                target: target.clone(),
                table: table.clone(),
                reads: 0,
                writes: 0,
                not_done: 0,
                rows_changed: 0,
            });
            if !ran {
                uses.not_done += 1;
            } else if reading.written.contains(table) {
                uses.writes += 1;
                let alone = reading.written.len() == 1;
                uses.rows_changed = uses.rows_changed.saturating_add(if alone { changed } else { 0 });
            } else {
                uses.reads += 1;
            }
        }
    }

    fn add_failure(&mut self, statement: &ExecutedStatement, outcome: &StatementOutcome<'_>) {
        let Some(text) = statement.text else { return };
        let key = FailureKey {
            test: statement.test,
            text,
            sqlstate: outcome
                .sqlstate
                .as_ref()
                .map_or_else(String::new, |code| code.0.clone().into_owned()),
            rule: outcome.rule.as_ref().map(|rule| rule.0.clone().into_owned()),
        };
        if !has_room(&self.failures, &key, MAX_GROUPS) {
            self.left_out.groups += 1;
            return;
        }
        let failures = self.failures.entry(key).or_insert_with(|| FailureCount {
            count: 0,
            longest_us: 0,
            first: statement.place.clone(),
        });
        failures.count += 1;
        failures.longest_us = failures.longest_us.max(outcome.duration_us);
    }

    fn add_slow(&mut self, statement: &ExecutedStatement, outcome: &StatementOutcome<'_>) {
        // The longest come first; of equal ones the earlier.
        let at = self.slowest.partition_point(|slow| slow.duration_us >= outcome.duration_us);
        if at >= MAX_SLOWEST {
            return;
        }
        let text = statement.text.and_then(|text| self.text_at(text));
        let (text, id) = text.map_or_else(Default::default, |text| (text.text.clone(), text.id.clone()));
        let slow = SlowStatement {
            duration_us: outcome.duration_us,
            first_byte_us: outcome.first_byte_us,
            rows: outcome.rows,
            sqlstate: outcome.sqlstate.as_ref().map(|code| code.0.clone().into_owned()),
            test: self.test_at(statement.test).and_then(|test| test.test.clone()),
            statement: text,
            id,
            place: statement.place.clone(),
        };
        self.slowest.insert(at, slow);
        self.slowest.truncate(MAX_SLOWEST);
    }

    /// Adds a row of executions of one text.
    pub(super) fn row(&mut self, row: StatementRow) {
        let key = (row.test, row.text);
        if !has_room(&self.rows, &key, MAX_GROUPS) {
            self.left_out.groups += 1;
            return;
        }
        let rows = self.rows.entry(key).or_insert_with(|| RowCount {
            longest: 0,
            times: 0,
            executions: 0,
            first: row.first.clone(),
        });
        if row.length > rows.longest {
            (rows.longest, rows.first) = (row.length, row.first);
        }
        rows.times += 1;
        rows.executions += row.length;
    }
}

/// Returns the number of rows that command tags tell to be changed.
pub(super) fn changed_rows(outcome: &StatementOutcome<'_>) -> u64 {
    let changes = |class: CommandClass| match class {
        CommandClass::Insert | CommandClass::Update | CommandClass::Delete | CommandClass::Merge => true,
        CommandClass::Copy => outcome.copy_in_bytes.is_some(),
        _ => false,
    };
    let count = |tag: &str| tag.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok());
    let tags = outcome.tags.iter().map(|tag| &*tag.0);
    let changed = tags.filter(|tag| changes(CommandClass::of_tag(tag))).filter_map(count);
    changed.fold(0, u64::saturating_add)
}
