//! What others do with a request, and its requester: approve, reject, withdraw, review.
//!
//! The policies are asked before the request's turn; what a step needs to be legal is checked within it, by `request`.

use super::{AccessError, Desk, Narrowed, Visitor, decide};
use crate::ids::RequestId;
use crate::ledger::{Reasons, RequestView};
use crate::policy::{Action, Resource};
use crate::request::{Approve, IllegalStep, Next, Request};

impl Desk {
    /// Says yes. The policies are asked about what is to be given: an approver can give less than they may not approve.
    pub async fn approve(
        &self,
        who: &Visitor,
        id: &RequestId,
        narrowed: Narrowed,
        comment: Option<String>,
    ) -> Result<RequestView, AccessError> {
        let rules = self.rules();
        let comment = decide::comment(&self.rules().caps, comment.as_deref())?;
        let view = self.find(id).await?;
        let profiles = rules.targets.get(&view.request.wish.target).cloned().unwrap_or_default();
        if let Some(given) = &narrowed.profile
            && !profiles.contains(given)
        {
            return Err(AccessError::NoSuchProfile {
                target: view.request.wish.target,
                asked: given.to_string(),
                known: decide::by_nearness(given.as_str(), &profiles),
            });
        }
        let subject = decide::narrowed(&view.request, &narrowed, &profiles);
        let reasons = self.allowed_on(who, &subject).await?;
        let approve = Approve {
            by: who.name().clone(),
            comment,
            window: narrowed.window,
            profile: narrowed.profile,
        };
        let step = move |request: &Request, grant, now| -> Result<Next, AccessError> {
            Ok(request.pending(now)?.approve(approve, &profiles, grant, now)?)
        };
        self.0.ledger.step(id, who.name(), "approved", reasons, step).await
    }

    /// Says no.
    pub async fn reject(&self, who: &Visitor, id: &RequestId, comment: Option<String>) -> Result<RequestView, AccessError> {
        let comment = decide::comment(&self.rules().caps, comment.as_deref())?;
        let view = self.find(id).await?;
        if view.request.wish.identity == *who.name() {
            return Err(AccessError::Invalid(
                "this is your own request; withdraw it instead".to_owned(),
            ));
        }
        let reasons = self.allowed_on(who, &view.request).await?;
        let by = who.name().clone();
        let step =
            |request: &Request, now| -> Result<Request, AccessError> { Ok(request.pending(now)?.reject(by, comment, now)) };
        self.0.ledger.settle(id, who.name(), "rejected", reasons, step).await
    }

    /// Takes one's own request back. No policy keeps anybody from it.
    pub async fn withdraw(&self, who: &Visitor, id: &RequestId) -> Result<RequestView, AccessError> {
        let by = who.name().clone();
        let step = |request: &Request, now| -> Result<Request, AccessError> { Ok(request.pending(now)?.withdraw(&by, now)?) };
        // Whose it is, is not told to those who may not see it.
        self.request(who, id).await?;
        self.0
            .ledger
            .settle(id, who.name(), "withdrawn", Reasons::default(), step)
            .await
    }

    /// Notes what a break-glass access was found to be.
    pub async fn review(&self, who: &Visitor, id: &RequestId, comment: String) -> Result<RequestView, AccessError> {
        let Some(comment) = decide::comment(&self.rules().caps, Some(&comment))? else {
            return Err(AccessError::Invalid("a review needs a comment with its result".to_owned()));
        };
        let view = self.find(id).await?;
        if view.request.wish.identity == *who.name() {
            return Err(IllegalStep::OwnReview.into());
        }
        let reasons = self.allowed_on(who, &view.request).await?;
        let by = who.name().clone();
        let step = move |request: &Request, _, now| -> Result<Next, AccessError> {
            Ok(not_granted(request.reviewed(&by, comment, now)?))
        };
        self.0.ledger.step(id, who.name(), "reviewed", reasons, step).await
    }

    /// Whether the policies let `who` approve this. One's own request is no exception, and has words of its own.
    async fn allowed_on(&self, who: &Visitor, request: &Request) -> Result<Reasons, AccessError> {
        let ruling = self.ask(&self.rules(), who, Action::Approve, Resource::Request(request));
        match self.reasons(ruling, request.id.as_str()).await {
            _ if request.wish.identity == *who.name() => Err(IllegalStep::OwnRequest.into()),
            answer => answer,
        }
    }
}

fn not_granted(request: Request) -> Next {
    Next { request, granted: false }
}
