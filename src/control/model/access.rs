//! Bodies of queries without effect: the briefing for an approver, the query to the policies. Those of the answers are the access
//! service's own.
//!
//! They are plain data, like all of [`super`].

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::{NewRequestBody, RequestBody, RequestView};
pub use crate::access::{
    ExplanationView as ExplanationBody, ProfileView as ProfileBody, RemedyView as RemedyBody, VerdictView as VerdictBody,
};
use crate::gate::session::SessionView;
use crate::model::ids::{GrantId, RequestId};
use crate::model::names::{GroupName, IdentityName};

/// Information for an approver: `GET /v1/requests/{id}/briefing`.
#[skip_serializing_none]
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
    /// Verdict of the policies on the request now; absent if it is settled, or depends on the requester's address.
    #[schema(nullable = false)]
    pub verdict: Option<VerdictBody>,
    /// Policies that give this verdict.
    #[serde(default)]
    pub policies: Vec<String>,
    /// True if the policies let the caller approve or reject it now.
    #[serde(default)]
    pub may_decide: bool,
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
