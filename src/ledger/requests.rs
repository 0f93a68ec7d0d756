//! Requests as users and waiting logins see them: single ones, pages, and changes.
//!
//! This module changes no request ([`super::workflow`] does). Open requests are in memory; past ones are read from the store,
//! by index.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};
use utoipa::ToSchema;

use super::effect::ChangeEffect;
use super::live::LiveIndex;
use super::restrictions::RestrictionCount;
use super::row::requests::{RequestPage, StoredRequest};
use super::{GrantView, Ledger, LedgerError, SWEEP_INTERVAL, before, row};
use crate::base::secret::Secret;
use crate::model::grant::Grant;
use crate::model::ids::RequestId;
use crate::model::names::{IdentityName, TargetName};
use crate::model::request::{ApprovedBy, Request, RequestSpec, RequestState};

/// New request, before it is on record.
#[derive(Debug, Clone)]
pub struct NewRequest {
    /// Specification of the access that is requested.
    pub wish: RequestSpec,
    /// First decision about it.
    pub submitted: SubmitResult,
    /// Idempotency key: the same key of the same identity means the same request.
    pub key: Option<String>,
    /// Time that the grant waits for its first connect, if the request becomes one.
    pub activate_within: Duration,
}

/// First decision about a new request.
#[derive(Debug, Clone)]
pub enum SubmitResult {
    /// The policies deny it.
    Denied {
        /// Reason of the denial.
        why: String,
    },
    /// It becomes a grant at once.
    Granted(ApprovedBy),
    /// It waits for approval.
    Waiting {
        /// Number of approvals that it needs.
        approvals: u32,
        /// Time at which it lapses.
        expires_at: Timestamp,
    },
}

/// Grounds on which a step was decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DecisionReasons {
    /// Ids of the policies that decided.
    pub policies: Vec<String>,
    /// SHA-256 of the policy set.
    pub policy_set: Option<String>,
    /// Errors of the evaluation.
    pub errors: Vec<String>,
    /// Address of the caller, if it came over a network.
    pub client: Option<IpAddr>,
}

/// Request as users see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Request)]
pub struct RequestView {
    /// Request itself.
    #[serde(flatten)]
    #[schema(inline)]
    pub request: Request,
    /// `pending`, `lapsed`, `denied`, `approved`, `rejected` or `withdrawn`.
    pub status: String,
    /// Number of approvals that are missing.
    pub approvals_missing: u32,
    /// Progress of a restriction; only in the answer to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub effect: Option<ChangeEffect>,
}

/// Filter and page of a list of requests.
#[derive(Debug, Clone, Default)]
pub struct RequestFilter {
    /// Status of the requests.
    pub status: Option<RequestState>,
    /// Identity of the requests.
    pub identity: Option<IdentityName>,
    /// Target of the requests.
    pub target: Option<TargetName>,
    /// True for break-glass accesses only that have not been reviewed.
    pub unreviewed: bool,
    /// Only requests older than this one: the last one of the page before.
    pub before: Option<RequestId>,
    /// Maximum number of requests; 0: 100.
    pub limit: usize,
}

/// Change of a request or grant. A subscriber that misses one has to read again.
#[derive(Debug, Clone)]
pub enum ChangedSubject {
    /// New state of a request.
    Request(Arc<Request>),
    /// New state of a grant.
    Grant(Box<GrantView>),
}

/// Login of a grant, with which a client connects.
#[derive(Debug, Clone)]
pub struct GrantLogin {
    /// User name.
    pub user: String,
    /// Password.
    pub secret: Secret<String>,
}

/// Number of requests on a page, by default and at most.
const DEFAULT_PAGE_ROWS: usize = 100;
const MAX_PAGE_ROWS: usize = 1000;

/// Requests in memory: all that are pending, and those that were used since the last sweep.
pub(super) struct RequestCache {
    entries: HashMap<RequestId, Arc<RequestEntry>>,
    /// Requests that are pending.
    live: LiveIndex<RequestEntry>,
    swept_at: Timestamp,
}

/// Request in memory.
pub(super) struct RequestEntry {
    pub(super) number: i64,
    pub(super) activate_within: Duration,
    pub(super) request: watch::Sender<Arc<Request>>,
    /// Turn of steps that give rights, held over check, audit, store and publication. A step that settles a request without
    /// giving rights does not take it.
    pub(super) stepping: tokio::sync::Mutex<()>,
    pub(super) restrictions: RestrictionCount,
}

impl Ledger {
    /// Returns one request.
    pub async fn request(&self, id: &RequestId) -> Result<RequestView, LedgerError> {
        let now = self.0.clock.now();
        if let Some(entry) = self.0.requests.lock().get(id) {
            return Ok(entry.view(now));
        }
        Ok(RequestView::of(&self.stored_request(id).await?.request, now))
    }

    /// Returns requests, the newest first.
    pub async fn requests(&self, filter: RequestFilter) -> Result<Vec<RequestView>, LedgerError> {
        let now = self.0.clock.now();
        let before = match &filter.before {
            Some(id) => Some(self.number_of(id).await?),
            None => None,
        };
        let limit = if filter.limit == 0 {
            DEFAULT_PAGE_ROWS
        } else {
            filter.limit.min(MAX_PAGE_ROWS)
        };
        if filter.status == Some(RequestState::Pending) {
            return Ok(self.0.requests.lock().pending(&filter, before, limit, now));
        }
        let page = RequestPage {
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

    /// Returns the pending requests of an identity for a target, the latest first.
    #[must_use]
    pub fn pending_requests(&self, who: &IdentityName, target: &TargetName) -> Vec<RequestView> {
        let now = self.0.clock.now();
        let mut entries = self.0.requests.lock().pending_entries(who, now);
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.number));
        let views = entries.iter().map(|entry| entry.view(now));
        views.filter(|view| view.request.wish.target == *target).collect()
    }

    /// Returns a request, now and after every step; `None` if it is not in memory because it was settled a while ago. No change
    /// is sent when a request lapses: [`Request::expires_at`] is that time.
    #[must_use]
    pub fn watch_request(&self, id: &RequestId) -> Option<watch::Receiver<Arc<Request>>> {
        self.0.requests.lock().get(id).map(|entry| entry.request.subscribe())
    }

    /// Returns the grants of an identity for a target that can be used now (ready or active), the one that ends last first.
    #[must_use]
    pub fn live_grants(&self, who: &IdentityName, target: &TargetName) -> Vec<GrantView> {
        let now = self.0.clock.now();
        let views = self.0.live(who, now).into_iter().map(|entry| entry.view(now));
        let mut found: Vec<_> = views.filter(|view| view.grant.target() == target).collect();
        // The end of a window that is not open yet counts as if it were opened now.
        let end = |grant: &Grant| {
            let opened_now = now.checked_add(grant.window()).unwrap_or(Timestamp::MAX);
            let opened_now = grant.deadline().map_or(opened_now, |deadline| deadline.min(opened_now));
            grant.until().unwrap_or(opened_now)
        };
        found.sort_by_key(|view| std::cmp::Reverse(end(&view.grant)));
        found
    }

    /// Returns the number of grants of an identity that have not ended.
    #[must_use]
    pub fn active_grants(&self, who: &IdentityName) -> u32 {
        u32::try_from(self.0.live(who, self.0.clock.now()).len()).unwrap_or(u32::MAX)
    }

    /// Returns the number of requests that wait for approval.
    #[must_use]
    pub fn requests_pending(&self) -> usize {
        let now = self.0.clock.now();
        self.0.requests.lock().live.all().filter(|entry| entry.pending(now)).count()
    }

    /// Subscribes to changes of requests and grants.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<ChangedSubject> {
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
        if let Some(entry) = self.0.requests.lock().get(id) {
            return Ok(entry.number);
        }
        Ok(self.stored_request(id).await?.number)
    }
}

impl RequestCache {
    pub(super) fn new(pending: Vec<StoredRequest>, now: Timestamp) -> Self {
        let mut requests = Self {
            entries: HashMap::new(),
            live: LiveIndex::default(),
            swept_at: now,
        };
        for stored in pending {
            requests.add(stored, now);
        }
        requests
    }

    pub(super) fn get(&self, id: &RequestId) -> Option<Arc<RequestEntry>> {
        self.entries.get(id).cloned()
    }

    /// Returns the requests of an identity that wait for approval.
    pub(super) fn pending_entries(&mut self, who: &IdentityName, now: Timestamp) -> Vec<Arc<RequestEntry>> {
        self.live.of(who, |entry| entry.pending(now))
    }

    /// Returns the identities of all requests in memory.
    pub(super) fn identities(&self) -> Vec<IdentityName> {
        self.entries
            .values()
            .map(|entry| entry.current().wish.identity.clone())
            .collect()
    }

    /// Drops unsettled requests, because one that has lapsed would be pending again after the time has gone back.
    pub(super) fn forget_unsettled(&mut self, now: Timestamp) {
        self.swept_at = now;
        self.live = LiveIndex::default();
        self.entries.retain(|_, entry| entry.current().outcome.is_some());
    }

    /// Adds the request, or returns the entry that is there already, whose turn may be taken.
    pub(super) fn add(&mut self, stored: StoredRequest, now: Timestamp) -> Arc<RequestEntry> {
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
        let entry = Arc::new(RequestEntry {
            number,
            activate_within,
            request: watch::Sender::new(Arc::new(request)),
            stepping: tokio::sync::Mutex::new(()),
            restrictions: RestrictionCount::default(),
        });
        if entry.pending(now) {
            self.live.add(who, entry.clone());
        }
        self.entries.insert(id, entry.clone());
        entry
    }

    fn sweep(&mut self, now: Timestamp) {
        if self.swept_at >= before(now, SWEEP_INTERVAL) {
            return;
        }
        self.swept_at = now;
        let is_watched = |entry: &RequestEntry| entry.request.receiver_count() > 0;
        self.live.sweep(&mut self.entries, |entry| entry.pending(now), is_watched);
    }

    fn pending(&self, filter: &RequestFilter, before: Option<i64>, limit: usize, now: Timestamp) -> Vec<RequestView> {
        // A break-glass access does not wait, so no pending request has to be reviewed.
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

impl RequestEntry {
    pub(super) fn current(&self) -> Arc<Request> {
        self.request.borrow().clone()
    }

    pub(super) fn view(&self, now: Timestamp) -> RequestView {
        RequestView::of(&self.current(), now)
    }

    fn pending(&self, now: Timestamp) -> bool {
        self.request.borrow().status(now) == RequestState::Pending
    }
}

impl RequestView {
    /// Returns the view of a request at `now`.
    #[must_use]
    pub fn of(request: &Request, now: Timestamp) -> Self {
        Self {
            status: request.status(now).name().to_owned(),
            approvals_missing: request.approvals_missing(),
            request: request.clone(),
            effect: None,
        }
    }
}
