//! Runs: what a test suite did at its targets, as a report, and compared with another run.
//!
//! A run is the name that sessions give themselves (`tidegate.run`) or that their pipeline's token has; a grant or a single session
//! can stand for one. [`gather`] is the only part that reads the log. All else is computed from records, and shown by the layouts of
//! [`super::report`].
//!
//! INVARIANT: no value of a literal or a parameter is in a report. INVARIANT: memory has limits, whatever the length of the run; what
//! is beyond one is counted, and the report says so.

mod application;
mod assemble;
mod collect;
mod comment;
mod concurrent;
mod diff;
mod document;
mod gather;
mod label;
mod normalized;
mod report;
mod selector;
mod statements;
#[cfg(test)]
pub(crate) mod testing;

pub use diff::{
    Divergence, Executions, OnlySide, RunDiff, RunSide, RunStep, StatementDifference, StatementDifferenceKind, TestDifference,
};
pub use document::{of_diff, of_report};
pub use gather::{RunError, RunPeriod, diff, report};
pub use report::{
    ConcurrentWrites, FailedStatement, LabelSource, OtherWriter, RepeatedStatement, RunReport, RunTotals, SlowStatement,
    StatementPlace, StatementUse, TableUse, TestUse,
};
pub use selector::{RunSelector, RunSelectorError};
