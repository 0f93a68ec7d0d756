//! The one place that reads clocks. Gate time follows the wall clock forward as far as it can be believed, and never goes back by itself.
//!
//! It decides nothing about grants: it says what time it is, when a moment is due, and that the wall clock stepped.
//!
//! INVARIANT: [`Clock::now`] never decreases in the life of a process, but by [`Clock::set_right`], which an operator asks for: so a
//! wall clock set back cannot lengthen a grant. A machine that slept (its time since boot tells) and small steps forward are followed by
//! [`Clock::observe`], and every deadline is derived anew. A large step that nothing confirms is doubted: gate time goes on as before,
//! which lengthens nothing, until the step has stood for a while or an operator confirms it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

mod belief;

use belief::{Belief, Reading, micros};
pub use belief::{MAX_UNCONFIRMED_STEP, PERSISTENCE};

/// At a start: a wall clock further ahead of the latest time a former run has seen is doubted. No gate is down for so long, and a
/// clock that is wrong by years is.
const MAX_DOWNTIME: SignedDuration = SignedDuration::from_hours(366 * 24);

/// One reading: the same instant on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic; for durations.
    pub instant: Instant,
    /// Gate time; for records and deadlines.
    pub time: Timestamp,
}

/// A difference between the machine's clock and gate time that is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockDoubt {
    /// Wall minus gate time: negative where gate time is ahead.
    pub ahead: SignedDuration,
}

/// Tells gate time. Cheap to clone; clones agree.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    origin: Instant,
    /// Microseconds since the epoch at `origin`; grows, but for [`Clock::set_right`].
    epoch_micros: AtomicI64,
    /// Counts steps; sessions watch it to derive their deadlines anew.
    steps: watch::Sender<u64>,
    belief: Mutex<Belief>,
    wall: Wall,
}

#[derive(Debug)]
enum Wall {
    System {
        /// The seconds since boot at the origin.
        booted: i64,
    },
    /// Tests set it. Microseconds.
    Manual {
        /// Where the wall clock would have been at the origin.
        epoch: AtomicI64,
        slept: AtomicI64,
    },
}

impl Clock {
    /// The machine's clock, but not before `not_before` (the latest time a former run has noted); see [`Clock::observe`] for what of it
    /// is believed. A clock that was set back to before that tells nothing of how long the gate was down: gate time goes on from there.
    #[must_use]
    pub fn system(not_before: Option<Timestamp>) -> Self {
        let wall = timestamp(system_micros());
        let start = not_before.map_or(wall, |latest| {
            let plausible = wall.duration_since(latest) <= MAX_DOWNTIME;
            if plausible { wall.max(latest) } else { latest }
        });
        let booted = seconds_since_boot();
        Self::starting(start.as_microsecond(), Wall::System { booted })
    }

    /// A clock for tests: starts at `start` and follows tokio's time, which a test may hold still; [`Clock::set_wall_ahead`] and
    /// [`Clock::jump_wall`] step it.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        let epoch = start.as_microsecond();
        let wall = Wall::Manual {
            epoch: AtomicI64::new(epoch),
            slept: AtomicI64::new(0),
        };
        Self::starting(epoch, wall)
    }

    fn starting(epoch_micros: i64, wall: Wall) -> Self {
        Self(Arc::new(Inner {
            origin: Instant::now(),
            epoch_micros: AtomicI64::new(epoch_micros),
            steps: watch::Sender::new(0),
            belief: Mutex::new(Belief::new()),
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

    /// Changes each time gate time stepped.
    #[must_use]
    pub fn steps(&self) -> watch::Receiver<u64> {
        self.0.steps.subscribe()
    }

    /// Compares gate time with the wall clock: follows it forward as far as it is believed, ignores it backward. Returns wall minus gate
    /// time, in microseconds, as found. The app calls it several times a second.
    #[must_use]
    pub fn observe(&self) -> i64 {
        let reading = self.read();
        let step = self.belief().judge(reading);
        if step > 0 {
            self.0.epoch_micros.fetch_add(step, Ordering::AcqRel);
            self.0.steps.send_modify(|steps| *steps += 1);
        }
        reading.ahead
    }

    /// The difference to the machine's clock that is not believed, as last observed.
    #[must_use]
    pub fn doubt(&self) -> Option<ClockDoubt> {
        let doubted = self.belief().doubted()?;
        Some(ClockDoubt {
            ahead: SignedDuration::from_micros(doubted.ahead),
        })
    }

    /// How far the machine's clock is ahead of gate time, now, where that is not believed: what is over by the one may be open by the
    /// other.
    #[must_use]
    pub fn doubted_lead(&self) -> Option<Duration> {
        let _ = self.observe();
        Duration::try_from(self.doubt()?.ahead).ok().filter(|ahead| !ahead.is_zero())
    }

    /// The machine's clock, believed or not.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        let ahead = self.read().ahead;
        timestamp(self.now().as_microsecond().saturating_add(ahead))
    }

    /// Makes gate time what the machine's clock says, forward or back: for an operator who has seen that it is right. Nothing that was
    /// to be over by now may be left when it goes back; the ledger sees to that before.
    pub fn set_right(&self) {
        let reading = self.read();
        self.0.epoch_micros.fetch_add(reading.ahead, Ordering::AcqRel);
        self.belief().reset(reading.at, reading.slept);
        self.0.steps.send_modify(|steps| *steps += 1);
    }

    fn read(&self) -> Reading {
        let at = micros(Instant::now().saturating_duration_since(self.0.origin));
        let epoch = self.0.epoch_micros.load(Ordering::Acquire);
        match &self.0.wall {
            Wall::System { booted } => Reading {
                at,
                ahead: system_micros().saturating_sub(epoch.saturating_add(at)),
                slept: (seconds_since_boot() - booted)
                    .saturating_mul(1_000_000)
                    .saturating_sub(at)
                    .max(0),
            },
            Wall::Manual { epoch: wall, slept } => Reading {
                at,
                ahead: wall.load(Ordering::Acquire).saturating_sub(epoch),
                slept: slept.load(Ordering::Acquire),
            },
        }
    }

    fn belief(&self) -> MutexGuard<'_, Belief> {
        self.0.belief.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For tests: makes the next [`Clock::observe`] find the wall clock ahead of (or behind) gate time, for the machine slept.
    pub fn set_wall_ahead(&self, by: SignedDuration) {
        if let Wall::Manual { slept, .. } = &self.0.wall {
            let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX).max(0);
            slept.fetch_add(by, Ordering::AcqRel);
        }
        self.jump_wall(by);
    }

    /// For tests: makes the wall clock be so far ahead of (or behind) gate time, and nothing else tells of it.
    pub fn jump_wall(&self, by: SignedDuration) {
        if let Wall::Manual { epoch, .. } = &self.0.wall {
            let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
            let gate = self.0.epoch_micros.load(Ordering::Acquire);
            epoch.store(gate.saturating_add(by), Ordering::Release);
        }
    }
}

impl ClockDoubt {
    /// The doubt in words, with what happens and what to do.
    #[must_use]
    pub fn words(self) -> String {
        let by = format!("{:#}", SignedDuration::from_secs(self.ahead.as_secs().abs()));
        if self.ahead.is_positive() {
            format!(
                "the machine's clock is {by} ahead of gate time without confirmation; refusing new logins, deadlines follow gate time; this ends when the clocks agree, after {} min, or with `tidegate clock set-right`",
                PERSISTENCE.as_secs() / 60
            )
        } else {
            format!(
                "gate time is {by} ahead of the machine's clock; if the machine's clock is right, run `tidegate clock set-right`, which ends every grant"
            )
        }
    }
}

fn system_micros() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "the one place")]
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, micros)
}

/// With the time the machine was suspended, which monotonic time leaves out.
fn seconds_since_boot() -> i64 {
    rustix::system::sysinfo().uptime
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[tokio::test(start_paused = true)]
    async fn ten_years_for_a_second_move_nothing_and_an_operator_can_say_so() {
        let clock = Clock::manual(start());
        clock.jump_wall(SignedDuration::from_hours(10 * 365 * 24));
        let _ = clock.observe();
        assert_eq!((clock.now(), *clock.steps().borrow()), (start(), 0));
        assert!(clock.doubt().unwrap().words().contains("set-right"));
        clock.jump_wall(SignedDuration::ZERO);
        let _ = clock.observe();
        assert_eq!((clock.now(), clock.doubt()), (start(), None));
        // What stands is believed; what an operator says is right counts at once, in both directions.
        clock.jump_wall(SignedDuration::from_hours(48));
        let _ = clock.observe();
        tokio::time::advance(PERSISTENCE).await;
        let _ = clock.observe();
        assert_eq!(clock.now(), start() + SignedDuration::from_hours(48) + PERSISTENCE);
        clock.jump_wall(SignedDuration::from_hours(-48));
        let _ = clock.observe();
        assert!(clock.doubt().is_some());
        clock.set_right();
        assert_eq!((clock.now(), clock.doubt()), (start() + PERSISTENCE, None));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "compares with the real clock")]
    fn a_start_believes_neither_a_past_nor_a_future_that_cannot_be() {
        let years = SignedDuration::from_hours(10 * 365 * 24);
        let (before, after) = (Timestamp::now() - years, Timestamp::now() + years);
        for stored in [before, after] {
            let clock = Clock::system(Some(stored));
            let _ = clock.observe();
            assert!(clock.now().duration_since(stored).abs() < SignedDuration::from_mins(1));
            assert!(clock.doubt().is_some());
            clock.set_right();
            assert!(clock.now().duration_since(Timestamp::now()).abs() < SignedDuration::from_mins(1));
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "compares with the real clock")]
    fn a_restart_does_not_go_back() {
        let later = Timestamp::now() + SignedDuration::from_hours(2);
        // Microseconds are what is kept of it.
        assert!(Clock::system(Some(later)).now().as_microsecond() >= later.as_microsecond());
    }
}
