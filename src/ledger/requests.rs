//! Requests: reads and lists them, and takes their steps.
//!
//! This module does not know who may take a step; the caller passes the step. Pending requests are in memory; past ones are read
//! from the store, by index. A step that gives no rights goes to [`super::restrict`].
//!
//! INVARIANT: the steps of one request follow each other. A request that becomes a grant is stored with it, both or neither.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::{broadcast, watch};

use super::cache::{RequestEntry, RequestExtra};
use super::commit::to_the_end;
use super::pending::ChangeSubject;
use super::record::{ChangeInfo, RequestStepInfo};
use super::users::DISABLED_BY;
use super::views::{ChangedSubject, DecisionReasons, RequestFilter, RequestView};
use super::{Ledger, LedgerError, LedgerInner, StoreError, row};
use crate::audit::event::RequestChangeKind;
use crate::model::grant::{self, Grant, GrantChange, Terms};
use crate::model::ids::{GrantId, RequestId};
use crate::model::names::{IdentityName, TargetName};
use crate::model::request::{ApprovedBy, Request, RequestSpec, RequestState, StepResult};

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

/// Step of a request, with all that is stored and published together.
struct RequestChange {
    step: RequestStepInfo,
    before: Arc<Request>,
    after: Request,
    /// Grant that the request becomes by this step.
    grant: Option<Grant>,
}

/// Number of requests on a page, by default and at most.
const DEFAULT_PAGE_ROWS: usize = 100;
const MAX_PAGE_ROWS: usize = 1000;

impl Ledger {
    /// Returns one request.
    pub async fn request(&self, id: &RequestId) -> Result<RequestView, LedgerError> {
        Ok(self.known_request(id).await?.view(self.0.clock.now()))
    }

    /// Returns requests, the newest first.
    pub async fn requests(&self, filter: RequestFilter) -> Result<Vec<RequestView>, LedgerError> {
        let numbered = self.numbered_requests(filter).await?;
        Ok(numbered.into_iter().map(|(_, view)| view).collect())
    }

    /// Returns requests, the newest first, each with its number in the order of arrival. Times are not in that order where the clock
    /// was set back.
    pub async fn numbered_requests(&self, filter: RequestFilter) -> Result<Vec<(i64, RequestView)>, LedgerError> {
        let now = self.0.clock.now();
        let before = match &filter.before {
            Some(id) => Some(self.known_request(id).await?.extra.number),
            None => None,
        };
        let limit = if filter.limit == 0 {
            DEFAULT_PAGE_ROWS
        } else {
            filter.limit.min(MAX_PAGE_ROWS)
        };
        let found = if filter.status == Some(RequestState::Pending) {
            self.0.pending_page(&filter, before, limit, now)
        } else {
            let page = move |connection: &mut Connection| row::requests::page(connection, &filter, before, limit, now);
            let found = self.0.store.call(page).await?;
            found.into_iter().map(Arc::new).collect()
        };
        Ok(found.iter().map(|entry| (entry.extra.number, entry.view(now))).collect())
    }

    /// Returns those of these requests that there are.
    pub async fn requests_of(&self, ids: Vec<RequestId>) -> Result<HashMap<RequestId, Arc<Request>>, LedgerError> {
        let mut found = HashMap::new();
        let mut stored = Vec::new();
        {
            let requests = self.0.requests.lock();
            for id in ids {
                match requests.get(&id) {
                    Some(entry) => drop(found.insert(id, entry.current())),
                    None => stored.push(id),
                }
            }
        }
        if stored.is_empty() {
            return Ok(found);
        }
        let find = move |connection: &mut Connection| {
            let entries = stored.iter().map(|id| row::requests::find(connection, id));
            entries.collect::<Result<Vec<_>, _>>()
        };
        let entries = self.0.store.call(find).await?.into_iter().flatten();
        found.extend(entries.map(|entry| (entry.current().id.clone(), entry.current())));
        Ok(found)
    }

    /// Returns the pending requests of an identity for a target, the latest first.
    #[must_use]
    pub fn pending_requests(&self, who: &IdentityName, target: &TargetName) -> Vec<RequestView> {
        let now = self.0.clock.now();
        let mut entries = self.0.requests.lock().live_of(who, now);
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.extra.number));
        let views = entries.iter().map(|entry| entry.view(now));
        views.filter(|view| view.request.wish.target == *target).collect()
    }

    /// Returns a request, now and after every step; `None` if it is not in memory because it was settled a while ago. No change
    /// is sent when a request lapses: [`Request::expires_at`] is that time.
    #[must_use]
    pub fn watch_request(&self, id: &RequestId) -> Option<watch::Receiver<Arc<Request>>> {
        self.0.requests.lock().get(id).map(|entry| entry.state.subscribe())
    }

    /// Returns the number of requests that wait for approval.
    #[must_use]
    pub fn requests_pending(&self) -> usize {
        let now = self.0.clock.now();
        self.0.requests.lock().live(now).count()
    }

    /// Subscribes to changes of requests and grants.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<ChangedSubject> {
        self.0.news.subscribe()
    }

    /// Puts a new request on record, and makes its grant if it is granted at once. The same key of the same identity means the
    /// same request, however often it is submitted.
    pub async fn submit(&self, new: NewRequest, reasons: DecisionReasons) -> Result<RequestView, LedgerError> {
        let ledger = self.clone();
        to_the_end(async move {
            let inner = &ledger.0;
            let _turn = match &new.key {
                Some(key) => Some(inner.key_turns.take(&(&new.wish.identity, key)).await),
                None => None,
            };
            match inner.submitted(&new).await? {
                Some(view) => Ok(view),
                None => inner.submit(new, reasons).await,
            }
        })
        .await
    }

    /// Takes a request one step further, in its turn: of two concurrent steps, the second one sees the result of the first.
    /// `change` is the step in the log; the grant id is for the step that completes the
    /// request. [`Ledger::settle`] settles a request without giving rights.
    pub async fn step<E>(
        &self,
        id: &RequestId,
        by: &IdentityName,
        change: RequestChangeKind,
        reasons: DecisionReasons,
        step: impl FnOnce(&Request, GrantId, Timestamp) -> Result<StepResult, E> + Send + 'static,
    ) -> Result<RequestView, E>
    where
        E: From<LedgerError> + Send + 'static,
    {
        let by = by.clone();
        let (ledger, id) = (self.clone(), id.clone());
        to_the_end(async move {
            let inner = &ledger.0;
            let entry = ledger.request_entry(&id).await?;
            let grant_id = inner.fresh_id().await?;
            let concerns = |subject: &ChangeSubject| matches!(subject, ChangeSubject::Request(_, settled) if settled.id == id);
            inner.pending.is_settled(concerns).await?;
            let _turn = entry.turn.lock().await;
            let now = inner.clock.now();
            let seen = entry.restrictions();
            let before = entry.current();
            let StepResult { request: after, .. } = step(&before, grant_id, now)?;
            let (_let_in, grant) = match after.grant() {
                Some(grant) if before.grant().is_none() => {
                    let let_in = inner.let_in(&after.wish.identity).await?;
                    let grant = made(grant, &after, entry.extra.activate_within, by.as_str(), now);
                    (Some(let_in), Some(grant.map_err(LedgerError::from)?))
                }
                _ => (None, None),
            };
            let step = RequestStepInfo { change, by, reasons };
            let taken = RequestChange {
                step,
                before,
                after,
                grant,
            };
            inner.take(&entry, taken, (now, seen)).await?;
            Ok(entry.view(now))
        })
        .await
    }

    pub(super) async fn request_entry(&self, id: &RequestId) -> Result<Arc<RequestEntry>, LedgerError> {
        let entry = self.known_request(id).await?;
        Ok(self.0.requests.lock().add(entry, self.0.clock.now()))
    }

    /// Returns a request that is in memory, or reads it from the store.
    async fn known_request(&self, id: &RequestId) -> Result<Arc<RequestEntry>, LedgerError> {
        let entry = self.0.requests.lock().get(id);
        if let Some(entry) = entry {
            return Ok(entry);
        }
        let wanted = id.clone();
        let found = self
            .0
            .store
            .call(move |connection| row::requests::find(connection, &wanted))
            .await?;
        found.map(Arc::new).ok_or_else(|| LedgerError::NoSuchRequest(id.clone()))
    }
}

impl LedgerInner {
    fn pending_page(&self, filter: &RequestFilter, before: Option<i64>, limit: usize, now: Timestamp) -> Vec<Arc<RequestEntry>> {
        // A break-glass access does not wait, so no pending request has to be reviewed.
        if filter.unreviewed || filter.settled {
            return Vec::new();
        }
        let requests = self.requests.lock();
        let entries = requests.live(now).filter(|entry| {
            let wish = &entry.current().wish;
            before.is_none_or(|before| entry.extra.number < before)
                && filter.identity.as_ref().is_none_or(|identity| wish.identity == *identity)
                && filter.target.as_ref().is_none_or(|target| wish.target == *target)
        });
        let mut found: Vec<_> = entries.cloned().collect();
        found.sort_by_key(|entry| std::cmp::Reverse(entry.extra.number));
        found.truncate(limit);
        found
    }

    /// Returns the request that was submitted with the same key before.
    async fn submitted(&self, new: &NewRequest) -> Result<Option<RequestView>, LedgerError> {
        let Some(key) = new.key.clone() else { return Ok(None) };
        let who = new.wish.identity.clone();
        let found = self
            .store
            .call(move |connection| row::requests::find_by_key(connection, &who, &key))
            .await?;
        Ok(found.map(|entry| entry.view(self.clock.now())))
    }

    async fn submit(self: &Arc<Self>, new: NewRequest, reasons: DecisionReasons) -> Result<RequestView, LedgerError> {
        let (request_id, grant_id) = (fresh_request_id()?, self.fresh_id().await?);
        let _let_in = self.let_in(&new.wish.identity).await?;
        let now = self.clock.now();
        let NewRequest {
            mut wish,
            submitted,
            key,
            activate_within,
        } = new;
        // Windows are shown and stored in whole seconds.
        wish.window = Duration::from_secs(wish.window.as_secs());
        let by = wish.identity.clone();
        let (change, request) = match submitted {
            SubmitResult::Denied { why } => (RequestChangeKind::Denied, Request::denied(request_id, wish, why, now)),
            SubmitResult::Granted(how) => (
                RequestChangeKind::Granted,
                Request::granted(request_id, wish, how, grant_id.clone(), now),
            ),
            SubmitResult::Waiting { approvals, expires_at } => (
                RequestChangeKind::Submitted,
                Request::waiting(request_id, wish, approvals, expires_at, now),
            ),
        };
        let mut grant = None;
        if change != RequestChangeKind::Denied {
            // Terms that are invalid are refused now, and not only when the request is approved.
            let made = made(&grant_id, &request, activate_within, by.as_str(), now)?;
            grant = request.grant().is_some().then_some(made);
        }
        let taken = RequestChange {
            step: RequestStepInfo { change, by, reasons },
            before: Arc::new(request.clone()),
            after: request.clone(),
            grant,
        };
        let row = request.clone();
        let insert = move |connection: &Connection| row::requests::insert(connection, &row, activate_within, key.as_deref());
        let number = self.commit_step(&taken, insert).await?;
        let extra = RequestExtra { number, activate_within };
        self.requests
            .lock()
            .add(Arc::new(RequestEntry::with(request.clone(), extra)), now);
        self.published(taken, now);
        self.end_if_shut_out(&request.wish.identity)?;
        Ok(RequestView::of(&request, now))
    }

    /// Audits, stores and publishes. The caller has checked the step and holds the request's turn.
    async fn take(
        self: &Arc<Self>,
        entry: &Arc<RequestEntry>,
        taken: RequestChange,
        (now, seen): (Timestamp, u64),
    ) -> Result<(), LedgerError> {
        let (request, asked) = (taken.after.clone(), Arc::clone(entry));
        let settled = taken.before.outcome.is_some();
        let store = move |connection: &Connection| {
            asked.unrestricted_since(seen)?;
            if settled {
                row::requests::review(connection, &request)
            } else {
                row::requests::step(connection, &request, now)
            }
        };
        self.commit_step(&taken, store).await?;
        // The grant is published first: a watcher of the request then finds it.
        let (after, who) = (Arc::new(taken.after.clone()), taken.after.wish.identity.clone());
        let grant = taken.grant.clone();
        self.published(taken, now);
        let in_time = entry.state.send_if_modified(|request| {
            let in_time = entry.restrictions() == seen;
            if in_time {
                *request = after;
            }
            in_time
        });
        if let Some(grant) = grant.filter(|_| !in_time) {
            // The request was settled while its approval was being stored: the grant ends.
            self.end_at_once(grant.id());
            return Err(StoreError::Overtaken.into());
        }
        self.end_if_shut_out(&who)
    }

    fn end_at_once(self: &Arc<Self>, grant: &GrantId) {
        let reason = "its request got another decision meanwhile";
        let revoke = GrantChange::Revoke {
            by: DISABLED_BY.to_owned(),
            reason: Some(reason.to_owned()),
        };
        let info = ChangeInfo::of(&revoke, DISABLED_BY, Some(reason));
        if let Some(entry) = self.entry(grant) {
            // An error means that the grant has ended already.
            let _ = self.restrict_grant(&entry, &revoke, &info);
            self.pursue();
        }
    }

    /// Puts a step on record and stores it, with the grant that the request becomes; both or neither.
    async fn commit_step<T: Send + 'static>(
        &self,
        taken: &RequestChange,
        store: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let created = taken.grant.as_ref().map(|grant| (ChangeInfo::created(grant), grant));
        let mut records = vec![taken.step.event(&taken.after)];
        records.extend(created.iter().map(|(info, grant)| info.event(grant)));
        let undone = || {
            let mut undone = vec![taken.step.undone(&taken.before)];
            undone.extend(created.iter().map(|(info, grant)| info.undone().event(grant)));
            undone
        };
        let grant = taken.grant.clone();
        let store = move |connection: &Connection| {
            if let Some(grant) = &grant {
                row::insert(connection, grant, row::NO_SECRET)?;
            }
            store(connection)
        };
        self.commit(&records, undone, store).await
    }

    fn published(&self, taken: RequestChange, now: Timestamp) {
        if let Some(grant) = taken.grant {
            self.publish_new(grant, None, now);
        }
        self.tell(|| ChangedSubject::Request(Arc::new(taken.after)));
    }
}

/// Returns the grant that a request becomes, with the terms of its specification.
fn made(
    id: &GrantId,
    request: &Request,
    activate_within: Duration,
    by: &str,
    now: Timestamp,
) -> Result<Grant, grant::TermsError> {
    let wish = request.wish.clone();
    let terms = Terms {
        identity: wish.identity,
        target: wish.target,
        reason: wish.reason,
        window: wish.window,
        activate_within,
        deadline: None,
        max_sessions: wish.max_sessions,
        client_network: None,
        profile: Some(wish.profile),
        request: Some(request.id.clone()),
    };
    grant::create(id.clone(), terms, by, now)
}

fn fresh_request_id() -> Result<RequestId, LedgerError> {
    let mut random = [0; 10];
    getrandom::fill(&mut random)?;
    Ok(RequestId::from_random(random))
}
