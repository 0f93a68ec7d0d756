//! The bodies of the control API: what is asked and what is answered, shared by the server and the command line.
//!
//! Shapes only; nothing is decided or looked up here. Field names are a promise to scripts.

mod access;
mod people;
mod users;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pub use access::*;
pub use people::*;
pub use users::*;

use super::schema::{GrantShape, SessionShape};
use crate::audit::Filter;
use crate::audit::key::PublicKey;
pub use crate::audit::{Extent, SortKey};
use crate::ids::GrantId;
pub use crate::ledger::{ClockView, Effect, GrantView};
use crate::names::{IdentityName, ProfileName, TargetName};
use crate::session::SessionView;

/// What came of a reload: `POST /v1/reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reload {
    /// What is in force now, and what of the configuration needs a restart.
    pub detail: String,
}

/// A grant to be made: `POST /v1/grants`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGrantBody {
    /// Whom it is for.
    #[schema(value_type = String)]
    pub identity: IdentityName,
    /// What it is for.
    #[schema(value_type = String)]
    pub target: TargetName,
    /// With which of the target's profiles; absent: the narrowest where profiles say what they may do, else
    /// none, for the target's own account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub profile: Option<ProfileName>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The window's length in seconds, from the first connect.
    pub window_seconds: u64,
    /// How many seconds it waits for the first connect; absent: [`ACTIVATE_WITHIN_SECONDS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activate_within_seconds: Option<u64>,
    /// The time no window goes past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline: Option<Timestamp>,
    /// Sessions at once; absent: [`MAX_SESSIONS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_sessions: Option<u32>,
    /// Where its clients have to come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub client_network: Option<IpNet>,
}

/// How long a grant waits for its first connect when nothing is said.
pub const ACTIVATE_WITHIN_SECONDS: u64 = 3_600;
/// Sessions at once when nothing is said: enough for a database tool with several windows or a small test suite.
pub const MAX_SESSIONS: u32 = 10;

/// The answer to a grant made. The secret is in here and nowhere else.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Issued {
    /// The grant.
    #[schema(value_type = GrantShape)]
    pub grant: GrantView,
    /// The password of the login; it is not kept and cannot be shown again.
    pub secret: String,
    /// Ready to paste into any client.
    pub connection_string: String,
}

/// `GET /v1/grants`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Grants {
    /// The latest first.
    #[schema(value_type = Vec<GrantShape>)]
    pub grants: Vec<GrantView>,
    /// There are more: the next page is asked for with this as `before`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub next: Option<GrantId>,
}

/// Which grants: the query of `GET /v1/grants`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GrantsQuery {
    /// Ended ones too.
    #[serde(default)]
    pub all: bool,
    /// Of this identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub identity: Option<IdentityName>,
    /// For this target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub target: Option<TargetName>,
    /// Older than this one: the last of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub before: Option<GrantId>,
    /// At most so many, up to 1,000, which it is when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// `POST /v1/grants/{id}/extend`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendBody {
    /// By how many seconds the window's end moves further off.
    pub by_seconds: u64,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `POST /v1/grants/{id}/shorten`: one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShortenBody {
    /// By how many seconds the window's end moves nearer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_seconds: Option<u64>,
    /// The new end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `POST /v1/grants/{id}/revoke`, `POST /v1/sessions/{id}/kill` and `POST /v1/clock/set-right`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonBody {
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `GET /v1/sessions`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Sessions {
    /// The oldest first.
    #[schema(value_type = Vec<SessionShape>)]
    pub sessions: Vec<SessionView>,
}

/// Which sessions: the query of `GET /v1/sessions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SessionsQuery {
    /// Under this grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub grant: Option<GrantId>,
    /// Of this identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub identity: Option<IdentityName>,
    /// On this target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub target: Option<TargetName>,
}

/// Which records: the query of `GET /v1/log`. Conditions are joined by "and".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LogQuery {
    /// What they must have.
    #[serde(flatten)]
    pub filter: Filter,
    /// How much of it, and in which order.
    #[serde(flatten)]
    pub extent: Extent,
}

/// Stands in the answer of `GET /v1/log` where a line of the log cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Unreadable {
    /// Which line, and why.
    pub error: String,
}

/// The public key that proves the log: the answer of `POST /v1/audit/rotate-key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditKeyBody {
    /// Its short name.
    pub id: String,
    /// Base 64 of its 32 bytes.
    pub key: String,
    /// As OpenSSL reads it.
    pub pem: String,
}

impl AuditKeyBody {
    /// A key as it is shown.
    #[must_use]
    pub fn of(key: &PublicKey) -> Self {
        Self {
            id: key.id(),
            key: key.to_string(),
            pem: key.pem(),
        }
    }
}

/// What went wrong, as RFC 9457 has it (`application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What kind of problem: `urn:tidegate:problem:…`; stable.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The thing and the reason.
    pub detail: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The policies that decided, where policies did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// The name nearest to a mistyped one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
}
