//! The bodies of questions that are not acted on: what may be asked for, what would be answered, what an approver has to know.
//!
//! Shapes only, as all of [`super`].

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::schema::{RequestShape, SessionShape};
use super::{NewRequestBody, RequestBody, RequestView};
use crate::access::{Explained, ExplainedAnswer, Offer, ProfileWords};
use crate::ids::{GrantId, RequestId};
use crate::names::{GroupName, IdentityName, ProfileName, TargetName};
use crate::policy::{Remedy, Verdict};
use crate::session::SessionView;

/// A verdict of the policies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerdictBody {
    /// `automatic`, `approvals` or `denied`; of an action that is no request, `allowed` or `denied`.
    pub verdict: String,
    /// The number of approvers it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub approvals: Option<u32>,
    /// The reason for a denial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub why: Option<String>,
}

impl From<Verdict> for VerdictBody {
    fn from(verdict: Verdict) -> Self {
        let (verdict, approvals, why) = match verdict {
            Verdict::Automatic => ("automatic", None, None),
            Verdict::Approvals(approvals) => ("approvals", Some(approvals), None),
            Verdict::Denied { why } => ("denied", None, Some(why)),
        };
        Self {
            verdict: verdict.to_owned(),
            approvals,
            why,
        }
    }
}

/// A profile, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProfileBody {
    /// Its name.
    #[schema(value_type = String)]
    pub profile: ProfileName,
    /// Its rights.
    #[serde(default)]
    pub may: Vec<String>,
    /// Its masked columns, each with what is shown instead.
    #[serde(default)]
    pub masks: Vec<String>,
    /// Which statements are refused.
    #[serde(default)]
    pub rails: Vec<String>,
    /// The verdict on the caller's request for it; absent for the operator, who asks for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub verdict: Option<VerdictBody>,
    /// The verdict is that on a request with a reason; without one it is denied.
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
            verdict: Some(offer.verdict.into()),
            needs_reason: offer.needs_reason,
            ..Self::new(offer.profile, offer.words)
        }
    }
}

/// `GET /v1/requests/{id}/briefing`: what an approver has to know.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Briefing {
    /// The request.
    pub request: RequestBody,
    /// The profile, in words.
    pub profile: ProfileBody,
    /// The last requests of the same identity, of those the caller may see; the newest first.
    #[schema(value_type = Vec<RequestShape>)]
    pub earlier: Vec<RequestView>,
    /// The sessions on the target now; for the requester only their own.
    #[schema(value_type = Vec<SessionShape>)]
    pub sessions: Vec<SessionView>,
}

/// A question to the policies that is not acted on: `POST /v1/policy/explain`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainBody {
    /// The identity that would do it; absent: the caller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub identity: Option<IdentityName>,
    /// In which groups; absent: those they are in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub groups: Option<Vec<GroupName>>,
    /// `request` (also for `auto-approve` and `break-glass`), `approve`, `extend`, `revoke`, `read-log` or `administer`; absent: `request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The access that would be asked for, for `request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<NewRequestBody>,
    /// The request, for `approve`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub request: Option<RequestId>,
    /// The grant, for `extend` and `revoke`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub grant: Option<GrantId>,
    /// When, like `2026-08-03T10:00` in the zone of the policies; absent: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// From which address; absent: from the caller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub client: Option<std::net::IpAddr>,
}

/// The answer to a question that is not acted on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// To whom.
    #[schema(value_type = String)]
    pub identity: IdentityName,
    /// The action.
    pub action: String,
    /// Where to, of what is about access.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub target: Option<TargetName>,
    /// With which privileges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub profile: Option<ProfileName>,
    /// How long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub window_seconds: Option<u64>,
    /// The answer.
    pub answer: VerdictBody,
    /// The policies that decided.
    pub policies: Vec<String>,
    /// The changes that would make it better.
    pub remedies: Vec<RemedyBody>,
    /// SHA-256 of the policies.
    pub policy_set: String,
}

/// A change of a request, and what would become of it then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemedyBody {
    /// In words: `with a reason (--reason)`.
    pub change: String,
    /// The answer then.
    pub answer: VerdictBody,
}

impl From<Explained> for Explanation {
    fn from(explained: Explained) -> Self {
        let Explained {
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
