//! Which statements were undone after they had run: ranges of numbers in a session, as the log tells them.
//!
//! It finds no records; whoever reads hands them over, in order.

use std::collections::HashMap;

use super::event::Event;
use super::record::Record;
use crate::ids::SessionId;

/// What is known of it. Grows with the transactions that failed at their end, not with statements.
#[derive(Debug, Default)]
pub struct Undone {
    ranges: HashMap<SessionId, Vec<(u64, u64, String)>>,
}

impl Undone {
    /// Takes a record that may tell of it.
    pub fn add(&mut self, record: &Record) {
        if let Event::TransactionChanged(changed) = &record.event
            && let Some(undone) = &changed.rolled_back
        {
            let ranges = self.ranges.entry(changed.who.session.clone()).or_default();
            ranges.push((undone.first, undone.last, undone.sqlstate.0.clone().into_owned()));
        }
    }

    /// The SQLSTATE with which a statement that ran was undone.
    #[must_use]
    pub fn of(&self, session: &SessionId, statement: u64) -> Option<&str> {
        let ranges = self.ranges.get(session)?;
        // They do not overlap, for a transaction ends before the next one begins.
        let at = ranges.partition_point(|(_, last, _)| *last < statement);
        let (first, _, sqlstate) = ranges.get(at)?;
        (*first <= statement).then_some(sqlstate)
    }
}
