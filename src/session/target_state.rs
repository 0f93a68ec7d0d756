//! Runtime state of a target, shared by its sessions.
//!
//! It does nothing itself.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::leftovers::Leftovers;
use super::masked::MaskedTables;
use crate::audit::values::Show;
use crate::names::ProfileName;
use crate::provision::{Roles, Terminator};
use crate::rails::Rails;
use crate::upstream::Target;

/// Runtime state of a target.
#[derive(Debug)]
pub struct TargetRoom {
    /// Address and account of the target.
    pub target: Arc<Target>,
    /// Connection that ends its backends.
    pub terminator: Terminator,
    /// Roles of its grants; `None`: all its sessions share its own account.
    pub roles: Option<Roles>,
    /// Sessions of a previous run of the gate; no session begins before they are ended.
    pub leftovers: Leftovers,
    /// Slots for its sessions.
    pub places: Arc<Semaphore>,
    /// Number of slots.
    pub limit: u32,
    /// Extent to which the log shows bound values.
    pub show: Show,
    /// Guard rails of the profiles that have some. `None` stands for grants without a profile: they get those of the narrowest
    /// profile, as for its rights.
    pub rails: HashMap<Option<ProfileName>, Arc<Rails>>,
    /// Tables that profiles see through masks; `None` as above.
    pub masked: HashMap<Option<ProfileName>, Arc<MaskedTables>>,
}
