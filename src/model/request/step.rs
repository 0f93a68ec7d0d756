//! Steps of a request, each from the one state it may be taken from.
//!
//! It does not know who may take them.

use std::time::Duration;

use jiff::Timestamp;

use super::{Approval, ApprovedBy, Request, RequestOutcome, RequestSpec, RequestState, Review};
use crate::base::duration;
use crate::model::ids::{GrantId, RequestId};
use crate::model::names::{IdentityName, ProfileName};

/// Error of an illegal step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The request is settled or has lapsed.
    #[error("the request is no longer pending: {}", .0.name())]
    Settled(RequestState),
    /// The requester cannot approve the request.
    #[error("you cannot approve or reject your own request")]
    OwnRequest,
    /// This approver has approved the request already.
    #[error("{0} has already approved it")]
    Twice(IdentityName),
    /// The approver would lengthen the window; approvers may only narrow.
    #[error("the request is for {}; an approver can approve that or less, not {}", duration::show(*asked), duration::show(*given))]
    Longer {
        /// Window requested.
        asked: Duration,
        /// Window the approver would give.
        given: Duration,
    },
    /// The approver would widen the profile; approvers may only narrow.
    #[error("the request is for profile {asked}; an approver can approve that or a narrower one, not {given}")]
    Wider {
        /// Profile requested.
        asked: ProfileName,
        /// Profile the approver would give.
        given: ProfileName,
    },
    /// Only the requester, named here, can withdraw the request.
    #[error("only {0} can withdraw it")]
    NotYours(IdentityName),
    /// The request is not a break-glass access that was opened.
    #[error("the request was not a break-glass access")]
    NothingToReview,
    /// The requester cannot review the access.
    #[error("you cannot review your own access")]
    OwnReview,
    /// This reviewer has reviewed the access already.
    #[error("{0} has already reviewed it")]
    Reviewed(IdentityName),
}

/// Approval as the approver gives it.
#[derive(Debug, Clone)]
pub struct Approve {
    /// Approver.
    pub by: IdentityName,
    /// Comment of the approver.
    pub comment: Option<String>,
    /// Shorter window.
    pub window: Option<Duration>,
    /// Narrower profile.
    pub profile: Option<ProfileName>,
}

/// Result of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepResult {
    /// Request after the step.
    pub request: Request,
    /// True if the step completed the request: the grant of [`Request::grant`] is to be made, with the values the wish has now.
    pub granted: bool,
}

/// Request that waits for approvers.
#[derive(Debug, Clone, Copy)]
pub struct PendingRequest<'a>(&'a Request);

impl Request {
    /// Creates a request that the policies deny.
    #[must_use]
    pub fn denied(id: RequestId, wish: RequestSpec, why: String, now: Timestamp) -> Self {
        Self::new(id, wish, Some(RequestOutcome::Denied { at: now, why }), now)
    }

    /// Creates a request that is approved without an approver.
    #[must_use]
    pub fn granted(id: RequestId, wish: RequestSpec, how: ApprovedBy, grant: GrantId, now: Timestamp) -> Self {
        Self::new(id, wish, Some(RequestOutcome::Approved { at: now, how, grant }), now)
    }

    /// Creates a request that waits for `approvals` (at least one) until `expires_at`.
    #[must_use]
    pub fn waiting(id: RequestId, wish: RequestSpec, approvals: u32, expires_at: Timestamp, now: Timestamp) -> Self {
        Self {
            expires_at,
            approvals_needed: approvals.max(1),
            ..Self::new(id, wish, None, now)
        }
    }

    fn new(id: RequestId, wish: RequestSpec, outcome: Option<RequestOutcome>, now: Timestamp) -> Self {
        Self {
            id,
            wish,
            submitted_at: now,
            expires_at: now,
            approvals_needed: 0,
            approvals: Vec::new(),
            outcome,
            narrowed_from: None,
            review: None,
        }
    }

    /// Returns the request as pending, or the error that it is settled.
    pub fn pending(&self, now: Timestamp) -> Result<PendingRequest<'_>, StepError> {
        match self.status(now) {
            RequestState::Pending => Ok(PendingRequest(self)),
            settled => Err(StepError::Settled(settled)),
        }
    }

    /// Returns the request with a review.
    pub fn reviewed(&self, by: &IdentityName, comment: String, now: Timestamp) -> Result<Self, StepError> {
        if !self.wish.break_glass || self.grant().is_none() {
            return Err(StepError::NothingToReview);
        }
        if *by == self.wish.identity {
            return Err(StepError::OwnReview);
        }
        if let Some(review) = &self.review {
            return Err(StepError::Reviewed(review.by.clone()));
        }
        Ok(Self {
            review: Some(Review {
                by: by.clone(),
                at: now,
                comment,
            }),
            ..self.clone()
        })
    }
}

impl PendingRequest<'_> {
    /// Returns the request with one approval more. If no more are needed, it becomes the grant `grant`.
    ///
    /// `profiles` are those of the target, the narrowest first: an approver can only move towards the front.
    pub fn approve(
        self,
        approve: Approve,
        profiles: &[ProfileName],
        grant: GrantId,
        now: Timestamp,
    ) -> Result<StepResult, StepError> {
        let Self(request) = self;
        if approve.by == request.wish.identity {
            return Err(StepError::OwnRequest);
        }
        if request.approvals.iter().any(|approval| approval.by == approve.by) {
            return Err(StepError::Twice(approve.by));
        }
        let mut next = request.clone();
        if let Some(given) = approve.window {
            if given > request.wish.window {
                return Err(StepError::Longer {
                    asked: request.wish.window,
                    given,
                });
            }
            next.wish.window = given;
        }
        if let Some(given) = approve.profile {
            let place = |wanted: &ProfileName| profiles.iter().position(|profile| profile == wanted);
            let narrower = given == request.wish.profile
                || matches!((place(&given), place(&request.wish.profile)), (Some(given), Some(asked)) if given < asked);
            if !narrower {
                return Err(StepError::Wider {
                    asked: request.wish.profile.clone(),
                    given,
                });
            }
            next.wish.profile = given;
        }
        if next.wish != request.wish {
            next.narrowed_from = Some(request.asked_for());
        }
        next.approvals.push(Approval {
            by: approve.by,
            at: now,
            comment: approve.comment,
        });
        let granted = next.approvals_missing() == 0;
        if granted {
            next.outcome = Some(RequestOutcome::Approved {
                at: now,
                how: ApprovedBy::People,
                grant,
            });
        }
        Ok(StepResult { request: next, granted })
    }

    /// Returns the request rejected by an approver.
    #[must_use]
    pub fn reject(self, by: IdentityName, comment: Option<String>, now: Timestamp) -> Request {
        self.settle(RequestOutcome::Rejected { at: now, by, comment })
    }

    /// Returns the request withdrawn by its requester.
    pub fn withdraw(self, by: &IdentityName, now: Timestamp) -> Result<Request, StepError> {
        if *by != self.0.wish.identity {
            return Err(StepError::NotYours(self.0.wish.identity.clone()));
        }
        Ok(self.settle(RequestOutcome::Withdrawn { at: now }))
    }

    fn settle(self, outcome: RequestOutcome) -> Request {
        Request {
            outcome: Some(outcome),
            ..self.0.clone()
        }
    }
}
