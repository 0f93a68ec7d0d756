//! Ends the backends of overdue sessions, which have reached their end but did not end themselves because their thread hangs,
//! most likely on the log's disk.
//!
//! A session that ends itself informs its client, knows its transaction's fate and records its end. This task is the fallback
//! for a thread that hangs, so that a hanging disk lengthens no grant at the database. The rest of the session's end follows
//! when its thread goes on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::base::supervision::Supervisor;
use crate::gate::session::SharedState;

/// Interval between two checks of the sessions.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Checks for overdue sessions, and for terminators that have panicked, for as long as the gate runs.
pub(super) async fn watch(shared: Arc<SharedState>, supervisor: Supervisor) {
    // A session is ended here only if two checks in a row find it overdue: it has had the time to end itself.
    let mut seen = HashSet::new();
    let mut told = HashSet::new();
    let mut look = tokio::time::interval(CHECK_INTERVAL);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if shared
            .rules
            .borrow()
            .targets
            .values()
            .any(|target_state| target_state.terminator.is_dead())
        {
            supervisor.fail("a target's terminator", "has panicked".to_owned());
        }
        let overdue = shared.registry.overdue(shared.clock.now());
        for live in &overdue {
            let session = live.session();
            if seen.contains(session) && told.insert(session.clone()) {
                tracing::error!(%session, "a session missed its end; terminating its backend");
                // The call alone sends the order. The session's own end confirms later that the backend is gone.
                drop(live.end_backend());
            }
        }
        told.retain(|session| overdue.iter().any(|live| live.session() == session));
        seen = overdue.iter().map(|live| live.session().clone()).collect();
    }
}
