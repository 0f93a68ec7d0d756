//! Bodies of queries without effect: the targets and profiles to request, the answers of the policies, the briefing for an
//! approver.
//!
//! They are plain data, like all of [`super`].

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::{NewRequestBody, RequestBody, RequestView};
use crate::access::policy::{Remedy, RequestVerdict};
use crate::access::{ExplainedAnswer, ExplainedDecision, Offer, ProfileWords};
use crate::gate::session::SessionView;
use crate::model::ids::{GrantId, RequestId};
use crate::model::names::{GroupName, IdentityName, ProfileName, TargetName};

/// Verdict of the policies.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerdictBody {
    /// `automatic`, `approvals` or `denied`; for actions other than requests, `allowed` or `denied`.
    pub verdict: String,
    /// Number of approvers that are needed.
    #[schema(nullable = false)]
    pub approvals: Option<u32>,
    /// Reason for a denial.
    #[schema(nullable = false)]
    pub why: Option<String>,
}

impl From<RequestVerdict> for VerdictBody {
    fn from(verdict: RequestVerdict) -> Self {
        let (verdict, approvals, why) = match verdict {
            RequestVerdict::Automatic => ("automatic", None, None),
            RequestVerdict::Approvals(approvals) => ("approvals", Some(approvals), None),
            RequestVerdict::Denied { why } => ("denied", None, Some(why)),
        };
        Self {
            verdict: verdict.to_owned(),
            approvals,
            why,
        }
    }
}

/// Profile, described in words.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProfileBody {
    /// Name of the profile.
    pub profile: ProfileName,
    /// Rights of the profile.
    #[serde(default)]
    pub may: Vec<String>,
    /// Masked columns, each with the value shown instead.
    #[serde(default)]
    pub masks: Vec<String>,
    /// Statements that are refused.
    #[serde(default)]
    pub rails: Vec<String>,
    /// Verdict on a request of the caller for this profile; absent for operators, who cannot request access.
    #[schema(nullable = false)]
    pub verdict: Option<VerdictBody>,
    /// True if the verdict applies only to a request with a reason; without one it is denied.
    #[serde(default)]
    pub needs_reason: bool,
}

impl ProfileBody {
    /// Makes the body of a profile, without a verdict.
    #[must_use]
    pub fn new(profile: ProfileName, words: ProfileWords) -> Self {
        let ProfileWords { may, masks, rails } = words;
        Self {
            profile,
            may,
            masks,
            rails,
            verdict: None,
            needs_reason: false,
        }
    }
}

impl From<Offer> for ProfileBody {
    fn from(offer: Offer) -> Self {
        Self {
            verdict: offer.verdict.map(VerdictBody::from),
            needs_reason: offer.needs_reason,
            ..Self::new(offer.profile, offer.words)
        }
    }
}

/// Information for an approver: `GET /v1/requests/{id}/briefing`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Briefing {
    /// The request.
    pub request: RequestBody,
    /// Requested profile, described in words.
    pub profile: ProfileBody,
    /// Latest requests of the same identity that the caller may see, the newest first.
    pub earlier: Vec<RequestView>,
    /// Current sessions on the target; for the requester only their own.
    pub sessions: Vec<SessionView>,
}

/// Query to the policies without effect: `POST /v1/policy/explain`.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainBody {
    /// Identity to ask about; if absent, the caller.
    pub identity: Option<IdentityName>,
    /// Groups of the identity; if absent, its actual groups.
    pub groups: Option<Vec<GroupName>>,
    /// Action to ask about: `request` (also for `auto-approve` and `break-glass`), `approve`, `extend`, `revoke`, `read-log` or
    /// `administer`; `request` if absent.
    pub action: Option<String>,
    /// Access to request, for `request`.
    pub access: Option<NewRequestBody>,
    /// Request to approve, for `approve`.
    pub request: Option<RequestId>,
    /// Grant to change, for `extend` and `revoke`.
    pub grant: Option<GrantId>,
    /// Time of the action, such as `2026-08-03T10:00` in the time zone of the policies; now if absent.
    pub at: Option<String>,
    /// Address of the client; if absent, the caller's.
    #[schema(value_type = Option<String>)]
    pub client: Option<std::net::IpAddr>,
}

/// Answer of the policies to a query without effect.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Explanation)]
pub struct ExplanationBody {
    /// Identity that the answer is about.
    pub identity: IdentityName,
    /// Action that the answer is about.
    pub action: String,
    /// Target, for actions about access.
    #[schema(nullable = false)]
    pub target: Option<TargetName>,
    /// Profile, for actions about access.
    #[schema(nullable = false)]
    pub profile: Option<ProfileName>,
    /// Length of the window in seconds, for actions about access.
    #[schema(nullable = false)]
    pub window_seconds: Option<u64>,
    /// Verdict of the policies.
    pub answer: VerdictBody,
    /// Policies that decided.
    pub policies: Vec<String>,
    /// Changes that would improve the verdict.
    pub remedies: Vec<RemedyBody>,
    /// SHA-256 of the policies.
    pub policy_set: String,
}

/// Change to a request, with the verdict it would lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemedyBody {
    /// Change in words, such as `with a reason (--reason)`.
    pub change: String,
    /// Verdict after the change.
    pub answer: VerdictBody,
}

impl From<ExplainedDecision> for ExplanationBody {
    fn from(explained: ExplainedDecision) -> Self {
        let ExplainedDecision {
            identity,
            action,
            wish,
            answer,
            policy_set,
        } = explained;
        let (answer, policies, remedies) = match answer {
            ExplainedAnswer::Access(explanation) => {
                let remedy = |Remedy { change, verdict }| RemedyBody {
                    change,
                    answer: verdict.into(),
                };
                let remedies = explanation.remedies.into_iter().map(remedy).collect();
                let judgement = explanation.judgement;
                (judgement.verdict.into(), judgement.policies, remedies)
            }
            ExplainedAnswer::Action(decision, why) => {
                let verdict = if decision.allowed { "allowed" } else { "denied" };
                let answer = VerdictBody {
                    verdict: verdict.to_owned(),
                    approvals: None,
                    why,
                };
                (answer, decision.policies, Vec::new())
            }
        };
        Self {
            identity,
            action: action.name().to_owned(),
            target: wish.as_ref().map(|wish| wish.target.clone()),
            profile: wish.as_ref().map(|wish| wish.profile.clone()),
            window_seconds: wish.as_ref().map(|wish| wish.window.as_secs()),
            answer,
            policies,
            remedies,
            policy_set,
        }
    }
}
