//! Visibility of requests and grants.
//!
//! It changes nothing. INVARIANT: a request and its grant are visible to the requester, to identities that have approved it or
//! may approve it (perhaps after signing in again), to those that may revoke the grant, and to those that may read the log or
//! administer. They are visible to nobody else, before or after the decision. What is done under a grant has fewer watchers: see
//! [`AccessService::watches`].

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::broadcast;

use super::verdicts::CallerVerdicts;
use super::{AccessError, AccessService, Caller, Principal};
use crate::access::policy::{AccessQuestion, Action, Decision, Resource};
use crate::audit::SignedTip;
use crate::ledger::{ChangedSubject, GrantFilter, GrantView, LedgerError, RequestFilter, RequestView};
use crate::model::grant::Grant;
use crate::model::ids::{GrantId, RequestId};
use crate::model::names::IdentityName;
use crate::model::request::{Request, RequestState};

/// Default number of requests in an answer.
const DEFAULT_PAGE_ROWS: usize = 100;
/// Maximum number of pages searched for past requests and grants of others.
const MAX_PAGES: usize = 10;
/// Number of requests that are judged before other work has its turn.
const YIELD_AFTER: usize = 20;
/// Number of requests that are looked at together where all of them are.
const WAITING_PAGE_ROWS: usize = 1_000;

impl AccessService {
    /// Returns a request that the caller may see.
    pub async fn request(&self, caller: &Caller, id: &RequestId) -> Result<RequestView, AccessError> {
        match caller {
            Caller::Admin { .. } => Ok(self.0.ledger.request(id).await?),
            Caller::Person(who, _) => self.request_of_person(who, id).await,
        }
    }

    pub(super) async fn request_of_person(&self, who: &Principal, id: &RequestId) -> Result<RequestView, AccessError> {
        let view = self.find(id).await?;
        if self.sees(&mut self.verdicts(who), &view.request) || self.sees_everything(who) {
            Ok(view)
        } else {
            Err(AccessError::NoSuchRequest(id.clone()))
        }
    }

    /// Returns requests, the newest first: the caller's own, and those that the caller may approve or whose grant they may
    /// revoke. Callers that may read the log or administer see all.
    pub async fn requests(&self, caller: &Caller, filter: RequestFilter) -> Result<Vec<RequestView>, AccessError> {
        let limit = if filter.limit == 0 { DEFAULT_PAGE_ROWS } else { filter.limit };
        let filter = RequestFilter { limit, ..filter };
        let Some(who) = self.limited(caller, filter.identity.as_ref()) else {
            return Ok(self.0.ledger.requests(filter).await?);
        };
        let mut found = Vec::new();
        if filter.identity.is_none() {
            let mine = RequestFilter {
                identity: Some(who.name().clone()),
                ..filter.clone()
            };
            found.extend(self.0.ledger.numbered_requests(mine).await?);
        }
        let mut verdicts = self.verdicts(who);
        let others = |request: &Request| request.wish.identity != *who.name() && self.sees(&mut verdicts, request);
        found.extend(self.chosen(filter, others).await?);
        // In the order of the pages, which times are not in where the clock was set back.
        found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        found.truncate(limit);
        Ok(views(found))
    }

    /// Returns requests that the caller may decide on now, perhaps after signing in again, the newest first.
    pub async fn decidable(&self, caller: &Caller, filter: RequestFilter) -> Result<Vec<RequestView>, AccessError> {
        let Ok(who) = caller.person() else {
            return Ok(Vec::new());
        };
        let mut verdicts = self.verdicts(who);
        let found = self.chosen(filter, |request| verdicts.may_decide(request)).await?;
        Ok(views(found))
    }

    /// Returns grants, the newest first, with the visibility of [`Self::requests`].
    pub async fn grants(&self, caller: &Caller, filter: GrantFilter) -> Result<Vec<GrantView>, AccessError> {
        let mut found = self.grants_seen(caller, filter).await?;
        found.iter_mut().for_each(|view| self.add_standing(view));
        Ok(found)
    }

    async fn grants_seen(&self, caller: &Caller, filter: GrantFilter) -> Result<Vec<GrantView>, AccessError> {
        let Some(who) = self.limited(caller, filter.identity.as_ref()) else {
            return Ok(self.0.ledger.grants(&filter).await?);
        };
        let limit = filter.limit.max(1);
        let mut found = Vec::new();
        if filter.identity.is_none() {
            let mine = GrantFilter {
                identity: Some(who.name().clone()),
                ..filter.clone()
            };
            found.extend(self.0.ledger.grants(&mine).await?);
        }
        // Of others' grants those count that are on the same page.
        let oldest = found.get(limit - 1).map(|view| view.grant.clone());
        found.extend(self.grants_of_others(who, filter, oldest.as_ref()).await?);
        found.sort_by(|a, b| place(&b.grant).cmp(&place(&a.grant)));
        found.truncate(limit);
        Ok(found)
    }

    async fn grants_of_others(
        &self,
        who: &Principal,
        filter: GrantFilter,
        oldest: Option<&Grant>,
    ) -> Result<Vec<GrantView>, AccessError> {
        let wanted = filter.limit.max(1);
        let mut filter = GrantFilter {
            limit: DEFAULT_PAGE_ROWS,
            ..filter
        };
        let (mut found, mut verdicts) = (Vec::new(), self.verdicts(who));
        for _ in 0..MAX_PAGES {
            let mut page = self.0.ledger.grants(&filter).await?;
            filter.before = page.last().map(|view| view.grant.id().clone());
            let whole = page.len() >= DEFAULT_PAGE_ROWS;
            page.retain(|view| oldest.is_none_or(|oldest| place(&view.grant) > place(oldest)));
            let is_last = !whole || page.len() < DEFAULT_PAGE_ROWS;
            page.retain(|view| view.grant.identity() != who.name());
            let requests = page.iter().filter_map(|view| view.grant.request().cloned());
            let requests = self.0.ledger.requests_of(requests.collect()).await?;
            for view in page {
                let request = view.grant.request().and_then(|id| requests.get(id)).map(Arc::as_ref);
                if found.len() < wanted && self.sees_grant_of(&mut verdicts, &view.grant, request) {
                    found.push(view);
                }
            }
            if is_last || found.len() >= wanted {
                break;
            }
        }
        Ok(found)
    }

    /// Returns a grant that the caller may see: their own, one they may revoke, or one whose request they may approve.
    pub async fn grant(&self, caller: &Caller, id: &GrantId) -> Result<GrantView, AccessError> {
        let mut view = self.0.ledger.grant(id).await?;
        self.add_standing(&mut view);
        match caller {
            Caller::Person(who, _) if !self.sees_grant(who, &view.grant).await => {
                Err(LedgerError::NoSuchGrant(id.clone()).into())
            }
            _ => Ok(view),
        }
    }

    /// Returns true if the caller may watch the sessions under a grant, read what they ran, and end one of them: the owner of the
    /// grant, those that approved its request and still may, those that may revoke it, and those that may administer.
    pub async fn watches(&self, caller: &Caller, id: &GrantId) -> bool {
        match caller {
            Caller::Admin { .. } => true,
            Caller::Person(who, _) => self.watching(who, id).await.is_some(),
        }
    }

    /// Returns the decision that lets a person watch the sessions under a grant; the owner needs no policy.
    pub(super) async fn watching(&self, who: &Principal, id: &GrantId) -> Option<Decision> {
        let administers = self.ask(&self.rules(), who, Action::Administer, Resource::Gate).decision;
        if administers.allowed {
            return Some(administers);
        }
        let grant = self.0.ledger.grant(id).await.ok()?.grant;
        if grant.identity() == who.name() {
            return Some(Decision {
                allowed: true,
                policies: Vec::new(),
                errors: Vec::new(),
            });
        }
        self.overseeing(who, &grant).await
    }

    /// Returns those of these grants whose request the caller has approved and still may, or that the caller may revoke.
    pub async fn overseen(&self, caller: &Caller, ids: BTreeSet<GrantId>) -> Result<BTreeSet<GrantId>, AccessError> {
        let Ok(who) = caller.person() else {
            return Ok(BTreeSet::new());
        };
        let mut grants = Vec::new();
        for id in ids {
            grants.extend(self.0.ledger.grant(&id).await.ok().map(|view| view.grant));
        }
        let requests = grants.iter().filter_map(|grant| grant.request().cloned());
        let requests = self.0.ledger.requests_of(requests.collect()).await?;
        let mut verdicts = self.verdicts(who);
        grants.retain(|grant| {
            let request = grant.request().and_then(|id| requests.get(id)).map(Arc::as_ref);
            let allows = |verdicts: &mut CallerVerdicts<'_>, action, resource: Resource<'_>| {
                verdicts.allows(action, resource).then_some(())
            };
            self.oversight(&mut verdicts, (grant, request), allows).is_some()
        });
        Ok(grants.into_iter().map(|grant| grant.id().clone()).collect())
    }

    async fn overseeing(&self, who: &Principal, grant: &Grant) -> Option<Decision> {
        let request = self.request_of_grant(grant).await.ok()?;
        let decide = |verdicts: &mut CallerVerdicts<'_>, action, resource: Resource<'_>| {
            Some(verdicts.decide(action, resource)).filter(|decision| decision.allowed)
        };
        self.oversight(&mut self.verdicts(who), (grant, request.as_ref()), decide)
    }

    /// Returns the first answer of those that let a person watch what others do under a grant; `request` is that of the grant, if it
    /// has one.
    fn oversight<T>(
        &self,
        verdicts: &mut CallerVerdicts<'_>,
        (grant, request): (&Grant, Option<&Request>),
        ask: impl Fn(&mut CallerVerdicts<'_>, Action, Resource<'_>) -> Option<T>,
    ) -> Option<T> {
        if grant.request().is_some() != request.is_some() {
            return None;
        }
        if let Some(request) = request.filter(|request| approved(verdicts.who, request))
            && let Some(answer) = ask(verdicts, Action::Approve, Resource::Request(request))
        {
            return Some(answer);
        }
        let wish = self.wish_with(verdicts.rules(), grant, request, grant.window()).ok()?;
        ask(verdicts, Action::Revoke, Resource::Access(&wish))
    }

    /// Subscribes to changes of requests and grants, of all identities.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<ChangedSubject> {
        self.0.ledger.changes()
    }

    /// Returns the last signed tip of the log that the ledger knows, for those who may read the log.
    pub async fn log_tip(&self) -> Result<Option<SignedTip>, AccessError> {
        Ok(self.0.ledger.log_tip().await?)
    }

    /// Returns the person whose view of a list of `identity`'s objects is limited; `None` if the caller sees all of them.
    fn limited<'a>(&self, caller: &'a Caller, identity: Option<&IdentityName>) -> Option<&'a Principal> {
        let who = caller.person().ok()?;
        (identity != Some(who.name()) && !self.sees_everything(who)).then_some(who)
    }

    /// Returns true if `who` may see a grant.
    pub(super) async fn sees_grant(&self, who: &Principal, grant: &Grant) -> bool {
        if grant.identity() == who.name() || self.sees_everything(who) {
            return true;
        }
        let request = self.request_of_grant(grant).await;
        request.is_ok_and(|request| self.sees_grant_of(&mut self.verdicts(who), grant, request.as_ref()))
    }

    /// Returns true if another's grant is visible; `request` is that of the grant, if it has one.
    fn sees_grant_of(&self, verdicts: &mut CallerVerdicts<'_>, grant: &Grant, request: Option<&Request>) -> bool {
        if grant.request().is_some() && request.is_none() {
            // It is not there, so nothing is known of it.
            return false;
        }
        if request.is_some_and(|request| self.sees(verdicts, request)) {
            return true;
        }
        let wish = self.wish_with(verdicts.rules(), grant, request, grant.window());
        wish.is_ok_and(|wish| verdicts.allows(Action::Revoke, Resource::Access(&wish)))
    }

    fn sees_everything(&self, who: &Principal) -> bool {
        [Action::ReadLog, Action::Administer]
            .into_iter()
            .any(|action| self.would_on(who, action, Resource::Gate))
    }

    /// Returns requests that `accepts` takes, up to the limit of the filter. Those that wait, or are to be reviewed, are looked at
    /// to the last one: a list of them never ends while there is something. Of the past a part is.
    async fn chosen(
        &self,
        mut filter: RequestFilter,
        mut accepts: impl FnMut(&Request) -> bool,
    ) -> Result<Vec<(i64, RequestView)>, AccessError> {
        let wanted = filter.limit;
        let whole = filter.status == Some(RequestState::Pending) || filter.unreviewed;
        filter.limit = if whole {
            WAITING_PAGE_ROWS
        } else {
            wanted.clamp(DEFAULT_PAGE_ROWS, WAITING_PAGE_ROWS)
        };
        let (mut found, mut pages) = (Vec::new(), 0);
        loop {
            let page = self.0.ledger.numbered_requests(filter.clone()).await?;
            let last = page.last().map(|(_, view)| view.request.id.clone());
            let is_last = page.len() < filter.limit;
            for (place, numbered) in page.into_iter().enumerate() {
                // The policies may be asked about each.
                if place % YIELD_AFTER == 0 {
                    tokio::task::yield_now().await;
                }
                if found.len() < wanted && accepts(&numbered.1.request) {
                    found.push(numbered);
                }
            }
            pages += 1;
            if is_last || found.len() >= wanted || (!whole && pages >= MAX_PAGES) {
                return Ok(found);
            }
            filter.before = last;
        }
    }

    /// Returns a request without a check of visibility.
    pub(super) async fn find(&self, id: &RequestId) -> Result<RequestView, AccessError> {
        match self.0.ledger.request(id).await {
            Err(LedgerError::NoSuchRequest(id)) => Err(AccessError::NoSuchRequest(id)),
            answer => Ok(answer?),
        }
    }

    fn sees(&self, verdicts: &mut CallerVerdicts<'_>, request: &Request) -> bool {
        let who = verdicts.who;
        let named = request.wish.identity == *who.name() || approved(who, request);
        if named || verdicts.allows(Action::Approve, Resource::Request(request)) {
            return true;
        }
        // A granted request is visible to those that may revoke its grant, judged with the owner's present groups.
        request.grant().is_some() && {
            let mut wish = request.wish.clone();
            wish.groups = self.present(&wish).groups;
            verdicts.allows(Action::Revoke, Resource::Access(&wish))
        }
    }

    pub(super) fn would_on(&self, who: &Principal, action: Action, resource: Resource<'_>) -> bool {
        let question = AccessQuestion {
            identity: &who.identity,
            action,
            resource,
            context: self.context(who),
        };
        self.rules().decide(&question).allowed
    }
}

fn views(numbered: Vec<(i64, RequestView)>) -> Vec<RequestView> {
    numbered.into_iter().map(|(_, view)| view).collect()
}

/// Place of a grant in the order of pages.
fn place(grant: &Grant) -> (Timestamp, &GrantId) {
    (grant.created_at(), grant.id())
}

fn approved(who: &Principal, request: &Request) -> bool {
    request.approvals.iter().any(|approval| approval.by == *who.name())
}
