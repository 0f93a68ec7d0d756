//! Bodies of the control API's requests and answers, shared by the server and the command line.
//!
//! They are plain data. Scripts depend on the field names.

mod access;
mod people;
mod sign_ins;
mod status;
mod users;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::{IntoParams, ToSchema};

pub use access::*;
pub use people::*;
pub use sign_ins::*;
pub use status::*;
pub use users::*;

use crate::audit::Filter;
use crate::audit::key::PublicKey;
use crate::audit::runs::RunSelector;
pub use crate::audit::{SearchExtent, SortKey};
use crate::gate::session::SessionView;
pub use crate::ledger::{ChangeEffect, ClockView, GrantView};
use crate::model::ids::GrantId;
pub use crate::model::line::{LineHolder, LinePlace, LineStanding, LineView};
use crate::model::names::{IdentityName, ProfileName, TargetName};

/// Result of a reload: `POST /v1/reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reload {
    /// Parts of the configuration that are in force now, and parts that need a restart.
    pub detail: String,
}

/// New grant: `POST /v1/grants`.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGrantBody {
    /// Identity that the grant is for.
    pub identity: IdentityName,
    /// Target that the grant is for.
    pub target: TargetName,
    /// Profile of the target. If absent: the narrowest one if the target's profiles define rights; otherwise none, and the
    /// sessions use the target's own account.
    pub profile: Option<ProfileName>,
    /// Reason for the grant.
    pub reason: Option<String>,
    /// Length of the window in seconds, from the first connection.
    pub window_seconds: u64,
    /// Number of seconds that the grant waits for its first connection; 3,600 if absent.
    pub activate_within_seconds: Option<u64>,
    /// Latest end of the window.
    pub deadline: Option<Timestamp>,
    /// Number of simultaneous sessions; 10 if absent.
    pub max_sessions: Option<u32>,
    /// Network that its clients must connect from.
    #[schema(value_type = Option<String>)]
    pub client_network: Option<IpNet>,
}

/// Answer to a new grant. It is the only place where the secret appears.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Issued {
    /// The new grant.
    pub grant: GrantView,
    /// Password of the login. It is not stored and cannot be shown again.
    pub secret: String,
    /// Connection string to paste into any client.
    pub connection_string: String,
}

/// Page of grants: `GET /v1/grants`.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Grants {
    /// Grants, the newest first.
    pub grants: Vec<GrantView>,
    /// Value of `before` for the next page, if there are more grants.
    pub next: Option<GrantId>,
}

/// Query of `GET /v1/grants`.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GrantsQuery {
    /// Include grants that have ended.
    #[serde(default)]
    pub all: bool,
    /// Only grants of this identity.
    pub identity: Option<IdentityName>,
    /// Only grants for this target.
    pub target: Option<TargetName>,
    /// Only grants older than this one: the last of the previous page.
    pub before: Option<GrantId>,
    /// Maximum number of grants, up to 1,000; 1,000 if absent.
    pub limit: Option<u32>,
}

/// Extension of a grant: `POST /v1/grants/{id}/extend`.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendBody {
    /// Number of seconds to add to the window's end.
    pub by_seconds: u64,
    /// Reason for the extension.
    pub reason: Option<String>,
}

/// New end of a grant, relative or absolute: `POST /v1/grants/{id}/shorten`. Exactly one of `by_seconds` and `until` is set.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShortenBody {
    /// Number of seconds to subtract from the window's end.
    pub by_seconds: Option<u64>,
    /// New end of the window.
    pub until: Option<Timestamp>,
    /// Reason for the change.
    pub reason: Option<String>,
}

/// Optional reason: `POST /v1/grants/{id}/revoke`, `POST /v1/sessions/{id}/kill` and `POST /v1/clock/set-right`.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonBody {
    /// Reason for the action.
    pub reason: Option<String>,
}

/// Running sessions: `GET /v1/sessions`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Sessions {
    /// Sessions, the oldest first.
    pub sessions: Vec<SessionView>,
    /// Targets in exclusive use, with those who wait: with `administer` all, otherwise those at which the caller is one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<LineView>,
}

/// Query of `GET /v1/sessions`.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SessionsQuery {
    /// Only sessions under this grant.
    pub grant: Option<GrantId>,
    /// Only sessions of this identity.
    pub identity: Option<IdentityName>,
    /// Only sessions on this target.
    pub target: Option<TargetName>,
}

/// Query of `GET /v1/log`. A record must meet all conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogQuery {
    /// Conditions that a record must meet.
    #[serde(flatten)]
    pub filter: Filter,
    /// Amount and order of the records.
    #[serde(flatten)]
    pub extent: SearchExtent,
}

/// Query of `GET /v1/audit/report`.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReportQuery {
    /// Start of the period.
    #[param(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// End of the period, which is not in it; now if absent.
    #[param(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// Query of `GET /v1/runs/report`.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RunReportQuery {
    /// Run: its name, or the id of a grant or a session.
    #[param(value_type = String)]
    pub run: RunSelector,
    /// Earliest time.
    #[param(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// Query of `GET /v1/runs/diff`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RunDiffQuery {
    /// Run that is compared with: its name, or the id of a grant or a session.
    #[param(value_type = String)]
    pub green: RunSelector,
    /// Run that is compared.
    #[param(value_type = String)]
    pub red: RunSelector,
}

/// Line in the answer of `GET /v1/log` in place of a record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Unreadable)]
pub struct UnreadableLine {
    /// Place of the record, and the reason.
    pub error: String,
}

/// Public key that verifies the log: the answer of `POST /v1/audit/rotate-key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditKeyBody {
    /// Short name of the key.
    pub id: String,
    /// Base 64 of its 32 bytes.
    pub key: String,
    /// Key in PEM format, as OpenSSL reads it.
    pub pem: String,
}

impl AuditKeyBody {
    /// Converts a key to its body.
    #[must_use]
    pub fn of(key: &PublicKey) -> Self {
        Self {
            id: key.id(),
            key: key.to_string(),
            pem: key.pem(),
        }
    }
}

/// Error as defined by RFC 9457 (`application/problem+json`).
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Stable identifier of the kind of problem: `urn:tidegate:problem:…`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Kind of the problem in words.
    pub title: String,
    /// HTTP status code.
    pub status: u16,
    /// Object concerned, and the reason.
    pub detail: String,
    /// Next step that solves the problem.
    pub remedy: Option<String>,
    /// Policies that decided, if policies did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// Existing name that is nearest to a mistyped one.
    pub nearest: Option<String>,
    /// True if the same caller may do it after signing in again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sign_in_again: bool,
}
