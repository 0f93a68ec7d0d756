//! Reads the log for reports on runs. Blocks.
//!
//! It searches by run, grant or session, so that summaries leave out the segments that have nothing of it. What other sessions did is
//! read in a second pass, between the run's first and its last record.

use std::path::Path;

use jiff::{Span, Timestamp};

use super::assemble::assemble;
use super::collect::RunCollector;
use super::concurrent::ConcurrentWriteCollector;
use super::diff::RunDiff;
use super::report::{ConcurrentWrites, RunReport};
use super::selector::RunSelector;
use super::statements::RunStatements;
use crate::audit::record::{EventName, LogRecord};
use crate::audit::rollbacks::Rollbacks;
use crate::audit::{Filter, ReadError, read};

/// Span of time that a run is looked for in; a part that is not set has no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunPeriod {
    /// Earliest time.
    pub since: Option<Timestamp>,
    /// Time before which the records are.
    pub until: Option<Timestamp>,
}

/// Error of a report on a run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The log has no session of the run.
    #[error("the log has no session of run {0}; list sessions with `tidegate log --event session_started`")]
    NoSuchRun(RunSelector),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Reports on a run. Changes by other sessions are only looked for if the reader may read about `others`.
pub fn report(dir: &Path, run: &RunSelector, period: RunPeriod, others: bool) -> Result<RunReport, RunError> {
    let statements = statements(dir, run, period)?;
    let (meanwhile, unreadable) = if others {
        let (meanwhile, unreadable) = meanwhile(dir, &statements)?;
        (Some(meanwhile), unreadable)
    } else {
        (None, 0)
    };
    assemble(run, &statements, meanwhile, unreadable).ok_or_else(|| RunError::NoSuchRun(run.clone()))
}

/// Compares two runs: what the second one did that the first one did not, and the reverse.
pub fn diff(dir: &Path, green: &RunSelector, red: &RunSelector) -> Result<RunDiff, RunError> {
    let of = |run: &RunSelector| statements(dir, run, RunPeriod::default());
    Ok(RunDiff::of((green, &of(green)?), (red, &of(red)?)))
}

/// Adds up the statements of a run.
fn statements(dir: &Path, run: &RunSelector, period: RunPeriod) -> Result<RunStatements, RunError> {
    let filter = Filter {
        since: period.since,
        until: period.until,
        ..run.filter()
    };
    let mut collector = RunCollector::new(undone(dir, &filter)?);
    let unreadable = each(dir, &filter, |record| collector.take(record))?;
    let statements = collector.finish(unreadable);
    if statements.sessions.is_empty() {
        return Err(RunError::NoSuchRun(run.clone()));
    }
    Ok(statements)
}

/// Adds up the changes by other sessions; returns the number of lines that cannot be read, too.
fn meanwhile(dir: &Path, run: &RunStatements) -> Result<(ConcurrentWrites, u64), ReadError> {
    let Some((first, last)) = run.times.filter(|_| !run.tables.is_empty()) else {
        return Ok((ConcurrentWrites::default(), 0));
    };
    let targets = run.targets();
    let filter = Filter {
        target: targets.first().filter(|_| targets.len() == 1).map(|target| (*target).clone()),
        since: Some(first),
        // The end of a filter is exclusive; times on record are whole microseconds.
        until: last.checked_add(Span::new().microseconds(1)).ok(),
        ..Filter::default()
    };
    let mut collector = ConcurrentWriteCollector::new(run, undone(dir, &filter)?);
    let unreadable = each(dir, &filter, |record| collector.take(record))?;
    Ok((collector.finish(), unreadable))
}

/// Returns the statements that were rolled back among the records that match. Lines that cannot be read count in the pass that reads all.
fn undone(dir: &Path, filter: &Filter) -> Result<Rollbacks, ReadError> {
    let steps = Filter {
        event: Some(EventName::TransactionChanged),
        ..filter.clone()
    };
    let mut undone = Rollbacks::default();
    each(dir, &steps, |record| undone.add(record))?;
    Ok(undone)
}

/// Passes each record that matches to `take`; returns the number of lines that cannot be read.
fn each(dir: &Path, filter: &Filter, mut take: impl FnMut(&LogRecord)) -> Result<u64, ReadError> {
    let mut unreadable = 0;
    for found in read(dir, filter)? {
        match found {
            Ok(record) => take(&record),
            Err(error @ ReadError::Io(_)) => return Err(error),
            Err(_) => unreadable += 1,
        }
    }
    Ok(unreadable)
}
