//! Times at which grants are to be looked at again. Pure.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;

use crate::model::ids::GrantId;

/// Times at which grants are to be looked at; each grant has at most one.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    in_order: BTreeSet<(Timestamp, GrantId)>,
    of: HashMap<GrantId, Timestamp>,
}

impl Agenda {
    /// Replaces the time of a grant; with `None` it has none any more.
    pub(super) fn put(&mut self, grant: &GrantId, at: Option<Timestamp>) {
        let before = match at {
            Some(at) => self.of.insert(grant.clone(), at),
            None => self.of.remove(grant),
        };
        if let Some(before) = before {
            self.in_order.remove(&(before, grant.clone()));
        }
        if let Some(at) = at {
            self.in_order.insert((at, grant.clone()));
        }
    }

    /// Returns the earliest time.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.in_order.first().map(|(at, _)| *at)
    }

    /// Takes out a grant whose time has come.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<GrantId> {
        if self.next()? > now {
            return None;
        }
        let (_, grant) = self.in_order.pop_first()?;
        self.of.remove(&grant);
        Some(grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_grant_is_due_once_at_its_last_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let ids: Vec<_> = (0..3).map(|n| GrantId::from_random([n; 10])).collect();
        let mut agenda = Agenda::default();
        assert_eq!((agenda.next(), agenda.take_due(at(100))), (None, None));
        for (id, second) in [(0, 30), (1, 10), (2, 20), (1, 40), (0, 5)] {
            agenda.put(&ids[id], Some(at(second)));
        }
        agenda.put(&ids[2], None);
        assert_eq!(agenda.next(), Some(at(5)));
        assert_eq!(agenda.take_due(at(4)), None);
        assert_eq!(agenda.take_due(at(5)).as_ref(), Some(&ids[0]));
        assert_eq!(agenda.take_due(at(100)).as_ref(), Some(&ids[1]));
        assert_eq!((agenda.next(), agenda.take_due(at(100))), (None, None));
    }
}
