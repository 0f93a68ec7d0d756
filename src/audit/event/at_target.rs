//! Records of what a grant has at its target: its role, its database, its place in line.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::kinds::{CopyChangeKind, LineChangeKind, RoleChangeKind};
use crate::model::ids::GrantId;
use crate::model::line::UseMode;
use crate::model::names::{EnumOrUnknown, IdentityName, ProfileName, TargetName};

/// Creation or change of a grant's role at its target.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleChanged {
    /// Id of the grant.
    pub grant: GrantId,
    /// Target of the role.
    pub target: TargetName,
    /// Name of the role at the target.
    pub role: String,
    /// Kind of change.
    pub change: EnumOrUnknown<RoleChangeKind>,
    /// Time until which the role can log in.
    pub until: Option<Timestamp>,
    /// Error, or the login that was ended.
    pub detail: Option<String>,
}

/// Creation or end of a grant's own database.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyChanged {
    /// Id of the grant.
    pub grant: GrantId,
    /// Target of the grant.
    pub target: TargetName,
    /// Name of the database at the target's server.
    pub database: String,
    /// Database that it is a copy of; absent if this run of the gate did not make it.
    pub template: Option<String>,
    /// Kind of change.
    pub change: EnumOrUnknown<CopyChangeKind>,
    /// Time that it took, in microseconds.
    pub took_us: Option<u64>,
    /// Error, or the reason.
    pub detail: Option<String>,
}

/// Step of a grant in the line of its target.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineChanged {
    /// Id of the grant.
    pub grant: GrantId,
    /// Identity of the grant.
    pub identity: IdentityName,
    /// Target of the grant.
    pub target: TargetName,
    /// Profile of the grant.
    pub profile: Option<ProfileName>,
    /// Step.
    pub change: EnumOrUnknown<LineChangeKind>,
    /// Way in which the grant uses the target.
    pub mode: EnumOrUnknown<UseMode>,
    /// Place in line, when it came.
    pub place: Option<u32>,
    /// Grant that was in its way when it came.
    pub behind: Option<GrantId>,
    /// Identity of that grant.
    pub behind_identity: Option<IdentityName>,
    /// Microseconds that it has waited.
    pub waited_us: Option<u64>,
}
