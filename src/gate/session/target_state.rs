//! Runtime state of a target, shared by its sessions; among it the sessions of a previous run of the gate, which new sessions wait
//! for.
//!
//! This module does not end those.
//!
//! INVARIANT: once the sessions of a previous run are settled, they stay settled; each target has its own, and does not delay another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::masked::MaskedTables;
use crate::audit::values::ParameterDisplay;
use crate::database::provision::{ChangeDrain, GrantRoles, Terminator};
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
    /// Task that moves its captured changes to the log; `None` if grants have no roles.
    pub changes: Option<ChangeDrain>,
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

/// Maximum time that a login waits. The start of the gate gives up earlier, so a client is refused only if the gate has no time
/// left for its own work.
const LEFTOVERS_TIMEOUT: Duration = Duration::from_secs(15);

/// Progress of ending the sessions of a previous run at a target. Cheap to clone; clones share their state.
#[derive(Debug, Clone)]
pub struct TargetLeftovers(watch::Sender<bool>);

impl TargetLeftovers {
    /// Returns the state of a target at which nothing was left.
    #[must_use]
    pub fn none() -> Self {
        Self(watch::Sender::new(true))
    }

    /// Returns the state of a target that has not been checked yet.
    #[must_use]
    pub fn unknown() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Notes that they are ended, or that the time for that is over.
    pub fn settle(&self) {
        self.0.send_replace(true);
    }

    /// Returns true once they are ended, or the time for that is over.
    #[must_use]
    pub fn settled(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until they are settled, for a bounded time; returns false if they are not by then.
    pub async fn wait(&self) -> bool {
        let mut changes = self.0.subscribe();
        let settled = changes.wait_for(|settled| *settled);
        matches!(tokio::time::timeout(LEFTOVERS_TIMEOUT, settled).await, Ok(Ok(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_login_waits_for_the_door_and_not_for_ever() {
        let leftovers = TargetLeftovers::unknown();
        let waits = leftovers.clone();
        let waiting = tokio::spawn(async move { waits.wait().await });
        tokio::time::sleep(LEFTOVERS_TIMEOUT / 2).await;
        leftovers.settle();
        assert!(waiting.await.unwrap() && leftovers.settled());
        assert!(!TargetLeftovers::unknown().wait().await, "it ends at the limit");
        assert!(TargetLeftovers::none().wait().await);
    }
}
