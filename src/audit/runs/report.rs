//! Report on a run: numbers and lists, without their presentation. Pure.
//!
//! [`super::statements`] has what it is made of.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use crate::audit::report::BoundedList;
use crate::audit::sql_analysis::TableName;
use crate::audit::timeline::OutcomeCounts;
use crate::model::ids::{GrantId, SessionId};
use crate::model::names::{IdentityName, TargetName};

/// Report on a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunReport {
    /// Run that was asked for: its name, or the id of a grant or a session.
    pub run: String,
    /// Time of the first record.
    pub first: Timestamp,
    /// Time of the last record.
    pub last: Timestamp,
    /// Identities of its sessions.
    pub identities: BoundedList<IdentityName>,
    /// Totals.
    pub totals: RunTotals,
    /// Numbers of ended sessions, by ending.
    pub endings: BTreeMap<String, u64>,
    /// Statements by test, in the order of the tests' first statements.
    pub tests: BoundedList<TestUse>,
    /// Tables that its statements name, those that it changes first.
    pub tables: BoundedList<TableUse>,
    /// Statements that failed, by SQLSTATE, test and normalised text; the most frequent first.
    pub failures: BoundedList<FailedStatement>,
    /// Failures that tell of other transactions: locks that were not to be had, deadlocks, serialization, cancelled statements.
    pub conflicts: BoundedList<FailedStatement>,
    /// Longest statements, the longest first.
    pub slowest: BoundedList<SlowStatement>,
    /// Normalised statements that took the most time in all.
    pub busiest: BoundedList<StatementUse>,
    /// Statements that one session executed many times in a row within a test, which a single statement could have done.
    pub repeated: BoundedList<RepeatedStatement>,
    /// Other sessions that changed its tables meanwhile. Absent if the reader may not read the whole log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub meanwhile: Option<ConcurrentWrites>,
    /// Limits that were reached, as sentences: what the report does not have.
    pub limits: Vec<String>,
}

/// Totals of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunTotals {
    /// Number of sessions.
    pub sessions: u64,
    /// Number of sessions whose end is not on record.
    pub open_sessions: u64,
    /// Numbers of statements by outcome.
    #[serde(flatten)]
    pub counts: OutcomeCounts,
    /// Number of rows returned.
    pub rows_returned: u64,
    /// Number of rows changed, as command tags count them; rolled back ones too.
    pub rows_changed: u64,
    /// Sum of the statements' durations in microseconds.
    pub duration_us: u64,
}

/// Statements of a test.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TestUse {
    /// Name of the test; absent for statements that name none.
    #[schema(nullable = false)]
    pub test: Option<String>,
    /// Place of the name.
    #[schema(nullable = false)]
    pub named_by: Option<LabelSource>,
    /// Numbers of statements by outcome.
    #[serde(flatten)]
    pub counts: OutcomeCounts,
    /// Number of rows returned.
    pub rows_returned: u64,
    /// Number of rows changed.
    pub rows_changed: u64,
    /// Sum of the statements' durations in microseconds.
    pub duration_us: u64,
    /// True if statements of several sessions belong to it: their order is that of the log.
    pub several_sessions: bool,
    /// Time of the first statement.
    pub first: Timestamp,
    /// Time of the last statement.
    pub last: Timestamp,
}

/// Place of a test's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LabelSource {
    /// Comment of the statement (sqlcommenter's `test`).
    Comment,
    /// Application name of the session.
    ApplicationName,
}

/// Use of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TableUse {
    /// Target of the statements.
    pub target: TargetName,
    /// Table as the statements name it.
    #[schema(value_type = String)]
    pub table: TableName,
    /// Number of statements that ran and only read it.
    pub reads: u64,
    /// Number of statements that ran and change it.
    pub writes: u64,
    /// Number of statements that name it and failed, or whose outcome is unknown.
    pub not_done: u64,
    /// Number of rows changed by statements that change this table alone.
    pub rows_changed: u64,
}

/// Statement of a session.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatementPlace {
    /// Session.
    pub session: SessionId,
    /// Number within the session.
    pub number: u64,
    /// Time of its intent.
    pub time: Timestamp,
    /// Id of the trace in its comment (`traceparent`).
    #[schema(nullable = false)]
    pub trace: Option<String>,
}

impl StatementPlace {
    /// Returns the key by which places are in the order of their times.
    pub(super) fn order(&self) -> (Timestamp, SessionId, u64) {
        (self.time, self.session.clone(), self.number)
    }
}

/// Statements of a test with one normalised text that failed with one SQLSTATE.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailedStatement {
    /// SQLSTATE.
    pub sqlstate: String,
    /// Guard rail that refused them.
    #[schema(nullable = false)]
    pub rule: Option<String>,
    /// Test.
    #[schema(nullable = false)]
    pub test: Option<String>,
    /// Normalised text.
    pub statement: String,
    /// Id of the normalised text.
    pub id: String,
    /// Number of failures.
    pub count: u64,
    /// Longest duration until the failure in microseconds.
    pub longest_us: u64,
    /// First one.
    pub first: StatementPlace,
}

/// Statement that took long.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlowStatement {
    /// Duration in microseconds.
    pub duration_us: u64,
    /// Microseconds until the first byte of the response.
    #[schema(nullable = false)]
    pub first_byte_us: Option<u64>,
    /// Number of rows returned or changed.
    pub rows: u64,
    /// SQLSTATE, if it failed.
    #[schema(nullable = false)]
    pub sqlstate: Option<String>,
    /// Test.
    #[schema(nullable = false)]
    pub test: Option<String>,
    /// Normalised text.
    pub statement: String,
    /// Id of the normalised text.
    pub id: String,
    /// Statement itself.
    pub place: StatementPlace,
}

/// Statements with one normalised text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatementUse {
    /// Normalised text.
    pub statement: String,
    /// Id of the normalised text.
    pub id: String,
    /// Number of executions.
    pub executions: u64,
    /// Number of those that failed.
    pub failed: u64,
    /// Number of tests.
    pub tests: u64,
    /// Number of rows returned or changed.
    pub rows: u64,
    /// Sum of the durations in microseconds.
    pub duration_us: u64,
    /// Longest duration in microseconds.
    pub longest_us: u64,
}

/// Statement that a session executed many times in a row within a test.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RepeatedStatement {
    /// Test.
    #[schema(nullable = false)]
    pub test: Option<String>,
    /// Normalised text.
    pub statement: String,
    /// Id of the normalised text.
    pub id: String,
    /// Number of executions in the longest row.
    pub longest_row: u64,
    /// Number of rows of executions.
    pub times: u64,
    /// Number of executions in all of these rows.
    pub executions: u64,
    /// First statement of the longest row.
    pub first: StatementPlace,
}

/// Changes by other sessions to tables of the run, between its first and its last record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConcurrentWrites {
    /// Sessions by table, those with the most changed rows first.
    pub writers: BoundedList<OtherWriter>,
    /// Number of further statements of other sessions whose text could not be read, or does not show what it runs: each may have
    /// changed a table.
    pub not_read: u64,
}

/// Changes by another session to a table of the run.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OtherWriter {
    /// Target.
    pub target: TargetName,
    /// Table as the run names it.
    #[schema(value_type = String)]
    pub table: TableName,
    /// True if the run changes the table, too; otherwise it reads it.
    pub run_writes: bool,
    /// Identity of the session.
    pub identity: IdentityName,
    /// Grant of the session.
    pub grant: GrantId,
    /// Session.
    pub session: SessionId,
    /// Run of the session, if it began meanwhile and has one.
    #[schema(nullable = false)]
    pub run: Option<String>,
    /// Numbers of the statements that change the table, by outcome.
    #[serde(flatten)]
    pub counts: OutcomeCounts,
    /// Number of rows changed, as command tags count them.
    pub rows_changed: u64,
    /// Time of the first statement.
    pub first: Timestamp,
    /// Time of the last statement.
    pub last: Timestamp,
}
