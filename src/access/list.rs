//! What people may see of requests.
//!
//! It changes nothing. INVARIANT: a request, and the grant it became, are shown to its requester, to those who may approve it (or
//! have) or revoke the grant, and to those who may read the log or administer; before and after, and to nobody else.

use super::{AccessError, Desk, Visitor};
use crate::grant::Grant;
use crate::ids::{GrantId, RequestId};
use crate::ledger::{GrantFilter, GrantView, LedgerError, RequestFilter, RequestView};
use crate::policy::{Action, Resource};
use crate::request::Request;

/// Requests in an answer when no number is named.
const PAGE: usize = 100;
/// Pages looked through for what is of others: nobody decides from a list of thousands.
const PAGES: usize = 10;

impl Desk {
    /// One request: one's own, or one that may be approved.
    pub async fn request(&self, who: &Visitor, id: &RequestId) -> Result<RequestView, AccessError> {
        let view = self.find(id).await?;
        if self.sees(who, &view.request) || self.sees_everything(who) {
            Ok(view)
        } else {
            Err(AccessError::NoSuchRequest(id.clone()))
        }
    }

    /// Requests, the newest first: one's own, and those of others that one may approve, or revoke what they became.
    /// Those who may read the log or administer see all.
    pub async fn requests(&self, who: &Visitor, filter: RequestFilter) -> Result<Vec<RequestView>, AccessError> {
        let limit = if filter.limit == 0 { PAGE } else { filter.limit };
        let filter = RequestFilter { limit, ..filter };
        let own = filter.identity.as_ref() == Some(who.name());
        if own || self.sees_everything(who) {
            return Ok(self.0.ledger.requests(filter).await?);
        }
        let mut found = Vec::new();
        if filter.identity.is_none() {
            let mine = RequestFilter {
                identity: Some(who.name().clone()),
                ..filter.clone()
            };
            found.extend(self.0.ledger.requests(mine).await?);
        }
        found.extend(self.of_others(who, filter).await?);
        // Each part is in order already; what came at the same moment stays as it is.
        found.sort_by_key(|view| std::cmp::Reverse(view.request.submitted_at));
        found.truncate(limit);
        Ok(found)
    }

    /// Grants, the newest first, as [`Self::requests`] are.
    pub async fn grants(&self, who: &Visitor, filter: GrantFilter) -> Result<Vec<GrantView>, AccessError> {
        let own = filter.identity.as_ref() == Some(who.name());
        if own || self.sees_everything(who) {
            return Ok(self.0.ledger.grants(&filter).await?);
        }
        let limit = filter.limit.max(1);
        let mut found = Vec::new();
        if filter.identity.is_none() {
            let mine = GrantFilter {
                identity: Some(who.name().clone()),
                ..filter.clone()
            };
            found.extend(self.0.ledger.grants(&mine).await?);
        }
        found.extend(self.grants_of_others(who, filter).await?);
        found.sort_by_key(|view| std::cmp::Reverse(view.grant.created_at()));
        found.truncate(limit);
        Ok(found)
    }

    async fn grants_of_others(&self, who: &Visitor, filter: GrantFilter) -> Result<Vec<GrantView>, AccessError> {
        let wanted = filter.limit.max(1);
        let mut filter = GrantFilter { limit: PAGE, ..filter };
        let mut found = Vec::new();
        for _ in 0..PAGES {
            let page = self.0.ledger.grants(&filter).await?;
            let last = page.last().map(|view| view.grant.id().clone());
            let whole = page.len() >= PAGE;
            for view in page.into_iter().filter(|view| view.grant.identity() != who.name()) {
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

    /// One grant: one's own, or one that may be revoked, or whose request may be approved.
    pub async fn grant(&self, who: &Visitor, id: &GrantId) -> Result<GrantView, AccessError> {
        let view = self.0.ledger.grant(id).await?;
        if self.sees_grant(who, &view.grant).await {
            Ok(view)
        } else {
            Err(LedgerError::NoSuchGrant(id.clone()).into())
        }
    }

    /// Returns whether somebody is shown a grant.
    pub(super) async fn sees_grant(&self, who: &Visitor, grant: &Grant) -> bool {
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
        let wish = self.wish_of(&self.rules(), grant, grant.window()).await;
        wish.is_ok_and(|wish| self.would_on(who, Action::Revoke, Resource::Access(&wish)))
    }

    fn sees_everything(&self, who: &Visitor) -> bool {
        self.would(who, Action::ReadLog) || self.would(who, Action::Administer)
    }

    /// As many as the filter's limit that `who` sees, of those that are not their own.
    async fn of_others(&self, who: &Visitor, mut filter: RequestFilter) -> Result<Vec<RequestView>, AccessError> {
        let mut found = Vec::new();
        for _ in 0..PAGES {
            let page = self.0.ledger.requests(filter.clone()).await?;
            let last = page.last().map(|view| view.request.id.clone());
            let whole = page.len() >= filter.limit;
            let others = page.into_iter().filter(|view| view.request.wish.identity != *who.name());
            found.extend(others.filter(|view| self.sees(who, &view.request)));
            if !whole || found.len() >= filter.limit {
                break;
            }
            filter.before = last;
        }
        Ok(found)
    }

    /// A request, whoever asks.
    pub(super) async fn find(&self, id: &RequestId) -> Result<RequestView, AccessError> {
        match self.0.ledger.request(id).await {
            Err(LedgerError::NoSuchRequest(id)) => Err(AccessError::NoSuchRequest(id)),
            answer => Ok(answer?),
        }
    }

    fn sees(&self, who: &Visitor, request: &Request) -> bool {
        let named = request.wish.identity == *who.name() || request.approvals.iter().any(|approval| approval.by == *who.name());
        if named || self.would_on(who, Action::Approve, Resource::Request(request)) {
            return true;
        }
        // What became a grant also concerns those who may end it, in the groups its owner is in now.
        request.grant().is_some() && {
            let mut wish = request.wish.clone();
            wish.groups = self.present(&wish).groups;
            self.would_on(who, Action::Revoke, Resource::Access(&wish))
        }
    }

    fn would_on(&self, who: &Visitor, action: Action, resource: Resource<'_>) -> bool {
        self.ask(&self.rules(), who, action, resource).decision.allowed
    }
}
