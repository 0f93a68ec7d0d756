//! Visibility of requests and grants.
//!
//! It changes nothing. INVARIANT: a request and its grant are visible to the requester, to identities that have approved it or
//! may approve it, to those that may revoke the grant, and to those that may read the log or administer. They are visible to
//! nobody else, before or after the decision. What is done under a grant has fewer watchers: see [`AccessService::watches`].

use jiff::Timestamp;
use tokio::sync::broadcast;

use super::{AccessError, AccessService, Caller, Principal};
use crate::access::policy::{Action, Resource};
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
        if self.sees(who, &view.request) || self.sees_everything(who) {
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
            found.extend(self.0.ledger.requests(mine).await?);
        }
        let others = |request: &Request| request.wish.identity != *who.name() && self.sees(who, request);
        found.extend(self.chosen(filter, others).await?);
        // Each part is sorted already, and the sort is stable.
        found.sort_by_key(|view| std::cmp::Reverse(view.request.submitted_at));
        found.truncate(limit);
        Ok(found)
    }

    /// Returns requests that the caller may decide on now, the newest first.
    pub async fn decidable(&self, caller: &Caller, filter: RequestFilter) -> Result<Vec<RequestView>, AccessError> {
        self.chosen(filter, |request| self.may_decide(caller, request)).await
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
        let oldest = found.get(limit - 1).map(|view| view.grant.created_at());
        found.extend(self.grants_of_others(who, filter, oldest).await?);
        found.sort_by_key(|view| std::cmp::Reverse(view.grant.created_at()));
        found.truncate(limit);
        Ok(found)
    }

    async fn grants_of_others(
        &self,
        who: &Principal,
        filter: GrantFilter,
        oldest: Option<Timestamp>,
    ) -> Result<Vec<GrantView>, AccessError> {
        let wanted = filter.limit.max(1);
        let mut filter = GrantFilter {
            limit: DEFAULT_PAGE_ROWS,
            ..filter
        };
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let page = self.0.ledger.grants(&filter).await?;
            let last = page.last().map(|view| view.grant.id().clone());
            let whole = page.len() >= DEFAULT_PAGE_ROWS;
            for view in page.into_iter().filter(|view| view.grant.identity() != who.name()) {
                if found.len() >= wanted || oldest.is_some_and(|oldest| view.grant.created_at() < oldest) {
                    return Ok(found);
                }
                if self.sees_grant(who, &view.grant).await {
                    found.push(view);
                }
            }
            if !whole || found.len() >= wanted {
                break;
            }
            filter.before = last;
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
        if self.would(caller, Action::Administer) {
            return true;
        }
        match self.0.ledger.grant(id).await {
            Ok(view) => caller.is(view.grant.identity()) || self.is_overseer(caller, &view.grant).await,
            Err(_) => false,
        }
    }

    /// Returns true if the caller has approved the request of a grant and still may, or may revoke the grant.
    pub async fn oversees(&self, caller: &Caller, id: &GrantId) -> bool {
        match self.0.ledger.grant(id).await {
            Ok(view) => self.is_overseer(caller, &view.grant).await,
            Err(_) => false,
        }
    }

    async fn is_overseer(&self, caller: &Caller, grant: &Grant) -> bool {
        let Caller::Person(who, _) = caller else {
            return false;
        };
        let request = match grant.request() {
            Some(id) => self.find(id).await.ok(),
            None => None,
        };
        let approves =
            |request: &Request| approved(who, request) && self.would_on(who, Action::Approve, Resource::Request(request));
        request.is_some_and(|view| approves(&view.request)) || self.would_revoke(who, grant).await
    }

    async fn would_revoke(&self, who: &Principal, grant: &Grant) -> bool {
        let wish = self.wish_of(&self.rules(), grant, grant.window()).await;
        wish.is_ok_and(|wish| self.would_on(who, Action::Revoke, Resource::Access(&wish)))
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
        let request = match grant.request() {
            Some(id) => self.find(id).await.ok(),
            None => None,
        };
        if request.is_some_and(|view| self.sees(who, &view.request)) {
            return true;
        }
        self.would_revoke(who, grant).await
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
        accepts: impl Fn(&Request) -> bool,
    ) -> Result<Vec<RequestView>, AccessError> {
        let wanted = filter.limit;
        let whole = filter.status == Some(RequestState::Pending) || filter.unreviewed;
        filter.limit = if whole {
            WAITING_PAGE_ROWS
        } else {
            wanted.clamp(DEFAULT_PAGE_ROWS, WAITING_PAGE_ROWS)
        };
        let (mut found, mut pages) = (Vec::new(), 0);
        loop {
            let page = self.0.ledger.requests(filter.clone()).await?;
            let last = page.last().map(|view| view.request.id.clone());
            let is_last = page.len() < filter.limit;
            for (place, view) in page.into_iter().enumerate() {
                // The policies are asked about each.
                if place % YIELD_AFTER == 0 {
                    tokio::task::yield_now().await;
                }
                if found.len() < wanted && accepts(&view.request) {
                    found.push(view);
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

    fn sees(&self, who: &Principal, request: &Request) -> bool {
        let named = request.wish.identity == *who.name() || approved(who, request);
        if named || self.would_on(who, Action::Approve, Resource::Request(request)) {
            return true;
        }
        // A granted request is visible to those that may revoke its grant, judged with the owner's present groups.
        request.grant().is_some() && {
            let mut wish = request.wish.clone();
            wish.groups = self.present(&wish).groups;
            self.would_on(who, Action::Revoke, Resource::Access(&wish))
        }
    }

    pub(super) fn would_on(&self, who: &Principal, action: Action, resource: Resource<'_>) -> bool {
        self.ask(&self.rules(), who, action, resource).decision.allowed
    }
}

fn approved(who: &Principal, request: &Request) -> bool {
    request.approvals.iter().any(|approval| approval.by == *who.name())
}
