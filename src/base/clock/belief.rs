//! Plausibility of steps of the wall clock. Pure: readings come in, decisions go out.
//!
//! INVARIANT: a decision only ever moves gate time forward. The duration of a suspension is always followed, regardless of the
//! wall clock, so a step back during a suspension lengthens nothing.

use std::time::Duration;

/// Minimum difference between wall clock and gate time that counts as a step rather than drift, in microseconds.
pub(super) const STEP_MICROS: i64 = 50_000;
/// Maximum total of forward steps that are followed without confirmation. It refills slowly, so many small steps do not exceed
/// it.
pub const MAX_UNCONFIRMED_STEP: Duration = Duration::from_hours(2);
/// Time in which the whole allowance refills.
const ALLOWANCE_REFILL: Duration = Duration::from_hours(24);
/// Time after which a doubted step that persists is followed.
pub const PERSISTENCE: Duration = Duration::from_mins(10);
/// Maximum difference between the sleep counters that is no sleep, in microseconds: the time since boot has whole seconds.
const SLEEP_NOISE_MICROS: i64 = 2_500_000;
/// Minimum change of a doubted step that makes it a new one, in microseconds.
const STEADY_MICROS: i64 = 60_000_000;

/// Reading of the clocks at one moment, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockSample {
    /// Monotonic time since the origin.
    pub(super) at: i64,
    /// Wall clock minus gate time.
    pub(super) ahead: i64,
    /// Time the machine was suspended since the origin: the gain of its time since boot on monotonic time.
    pub(super) slept: i64,
}

/// Step that is doubted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DoubtedStep {
    pub(super) ahead: i64,
    since: i64,
}

#[derive(Debug)]
pub(super) struct Belief {
    /// Suspended time that gate time has followed.
    slept: i64,
    /// Rest of the steps that may be followed without confirmation.
    allowance: i64,
    refilled_at: i64,
    doubted: Option<DoubtedStep>,
}

impl Belief {
    pub(super) fn new() -> Self {
        Self {
            slept: 0,
            allowance: micros(MAX_UNCONFIRMED_STEP),
            refilled_at: 0,
            doubted: None,
        }
    }

    pub(super) fn doubted(&self) -> Option<DoubtedStep> {
        self.doubted
    }

    /// Resets the state after the wall clock was confirmed by hand.
    pub(super) fn reset(&mut self, at: i64, slept: i64) {
        *self = Self {
            slept,
            refilled_at: at,
            ..Self::new()
        };
    }

    /// Returns the step forward of gate time, in microseconds.
    pub(super) fn judge(&mut self, reading: ClockSample) -> i64 {
        let ClockSample { at, ahead, slept } = reading;
        let most = micros(MAX_UNCONFIRMED_STEP);
        let back = at.saturating_sub(self.refilled_at) / (micros(ALLOWANCE_REFILL) / most);
        if back > 0 {
            self.allowance = most.min(self.allowance.saturating_add(back));
            self.refilled_at = at;
        }
        let unseen = slept.saturating_sub(self.slept);
        let asleep = if unseen > SLEEP_NOISE_MICROS { unseen } else { 0 };
        self.slept += asleep;
        let rest = ahead.saturating_sub(asleep);
        if rest <= STEP_MICROS {
            self.doubted = (rest < -most).then_some(DoubtedStep { ahead: rest, since: at });
            return asleep;
        }
        if rest <= self.allowance {
            self.allowance -= rest;
            self.doubted = None;
            return asleep + rest;
        }
        let same = self
            .doubted
            .filter(|doubted| (doubted.ahead.saturating_sub(rest)).abs() < STEADY_MICROS);
        let since = same.map_or(at, |doubted| doubted.since);
        if at.saturating_sub(since) >= micros(PERSISTENCE) {
            self.doubted = None;
            return asleep + rest;
        }
        self.doubted = Some(DoubtedStep { ahead: rest, since });
        asleep
    }
}

/// Returns a duration in microseconds.
pub(super) fn micros(duration: Duration) -> i64 {
    // Not `as_micros`, which computes in 128 bits: this runs for every record.
    i64::try_from(duration.as_secs())
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000)
        .saturating_add(i64::from(duration.subsec_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const HOUR: i64 = 3600 * SECOND;
    const YEARS: i64 = 10 * 365 * 24 * HOUR;

    fn reading(at: i64, ahead: i64, slept: i64) -> ClockSample {
        ClockSample { at, ahead, slept }
    }

    #[test]
    fn what_the_machine_slept_is_believed_and_ten_years_for_a_second_are_not() {
        let mut belief = Belief::new();
        assert_eq!(belief.judge(reading(SECOND, 8 * HOUR, 8 * HOUR)), 8 * HOUR);
        assert_eq!(belief.judge(reading(2 * SECOND, YEARS, 8 * HOUR)), 0);
        assert_eq!(belief.doubted().map(|doubted| doubted.ahead), Some(YEARS));
        assert_eq!(belief.judge(reading(3 * SECOND, 0, 8 * HOUR)), 0);
        assert_eq!(belief.doubted(), None);
        // A wall clock that was set back meanwhile does not hide the sleep.
        assert_eq!(belief.judge(reading(4 * SECOND, -HOUR, 9 * HOUR)), HOUR);
    }

    #[test]
    fn small_steps_come_to_no_more_than_one_and_what_stands_is_believed() {
        let mut belief = Belief::new();
        let mut believed = 0;
        for step in 1..=50 {
            believed += belief.judge(reading(step * SECOND, HOUR, 0));
        }
        assert_eq!(believed, 2 * HOUR);
        let since = 50 * SECOND;
        assert_eq!(belief.judge(reading(since + micros(PERSISTENCE) / 2, HOUR, 0)), 0);
        let before = belief.judge(reading(since + 2 * micros(PERSISTENCE), HOUR, 0));
        assert_eq!(before, HOUR);
        // A day later it may step again.
        assert_eq!(belief.judge(reading(since + 26 * HOUR, 2 * HOUR, 0)), 2 * HOUR);
        // Far behind is doubted too, and moves nothing.
        assert_eq!(belief.judge(reading(since + 27 * HOUR, -3 * HOUR, 0)), 0);
        assert!(belief.doubted().is_some());
    }
}
