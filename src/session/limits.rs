//! When a session has to be told something or ended: its deadline, the warnings before it, its idle limit.
//!
//! It computes moments and words; it waits for nothing and ends nothing.

use std::time::Duration;

use bytes::BytesMut;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::arrive::Note;
use crate::clock::Clock;
use crate::ending::{self, Words};
use crate::grant::{Grant, Permit};
use crate::visible::visible;
use crate::wire::error_response;

/// What is due at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The window closes.
    Deadline,
    /// The client is told that it closes soon.
    Warning,
    /// The client may have been idle for too long.
    Idle(Duration),
}

/// The limits of one session.
#[derive(Debug)]
pub(super) struct Limits {
    permit: Permit,
    /// How long before the deadline to warn, longest first; those that are past are gone.
    warnings: Vec<Duration>,
    idle: Option<Duration>,
    /// What a client can do to go on, in the operator's words.
    renew: Option<String>,
}

impl Limits {
    pub(super) fn new(permit: Permit, warnings: &[Duration], idle: Option<Duration>, renew: Option<String>) -> Self {
        let mut limits = Self {
            permit,
            warnings: Vec::new(),
            idle,
            renew,
        };
        limits.arm(warnings);
        limits
    }

    /// The permit as it stands.
    pub(super) fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The grant has changed: the deadline moves, and the warnings with it.
    pub(super) fn moved(&mut self, permit: Permit, warnings: &[Duration]) {
        self.permit = permit;
        self.arm(warnings);
    }

    fn arm(&mut self, warnings: &[Duration]) {
        self.warnings = warnings.to_vec();
        self.warnings.sort_unstable();
        self.warnings.dedup();
    }

    /// The next moment something is due, and what.
    pub(super) fn next(&mut self, clock: &Clock, heard: Instant) -> (Instant, Due) {
        let until = self.permit.until();
        let now = clock.now();
        // Warnings whose time had passed when they were armed are not given late: the welcome said it already.
        let left = until.duration_since(now);
        while self.warnings.last().is_some_and(|before| left < signed(*before)) {
            self.warnings.pop();
        }
        let mut next = (clock.instant_at(until), Due::Deadline);
        if let Some(before) = self.warnings.last() {
            let at = until.checked_sub(*before).unwrap_or(Timestamp::MIN);
            next = earlier(next, (clock.instant_at(at), Due::Warning));
        }
        if let Some(limit) = self.idle {
            next = earlier(next, (heard + limit, Due::Idle(limit)));
        }
        next
    }

    /// The warning that is due now, as a message; it is not given again.
    pub(super) fn warning(&mut self) -> Option<Vec<u8>> {
        let before = self.warnings.pop()?;
        Some(self.notice(&format!("grant {} ends in {}", self.permit.grant(), length(before)), None))
    }

    /// What a client is told when it comes in.
    pub(super) fn welcome(&self, grant: &Grant, note: Option<&Note>, now: Timestamp) -> Vec<u8> {
        let left = self.permit.until().duration_since(now);
        let left = Duration::try_from(left).unwrap_or_default();
        let message = format!(
            "you are {} on {} under grant {}, until {} (in {})",
            self.permit.identity(),
            self.permit.target().with(grant.profile()),
            self.permit.grant(),
            self.permit.until().strftime("%Y-%m-%d %H:%M:%S UTC"),
            length(left)
        );
        let detail = match note {
            Some(Note::Joined(Some(reason))) => Some(format!("A grant that you had already, for: {}.", visible(reason))),
            Some(Note::Joined(None)) => Some("A grant that you had already.".to_owned()),
            _ => None,
        };
        self.notice(&message, detail)
    }

    /// What a client is told when the deadline has moved.
    pub(super) fn moved_notice(&self, now: Timestamp) -> Vec<u8> {
        let left = Duration::try_from(self.permit.until().duration_since(now)).unwrap_or_default();
        let message = format!(
            "grant {} now ends at {} (in {})",
            self.permit.grant(),
            self.permit.until().strftime("%Y-%m-%d %H:%M:%S UTC"),
            length(left)
        );
        self.notice(&message, None)
    }

    fn notice(&self, message: &str, detail: Option<String>) -> Vec<u8> {
        let hint = self.renew.clone().unwrap_or_else(|| {
            let prolonging = ending::prolonging(self.permit.grant(), self.permit.requested());
            format!("every statement is on record; at the end the running one is stopped. To go on: {prolonging}")
        });
        let words = Words {
            code: "01000",
            message: message.to_owned(),
            detail,
            hint: Some(hint),
        };
        let mut out = BytesMut::new();
        error_response::notice(&mut out, &words);
        out.to_vec()
    }
}

fn earlier(a: (Instant, Due), b: (Instant, Due)) -> (Instant, Due) {
    if b.0 < a.0 { b } else { a }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// A length of time as a person says it: `2 h 30 min`, `5 min`, `40 s`.
pub(super) fn length(duration: Duration) -> String {
    // To the nearest second: the welcome of a 30 min window says 30 min, not 29 min 59 s.
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
