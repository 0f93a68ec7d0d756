//! Lists of grants, a page at a time.
//!
//! It changes none. Those that have not ended are found in memory, without a look at those that have; all of them in the store, by
//! index.

use std::sync::Arc;

use tokio::sync::watch;

use super::row::{self, Page};
use super::{Entry, GrantView, Ledger, LedgerError};
use crate::grant::{Grant, Status};
use crate::ids::GrantId;
use crate::names::{IdentityName, TargetName};

/// Which grants.
#[derive(Debug, Clone, Default)]
pub struct GrantFilter {
    /// Of this identity.
    pub identity: Option<IdentityName>,
    /// For this target.
    pub target: Option<TargetName>,
    /// Those that have ended, too.
    pub ended: bool,
    /// Older than this one: the last of the page before.
    pub before: Option<GrantId>,
    /// At most so many; 0: 1,000.
    pub limit: usize,
}

/// So many grants are shown when nothing is said.
const PAGE: usize = 1000;

impl Ledger {
    /// A grant whose window is open, now and after every change; `None` for every other.
    #[must_use]
    pub fn watch(&self, id: &GrantId) -> Option<watch::Receiver<Arc<Grant>>> {
        let changes = self.0.entry(id)?.grant.subscribe();
        let active = matches!(changes.borrow().status(self.0.clock.now()), Status::Active { .. });
        active.then_some(changes)
    }

    /// Grants, the newest first.
    pub async fn grants(&self, filter: &GrantFilter) -> Result<Vec<GrantView>, LedgerError> {
        let before = match &filter.before {
            Some(id) => Some(self.grant(id).await?.grant),
            None => None,
        };
        let limit = if filter.limit == 0 { PAGE } else { filter.limit };
        if !filter.ended {
            return Ok(self.0.living(filter, before.as_ref(), limit));
        }
        let page = Page {
            identity: filter.identity.clone(),
            target: filter.target.clone(),
            before: before.map(|grant| (grant.created_at(), grant.id().clone())),
            limit,
        };
        let found = self.0.store.call(move |connection| row::page(connection, &page)).await?;
        let now = self.0.clock.now();
        // Only memory knows of sessions.
        let view = |grant: &Grant| match self.0.entry(grant.id()) {
            Some(entry) => entry.view(now),
            None => GrantView::of(grant, now, 0),
        };
        Ok(found.iter().map(view).collect())
    }
}

impl super::Inner {
    fn living(&self, filter: &GrantFilter, before: Option<&Grant>, limit: usize) -> Vec<GrantView> {
        let now = self.clock.now();
        let entries: Vec<Arc<Entry>> = match &filter.identity {
            Some(who) => self.live(who, now),
            None => self.book().live.all().cloned().collect(),
        };
        let mut found: Vec<_> = entries
            .into_iter()
            .map(|entry| (entry.current(), entry))
            .filter(|(grant, _)| {
                !grant.status(now).ended()
                    && filter.target.as_ref().is_none_or(|target| grant.target() == target)
                    && before.is_none_or(|before| place(grant) < place(before))
            })
            .collect();
        if found.len() > limit {
            // Only what is shown is put in order.
            found.select_nth_unstable_by(limit, |(a, _), (b, _)| place(b).cmp(&place(a)));
            found.truncate(limit);
        }
        found.sort_by(|(a, _), (b, _)| place(b).cmp(&place(a)));
        found.iter().map(|(_, entry)| entry.view(now)).collect()
    }
}

/// Its place among all, the oldest first.
fn place(grant: &Grant) -> (jiff::Timestamp, &GrantId) {
    (grant.created_at(), grant.id())
}
