//! Ensures that no grant's role, and no backend logged in as one, outlives its grant: at the start, and every minute.
//!
//! It only compares; each target's `GrantRoles` drops and terminates, by the state of the grants in the ledger. Anything not visible
//! now is looked for again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::base::error_chain::display_chain;
use crate::database::provision::{GrantRoles, ReconcileResult};
use crate::gate::session::{SharedState, TargetState};
use crate::ledger::Ledger;
use crate::model::names::TargetName;

/// Interval between two comparisons of roles and backends with the grants.
const COMPARE_INTERVAL: Duration = Duration::from_mins(1);
/// Delay of the first comparison after the start: a role that the previous run was about to create may appear after the check
/// at the start.
const FIRST_COMPARE_DELAY: Duration = Duration::from_secs(5);
/// Time that the start waits for a target's list of roles; an unreachable target is checked when it is back.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that an orderly stop waits for roles to be dropped.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Cleans up the roles that a crashed gate left at a target, before the first session is let in there. A backend logged in as a
/// grant's role belongs to no session of this run. `former` lists the backends of the previous run's sessions.
pub(super) async fn reap_at_start(target_state: &TargetState, ledger: &Ledger, former: &HashSet<i32>) {
    let Some(roles) = &target_state.roles else { return };
    let target = &target_state.target.name;
    match timeout(START_TIMEOUT, roles.reconcile(|grant| ledger.watch(grant), former, true)).await {
        Ok(Ok(reaped)) if reaped.found > 0 => tracing::warn!(
            target_name = %target, found = reaped.found, over = reaped.over, backends = reaped.intruders,
            "found roles from a previous run; dropping those of expired grants"
        ),
        Ok(Ok(_)) => {}
        Ok(Err(fault)) => {
            tracing::warn!(target_name = %target, error = %display_chain(&fault), "cannot look for roles from a previous run yet");
        }
        Err(_) => {
            tracing::warn!(target_name = %target, "cannot look for roles from a previous run yet: the database does not answer");
        }
    }
}

/// Compares for as long as the gate runs.
pub(super) async fn watch(shared: Arc<SharedState>) {
    let mut pause = FIRST_COMPARE_DELAY;
    loop {
        tokio::time::sleep(pause).await;
        let suspects = look(&shared).await;
        pause = if suspects { ReconcileResult::LATER } else { COMPARE_INTERVAL };
    }
}

/// Compares once, and returns true if some backends must be checked again soon.
async fn look(shared: &SharedState) -> bool {
    let rules = shared.rules.borrow().clone();
    let sessions = match shared.ledger.leftovers().await {
        Ok(sessions) => sessions,
        Err(error) => {
            tracing::error!(error = %display_chain(&error), "cannot read the open sessions; will check grant roles later");
            return false;
        }
    };
    let mut suspects = false;
    for (target, roles) in of(&rules.targets) {
        let here = sessions.iter().filter(|session| session.target == *target);
        let held = here.map(|session| session.backend_pid).collect();
        match roles.reconcile(|grant| shared.ledger.watch(grant), &held, false).await {
            Ok(reaped) => suspects |= reaped.suspects > 0,
            Err(fault) => {
                tracing::warn!(target_name = %target, error = %display_chain(&fault), "cannot check grant roles at the target; will retry");
            }
        }
    }
    suspects
}

/// Drops all roles, for an orderly stop. A role not dropped in time still has its end at the server (`VALID UNTIL`), and the
/// next start drops it.
pub(super) async fn close(shared: &SharedState) {
    let rules = shared.rules.borrow().clone();
    let ends = of(&rules.targets).map(|(_, roles)| roles.close());
    if timeout(STOP_TIMEOUT, join_all(ends)).await.is_err() {
        tracing::warn!("cannot drop all grant roles in time; the next start drops the rest");
    }
}

/// Copies the counters of the roles to the metrics.
pub(super) fn count(shared: &SharedState) {
    for (target, roles) in of(&shared.rules.borrow().targets) {
        shared.metrics.roles(target, roles.counted());
        shared.metrics.copies(target, roles.copies_counted());
    }
}

fn of(rooms: &HashMap<TargetName, Arc<TargetState>>) -> impl Iterator<Item = (&TargetName, &GrantRoles)> {
    rooms
        .iter()
        .filter_map(|(name, target_state)| Some((name, target_state.roles.as_ref()?)))
}
