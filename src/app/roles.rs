//! Sees to it that no role of a grant, and nobody logged in as one, outlives its grant: at the start, and every minute.
//!
//! It ends nothing itself: each target's roles do, by what the ledger says. What it cannot see now it looks for again.

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

/// How often roles and backends are compared with the grants.
const EVERY: Duration = Duration::from_mins(1);
/// The first look after the start: what the former run was about to make may have been made behind the start's own look.
const FIRST: Duration = Duration::from_secs(5);
/// How long the start waits for a target to say what is there; a target that is away is looked at when it is back.
const AT_START: Duration = Duration::from_secs(10);
/// How long an orderly stop waits for roles to go.
const AT_STOP: Duration = Duration::from_secs(5);

/// What a dead gate left behind at a target, before anybody is let in there: a backend logged in as a grant's role is no session's of
/// this run. `former` has the backends of the former run's sessions.
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

/// Looks for as long as the gate runs.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        let suspects = look(&shared).await;
        pause = if suspects { ReapedRoles::LATER } else { EVERY };
    }
}

/// Whether there are backends that have to be looked at again soon.
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

/// An orderly stop leaves no roles; what does not go in time has its end at the server, and goes at the next start.
pub(super) async fn close(shared: &Shared) {
    let rules = shared.rules.borrow().clone();
    let ends = of(&rules.targets).map(|(_, roles)| roles.close());
    if timeout(AT_STOP, join_all(ends)).await.is_err() {
        tracing::warn!("not all roles of grants were ended in time: the next start does it");
    }
}

/// Puts the counts where they are read.
pub(super) fn count(shared: &Shared) {
    for (target, roles) in of(&shared.rules.borrow().targets) {
        let counted = roles.counted();
        let roles = crate::metrics::Roles {
            present: counted.present,
            made: counted.made,
            retired: counted.retired,
            left: counted.left,
            intruders: counted.intruders,
        };
        shared.metrics.roles(target, roles);
    }
}

fn of(rooms: &HashMap<TargetName, Arc<TargetRoom>>) -> impl Iterator<Item = (&TargetName, &Roles)> {
    rooms.iter().filter_map(|(name, room)| Some((name, room.roles.as_ref()?)))
}
