//! Lists of grants, a page at a time.
//!
//! It changes none. Those that have not ended are found without a look at those that have, however many that are.

use std::sync::Arc;

use super::{Entry, GrantView, Ledger, LedgerError};
use crate::grant::Grant;
use crate::ids::GrantId;
use crate::names::{IdentityName, TargetName};

/// Which grants.
#[derive(Debug, Clone, Default)]
pub struct GrantFilter {
    /// Of this identity.
    pub identity: Option<IdentityName>,
    /// For this target.
    pub target: Option<TargetName>,
    /// Those that have ended, too: as long as they are in memory ([`super::REMEMBERED`]).
    pub ended: bool,
    /// Older than this one: the last of the page before.
    pub before: Option<GrantId>,
    /// At most so many; 0: 1,000.
    pub limit: usize,
}

/// So many grants are shown when nothing is said.
const PAGE: usize = 1000;

impl Ledger {
    /// Grants, the newest first.
    pub fn grants(&self, filter: &GrantFilter) -> Result<Vec<GrantView>, LedgerError> {
        let now = self.0.clock.now();
        let before = match &filter.before {
            Some(id) => Some(
                self.0
                    .entry(id)
                    .ok_or_else(|| LedgerError::NoSuchGrant(id.clone()))?
                    .current(),
            ),
            None => None,
        };
        let mut found: Vec<_> = self
            .0
            .listed(filter)
            .into_iter()
            .map(|entry| (entry.current(), entry))
            .filter(|(grant, _)| {
                (filter.ended || !grant.status(now).ended())
                    && filter.identity.as_ref().is_none_or(|identity| grant.identity() == identity)
                    && filter.target.as_ref().is_none_or(|target| grant.target() == target)
                    && before.as_ref().is_none_or(|before| place(grant) < place(before))
            })
            .collect();
        let limit = if filter.limit == 0 { PAGE } else { filter.limit };
        if found.len() > limit {
            // Only what is shown is put in order.
            found.select_nth_unstable_by(limit, |(a, _), (b, _)| place(b).cmp(&place(a)));
            found.truncate(limit);
        }
        found.sort_by(|(a, _), (b, _)| place(b).cmp(&place(a)));
        Ok(found.iter().map(|(_, entry)| entry.view(now)).collect())
    }
}

impl super::Inner {
    /// What can be among them.
    fn listed(&self, filter: &GrantFilter) -> Vec<Arc<Entry>> {
        let now = self.clock.now();
        match &filter.identity {
            _ if filter.ended => self.book().entries.values().cloned().collect(),
            Some(who) => self.live(who, now),
            None => self.book().live.all().cloned().collect(),
        }
    }
}

/// Its place among all, the oldest first.
fn place(grant: &Grant) -> (jiff::Timestamp, &GrantId) {
    (grant.created_at(), grant.id())
}
