//! Runtime state of a target, shared by its sessions.
//!
//! It does nothing itself.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::leftovers::TargetLeftovers;
use super::masked::MaskedTables;
use crate::audit::values::ParameterDisplay;
use crate::database::provision::{GrantRoles, Terminator};
use crate::database::upstream::Target;
use crate::gate::sql_filter::SqlFilter;
use crate::model::names::ProfileName;

/// Runtime state of a target.
#[derive(Debug)]
pub struct TargetState {
    /// Address and account of the target.
    pub target: Arc<Target>,
    /// Connection that ends its backends.
    pub terminator: Terminator,
    /// Roles of its grants; `None`: all its sessions share its own account.
    pub roles: Option<GrantRoles>,
    /// Sessions of a previous run of the gate; no session begins before they are ended.
    pub leftovers: TargetLeftovers,
    /// Slots for its sessions.
    pub places: Arc<Semaphore>,
    /// Number of slots.
    pub limit: u32,
    /// Extent to which the log shows bound values.
    pub show: ParameterDisplay,
    /// Guard rails of the profiles that have some. `None` stands for grants without a profile: they get those of the narrowest
    /// profile, as for its rights.
    pub rails: HashMap<Option<ProfileName>, Arc<SqlFilter>>,
    /// Tables that profiles see through masks; `None` as above.
    pub masked: HashMap<Option<ProfileName>, Arc<MaskedTables>>,
}
