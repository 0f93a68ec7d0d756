//! What people may see of requests.
//!
//! It changes nothing. INVARIANT: a request is shown to its requester, to who may approve it (or has), and to who may read the log.

use super::{AccessError, Desk, Visitor};
use crate::ids::RequestId;
use crate::ledger::{LedgerError, RequestFilter, RequestView};
use crate::policy::{Action, Resource};
use crate::request::{Request, Status};

/// Requests in an answer when no number is named.
const PAGE: usize = 100;
/// Pages looked through for requests of others: nobody approves from a list of thousands.
const PAGES: usize = 10;

impl Desk {
    /// One request: one's own, or one that may be approved.
    pub async fn request(&self, who: &Visitor, id: &RequestId) -> Result<RequestView, AccessError> {
        let view = self.find(id).await?;
        if self.sees(who, &view.request) || self.would(who, Action::ReadLog) {
            Ok(view)
        } else {
            Err(AccessError::NoSuchRequest(id.clone()))
        }
    }

    /// Requests, the newest first: one's own, and those of others that wait for an approval or review one may give.
    /// Who may read the log sees all.
    pub async fn requests(&self, who: &Visitor, filter: RequestFilter) -> Result<Vec<RequestView>, AccessError> {
        let limit = if filter.limit == 0 { PAGE } else { filter.limit };
        let filter = RequestFilter { limit, ..filter };
        let own = filter.identity.as_ref() == Some(who.name());
        if own || self.would(who, Action::ReadLog) {
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
        if filter.unreviewed {
            found.extend(self.of_others(who, filter).await?);
        } else if filter.status.is_none_or(|status| status == Status::Pending) {
            let pending = RequestFilter {
                status: Some(Status::Pending),
                ..filter
            };
            found.extend(self.of_others(who, pending).await?);
        }
        // Each part is in order already; what came at the same moment stays as it is.
        found.sort_by_key(|view| std::cmp::Reverse(view.request.submitted_at));
        found.truncate(limit);
        Ok(found)
    }

    /// As many as the filter's limit that `who` may approve.
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
        named || {
            let ruling = self.ask(&self.rules(), who, Action::Approve, Resource::Request(request));
            ruling.decision.allowed
        }
    }
}
