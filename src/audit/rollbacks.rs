//! Statements that were rolled back after they had run: ranges of numbers in a session, from the log.
//!
//! This module finds no records; its callers pass them in order.

use std::collections::HashMap;

use super::event::Event;
use super::record::LogRecord;
use crate::model::ids::SessionId;

/// Ranges of rolled back statements. Grows with the transactions that failed at their end, not with statements.
#[derive(Debug, Default)]
pub struct Rollbacks {
    ranges: HashMap<SessionId, Vec<(u64, u64, String)>>,
}

impl Rollbacks {
    /// Takes a record that may have a range.
    pub fn add(&mut self, record: &LogRecord) {
        if let Event::TransactionChanged(changed) = &record.event
            && let Some(undone) = &changed.rolled_back
        {
            let ranges = self.ranges.entry(changed.who.session.clone()).or_default();
            ranges.push((undone.first, undone.last, undone.sqlstate.0.clone().into_owned()));
        }
    }

    /// Returns the SQLSTATE of the error that rolled back a statement which had run.
    #[must_use]
    pub fn of(&self, session: &SessionId, statement: u64) -> Option<&str> {
        let ranges = self.ranges.get(session)?;
        // Ranges do not overlap, because a transaction ends before the next one begins.
        let at = ranges.partition_point(|(_, last, _)| *last < statement);
        let (first, _, sqlstate) = ranges.get(at)?;
        (*first <= statement).then_some(sqlstate)
    }
}
