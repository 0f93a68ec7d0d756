//! Requests for access: their data, and the legal steps.
//!
//! It does not decide who may take a step (policies do), stores nothing and reads no clock: `now` is an argument.
//!
//! INVARIANT: only a request that is pending can be approved, rejected or withdrawn: these steps exist on [`PendingRequest`] alone, and
//! only [`Request::pending`] returns one. An approver can narrow a request and never widen it; the requester cannot approve it,
//! and no approver can approve it twice.

mod step;

pub use step::{Approve, PendingRequest, StepError, StepResult};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use crate::model::ids::{GrantId, RequestId};
use crate::model::names::{GroupName, IdentityName, ProfileName, TargetName};

/// Request of an identity for a profile on a target, for a limited time.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Request {
    /// Id of the request.
    pub id: RequestId,
    /// Access that is requested, and its requester.
    #[serde(flatten)]
    #[schema(inline)]
    pub wish: RequestSpec,
    /// Time it was submitted.
    pub submitted_at: Timestamp,
    /// Time until which it can be approved.
    pub expires_at: Timestamp,
    /// Number of distinct approvers it needs; 0: none.
    pub approvals_needed: u32,
    /// Approvals so far, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// Outcome, once the request is settled.
    #[schema(nullable = false)]
    pub outcome: Option<RequestOutcome>,
    /// Original extent, if an approver has narrowed it.
    #[schema(nullable = false)]
    pub narrowed_from: Option<RequestExtent>,
    /// Review of a break-glass access.
    #[schema(nullable = false)]
    pub review: Option<Review>,
}

/// Access that is requested, and its requester.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Wish)]
pub struct RequestSpec {
    /// Requester.
    pub identity: IdentityName,
    /// Groups of the requester at the time of the request.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<GroupName>,
    /// Issuer of the token that proved the identity; absent for a local user.
    #[schema(nullable = false)]
    pub issuer: Option<String>,
    /// Claims of that token about the run (`repository`, `ref`, ...), for approvers, and for the policies at activation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
    /// Target of the access.
    pub target: TargetName,
    /// Profile whose privileges are requested.
    pub profile: ProfileName,
    /// Length of the window in seconds, from the first connection.
    #[serde(rename = "window_seconds", with = "crate::model::seconds")]
    #[schema(value_type = u64)]
    pub window: Duration,
    /// Reason for the access.
    #[schema(nullable = false)]
    pub reason: Option<String>,
    /// Ticket the access belongs to.
    #[schema(nullable = false)]
    pub ticket: Option<String>,
    /// Maximum number of concurrent sessions.
    pub max_sessions: u32,
    /// Break-glass: access at once, without approvers, reviewed afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
}

/// Part of a request that an approver can narrow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Extent)]
pub struct RequestExtent {
    /// Profile whose privileges are requested.
    pub profile: ProfileName,
    /// Length of the window in seconds.
    #[serde(rename = "window_seconds", with = "crate::model::seconds")]
    #[schema(value_type = u64)]
    pub window: Duration,
}

/// Approval of a request by one approver.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Approval {
    /// Approver.
    pub by: IdentityName,
    /// Time of the approval.
    pub at: Timestamp,
    /// Comment of the approver.
    #[schema(nullable = false)]
    pub comment: Option<String>,
}

/// Outcome of a request.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[schema(as = Outcome)]
pub enum RequestOutcome {
    /// Denied by the policies.
    Denied {
        /// Time of the denial.
        at: Timestamp,
        /// Reason, in words for the requester.
        why: String,
    },
    /// Approved: it became a grant.
    Approved {
        /// Time of the approval.
        at: Timestamp,
        /// Way of the approval.
        how: ApprovedBy,
        /// Id of the grant.
        grant: GrantId,
    },
    /// Rejected by an approver.
    Rejected {
        /// Time of the rejection.
        at: Timestamp,
        /// Approver that rejected it.
        by: IdentityName,
        /// Comment of the approver.
        #[schema(nullable = false)]
        comment: Option<String>,
    },
    /// Withdrawn by the requester.
    Withdrawn {
        /// Time of the withdrawal.
        at: Timestamp,
    },
}

impl RequestOutcome {
    /// Returns the time of the outcome.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Denied { at, .. } | Self::Approved { at, .. } | Self::Rejected { at, .. } | Self::Withdrawn { at } => *at,
        }
    }

    /// Returns the status of a request with this outcome.
    #[must_use]
    pub fn status(&self) -> RequestState {
        match self {
            Self::Denied { .. } => RequestState::Denied,
            Self::Approved { .. } => RequestState::Approved,
            Self::Rejected { .. } => RequestState::Rejected,
            Self::Withdrawn { .. } => RequestState::Withdrawn,
        }
    }
}

/// Way a request was approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = How)]
pub enum ApprovedBy {
    /// Approved by the policies alone.
    Automatic,
    /// Approved by approvers.
    People,
    /// Break-glass: approved by nobody, to be reviewed.
    BreakGlass,
}

/// Review of a break-glass access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Review {
    /// Reviewer.
    pub by: IdentityName,
    /// Time of the review.
    pub at: Timestamp,
    /// Findings of the reviewer.
    pub comment: String,
}

/// State of a request at a moment. Computed, never stored: nothing has to run for a request to lapse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RequestStatus)]
pub enum RequestState {
    /// Waits for approvers.
    Pending,
    /// Was not approved in time.
    Lapsed,
    /// Was denied by the policies.
    Denied,
    /// Was approved and became a grant.
    Approved,
    /// Was rejected by an approver.
    Rejected,
    /// Was withdrawn by the requester.
    Withdrawn,
}

impl RequestState {
    /// Returns a stable name for the log, tables and scripts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Lapsed => "lapsed",
            Self::Denied => "denied",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl Request {
    /// Returns the state of the request at `now`.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> RequestState {
        match &self.outcome {
            Some(outcome) => outcome.status(),
            None if now < self.expires_at => RequestState::Pending,
            None => RequestState::Lapsed,
        }
    }

    /// Returns the profile and the window originally requested, before an approver narrowed them.
    #[must_use]
    pub fn asked_for(&self) -> RequestExtent {
        let asked = || RequestExtent {
            profile: self.wish.profile.clone(),
            window: self.wish.window,
        };
        self.narrowed_from.clone().unwrap_or_else(asked)
    }

    /// Returns the grant it became.
    #[must_use]
    pub fn grant(&self) -> Option<&GrantId> {
        match &self.outcome {
            Some(RequestOutcome::Approved { grant, .. }) => Some(grant),
            _ => None,
        }
    }

    /// Returns true if it is a break-glass access that nobody has reviewed.
    #[must_use]
    pub fn wants_review(&self) -> bool {
        self.wish.break_glass && self.grant().is_some() && self.review.is_none()
    }

    /// Returns the number of missing approvals.
    #[must_use]
    pub fn approvals_missing(&self) -> u32 {
        let have = u32::try_from(self.approvals.len()).unwrap_or(u32::MAX);
        self.approvals_needed.saturating_sub(have)
    }
}

#[cfg(test)]
mod tests;
