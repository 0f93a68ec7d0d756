//! Number of statements of a session that its target may have at one time: a bounded pipeline while the deadline is far, one in
//! the last seconds, no new one directly before it.
//!
//! This module does not count or hold statements: it computes what the remaining time allows.
//!
//! A target executes all statements that it has received, whatever the gate decides meanwhile: statements in the pipeline at the
//! deadline would be executed until the backend is gone. So at the deadline only a statement that is already running may be there
//! to be stopped.

use std::time::Duration;

use tokio::time::Instant;

/// Maximum number of unanswered statements of one session at its target. A session that is ended without notice (a revocation)
/// leaves at most that many, and one that enters its last seconds has that many to finish. With 64, a client that keeps its
/// pipeline full had a fifth less throughput: each time that it may continue costs a write to the log and one to the target.
pub(super) const MAX_STATEMENTS_IN_FLIGHT: usize = 256;
/// Last part of a window, in which statements are forwarded one by one. It is long enough for the statements pipelined before it:
/// those of four hundred sessions at a target of 10,000 statements a second.
const ONE_BY_ONE_PERIOD: Duration = Duration::from_secs(10);
/// End of that part, in which no statement begins any more: a forwarded statement needs time to begin at a busy target, and would
/// be stopped before it had an effect.
const STILL_PERIOD: Duration = Duration::from_millis(250);

/// Statements that may be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum ForwardingPace {
    /// Up to [`MAX_STATEMENTS_IN_FLIGHT`] statements ahead of their answers.
    #[default]
    Pipelined,
    /// A statement once the previous one has been answered.
    OneByOne,
    /// No message that begins or completes a statement.
    Still,
}

impl ForwardingPace {
    /// Returns the pace at a time, for a session that ends at `deadline`.
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
            (Duration::from_secs(11), ForwardingPace::Pipelined),
            (ONE_BY_ONE_PERIOD, ForwardingPace::OneByOne),
            (Duration::from_millis(251), ForwardingPace::OneByOne),
            (STILL_PERIOD, ForwardingPace::Still),
            (Duration::ZERO, ForwardingPace::Still),
        ] {
            assert_eq!(ForwardingPace::at(deadline - before, deadline), pace, "{before:?}");
        }
        assert_eq!(ForwardingPace::at(deadline + STILL_PERIOD, deadline), ForwardingPace::Still);
    }
}
