//! Times at which a session gets a notice or ends: its deadline, the warnings before it, its idle limit.
//!
//! This module computes times and texts; it does not wait and does not end anything.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::base::clock::Clock;
use crate::base::visible::visible;
use crate::model::ending::{self, EndingText};
use crate::model::grant::{Grant, Permit};
use crate::protocol::wire::error_response;

/// Event that is due at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DueEvent {
    /// The window closes.
    Deadline,
    /// The client gets a warning that the window closes soon.
    Warning,
    /// The client may have been idle for too long.
    Idle(Duration),
    /// The client may have been idle for so long that the session can do without its buffers.
    Rest,
}

/// Note to a client on the origin of its grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ArrivalNote {
    /// The grant existed before; it was requested with this reason.
    Joined(Option<String>),
    /// An approver granted less than was requested.
    Narrowed(EndingText),
}

/// Limits of one session.
#[derive(Debug)]
pub(super) struct SessionLimits {
    pub(super) permit: Permit,
    /// Times before the deadline at which warnings are due, longest last; those in the past are removed.
    warnings: Vec<Duration>,
    idle: Option<Duration>,
    /// Text for the client on how to continue, set by the operator.
    renew: Option<String>,
    /// Last look at whether the session needs its buffers: the time of the client's last message then, and of the look.
    rested: Option<(Instant, Instant)>,
}

/// Time after the last message of a client until its session's buffers are released. Allocating them anew costs a statement
/// less than a microsecond.
const REST_DELAY: Duration = Duration::from_secs(1);
/// Interval of looks at whether a session without buffers has been used since.
const REST_INTERVAL: Duration = Duration::from_mins(1);

impl SessionLimits {
    pub(super) fn new(permit: Permit, warnings: &[Duration], idle: Option<Duration>, renew: Option<String>) -> Self {
        Self {
            permit,
            warnings: sorted(warnings),
            idle,
            renew,
            rested: None,
        }
    }

    /// Takes the permit of a changed grant: the deadline moves, and the warnings with it.
    pub(super) fn moved(&mut self, permit: Permit, warnings: &[Duration]) {
        self.permit = permit;
        self.warnings = sorted(warnings);
    }

    /// Returns the time of the next event, and the event.
    pub(super) fn next(&mut self, clock: &Clock, idle_since: Instant) -> (Instant, DueEvent) {
        let until = self.permit.until();
        let now = clock.now();
        // Warnings whose time had passed when they were set are not sent late: the welcome has already said it.
        let left = until.duration_since(now);
        while self.warnings.last().is_some_and(|before| left < signed(*before)) {
            self.warnings.pop();
        }
        let deadline = (clock.instant_at(until), DueEvent::Deadline);
        let warning = self.warnings.last().map(|before| {
            let at = until.checked_sub(*before).unwrap_or(Timestamp::MIN);
            (clock.instant_at(at), DueEvent::Warning)
        });
        let idle = self.idle.map(|limit| (idle_since + limit, DueEvent::Idle(limit)));
        // Of several at one time, the first of these.
        let rest = match self.rested {
            Some((seen, looked)) if seen == idle_since => looked + REST_INTERVAL,
            _ => idle_since + REST_DELAY,
        };
        let rest = Some((rest, DueEvent::Rest));
        let others = [warning, idle, rest].into_iter().flatten();
        others.fold(deadline, |next, other| if other.0 < next.0 { other } else { next })
    }

    /// Returns true, and notes the look, if the client has sent nothing for so long that the session can do without its buffers.
    pub(super) fn rests(&mut self, idle_since: Instant, now: Instant) -> bool {
        let rests = now >= idle_since + REST_DELAY;
        if rests {
            self.rested = Some((idle_since, now));
        }
        rests
    }

    /// Returns the warning that is due now, as a message; it is not sent again.
    pub(super) fn warning(&mut self) -> Option<Vec<u8>> {
        let before = self.warnings.pop()?;
        Some(self.notice(&format!("grant {} ends in {}", self.permit.grant(), length(before)), None))
    }

    /// Returns the notice for a client at login.
    pub(super) fn welcome(&self, grant: &Grant, note: Option<&ArrivalNote>, now: Timestamp) -> Vec<u8> {
        let message = format!(
            "you are {} on {} under grant {}, until {}",
            self.permit.identity(),
            self.permit.target().with(grant.profile()),
            self.permit.grant(),
            self.end(now)
        );
        let detail = match note {
            Some(ArrivalNote::Joined(Some(reason))) => Some(format!("A grant that you had already, for: {}.", visible(reason))),
            Some(ArrivalNote::Joined(None)) => Some("A grant that you had already.".to_owned()),
            _ => None,
        };
        self.notice(&message, detail)
    }

    /// Returns the notice for a client whose deadline has moved.
    pub(super) fn moved_notice(&self, now: Timestamp) -> Vec<u8> {
        self.notice(&format!("grant {} now ends at {}", self.permit.grant(), self.end(now)), None)
    }

    fn end(&self, now: Timestamp) -> String {
        let until = self.permit.until();
        let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
        format!("{} (in {})", until.strftime("%Y-%m-%d %H:%M:%S UTC"), length(left))
    }

    fn notice(&self, message: &str, detail: Option<String>) -> Vec<u8> {
        let hint = self.renew.clone().unwrap_or_else(|| {
            let prolonging = ending::prolonging(self.permit.grant(), self.permit.requested());
            format!("every statement is on record; at the end the running one is stopped. To go on: {prolonging}")
        });
        error_response::notice(&EndingText {
            code: "01000",
            message: message.to_owned(),
            detail,
            hint: Some(hint),
        })
    }
}

fn sorted(warnings: &[Duration]) -> Vec<Duration> {
    let mut warnings = warnings.to_vec();
    warnings.sort_unstable();
    warnings.dedup();
    warnings
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// Formats a length of time for a person to read: `2 h 30 min`, `5 min`, `40 s`.
pub(super) fn length(duration: Duration) -> String {
    // Rounded to the nearest second: the welcome of a 30 min window says 30 min, not 29 min 59 s.
    let seconds = duration.as_millis().saturating_add(500) / 1000;
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let said: Vec<_> = parts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, unit)| format!("{n} {unit}"))
        .collect();
    if said.is_empty() { "0 s".to_owned() } else { said.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        for (millis, text) in [
            (0, "0 s"),
            (400, "0 s"),
            (29_600, "30 s"),
            (300_000, "5 min"),
            (9_000_000, "2 h 30 min"),
            (3_661_000, "1 h 1 min 1 s"),
        ] {
            assert_eq!(length(Duration::from_millis(millis)), text);
        }
    }
}
