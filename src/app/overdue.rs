//! Ends the backends of sessions that are over and have not ended themselves: their thread hangs, with the log's disk most
//! likely.
//!
//! A session ends itself, and does it better: its client is told, its transaction's fate is known, its end is on record. This
//! is for the day it cannot, so that a hanging disk lengthens no grant at the database. The rest of its end follows when its
//! thread goes on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::session::Shared;
use crate::supervision::Supervisor;

/// How often sessions are looked at.
const EVERY: Duration = Duration::from_millis(250);

/// Looks after them for as long as the gate runs, and after the tasks that end backends.
pub(super) async fn watch(shared: Arc<Shared>, supervisor: Supervisor) {
    // Two looks, so that a session has time to do it itself.
    let mut seen = HashSet::new();
    let mut told = HashSet::new();
    let mut look = tokio::time::interval(EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if shared.rules.borrow().targets.values().any(|room| room.terminator.is_dead()) {
            supervisor.fail("a target's terminator", "has panicked".to_owned());
        }
        let overdue = shared.registry.overdue(shared.clock.now());
        for live in &overdue {
            let session = live.session();
            if seen.contains(session) && told.insert(session.clone()) {
                tracing::error!(%session, "a session is over and does not end itself: its backend is ended without it");
                // The order is given by the call; that it is gone is asked for again by the session's own end.
                drop(live.end_backend());
            }
        }
        told.retain(|session| overdue.iter().any(|live| live.session() == session));
        seen = overdue.iter().map(|live| live.session().clone()).collect();
    }
}
