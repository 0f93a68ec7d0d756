//! Ensures that no grant's role, and no backend logged in as one, outlives its grant: at the start, and every minute.
//!
//! It only compares; each target's `Roles` drops and terminates, by the state of the grants in the ledger. Anything not visible
//! now is looked for again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::causes::in_one_line;
use crate::ledger::Ledger;
use crate::names::TargetName;
use crate::provision::{ReapedRoles, Roles};
use crate::session::{Shared, TargetRoom};

/// Interval between two comparisons of roles and backends with the grants.
const EVERY: Duration = Duration::from_mins(1);
/// Delay of the first comparison after the start: a role that the previous run was about to create may appear after the check
/// at the start.
const FIRST: Duration = Duration::from_secs(5);
/// Time that the start waits for a target's list of roles; an unreachable target is checked when it is back.
const AT_START: Duration = Duration::from_secs(10);
/// Time that an orderly stop waits for roles to be dropped.
const AT_STOP: Duration = Duration::from_secs(5);

/// Cleans up the roles that a crashed gate left at a target, before the first session is let in there. A backend logged in as a
/// grant's role belongs to no session of this run. `former` lists the backends of the previous run's sessions.
pub(super) async fn reap_at_start(room: &TargetRoom, ledger: &Ledger, former: &HashSet<i32>) {
    let Some(roles) = &room.roles else { return };
    let target = &room.target.name;
    match timeout(AT_START, roles.reap(|grant| ledger.watch(grant), former, true)).await {
        Ok(Ok(reaped)) if reaped.found > 0 => tracing::warn!(
            target_name = %target, found = reaped.found, over = reaped.over, backends = reaped.intruders,
            "found roles of a former run; dropping those of grants that are over"
        ),
        Ok(Ok(_)) => {}
        Ok(Err(fault)) => {
            tracing::warn!(target_name = %target, error = %in_one_line(&fault), "roles of a former run cannot be looked for yet");
        }
        Err(_) => tracing::warn!(target_name = %target, "roles of a former run cannot be looked for yet: no answer"),
    }
}

/// Compares for as long as the gate runs.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        let suspects = look(&shared).await;
        pause = if suspects { ReapedRoles::LATER } else { EVERY };
    }
}

/// Compares once, and returns true if some backends must be checked again soon.
async fn look(shared: &Shared) -> bool {
    let rules = shared.rules.borrow().clone();
    let sessions = match shared.ledger.leftovers().await {
        Ok(sessions) => sessions,
        Err(error) => {
            tracing::error!(error = %in_one_line(&error), "roles cannot be compared with the sessions");
            return false;
        }
    };
    let mut suspects = false;
    for (target, roles) in of(&rules.targets) {
        let here = sessions.iter().filter(|session| session.target == *target);
        let held = here.map(|session| session.backend_pid).collect();
        match roles.reap(|grant| shared.ledger.watch(grant), &held, false).await {
            Ok(reaped) => suspects |= reaped.suspects > 0,
            Err(fault) => {
                tracing::warn!(target_name = %target, error = %in_one_line(&fault), "the roles of grants cannot be looked at");
            }
        }
    }
    suspects
}

/// Drops all roles, for an orderly stop. A role not dropped in time still has its end at the server (`VALID UNTIL`), and the
/// next start drops it.
pub(super) async fn close(shared: &Shared) {
    let rules = shared.rules.borrow().clone();
    let ends = of(&rules.targets).map(|(_, roles)| roles.close());
    if timeout(AT_STOP, join_all(ends)).await.is_err() {
        tracing::warn!("not all roles of grants were ended in time: the next start does it");
    }
}

/// Copies the counters of the roles to the metrics.
pub(super) fn count(shared: &Shared) {
    for (target, roles) in of(&shared.rules.borrow().targets) {
        shared.metrics.roles(target, roles.counted());
    }
}

fn of(rooms: &HashMap<TargetName, Arc<TargetRoom>>) -> impl Iterator<Item = (&TargetName, &Roles)> {
    rooms.iter().filter_map(|(name, room)| Some((name, room.roles.as_ref()?)))
}
