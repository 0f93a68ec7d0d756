//! The bodies of what operators do with local users.
//!
//! Shapes only, as all of [`super`].

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::{IntoParams, ToSchema};

pub use crate::ledger::UserView;
use crate::model::names::{GroupName, IdentityName};

/// `GET /v1/users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Users)]
pub struct UsersBody {
    /// Users, ordered by name.
    pub users: Vec<UserView>,
    /// Value of `after` for the next page, if there are more users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub next: Option<IdentityName>,
}

/// Query of `GET /v1/users`.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsersQuery {
    /// Only users with this text in their name, without regard to case.
    pub name: Option<String>,
    /// Only the user of this name.
    #[param(value_type = Option<String>)]
    pub identity: Option<IdentityName>,
    /// Only users behind this one: the last of the previous page.
    #[param(value_type = Option<String>)]
    pub after: Option<IdentityName>,
    /// Maximum number of users, up to 1,000; all if absent.
    pub limit: Option<u32>,
}

/// A local user to be made: `POST /v1/users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUserBody {
    /// Its name.
    pub name: IdentityName,
    /// Its groups.
    #[serde(default)]
    pub groups: BTreeSet<GroupName>,
    /// Life of its token in seconds; if absent, that of the configuration (`access.token_life`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub token_seconds: Option<u64>,
}

/// A token to be replaced: `POST /v1/users/{name}/rotate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateBody {
    /// Life of the new token in seconds; if absent, that of the configuration (`access.token_life`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub token_seconds: Option<u64>,
}

/// The answer where a token was made: `POST /v1/users` and `/rotate`. The token is in here and nowhere else.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct IssuedUser {
    /// The user.
    pub user: UserView,
    /// Its token; it is not kept and cannot be shown again. Absent where the old one was withdrawn and no new one could be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub token: Option<String>,
    /// Sentences about what was done all the same and may be a slip: groups that no policy names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Number of sign-ins that ended with the old token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub ended_sign_ins: Option<usize>,
}

/// The answer of `POST /v1/users/{name}/groups`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegroupedUser {
    /// The user.
    #[serde(flatten)]
    pub user: UserView,
    /// Sentences about what was done all the same and may be a slip: groups that no policy names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `POST /v1/users/{name}/groups`: all of them, not only new ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupsBody {
    /// The groups.
    pub groups: BTreeSet<GroupName>,
}
