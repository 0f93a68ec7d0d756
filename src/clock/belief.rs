//! How much of a step of the wall clock is believed. Pure: readings come in, decisions go out.
//!
//! INVARIANT: belief only ever moves gate time forward. What the machine slept through is believed whatever the wall clock says, so a
//! step back during a suspension lengthens nothing.

use std::time::Duration;

/// A difference between wall and gate time that counts as a step, not as drift. Microseconds.
pub(super) const STEP_MICROS: i64 = 50_000;
/// The most that unexplained forward steps may come to at once. It is given back slowly, so many small steps come to no more.
pub const MAX_UNCONFIRMED_STEP: Duration = Duration::from_hours(2);
/// Within so long the whole of it is given back.
const ALLOWANCE_REFILL: Duration = Duration::from_hours(24);
/// A doubted step that stands for so long is believed.
pub const PERSISTENCE: Duration = Duration::from_mins(10);
/// The counters of sleep have whole seconds: less is no sleep. Microseconds.
const SLEEP_NOISE_MICROS: i64 = 2_500_000;
/// A doubted step that moves by more than this is another one. Microseconds.
const STEADY_MICROS: i64 = 60_000_000;

/// What the clocks say at one moment. Microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// Monotonic time since the origin.
    pub(super) at: i64,
    /// Wall minus gate time.
    pub(super) ahead: i64,
    /// How long the machine has slept since the origin: what its time since boot gained on monotonic time.
    pub(super) slept: i64,
}

/// What is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Doubted {
    pub(super) ahead: i64,
    since: i64,
}

#[derive(Debug)]
pub(super) struct Belief {
    /// Sleep that gate time has followed.
    slept: i64,
    /// What may still be believed without being confirmed.
    allowance: i64,
    refilled_at: i64,
    doubted: Option<Doubted>,
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

    pub(super) fn doubted(&self) -> Option<Doubted> {
        self.doubted
    }

    /// The wall clock was set right by hand: what it says from here on counts.
    pub(super) fn reset(&mut self, at: i64, slept: i64) {
        *self = Self {
            slept,
            refilled_at: at,
            ..Self::new()
        };
    }

    /// How far gate time is to step forward.
    pub(super) fn judge(&mut self, reading: Reading) -> i64 {
        let Reading { at, ahead, slept } = reading;
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
            self.doubted = (rest < -most).then_some(Doubted { ahead: rest, since: at });
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
        self.doubted = Some(Doubted { ahead: rest, since });
        asleep
    }
}

/// Microseconds of a length of time.
pub(super) fn micros(duration: Duration) -> i64 {
    // Not `as_micros`, which computes in 128 bits: this is asked for every record.
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

    fn reading(at: i64, ahead: i64, slept: i64) -> Reading {
        Reading { at, ahead, slept }
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
