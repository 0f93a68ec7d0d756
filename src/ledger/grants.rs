//! Lists of grants, in pages.
//!
//! This module changes no grant. Grants that have not ended are found in memory, without a look at those that have; all grants
//! are read from the store, by index.

use std::sync::Arc;

use tokio::sync::watch;

use super::row::{self, GrantPage};
use super::{GrantEntry, GrantView, Ledger, LedgerError};
use crate::model::grant::{Grant, GrantState};
use crate::model::ids::GrantId;
use crate::model::names::{IdentityName, TargetName};

/// Filter and page of a list of grants.
#[derive(Debug, Clone, Default)]
pub struct GrantFilter {
    /// Identity of the grants.
    pub identity: Option<IdentityName>,
    /// Target of the grants.
    pub target: Option<TargetName>,
    /// True to include grants that have ended.
    pub ended: bool,
    /// Only grants older than this one: the last one of the page before.
    pub before: Option<GrantId>,
    /// Maximum number of grants; 0: 1,000.
    pub limit: usize,
}

/// Number of grants on a page by default.
const DEFAULT_PAGE_ROWS: usize = 1000;

impl Ledger {
    /// Returns a grant whose window is open, now and after every change; `None` for every other grant.
    #[must_use]
    pub fn watch(&self, id: &GrantId) -> Option<watch::Receiver<Arc<Grant>>> {
        let changes = self.0.entry(id)?.grant.subscribe();
        let active = matches!(changes.borrow().status(self.0.clock.now()), GrantState::Active { .. });
        active.then_some(changes)
    }

    /// Returns grants, the newest first.
    pub async fn grants(&self, filter: &GrantFilter) -> Result<Vec<GrantView>, LedgerError> {
        let before = match &filter.before {
            Some(id) => Some(self.grant(id).await?.grant),
            None => None,
        };
        let limit = if filter.limit == 0 { DEFAULT_PAGE_ROWS } else { filter.limit };
        if !filter.ended {
            return Ok(self.0.living(filter, before.as_ref(), limit));
        }
        let page = GrantPage {
            identity: filter.identity.clone(),
            target: filter.target.clone(),
            before: before.map(|grant| (grant.created_at(), grant.id().clone())),
            limit,
        };
        let found = self.0.store.call(move |connection| row::page(connection, &page)).await?;
        let now = self.0.clock.now();
        // Only memory has the number of live sessions.
        let view = |grant: &Grant| match self.0.entry(grant.id()) {
            Some(entry) => entry.view(now),
            None => GrantView::of(grant, now, 0),
        };
        Ok(found.iter().map(view).collect())
    }
}

impl super::LedgerInner {
    fn living(&self, filter: &GrantFilter, before: Option<&Grant>, limit: usize) -> Vec<GrantView> {
        let now = self.clock.now();
        let entries: Vec<Arc<GrantEntry>> = match &filter.identity {
            Some(who) => self.live(who, now),
            None => self.cache.lock().live.all().cloned().collect(),
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
            // Only the page that is shown is sorted.
            found.select_nth_unstable_by(limit, |(a, _), (b, _)| place(b).cmp(&place(a)));
            found.truncate(limit);
        }
        found.sort_by(|(a, _), (b, _)| place(b).cmp(&place(a)));
        found.iter().map(|(_, entry)| entry.view(now)).collect()
    }
}

/// Returns the key that sorts grants by creation.
fn place(grant: &Grant) -> (jiff::Timestamp, &GrantId) {
    (grant.created_at(), grant.id())
}
