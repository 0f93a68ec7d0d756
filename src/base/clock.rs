//! Gate time, and the only code that reads clocks. Gate time follows the wall clock forward as far as that is plausible, and
//! never goes back by itself.
//!
//! It decides nothing about grants: it returns the time, the instant at which a time is due, and steps of the wall clock.
//!
//! INVARIANT: [`Clock::now`] never decreases during a process, except by [`Clock::set_right`], which an operator asks for, so a
//! wall clock that is set back cannot lengthen a grant. [`Clock::observe`] follows small steps forward and a suspension of the
//! machine (confirmed by its time since boot), and every deadline is derived anew. A large step without confirmation is doubted:
//! gate time continues as before, which lengthens nothing, until the step has stood for a while or an operator confirms it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

mod belief;

use belief::{Belief, ClockSample, micros};
pub use belief::{MAX_UNCONFIRMED_STEP, PERSISTENCE};

/// Maximum plausible downtime at a start: a wall clock further ahead of the latest time that a former run recorded is doubted. No
/// gate is down for so long, but a clock may be wrong by years.
const MAX_DOWNTIME: SignedDuration = SignedDuration::from_hours(366 * 24);

/// Reading of both clocks at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic time, for durations.
    pub instant: Instant,
    /// Gate time, for records and deadlines.
    pub time: Timestamp,
}

/// Difference between the machine's clock and gate time that is doubted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockDoubt {
    /// Wall clock minus gate time; negative if gate time is ahead.
    pub ahead: SignedDuration,
}

/// Source of gate time. Cheap to clone; clones agree.
#[derive(Debug, Clone)]
pub struct Clock(Arc<ClockInner>);

#[derive(Debug)]
struct ClockInner {
    origin: Instant,
    /// Gate time at `origin`, in microseconds since the epoch; it only grows, except by [`Clock::set_right`].
    epoch_micros: AtomicI64,
    /// Number of steps; sessions watch it to derive their deadlines anew.
    steps: watch::Sender<u64>,
    belief: Mutex<Belief>,
    wall: WallClock,
}

#[derive(Debug)]
enum WallClock {
    System {
        /// Time since boot at the origin, in seconds.
        booted: i64,
    },
    /// Wall clock that tests set, in microseconds.
    Manual {
        /// Wall-clock time at the origin.
        epoch: AtomicI64,
        slept: AtomicI64,
    },
}

impl Clock {
    /// Creates a clock that follows the machine's clock, but starts no earlier than `not_before` (the latest time that a former
    /// run recorded); see [`Clock::observe`] for the steps it follows. A wall clock before `not_before` tells nothing about the
    /// downtime of the gate, so gate time continues from there.
    #[must_use]
    pub fn system(not_before: Option<Timestamp>) -> Self {
        let wall = timestamp(system_micros());
        let start = not_before.map_or(wall, |latest| {
            let plausible = wall.duration_since(latest) <= MAX_DOWNTIME;
            if plausible { wall.max(latest) } else { latest }
        });
        let booted = seconds_since_boot();
        Self::starting(start.as_microsecond(), WallClock::System { booted })
    }

    /// Creates a clock for tests: it starts at `start` and follows tokio's time, which a test may pause;
    /// [`Clock::set_wall_ahead`] and [`Clock::jump_wall`] step it.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        let epoch = start.as_microsecond();
        let wall = WallClock::Manual {
            epoch: AtomicI64::new(epoch),
            slept: AtomicI64::new(0),
        };
        Self::starting(epoch, wall)
    }

    fn starting(epoch_micros: i64, wall: WallClock) -> Self {
        Self(Arc::new(ClockInner {
            origin: Instant::now(),
            epoch_micros: AtomicI64::new(epoch_micros),
            steps: watch::Sender::new(0),
            belief: Mutex::new(Belief::new()),
            wall,
        }))
    }

    /// Returns gate time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.moment().time
    }

    /// Returns both clocks from one reading (one system call).
    #[must_use]
    pub fn moment(&self) -> Moment {
        let instant = Instant::now();
        Moment {
            instant,
            time: self.time_at(instant),
        }
    }

    /// Returns the gate time at a monotonic instant.
    #[must_use]
    pub fn time_at(&self, instant: Instant) -> Timestamp {
        let elapsed = micros(instant.saturating_duration_since(self.0.origin));
        timestamp(self.0.epoch_micros.load(Ordering::Acquire).saturating_add(elapsed))
    }

    /// Returns the instant at which gate time will be `time`. A step of gate time makes it obsolete. A time in the past is due at
    /// once.
    #[must_use]
    pub fn instant_at(&self, time: Timestamp) -> Instant {
        let elapsed = time
            .as_microsecond()
            .saturating_sub(self.0.epoch_micros.load(Ordering::Acquire));
        let elapsed = Duration::from_micros(u64::try_from(elapsed).unwrap_or(0));
        // For a time centuries away any instant far enough in the future will do.
        self.0
            .origin
            .checked_add(elapsed)
            .unwrap_or_else(|| self.0.origin + Duration::from_hours(24 * 365))
    }

    /// Waits until gate time is `time`, regardless of steps of the wall clock.
    pub async fn sleep_until(&self, time: Timestamp) {
        let mut steps = self.steps();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(self.instant_at(time)) => return,
                _ = steps.changed() => {}
            }
        }
    }

    /// Returns a counter that changes each time gate time steps.
    #[must_use]
    pub fn steps(&self) -> watch::Receiver<u64> {
        self.0.steps.subscribe()
    }

    /// Compares gate time with the wall clock: follows plausible steps forward, and ignores steps backward. Returns wall clock
    /// minus gate time as found, in microseconds. The app calls it several times a second.
    #[must_use]
    pub fn observe(&self) -> i64 {
        let reading = self.read();
        let step = self.0.belief.lock().judge(reading);
        if step > 0 {
            self.0.epoch_micros.fetch_add(step, Ordering::AcqRel);
            self.0.steps.send_modify(|steps| *steps += 1);
        }
        reading.ahead
    }

    /// Returns the doubted difference to the machine's clock, as last observed.
    #[must_use]
    pub fn doubt(&self) -> Option<ClockDoubt> {
        let doubted = self.0.belief.lock().doubted()?;
        Some(ClockDoubt {
            ahead: SignedDuration::from_micros(doubted.ahead),
        })
    }

    /// Returns the time by which the machine's clock is ahead of gate time now, if that is doubted: a window may have ended by
    /// the one and be open by the other.
    #[must_use]
    pub fn doubted_lead(&self) -> Option<Duration> {
        let _ = self.observe();
        Duration::try_from(self.doubt()?.ahead).ok().filter(|ahead| !ahead.is_zero())
    }

    /// Returns the time of the machine's clock, doubted or not.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        let ahead = self.read().ahead;
        timestamp(self.now().as_microsecond().saturating_add(ahead))
    }

    /// Sets gate time to the machine's clock, forward or back, for an operator who has verified that clock. Before it goes back,
    /// everything that was to end by now has to be ended; the ledger does that.
    pub fn set_right(&self) {
        let reading = self.read();
        self.0.epoch_micros.fetch_add(reading.ahead, Ordering::AcqRel);
        self.0.belief.lock().reset(reading.at, reading.slept);
        self.0.steps.send_modify(|steps| *steps += 1);
    }

    fn read(&self) -> ClockSample {
        let at = micros(Instant::now().saturating_duration_since(self.0.origin));
        let epoch = self.0.epoch_micros.load(Ordering::Acquire);
        match &self.0.wall {
            WallClock::System { booted } => ClockSample {
                at,
                ahead: system_micros().saturating_sub(epoch.saturating_add(at)),
                slept: (seconds_since_boot() - booted)
                    .saturating_mul(1_000_000)
                    .saturating_sub(at)
                    .max(0),
            },
            WallClock::Manual { epoch: wall, slept } => ClockSample {
                at,
                ahead: wall.load(Ordering::Acquire).saturating_sub(epoch),
                slept: slept.load(Ordering::Acquire),
            },
        }
    }

    /// Makes the next [`Clock::observe`] find the wall clock ahead of (or behind) gate time after a suspension, for tests.
    pub fn set_wall_ahead(&self, by: SignedDuration) {
        if let WallClock::Manual { slept, .. } = &self.0.wall {
            let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX).max(0);
            slept.fetch_add(by, Ordering::AcqRel);
        }
        self.jump_wall(by);
    }

    /// Makes the wall clock differ from gate time by `by`, without a suspension that confirms it, for tests.
    pub fn jump_wall(&self, by: SignedDuration) {
        if let WallClock::Manual { epoch, .. } = &self.0.wall {
            let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
            let gate = self.0.epoch_micros.load(Ordering::Acquire);
            epoch.store(gate.saturating_add(by), Ordering::Release);
        }
    }
}

impl ClockDoubt {
    /// Describes the doubt, its effect, and the remedy.
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

/// Returns the time since boot in seconds, suspensions included, which monotonic time leaves out.
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
