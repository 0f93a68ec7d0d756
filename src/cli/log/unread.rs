//! Statements that could not be analysed, reported beside the results of a search.

use std::collections::BTreeSet;

use crate::audit::LogRecord;
use crate::audit::event::Event;
use crate::model::ids::SessionId;

/// Maximum number of statements to remember at once.
const MAX_KEPT: usize = 1_000_000;

/// Set of remembered statements, up to a limit.
pub(super) struct KeptStatements {
    kept: BTreeSet<(SessionId, u64)>,
    /// Number of statements beyond the limit.
    pub(super) more: u64,
    max: usize,
}

impl Default for KeptStatements {
    fn default() -> Self {
        Self {
            kept: BTreeSet::new(),
            more: 0,
            max: MAX_KEPT,
        }
    }
}

impl KeptStatements {
    pub(super) fn insert(&mut self, key: (SessionId, u64)) {
        if self.kept.len() < self.max {
            self.kept.insert(key);
        } else {
            self.more += 1;
        }
    }

    pub(super) fn remove(&mut self, key: &(SessionId, u64)) -> bool {
        self.kept.remove(key)
    }

    pub(super) fn has(&self, key: &(SessionId, u64)) -> bool {
        self.kept.contains(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(SessionId, u64)> {
        self.kept.iter()
    }
}

/// Count of executed statements that could not be analysed, without those that are already known.
#[derive(Default)]
pub(super) struct UnreadCount {
    pub(super) statements: u64,
    open: KeptStatements,
}

impl UnreadCount {
    /// Returns the number of them that may have been skipped, or may be known: those beyond the limits.
    pub(super) fn doubtful(&self, known: &KeptStatements) -> u64 {
        self.open.more + known.more
    }

    pub(super) fn add(&mut self, record: &LogRecord, known: &KeptStatements) {
        match &record.event {
            Event::Statement(statement) => {
                let key = (statement.who.session.clone(), statement.statement);
                if !known.has(&key) {
                    self.statements += 1;
                    self.open.insert(key);
                }
            }
            Event::Outcome(outcome) => {
                let open = self.open.remove(&(outcome.who.session.clone(), outcome.statement));
                self.statements -= u64::from(open && !outcome.was_executed());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::testing::{outcome, record, skipped, statement, who};

    #[test]
    fn what_is_kept_in_mind_is_bounded_and_the_rest_is_told() {
        let mut count = UnreadCount {
            open: KeptStatements {
                max: 2,
                ..KeptStatements::default()
            },
            ..UnreadCount::default()
        };
        let (ana, known) = (who(1, "ana"), KeptStatements::default());
        for number in 1..=4 {
            count.add(&record(number, statement(&ana, number, "SELECT (", &[])), &known);
        }
        count.add(&record(5, outcome(&ana, 1, None)), &known);
        count.add(&record(6, skipped(&ana, 2)), &known);
        count.add(&record(7, skipped(&ana, 3)), &known);
        assert_eq!(
            (count.statements, count.open.iter().count(), count.doubtful(&known)),
            (3, 0, 2)
        );
    }
}
