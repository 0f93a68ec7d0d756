//! Liveness signals of the session threads and of the clock's ticker.
//!
//! It only detects a missing signal. `/livez` and the service manager's watchdog act on it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::base::clock::Clock;

/// Interval between two signals of the session threads.
const BEAT_INTERVAL: Duration = Duration::from_millis(500);
/// Age of a signal above which `/livez` fails; a multiple of the interval, so that a busy machine is not taken for a dead gate.
pub(super) const MAX_SILENCE: Duration = Duration::from_secs(10);

/// Time of the last signal of one part. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Pulse(Arc<Mutex<Instant>>);

impl Pulse {
    fn new(clock: &Clock) -> Self {
        Self(Arc::new(Mutex::new(clock.moment().instant)))
    }

    /// Records a signal.
    pub(super) fn beat(&self, clock: &Clock) {
        *self.0.lock() = clock.moment().instant;
    }

    fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.0.lock())
    }
}

/// Liveness signals of a gate. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Vitals {
    clock: Clock,
    /// Signal of a task on the session threads.
    sessions: Pulse,
    /// Signal of the clock's ticker, on the threads of the control API.
    pub(super) ticker: Pulse,
}

impl Vitals {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            sessions: Pulse::new(&clock),
            ticker: Pulse::new(&clock),
            clock,
        }
    }

    /// Emits signals from the threads that run this future, for as long as they run it.
    pub(super) fn beat(&self) -> impl Future<Output = ()> + Send + use<> {
        let (pulse, clock) = (self.sessions.clone(), self.clock.clone());
        async move {
            let mut beat = tokio::time::interval(BEAT_INTERVAL);
            beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                beat.tick().await;
                pulse.beat(&clock);
            }
        }
    }

    /// Returns an error that names the first part without a signal for longer than `limit`.
    pub(super) fn check(&self, limit: Duration) -> Result<(), String> {
        let now = self.clock.moment().instant;
        let parts = [("the session threads", &self.sessions), ("the clock's ticker", &self.ticker)];
        match parts.into_iter().find(|(_, pulse)| pulse.silence(now) > limit) {
            None => Ok(()),
            Some((part, pulse)) => Err(format!("{part} have made no progress for {} s", pulse.silence(now).as_secs())),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_without_a_sign_of_life_is_named() {
        let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
        let vitals = Vitals::new(clock.clone());
        let beating = tokio::spawn(vitals.beat());
        tokio::time::sleep(MAX_SILENCE / 2).await;
        vitals.ticker.beat(&clock);
        tokio::time::sleep(MAX_SILENCE).await;
        vitals.check(MAX_SILENCE).unwrap();
        beating.abort();
        vitals.ticker.beat(&clock);
        tokio::time::sleep(MAX_SILENCE).await;
        vitals.ticker.beat(&clock);
        let silent = vitals.check(MAX_SILENCE).unwrap_err();
        assert!(silent.starts_with("the session threads "), "{silent}");
    }
}
