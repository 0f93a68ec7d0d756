//! Steps of requests, in the ledger's order: check, audit, store, publish.
//!
//! This module does not know who may take a step; the caller passes the step.
//!
//! INVARIANT: the steps of one request follow each other. A request that becomes a grant is stored with it, both or neither.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::commit::to_the_end;
use super::pending::SubjectKey;
use super::record::{ChangeInfo, RequestStepInfo};
use super::requests::RequestEntry;
use super::row::requests::StoredRequest;
use super::users::DISABLED_BY;
use super::{
    ChangedSubject, DecisionReasons, Ledger, LedgerError, LedgerInner, NewRequest, RequestView, StoreError, SubmitResult, row,
};
use crate::audit::event::{GrantChangeKind, RequestChangeKind};
use crate::model::grant::{self, Grant, Terms};
use crate::model::ids::{GrantId, RequestId};
use crate::model::names::IdentityName;
use crate::model::request::{Request, StepResult};

/// Step of a request, with all that is stored and published together.
struct RequestChange {
    step: RequestStepInfo,
    before: Arc<Request>,
    after: Request,
    /// Grant that the request becomes by this step.
    grant: Option<Grant>,
}

impl Ledger {
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
            if !inner.pending.is_settled(&SubjectKey::Request(id)).await {
                return Err(LedgerError::Unsettled.into());
            }
            let _turn = entry.stepping.lock().await;
            let now = inner.clock.now();
            let seen = entry.restrictions.count();
            let before = entry.current();
            let StepResult { request: after, .. } = step(&before, grant_id, now)?;
            let (_let_in, grant) = match after.grant() {
                Some(grant) if before.grant().is_none() => {
                    let let_in = inner.let_in(&after.wish.identity).await?;
                    let grant = made(grant, &after, entry.activate_within, by.as_str(), now);
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
        if let Some(entry) = self.0.requests.lock().get(id) {
            return Ok(entry);
        }
        let stored = self.stored_request(id).await?;
        Ok(self.0.requests.lock().add(stored, self.0.clock.now()))
    }
}

impl LedgerInner {
    /// Returns the request that was submitted with the same key before.
    async fn submitted(&self, new: &NewRequest) -> Result<Option<RequestView>, LedgerError> {
        let Some(key) = new.key.clone() else { return Ok(None) };
        let who = new.wish.identity.clone();
        let found = self
            .store
            .call(move |connection| row::requests::find_by_key(connection, &who, &key))
            .await?;
        Ok(found.map(|stored| RequestView::of(&stored.request, self.clock.now())))
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
        let stored = StoredRequest {
            number: 0,
            request: request.clone(),
            activate_within,
        };
        let taken = RequestChange {
            step: RequestStepInfo { change, by, reasons },
            before: Arc::new(request.clone()),
            after: request.clone(),
            grant: grant.clone(),
        };
        self.put_on_record(&taken).await?;
        let (row, with) = (stored.clone(), grant);
        let number = self
            .store
            .call(move |connection| row::requests::insert(connection, &row, key.as_deref(), with.as_ref()))
            .await;
        let number = self.or_take_back(number, &taken).await?;
        self.requests.lock().add(StoredRequest { number, ..stored }, now);
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
        self.put_on_record(&taken).await?;
        let (request, grant) = (taken.after.clone(), taken.grant.clone());
        let settled = taken.before.outcome.is_some();
        let asked = Arc::clone(entry);
        let stored = self
            .store
            .call(move |connection| {
                if asked.restrictions.count() != seen {
                    Err(StoreError::Overtaken)
                } else if settled {
                    row::requests::review(connection, &request)
                } else {
                    row::requests::step(connection, &request, grant.as_ref(), now)
                }
            })
            .await;
        self.or_take_back(stored, &taken).await?;
        // The grant is published first: a watcher of the request then finds it.
        let (after, who) = (Arc::new(taken.after.clone()), taken.after.wish.identity.clone());
        let grant = taken.grant.clone();
        self.published(taken, now);
        let in_time = entry.request.send_if_modified(|request| {
            let in_time = entry.restrictions.count() == seen;
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
        let reason = Some("its request got another decision meanwhile".to_owned());
        let by = DISABLED_BY.to_owned();
        let revoke = grant::GrantChange::Revoke {
            by: by.clone(),
            reason: reason.clone(),
        };
        let info = ChangeInfo {
            change: GrantChangeKind::Revoked,
            by,
            reason,
        };
        if let Some(entry) = self.entry(grant) {
            // An error means that the grant has ended already.
            let _ = self.restrict_grant(&entry, &revoke, &info);
            self.pursue();
        }
    }

    async fn put_on_record(&self, taken: &RequestChange) -> Result<(), LedgerError> {
        self.recorder.record(&taken.step.event(&taken.after)).await?;
        let Some(grant) = &taken.grant else { return Ok(()) };
        if let Err(error) = self.recorder.record(&created(grant).event(grant)).await {
            self.recorder.take_back(&taken.step.undone(&taken.before)).await;
            return Err(error.into());
        }
        Ok(())
    }

    /// Takes back the records of a step if that step was then not stored.
    async fn or_take_back<T>(&self, stored: Result<T, StoreError>, taken: &RequestChange) -> Result<T, LedgerError> {
        let error = match stored {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if let Some(grant) = &taken.grant {
            self.recorder.take_back(&created(grant).undone().event(grant)).await;
        }
        self.recorder.take_back(&taken.step.undone(&taken.before)).await;
        Err(error.into())
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

fn created(grant: &Grant) -> ChangeInfo {
    ChangeInfo {
        change: GrantChangeKind::Created,
        by: grant.created_by().to_owned(),
        reason: grant.reason().map(str::to_owned),
    }
}

fn fresh_request_id() -> Result<RequestId, LedgerError> {
    let mut random = [0; 10];
    getrandom::fill(&mut random)?;
    Ok(RequestId::from_random(random))
}
