//! The bodies of what people and pipelines do: requests, approvals, logins.
//!
//! They are plain data, like all of [`super`].

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

use super::{GrantView, ProfileBody};
pub use crate::ledger::RequestView;
use crate::model::ids::{GrantId, RequestId, SignInId};
use crate::model::names::{GroupName, IdentityName, ProfileName, TargetName};
use crate::model::request::RequestState;

/// Identity of the caller: `GET /v1/me`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// Name of the identity; with the admin token, the operator's name.
    pub name: String,
    /// Groups of the identity.
    pub groups: BTreeSet<GroupName>,
    /// Source of the identity: `local` (a local user's token), `admin` (the admin token), or the URL of a token's issuer.
    pub source: String,
    /// True if the caller may administer.
    pub admin: bool,
    /// Sign-in whose secret the caller has sent; absent if it was a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub sign_in: Option<SignInId>,
    /// Latest end of the token or sign-in that the caller has sent; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub until: Option<Timestamp>,
}

/// Targets: `GET /v1/targets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Targets {
    /// Targets, ordered by name.
    pub targets: Vec<TargetBody>,
}

/// Query of `GET /v1/targets`.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TargetsQuery {
    /// Only this target, with the users that could approve a request.
    pub target: Option<String>,
}

/// Target, with the information that a request needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetBody {
    /// Name of the target; a client gives it as the database name.
    pub name: TargetName,
    /// Profiles, from the narrowest to the widest; the first is the default.
    pub profiles: Vec<ProfileName>,
    /// Same profiles, described in words.
    #[serde(default)]
    pub details: Vec<ProfileBody>,
}

/// Roles of a target's grants: `GET /v1/targets/{name}/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetStatus {
    /// Name of the target.
    pub target: TargetName,
    /// True if each grant has its own role there. If not, all sessions share the target's account, and the rest is empty.
    pub role_per_grant: bool,
    /// Existing roles of this gate's grants, ordered by name.
    pub roles: Vec<RoleBody>,
    /// Number of roles created since the gate's start.
    pub made: u64,
    /// Number of roles dropped since the gate's start.
    pub retired: u64,
    /// Number of roles of ended grants that could not be dropped yet. They cannot log in, and the gate keeps trying to drop
    /// them.
    pub left: u64,
    /// Number of backends ended since the start that had logged in as a grant's role without going through the gate.
    pub intruders: u64,
    /// Number of roles there that belong to grants of another gate or of another target.
    pub elsewhere: u64,
    /// Existing databases of this gate's grants at the server, each a copy of a template.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<CopyBody>,
    /// Number of these databases made since the gate's start.
    #[serde(default)]
    pub copies_made: u64,
    /// Number of these databases dropped since the gate's start.
    #[serde(default)]
    pub copies_dropped: u64,
    /// Status of its database at the gate's last check, by profile.
    #[serde(default)]
    pub profiles: Vec<ProfileStatus>,
}

/// Difference between a target's database and a profile.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProfileStatus {
    /// Name of the profile.
    pub profile: ProfileName,
    /// Time of the check.
    pub looked_at: Timestamp,
    /// Number of differences between the database and the profile; absent if they could not be determined.
    pub differences: Option<u64>,
    /// First differences, each with the SQL that corrects it, if there is any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<String>,
    /// Reason that the differences could not be determined.
    pub problem: Option<String>,
}

/// Database of a grant, a copy of a template, as found on the target's server.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CopyBody {
    /// Name of the database on the server.
    pub database: String,
    /// Grant that the database belongs to.
    pub grant: GrantId,
    /// Size in bytes, if the gate's account can see it.
    pub bytes: Option<u64>,
}

/// Role of a grant, as found on the target's server.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleBody {
    /// Name of the role on the server.
    pub role: String,
    /// Grant that the role belongs to.
    pub grant: GrantId,
    /// Identity of the grant, if the gate still knows it.
    pub identity: Option<IdentityName>,
    /// Status of the grant; `unknown` if the gate no longer knows it.
    pub status: String,
    /// End of the grant.
    pub until: Option<Timestamp>,
    /// True if the role can log in.
    pub can_login: bool,
    /// Number of backends that are logged in as the role.
    pub backends: u32,
    /// Number of the gate's sessions under the grant. Fewer than `backends` means a login without going through the gate.
    pub sessions: u32,
}

impl TargetStatus {
    /// Returns the status of a target whose sessions share its account.
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
            copies: Vec::new(),
            copies_made: 0,
            copies_dropped: 0,
            profiles: Vec::new(),
        }
    }
}

/// New request: `POST /v1/requests` and `POST /v1/access`. Names are strings, so that a mistyped one can be answered with the
/// nearest.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRequestBody {
    /// Target of the request.
    pub target: String,
    /// Profile of the request; if absent, the target's narrowest.
    pub profile: Option<String>,
    /// Length of the window in seconds, from the first connection; if absent, the gate's default.
    pub window_seconds: Option<u64>,
    /// Reason for the request.
    pub reason: Option<String>,
    /// Ticket that the request belongs to.
    pub ticket: Option<String>,
    /// Number of simultaneous sessions.
    pub max_sessions: Option<u32>,
    /// Immediate access without approval, to be reviewed afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
    /// For an exclusive profile: a grant of its own that waits in line, where otherwise a live grant would be joined.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
}

/// Wait in line with a grant: `POST /v1/grants/{id}/line`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LineBody {
    /// Number of seconds that the answer may wait for the turn of the grant; 0 if absent.
    #[serde(default)]
    pub wait_seconds: u64,
    /// True to let the answer wait also while the grant uses its target exclusively, which keeps that use.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep: bool,
}

/// Answer of `POST /v1/access`; exactly one of the two fields is set.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccessBody {
    /// Live grant of the caller that covers the request. No new request was made; a new reason is recorded.
    #[schema(nullable = false)]
    pub joined: Option<GrantView>,
    /// New request, if there was no such grant.
    #[schema(nullable = false)]
    pub request: Option<RequestBody>,
}

/// Request with its possible approvers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestBody {
    /// The request.
    #[serde(flatten)]
    pub request: RequestView,
    /// Local users who could approve it, while it is pending.
    pub approvers: Vec<IdentityName>,
    /// True if the request is pending and no enabled identity here may approve it.
    #[serde(default)]
    pub waits_for_nobody: bool,
}

/// Page of requests: `GET /v1/requests`.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Requests)]
pub struct RequestsBody {
    /// Requests, the newest first.
    pub requests: Vec<RequestView>,
    /// Value of `before` for the next page, if there may be more requests.
    pub next: Option<RequestId>,
}

/// Query of `GET /v1/requests`.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RequestsQuery {
    /// Only requests with this status.
    pub status: Option<RequestState>,
    /// Only requests of this identity.
    pub identity: Option<IdentityName>,
    /// Only requests for this target.
    pub target: Option<TargetName>,
    /// Only break-glass accesses without a review.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreviewed: bool,
    /// Only requests that wait no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settled: bool,
    /// Only requests that the caller may decide on (with `status=pending`) or review (with `unreviewed`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub decidable: bool,
    /// Only requests older than this one: `next` of the previous page.
    pub before: Option<RequestId>,
    /// Maximum number of requests, up to 1,000; 100 if absent.
    pub limit: Option<u32>,
}

/// Default number of requests on a page.
pub const DEFAULT_PAGE_ROWS: u32 = 100;
/// Maximum number of requests on a page.
pub const MAX_PAGE_ROWS: u32 = 1_000;

/// Query of `GET /v1/requests/{id}`.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// Number of seconds, at most 60, to wait for a change while the request is pending.
    pub wait_seconds: Option<u64>,
}

/// Longest time in seconds that an answer is delayed. Clients that want to wait longer ask again.
pub const MAX_WAIT_SECONDS: u64 = 60;

/// Approval: `POST /v1/requests/{id}/approve`. It can reduce the request, never widen it.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveBody {
    /// Shorter window, in seconds.
    pub window_seconds: Option<u64>,
    /// Narrower profile.
    pub profile: Option<ProfileName>,
    /// Comment of the approver.
    pub comment: Option<String>,
}

/// Optional comment: `POST /v1/requests/{id}/reject` and `/review`. A review requires it.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CommentBody {
    /// Comment of the caller.
    pub comment: Option<String>,
}

/// Empty body: `{}`, or no body at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EmptyBody {}

/// Body of `POST /v1/users/{name}/disable`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DisableBody {
    /// Accept an identity that the gate has never seen: not a local user, and without a grant or a request.
    #[serde(default)]
    pub unseen: bool,
}

/// Login of a grant: `POST /v1/grants/{id}/login`. It is the only place where the secret appears.
#[skip_serializing_none]
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct GrantLoginBody {
    /// User name of the login.
    pub user: String,
    /// Password of the login. It is not stored and cannot be shown again.
    pub secret: String,
    /// Host that clients connect to.
    pub host: String,
    /// Port that clients connect to.
    pub port: u16,
    /// Database name: that of the target.
    pub database: String,
    /// Connection string to paste into any client.
    pub connection_string: String,
    /// Certificate that verifies the gate, in PEM format; absent if the gate does not have the certificate of its CA.
    #[schema(nullable = false)]
    pub certificate: Option<String>,
    /// Strictest verification that works at `host` with that certificate: `verify-full`, or `verify-ca` if the gate's own
    /// certificate is for other names. `require` if unknown.
    #[serde(default)]
    pub sslmode: String,
}
