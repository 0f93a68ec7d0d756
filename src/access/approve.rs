//! Steps on a submitted request: approve, reject, withdraw, review.
//!
//! The policies are asked before the ledger serializes the step; `request` checks the legality of the step inside it.

use super::{AccessError, AccessService, Caller, NarrowedRequest, Principal, decide};
use crate::access::policy::{Action, Resource};
use crate::audit::event::RequestChangeKind;
use crate::ledger::{DecisionReasons, RequestView};
use crate::model::ids::RequestId;
use crate::model::request::{Approve, Request, StepError, StepResult};

impl AccessService {
    /// Approves a request. The policies judge the narrowed request, so an approver may give less than a request they may not
    /// approve as a whole.
    pub async fn approve(
        &self,
        who: &Principal,
        id: &RequestId,
        narrowed: NarrowedRequest,
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
        let step = move |request: &Request, grant, now| -> Result<StepResult, AccessError> {
            Ok(request.pending(now)?.approve(approve, &profiles, grant, now)?)
        };
        self.0
            .ledger
            .step(id, who.name(), RequestChangeKind::Approved, reasons, step)
            .await
    }

    /// Rejects a request.
    pub async fn reject(&self, who: &Principal, id: &RequestId, comment: Option<String>) -> Result<RequestView, AccessError> {
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
        self.0
            .ledger
            .settle(id, who.name(), RequestChangeKind::Rejected, reasons, step)
            .await
    }

    /// Withdraws the caller's own request. No policy can forbid it.
    pub async fn withdraw(&self, who: &Principal, id: &RequestId) -> Result<RequestView, AccessError> {
        let by = who.name().clone();
        let step = |request: &Request, now| -> Result<Request, AccessError> { Ok(request.pending(now)?.withdraw(&by, now)?) };
        // The requester's name is not disclosed to callers that may not see the request.
        self.request_of_person(who, id).await?;
        self.0
            .ledger
            .settle(id, who.name(), RequestChangeKind::Withdrawn, DecisionReasons::default(), step)
            .await
    }

    /// Records the review of a break-glass access.
    pub async fn review(&self, who: &Principal, id: &RequestId, comment: String) -> Result<RequestView, AccessError> {
        let Some(comment) = decide::comment(&self.rules().caps, Some(&comment))? else {
            return Err(AccessError::Invalid("a review needs a comment with its result".to_owned()));
        };
        let view = self.find(id).await?;
        if view.request.wish.identity == *who.name() {
            return Err(StepError::OwnReview.into());
        }
        let reasons = self.allowed_on(who, &view.request).await?;
        let by = who.name().clone();
        let step = move |request: &Request, _, now| -> Result<StepResult, AccessError> {
            let request = request.reviewed(&by, comment, now)?;
            Ok(StepResult { request, granted: false })
        };
        self.0
            .ledger
            .step(id, who.name(), RequestChangeKind::Reviewed, reasons, step)
            .await
    }

    /// Returns true if the caller may approve or reject this request, perhaps after signing in again: another's, which they have not
    /// approved yet. Nothing is recorded: the answer only shapes output.
    #[must_use]
    pub fn may_decide(&self, caller: &Caller, request: &Request) -> bool {
        caller.person().is_ok_and(|who| self.verdicts(who).may_decide(request))
    }

    /// Returns the policies that let `who` approve this request, or the refusal. The caller's own request is refused with an
    /// error of its own.
    async fn allowed_on(&self, who: &Principal, request: &Request) -> Result<DecisionReasons, AccessError> {
        let decided = self.ask(&self.rules(), who, Action::Approve, Resource::Request(request));
        match self.reasons(decided, request.id.as_str()).await {
            _ if request.wish.identity == *who.name() => Err(StepError::OwnRequest.into()),
            answer => answer,
        }
    }
}
