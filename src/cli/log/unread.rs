//! Statements that could not be read, beside those that a search finds.
//!
//! It reads no log.

use std::collections::BTreeSet;

use crate::audit::event::Event;
use crate::audit::{Filter, Record};
use crate::ids::SessionId;

/// The statements that could not be read among those that a filter asks for, whatever they are about.
pub(super) fn of_unread(filter: &Filter) -> Filter {
    Filter {
        table: None,
        class: None,
        text: None,
        unread: true,
        ..filter.clone()
    }
}

/// Counts statements that could not be read and were executed, but for those that are known.
#[derive(Default)]
pub(super) struct UnreadCount {
    pub(super) statements: u64,
    open: BTreeSet<(SessionId, u64)>,
}

impl UnreadCount {
    pub(super) fn line(&mut self, line: &[u8], known: &BTreeSet<(SessionId, u64)>) {
        let Ok(record) = Record::parse(line) else { return };
        match &record.event {
            Event::Statement(statement) => {
                let key = (statement.who.session.clone(), statement.statement);
                if !known.contains(&key) {
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
