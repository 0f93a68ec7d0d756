//! How many statements of a session may be at its target at one time: a bounded pipeline while the deadline is far, one in the
//! last seconds, no new one right before it.
//!
//! It counts nothing and holds nothing: it says what the time that is left allows.
//!
//! A target executes what it has been sent, whatever the gate decides meanwhile: what is pipelined when the deadline comes would
//! be executed until the backend is gone. So, at the deadline, only what already runs may be there to be stopped.

use std::time::Duration;

use tokio::time::Instant;

/// Statements of one session that its target may have unanswered. A session that is ended without notice (a revocation) leaves no
/// more behind, and one that comes into its last seconds has so many to be done with. With 64, a client that keeps its pipeline full
/// had a fifth less throughput: each time that it is let go on costs a write to the log and one to the target.
pub(super) const MAX_STATEMENTS_IN_FLIGHT: usize = 256;
/// The last part of a window, in which statements go one by one. It is long enough for what was pipelined before it: by four hundred
/// sessions at a target of 10,000 statements a second.
const ONE_BY_ONE_PERIOD: Duration = Duration::from_secs(10);
/// The end of that, in which nothing begins any more: a statement that is forwarded needs its time to begin at a busy target, and
/// would be stopped before it came to anything.
const STILL_PERIOD: Duration = Duration::from_millis(250);

/// What may be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Pace {
    /// Up to [`MAX_STATEMENTS_IN_FLIGHT`] statements ahead of their answers.
    #[default]
    Pipelined,
    /// A statement when the one before it has been answered.
    OneByOne,
    /// Nothing that begins or completes a statement.
    Still,
}

impl Pace {
    /// Returns the pace at a moment, for a session that ends at `deadline`.
    pub(super) fn at(now: Instant, deadline: Instant) -> Self {
        let left = deadline.saturating_duration_since(now);
        if left > ONE_BY_ONE_PERIOD {
            Self::Pipelined
        } else if left > STILL_PERIOD {
            Self::OneByOne
        } else {
            Self::Still
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_slows_towards_the_deadline() {
        let deadline = Instant::now() + Duration::from_mins(1);
        for (before, pace) in [
            (Duration::from_secs(11), Pace::Pipelined),
            (ONE_BY_ONE_PERIOD, Pace::OneByOne),
            (Duration::from_millis(251), Pace::OneByOne),
            (STILL_PERIOD, Pace::Still),
            (Duration::ZERO, Pace::Still),
        ] {
            assert_eq!(Pace::at(deadline - before, deadline), pace, "{before:?}");
        }
        assert_eq!(Pace::at(deadline + STILL_PERIOD, deadline), Pace::Still);
    }
}
