//! Requests, as people and waiting logins see them: one, pages of them, and what changes.
//!
//! It changes none ([`super::workflow`] does). Open ones are in memory; the past is read from the store, by index.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

use super::live::Live;
use super::pending::Effect;
use super::restrict::Restrictions;
use super::row::requests::{Page, StoredRequest};
use super::{GrantView, Inner, Ledger, LedgerError, SWEEP, before, row};
use crate::grant::Grant;
use crate::ids::RequestId;
use crate::names::{IdentityName, TargetName};
use crate::request::{How, Request, Status, Wish};
use crate::secret::Secret;

/// A request to be put on record.
#[derive(Debug, Clone)]
pub struct NewRequest {
    /// What is asked for.
    pub wish: Wish,
    /// What becomes of it.
    pub submitted: Submitted,
    /// The caller's own key: the same key of the same identity is the same request.
    pub key: Option<String>,
    /// How long the grant waits for its first connect, if it becomes one.
    pub activate_within: Duration,
}

/// What becomes of a new request at once.
#[derive(Debug, Clone)]
pub enum Submitted {
    /// The policies forbid it.
    Denied {
        /// Why.
        why: String,
    },
    /// It is a grant.
    Granted(How),
    /// It waits.
    Waiting {
        /// For so many approvers.
        approvals: u32,
        /// Until then.
        expires_at: Timestamp,
    },
}

/// By what a step was decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reasons {
    /// The ids of the policies.
    pub policies: Vec<String>,
    /// SHA-256 of the set.
    pub policy_set: Option<String>,
    /// What could not be evaluated.
    pub errors: Vec<String>,
    /// Where whoever takes the step is, if on a network.
    pub client: Option<IpAddr>,
}

/// A request as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestView {
    /// The request.
    #[serde(flatten)]
    pub request: Request,
    /// [`Status::name`] at the time of asking.
    pub status: String,
    /// How many approvals are missing.
    pub approvals_missing: u32,
    /// How far a change that took something away has come, in the answer to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// Which requests.
#[derive(Debug, Clone, Default)]
pub struct RequestFilter {
    /// With this status.
    pub status: Option<Status>,
    /// Of this identity.
    pub identity: Option<IdentityName>,
    /// For this target.
    pub target: Option<TargetName>,
    /// Break-glass accesses nobody has reviewed.
    pub unreviewed: bool,
    /// Older than this one: the last of the page before.
    pub before: Option<RequestId>,
    /// At most so many; 0: 100.
    pub limit: usize,
}

/// Something changed; whoever hears of it late or not at all reads again.
#[derive(Debug, Clone)]
pub enum Changed {
    /// A request.
    Request(Arc<Request>),
    /// A grant.
    Grant(Box<GrantView>),
}

/// A login of a grant: what a client connects with.
#[derive(Debug, Clone)]
pub struct GrantLogin {
    /// The user name.
    pub user: String,
    /// The password.
    pub secret: Secret<String>,
}

/// So many requests are shown when nothing is said, and at most.
const PAGE: usize = 100;
const LONGEST_PAGE: usize = 1000;

/// What is held in memory: every pending request, and those that were looked after lately.
pub(super) struct Requests {
    entries: HashMap<RequestId, Arc<Entry>>,
    /// Those that are pending.
    live: Live<Entry>,
    swept_at: Timestamp,
}

/// One request in memory.
pub(super) struct Entry {
    pub(super) number: i64,
    pub(super) activate_within: Duration,
    pub(super) request: watch::Sender<Arc<Request>>,
    /// Held over check, audit, store and publication: steps that give follow each other. What settles a request without giving does not
    /// ask for it.
    pub(super) stepping: tokio::sync::Mutex<()>,
    pub(super) restrictions: Restrictions,
}

impl Ledger {
    /// One request.
    pub async fn request(&self, id: &RequestId) -> Result<RequestView, LedgerError> {
        let now = self.0.clock.now();
        if let Some(entry) = self.0.requests().get(id) {
            return Ok(entry.view(now));
        }
        Ok(RequestView::of(&self.stored_request(id).await?.request, now))
    }

    /// Requests, the newest first.
    pub async fn requests(&self, filter: RequestFilter) -> Result<Vec<RequestView>, LedgerError> {
        let now = self.0.clock.now();
        let before = match &filter.before {
            Some(id) => Some(self.number_of(id).await?),
            None => None,
        };
        let limit = if filter.limit == 0 {
            PAGE
        } else {
            filter.limit.min(LONGEST_PAGE)
        };
        if filter.status == Some(Status::Pending) {
            return Ok(self.0.requests().pending(&filter, before, limit, now));
        }
        let page = Page {
            status: filter.status,
            identity: filter.identity,
            target: filter.target,
            unreviewed: filter.unreviewed,
            before,
            limit,
            now,
        };
        let found = self
            .0
            .store
            .call(move |connection| row::requests::page(connection, &page))
            .await?;
        Ok(found.iter().map(|stored| RequestView::of(&stored.request, now)).collect())
    }

    /// The pending requests of an identity for a target, the latest first.
    #[must_use]
    pub fn pending_requests(&self, who: &IdentityName, target: &TargetName) -> Vec<RequestView> {
        let now = self.0.clock.now();
        let mut entries = self.0.requests().pending_entries(who, now);
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.number));
        let views = entries.iter().map(|entry| entry.view(now));
        views.filter(|view| view.request.wish.target == *target).collect()
    }

    /// A request, now and after every step; `None` where there is none in memory, for it was settled a while ago. Nothing is
    /// sent when a request lapses: [`Request::expires_at`] says when that is.
    #[must_use]
    pub fn watch_request(&self, id: &RequestId) -> Option<watch::Receiver<Arc<Request>>> {
        self.0.requests().get(id).map(|entry| entry.request.subscribe())
    }

    /// The grants of an identity for a target that can be used now (ready or active); the one that ends last comes first.
    #[must_use]
    pub fn live_grants(&self, who: &IdentityName, target: &TargetName) -> Vec<GrantView> {
        let now = self.0.clock.now();
        let views = self.0.live(who, now).into_iter().map(|entry| entry.view(now));
        let mut found: Vec<_> = views.filter(|view| view.grant.target() == target).collect();
        // One that is not open yet would end at this time if it were opened now.
        let end = |grant: &Grant| {
            let opened_now = now.checked_add(grant.window()).unwrap_or(Timestamp::MAX);
            let opened_now = grant.deadline().map_or(opened_now, |deadline| deadline.min(opened_now));
            grant.until().unwrap_or(opened_now)
        };
        found.sort_by_key(|view| std::cmp::Reverse(end(&view.grant)));
        found
    }

    /// How many grants of an identity have not ended.
    #[must_use]
    pub fn active_grants(&self, who: &IdentityName) -> u32 {
        u32::try_from(self.0.live(who, self.0.clock.now()).len()).unwrap_or(u32::MAX)
    }

    /// How many requests wait for approvers.
    #[must_use]
    pub fn requests_pending(&self) -> usize {
        let now = self.0.clock.now();
        self.0.requests().live.all().filter(|entry| entry.pending(now)).count()
    }

    /// News of requests and grants.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Changed> {
        self.0.news.subscribe()
    }

    pub(super) async fn stored_request(&self, id: &RequestId) -> Result<StoredRequest, LedgerError> {
        let wanted = id.clone();
        let found = self
            .0
            .store
            .call(move |connection| row::requests::find(connection, &wanted))
            .await?;
        found.ok_or_else(|| LedgerError::NoSuchRequest(id.clone()))
    }

    async fn number_of(&self, id: &RequestId) -> Result<i64, LedgerError> {
        if let Some(entry) = self.0.requests().get(id) {
            return Ok(entry.number);
        }
        Ok(self.stored_request(id).await?.number)
    }
}

impl Inner {
    /// Poisoned or not: see [`Inner::book`].
    pub(super) fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Requests {
    pub(super) fn new(pending: Vec<StoredRequest>, now: Timestamp) -> Self {
        let mut requests = Self {
            entries: HashMap::new(),
            live: Live::default(),
            swept_at: now,
        };
        for stored in pending {
            requests.add(stored, now);
        }
        requests
    }

    pub(super) fn get(&self, id: &RequestId) -> Option<Arc<Entry>> {
        self.entries.get(id).cloned()
    }

    /// What an identity has that waits for approvers.
    pub(super) fn pending_entries(&mut self, who: &IdentityName, now: Timestamp) -> Vec<Arc<Entry>> {
        self.live.of(who, |entry| entry.pending(now))
    }

    /// Everybody who has something that waits, or did lately.
    pub(super) fn identities(&self) -> Vec<IdentityName> {
        self.entries
            .values()
            .map(|entry| entry.current().wish.identity.clone())
            .collect()
    }

    /// Drops what lapsed: after the time has gone back it would be pending again.
    pub(super) fn forget_unsettled(&mut self, now: Timestamp) {
        self.swept_at = now;
        self.live = Live::default();
        self.entries.retain(|_, entry| entry.current().outcome.is_some());
    }

    /// The request's entry; one that is there already stays, for its turn may be taken.
    pub(super) fn add(&mut self, stored: StoredRequest, now: Timestamp) -> Arc<Entry> {
        self.sweep(now);
        let StoredRequest {
            number,
            request,
            activate_within,
        } = stored;
        if let Some(entry) = self.get(&request.id) {
            return entry;
        }
        let (id, who) = (request.id.clone(), request.wish.identity.clone());
        let entry = Arc::new(Entry {
            number,
            activate_within,
            request: watch::Sender::new(Arc::new(request)),
            stepping: tokio::sync::Mutex::new(()),
            restrictions: Restrictions::default(),
        });
        if entry.pending(now) {
            self.live.add(who, entry.clone());
        }
        self.entries.insert(id, entry.clone());
        entry
    }

    fn sweep(&mut self, now: Timestamp) {
        if self.swept_at >= before(now, SWEEP) {
            return;
        }
        self.swept_at = now;
        let is_watched = |entry: &Entry| entry.request.receiver_count() > 0;
        self.live.sweep(&mut self.entries, |entry| entry.pending(now), is_watched);
    }

    fn pending(&self, filter: &RequestFilter, before: Option<i64>, limit: usize, now: Timestamp) -> Vec<RequestView> {
        // A break-glass access does not wait, so nothing that waits is to be reviewed.
        let entries = self.entries.values().filter(|_| !filter.unreviewed);
        let mut found: Vec<_> = entries
            .filter(|entry| entry.pending(now) && before.is_none_or(|before| entry.number < before))
            .filter(|entry| {
                let wish = &entry.current().wish;
                filter.identity.as_ref().is_none_or(|identity| wish.identity == *identity)
                    && filter.target.as_ref().is_none_or(|target| wish.target == *target)
            })
            .collect();
        found.sort_by_key(|entry| std::cmp::Reverse(entry.number));
        found.into_iter().take(limit).map(|entry| entry.view(now)).collect()
    }
}

impl Entry {
    pub(super) fn current(&self) -> Arc<Request> {
        self.request.borrow().clone()
    }

    pub(super) fn view(&self, now: Timestamp) -> RequestView {
        RequestView::of(&self.current(), now)
    }

    fn pending(&self, now: Timestamp) -> bool {
        self.request.borrow().status(now) == Status::Pending
    }
}

impl RequestView {
    pub(super) fn of(request: &Request, now: Timestamp) -> Self {
        Self {
            status: request.status(now).name().to_owned(),
            approvals_missing: request.approvals_missing(),
            request: request.clone(),
            effect: None,
        }
    }
}
