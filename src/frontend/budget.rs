//! What a stranger may use up: one deadline for all steps, and a place that a newer stranger may take.
//!
//! It does not count: [`super::waiting`] does.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::error::HandshakeError;
use super::waiting::Place;
use crate::clock::Clock;

pub(super) struct Budget {
    pub(super) deadline: Instant,
    limit: Duration,
    pub(super) place: Place,
}

impl Budget {
    pub(super) fn new(clock: &Clock, limit: Duration, place: Place) -> Self {
        let now = clock.moment().instant;
        Self {
            deadline: now.checked_add(limit).unwrap_or(now),
            limit,
            place,
        }
    }

    /// Does `work`, unless the deadline passes or the place is taken meanwhile.
    pub(super) async fn spend<T>(
        &mut self,
        step: &'static str,
        work: impl Future<Output = Result<T, HandshakeError>>,
    ) -> Result<T, HandshakeError> {
        tokio::select! {
            biased;
            limit = self.place.taken() => Err(HandshakeError::Displaced { limit }),
            done = timeout_at(self.deadline, work) => done.unwrap_or(Err(HandshakeError::Timeout { step, limit: self.limit })),
        }
    }

    /// Waits, but not beyond the deadline and not without a place.
    pub(super) async fn wait(&mut self, delay: Duration) {
        let waiting = async {
            tokio::time::sleep(delay).await;
            Ok(())
        };
        // Either end of it is as good: the client is refused next.
        let _ = self.spend("authentication", waiting).await;
    }
}
