//! Cleanup after a crashed gate: ends the backends of the sessions that the store still lists as open, and records their end.
//!
//! It runs before the first session is let in at a target, concurrently with the start, for each target separately: an
//! unreachable target delays no other. An end that cannot be confirmed in time is tried again until it is.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::roles;
use crate::audit::Journal;
use crate::audit::event::{Event, SessionEnded, Who};
use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;
use crate::base::supervision::restarted;
use crate::gate::session::TargetState;
use crate::ledger::{Ledger, LedgerError, OpenSession};
use crate::model::ending::{Ending, Fate};
use crate::model::names::TargetName;

/// Time between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Handles that the cleanup needs.
#[derive(Clone)]
pub(super) struct Reaper {
    pub(super) ledger: Ledger,
    pub(super) journal: Journal,
    pub(super) clock: Clock,
    pub(super) rooms: HashMap<TargetName, Arc<TargetState>>,
}

impl Reaper {
    /// Starts the cleanup at all targets, in one task per target.
    pub(super) async fn begin(self) -> Result<Vec<JoinHandle<()>>, LedgerError> {
        let mut by_target: HashMap<TargetName, Vec<OpenSession>> = HashMap::new();
        for session in self.ledger.leftovers().await? {
            by_target.entry(session.target.clone()).or_default().push(session);
        }
        let mut tasks = Vec::new();
        for (name, target_state) in &self.rooms {
            let sessions = by_target.remove(name).unwrap_or_default();
            let (reaper, target_state) = (self.clone(), Arc::clone(target_state));
            let reaping = move || reaper.clone().at_target(Arc::clone(&target_state), sessions.clone());
            tasks.push(tokio::spawn(restarted("the end of leftovers", reaping)));
        }
        // Targets that are no longer configured: there is no server to ask, and no session to let in.
        tasks.push(tokio::spawn(async move {
            for session in by_target.into_values().flatten() {
                self.record(&session, false).await;
            }
        }));
        Ok(tasks)
    }

    /// Cleans up once, sessions and roles concurrently, and opens the target for sessions; then repeats until no session is
    /// left.
    async fn at_target(self, target_state: Arc<TargetState>, sessions: Vec<OpenSession>) {
        let found = sessions.len();
        let backends = sessions.iter().map(|session| session.backend_pid).collect();
        let (mut left, ()) = tokio::join!(
            self.end(&target_state, sessions),
            roles::reap_at_start(&target_state, &self.ledger, &backends)
        );
        target_state.leftovers.settle();
        if found > 0 {
            tracing::warn!(target_name = %target_state.target.name, found, left = left.len(), "found sessions from a previous run; terminating their backends");
        }
        while !left.is_empty() {
            tokio::time::sleep(RETRY_INTERVAL).await;
            left = self.end(&target_state, left).await;
        }
    }

    /// Ends the backends of these sessions and returns the sessions whose backend is not confirmed gone.
    async fn end(&self, target_state: &TargetState, sessions: Vec<OpenSession>) -> Vec<OpenSession> {
        let reaped = target_state.terminator.reap(&sessions).await;
        let confirmed = |session: &OpenSession| {
            let mut reaped = reaped.iter();
            reaped.any(|reaped| reaped.session == session.session && reaped.confirmed)
        };
        let (gone, left): (Vec<_>, Vec<_>) = sessions.into_iter().partition(confirmed);
        if let Some(changes) = &target_state.changes {
            join_all(gone.iter().map(|session| changes.leave(session.into()))).await;
        }
        for session in &gone {
            self.record(session, true).await;
        }
        left
    }

    async fn record(&self, open: &OpenSession, gone: bool) {
        let ending = Ending::GateDied;
        // If the grant is no longer known, the record of the session's start names the profile.
        let grant = self.ledger.grant(&open.grant).await.ok();
        let profile = grant.and_then(|view| view.grant.profile().cloned());
        let lived = self.clock.now().duration_since(open.opened_at);
        let record = SessionEnded {
            who: Who {
                session: open.session.clone(),
                grant: open.grant.clone(),
                identity: open.identity.clone(),
                target: open.target.clone(),
                profile,
            },
            ending: ending.kind().into(),
            sqlstate: ending.sqlstate().to_owned(),
            detail: Some("found open by the next start of the gate".to_owned()),
            fate: Fate::Unknown.kind().into(),
            duration_us: u64::try_from(lived.as_micros()).unwrap_or(0),
            statements: 0,
            rows: 0,
            rows_sent: 0,
            bytes_in: 0,
            bytes_out: 0,
            client_told: None,
            backend_gone: Some(gone),
            overshoot_us: None,
        };
        if let Err(error) = self.journal.record(&Event::SessionEnded(Cow::Owned(record))).await {
            tracing::error!(session = %open.session, error = %display_chain(&error), "cannot write the end of a previous run's session to the audit log");
            return;
        }
        if let Err(error) = self.ledger.session_closed(&open.session).await {
            tracing::error!(session = %open.session, error = %display_chain(&error), "cannot store the end of a previous run's session");
        }
    }
}
