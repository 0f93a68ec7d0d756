//! The bodies of what people and pipelines do: requests, approvals, logins.
//!
//! Shapes only, as all of [`super`].

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::schema::{GrantShape, RequestShape};
use super::{GrantView, ProfileBody};
use crate::ids::{GrantId, RequestId};
pub use crate::ledger::RequestView;
use crate::names::{GroupName, IdentityName, ProfileName, TargetName};
use crate::request::Status;

/// `GET /v1/me`: as whom the caller is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// The identity; with the admin token, the operator's name.
    pub name: String,
    /// Its groups.
    #[schema(value_type = BTreeSet<String>)]
    pub groups: BTreeSet<GroupName>,
    /// How it was proved: `local` (a local user's token), `admin` (the admin token), or the URL of a token's issuer.
    pub source: String,
    /// Whether it may administer.
    pub admin: bool,
}

/// `GET /v1/targets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Targets {
    /// By name.
    pub targets: Vec<TargetBody>,
}

/// A target, as somebody needs to know it who asks for access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetBody {
    /// Its name; a client gives it as the database.
    #[schema(value_type = String)]
    pub name: TargetName,
    /// Its profiles, the narrowest first; the first is meant when none is named.
    #[schema(value_type = Vec<String>)]
    pub profiles: Vec<ProfileName>,
    /// The same profiles, in words.
    #[serde(default)]
    pub details: Vec<ProfileBody>,
}

/// `GET /v1/targets/{name}/status`: the roles of a target's grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetStatus {
    /// The target.
    #[schema(value_type = String)]
    pub target: TargetName,
    /// Whether each grant has a role of its own there; if not, all sessions share the target's account, and the rest is empty.
    pub role_per_grant: bool,
    /// The roles of this gate's grants that are there now, by name.
    pub roles: Vec<RoleBody>,
    /// Roles made since the gate's start.
    pub made: u64,
    /// Roles ended since then.
    pub retired: u64,
    /// Roles of grants that are over and could not be ended yet: they can log nobody in, and it is tried again.
    pub left: u64,
    /// Backends ended since the start that had logged in as a grant's role past the gate.
    pub intruders: u64,
    /// Roles of grants there that are another gate's, or of another target.
    pub elsewhere: u64,
    /// How its database stood with each of its profiles when the gate looked last.
    #[serde(default)]
    pub profiles: Vec<ProfileStatus>,
}

/// How a target's database stood with a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProfileStatus {
    /// The profile.
    #[schema(value_type = String)]
    pub profile: ProfileName,
    /// When the gate looked.
    #[schema(value_type = String, format = DateTime)]
    pub looked_at: Timestamp,
    /// In how many places the database differed from what the profile says; absent if that could not be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differences: Option<u64>,
    /// The first of them, each with what mends it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<String>,
    /// Why it could not be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A grant's role, as the target's server has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleBody {
    /// Its name there.
    pub role: String,
    /// The grant.
    #[schema(value_type = String)]
    pub grant: GrantId,
    /// Whose grant, if the gate knows it still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub identity: Option<IdentityName>,
    /// How the grant stands; `unknown` when the gate does not know it any more.
    pub status: String,
    /// When the grant ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// Whether the role can log in.
    pub can_login: bool,
    /// Backends that are logged in as it.
    pub backends: u32,
    /// Sessions of the gate under the grant: as many as backends, or somebody has come in past the gate.
    pub sessions: u32,
}

impl TargetStatus {
    /// Of a target whose sessions share its account.
    #[must_use]
    pub fn shared(target: TargetName) -> Self {
        Self {
            target,
            role_per_grant: false,
            roles: Vec::new(),
            made: 0,
            retired: 0,
            left: 0,
            intruders: 0,
            elsewhere: 0,
            profiles: Vec::new(),
        }
    }
}

/// Access is asked for: `POST /v1/requests` and `POST /v1/access`. Names are texts here, so that a mistyped one is answered with the nearest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRequestBody {
    /// Where to.
    pub target: String,
    /// With which privileges; absent: the target's narrowest profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// How long, from the first connect; absent: the gate's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_seconds: Option<u64>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Under which ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// How many sessions at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_sessions: Option<u32>,
    /// At once, without waiting for anybody, to be reviewed afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
}

/// The answer of `POST /v1/access`: one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccessBody {
    /// A live grant of the caller that is what they ask for: nothing was asked anew, a new reason is on record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<GrantShape>, nullable = false)]
    pub joined: Option<GrantView>,
    /// The request, where there was no such grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub request: Option<RequestBody>,
}

/// A request, and who can say yes to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestBody {
    /// The request.
    #[serde(flatten)]
    #[schema(value_type = RequestShape)]
    pub request: RequestView,
    /// The local users who could approve it, while it is pending.
    #[schema(value_type = Vec<String>)]
    pub approvers: Vec<IdentityName>,
    /// It is pending, and nobody who may approve it is enabled here.
    #[serde(default)]
    pub waits_for_nobody: bool,
}

/// `GET /v1/requests`: a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Requests {
    /// The newest first.
    #[schema(value_type = Vec<RequestShape>)]
    pub requests: Vec<RequestView>,
    /// There may be more: the next page is asked for with this as `before`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub next: Option<RequestId>,
}

/// Which requests: the query of `GET /v1/requests`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RequestsQuery {
    /// With this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RequestStatus>,
    /// Of this identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub identity: Option<IdentityName>,
    /// For this target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub target: Option<TargetName>,
    /// Only break-glass accesses that nobody has reviewed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreviewed: bool,
    /// Older than this one: `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub before: Option<RequestId>,
    /// At most so many, up to [`LONGEST_PAGE`]; absent: [`PAGE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Requests on a page when nothing is said.
pub const PAGE: u32 = 100;
/// Requests on a page at most.
pub const LONGEST_PAGE: u32 = 1_000;

/// Where a request stands, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestStatus {
    /// Waits for approvers.
    Pending,
    /// Nobody approved it in time.
    Lapsed,
    /// The policies forbade it.
    Denied,
    /// It became a grant.
    Approved,
    /// An approver said no.
    Rejected,
    /// The requester took it back.
    Withdrawn,
}

impl From<RequestStatus> for Status {
    fn from(status: RequestStatus) -> Self {
        match status {
            RequestStatus::Pending => Self::Pending,
            RequestStatus::Lapsed => Self::Lapsed,
            RequestStatus::Denied => Self::Denied,
            RequestStatus::Approved => Self::Approved,
            RequestStatus::Rejected => Self::Rejected,
            RequestStatus::Withdrawn => Self::Withdrawn,
        }
    }
}

/// The query of `GET /v1/requests/{id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// While it is pending, wait up to so many seconds (at most [`LONGEST_WAIT_SECONDS`]) for it to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<u64>,
}

/// How long an answer is held back at most; whoever wants to wait longer asks again.
pub const LONGEST_WAIT_SECONDS: u64 = 60;

/// `POST /v1/requests/{id}/approve`. Less than was asked for can be given, never more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveBody {
    /// A shorter window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_seconds: Option<u64>,
    /// A narrower profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub profile: Option<ProfileName>,
    /// In the approver's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// `POST /v1/requests/{id}/reject` and `/review`; a review needs the comment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommentBody {
    /// In the caller's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Where there is nothing to say: `{}`, or no body at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmptyBody {}

/// `POST /v1/users/{name}/disable`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DisableBody {
    /// Also somebody whom the gate has never met: no user of its own, and without a grant or a request.
    #[serde(default)]
    pub unseen: bool,
}

/// `POST /v1/grants/{id}/login`: what a client connects with. The secret is in here and nowhere else.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct GrantLoginBody {
    /// The user name.
    pub user: String,
    /// The password; it is not kept and cannot be shown again.
    pub secret: String,
    /// Where clients connect to.
    pub host: String,
    /// See `host`.
    pub port: u16,
    /// The database name: the target's.
    pub database: String,
    /// All of it, ready to paste into any client.
    pub connection_string: String,
    /// The certificate to verify the gate by, PEM; absent where the gate does not have its CA's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub certificate: Option<String>,
    /// How much clients can verify at `host` by that certificate: `verify-full`, or `verify-ca` where the gate's own is for other
    /// names. `require` where that is not known.
    #[serde(default)]
    pub sslmode: String,
}
