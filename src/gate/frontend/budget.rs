//! Limits of an unauthenticated connection: one deadline for all steps, and a permit that a newer connection may take.
//!
//! This module does not count: [`crate::access::strangers`] does.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::error::HandshakeError;
use crate::access::strangers::{ConnectionPermit, Displaced};
use crate::base::clock::Clock;
use crate::model::ending::HeldBack;

pub(super) struct HandshakeBudget {
    pub(super) deadline: Instant,
    limit: Duration,
    pub(super) permit: ConnectionPermit,
    /// Limit that cost the connection its permit.
    displaced: Option<Displaced>,
}

impl HandshakeBudget {
    pub(super) fn new(clock: &Clock, limit: Duration, permit: ConnectionPermit) -> Self {
        let now = clock.moment().instant;
        Self {
            deadline: now.checked_add(limit).unwrap_or(now),
            limit,
            permit,
            displaced: None,
        }
    }

    /// Runs `work` until the deadline passes or the permit is taken; not at all if it was taken before.
    pub(super) async fn spend<T>(
        &mut self,
        step: &'static str,
        work: impl Future<Output = Result<T, HandshakeError>>,
    ) -> Result<T, HandshakeError> {
        if let Some(displaced) = self.displaced {
            return Err(HandshakeError::Displaced(displaced));
        }
        tokio::select! {
            biased;
            displaced = self.permit.taken() => {
                self.displaced = Some(displaced);
                Err(HandshakeError::Displaced(displaced))
            }
            done = timeout_at(self.deadline, work) => done.unwrap_or(Err(HandshakeError::Timeout { step, limit: self.limit })),
        }
    }

    /// Counts a failure against the client's address (and the name that was to be proved), and delays the answer if there were
    /// many: then it returns the reason.
    pub(super) async fn failed(&mut self, error: &HandshakeError, name: Option<&str>) -> Option<HeldBack> {
        if error.is_no_attempt() {
            return None;
        }
        let delay = self.permit.proof().failed(name.filter(|_| error.is_guess()));
        let held = delay.held.filter(|_| error.told())?;
        // It does not wait beyond the deadline, and not without a permit. The result does not matter: the client is refused next.
        let waiting = async {
            tokio::time::sleep(delay.time).await;
            Ok(())
        };
        let _ = self.spend("authentication", waiting).await;
        Some(held)
    }
}
