//! The one place that reads clocks. Gate time follows the wall clock forward and never goes back.
//!
//! It decides nothing: it says what time it is, when a moment is due, and that the wall clock stepped.
//!
//! INVARIANT: [`Clock::now`] never decreases in the life of a process, so a wall clock set back cannot lengthen a grant; a
//! wall clock set forward (or a machine that was suspended, for the monotonic clock stands still then) is noticed by
//! [`Clock::observe`], and every deadline is derived anew from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

/// A difference between wall and gate time that counts as a step, not as drift.
const STEP: Duration = Duration::from_millis(50);

/// One reading: the same instant on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic; for durations.
    pub instant: Instant,
    /// Gate time; for records and deadlines.
    pub time: Timestamp,
}

/// Tells gate time. Cheap to clone; clones agree.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    origin: Instant,
    /// Microseconds since the epoch at `origin`; only ever grows.
    epoch_micros: AtomicI64,
    /// Counts forward steps; sessions watch it to derive their deadlines anew.
    steps: watch::Sender<u64>,
    wall: Wall,
}

#[derive(Debug)]
enum Wall {
    System,
    /// Tests set it: an offset to the wall time at the origin, in microseconds.
    Manual(AtomicI64),
}

impl Clock {
    /// The machine's clock, but not before `not_before` (the latest time a former run has seen).
    #[must_use]
    pub fn system(not_before: Option<Timestamp>) -> Self {
        let wall = system_micros();
        let start = not_before.map_or(wall, |t| wall.max(t.as_microsecond()));
        Self::starting(start, Wall::System)
    }

    /// A clock for tests: starts at `start` and follows tokio's time, which a test may hold still; [`Clock::set_wall_ahead`] steps it.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self::starting(start.as_microsecond(), Wall::Manual(AtomicI64::new(0)))
    }

    fn starting(epoch_micros: i64, wall: Wall) -> Self {
        Self(Arc::new(Inner {
            origin: Instant::now(),
            epoch_micros: AtomicI64::new(epoch_micros),
            steps: watch::Sender::new(0),
            wall,
        }))
    }

    /// Gate time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.moment().time
    }

    /// Both clocks from one reading (one system call).
    #[must_use]
    pub fn moment(&self) -> Moment {
        let instant = Instant::now();
        Moment {
            instant,
            time: self.time_at(instant),
        }
    }

    /// The gate time at a monotonic instant.
    #[must_use]
    pub fn time_at(&self, instant: Instant) -> Timestamp {
        let elapsed = micros(instant.saturating_duration_since(self.0.origin));
        timestamp(self.0.epoch_micros.load(Ordering::Acquire).saturating_add(elapsed))
    }

    /// When gate time will be `time`, as things stand now; derive it anew after a step. A time in the past is due at once.
    #[must_use]
    pub fn instant_at(&self, time: Timestamp) -> Instant {
        let elapsed = time
            .as_microsecond()
            .saturating_sub(self.0.epoch_micros.load(Ordering::Acquire));
        let elapsed = Duration::from_micros(u64::try_from(elapsed).unwrap_or(0));
        // A time centuries away: any instant far enough in the future will do.
        self.0
            .origin
            .checked_add(elapsed)
            .unwrap_or_else(|| self.0.origin + Duration::from_hours(24 * 365))
    }

    /// Waits until gate time is `time`, whatever the wall clock does meanwhile.
    pub async fn sleep_until(&self, time: Timestamp) {
        let mut steps = self.steps();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(self.instant_at(time)) => return,
                _ = steps.changed() => {}
            }
        }
    }

    /// Changes each time the wall clock was found ahead of gate time.
    #[must_use]
    pub fn steps(&self) -> watch::Receiver<u64> {
        self.0.steps.subscribe()
    }

    /// Compares gate time with the wall clock: follows it forward, ignores it backward. Returns wall minus gate time, in
    /// microseconds, as found. The app calls it several times a second.
    #[must_use]
    pub fn observe(&self) -> i64 {
        let elapsed = micros(Instant::now().saturating_duration_since(self.0.origin));
        let epoch = self.0.epoch_micros.load(Ordering::Acquire);
        let wall = match &self.0.wall {
            Wall::System => system_micros(),
            Wall::Manual(ahead) => epoch.saturating_add(elapsed).saturating_add(ahead.swap(0, Ordering::AcqRel)),
        };
        let ahead = wall.saturating_sub(epoch.saturating_add(elapsed));
        if ahead > micros(STEP) {
            self.0.epoch_micros.fetch_add(ahead, Ordering::AcqRel);
            self.0.steps.send_modify(|steps| *steps += 1);
        }
        ahead
    }

    /// For tests: makes the next [`Clock::observe`] find the wall clock ahead of (or behind) gate time.
    pub fn set_wall_ahead(&self, by: jiff::SignedDuration) {
        if let Wall::Manual(ahead) = &self.0.wall {
            ahead.store(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::Release);
        }
    }
}

fn micros(duration: Duration) -> i64 {
    // Not `as_micros`, which computes in 128 bits: this is asked for every record.
    i64::try_from(duration.as_secs())
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000)
        .saturating_add(i64::from(duration.subsec_micros()))
}

fn system_micros() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "the one place")]
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, micros)
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    fn start() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn follows_held_time() {
        let clock = Clock::manual(start());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.now(), start() + SignedDuration::from_secs(5));
        assert_eq!(clock.instant_at(clock.now()), Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_backward_step_changes_nothing() {
        let clock = Clock::manual(start());
        clock.set_wall_ahead(SignedDuration::from_hours(-1));
        let _ = clock.observe();
        assert_eq!(clock.now(), start());
        assert_eq!(*clock.steps().borrow(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_forward_step_brings_deadlines_nearer() {
        let clock = Clock::manual(start());
        let deadline = start() + SignedDuration::from_mins(30);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep_until(deadline).await;
                Instant::now()
            }
        });
        tokio::task::yield_now().await;
        let before = Instant::now();
        clock.set_wall_ahead(SignedDuration::from_hours(1));
        let _ = clock.observe();
        assert_eq!(sleeper.await.ok(), Some(before));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "compares with the real clock")]
    fn a_restart_does_not_go_back() {
        let later = Timestamp::now() + SignedDuration::from_hours(2);
        // Microseconds are what is kept of it.
        assert!(Clock::system(Some(later)).now().as_microsecond() >= later.as_microsecond());
    }
}
