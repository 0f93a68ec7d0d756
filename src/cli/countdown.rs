//! What somebody in psql is told about the time they have left, and when.
//!
//! It decides on values, here; the grant is followed and the terminal written to in [`mod@follow`], nowhere else.
//!
//! INVARIANT: each mark is said once on the way down, and after more time was given, again.

mod follow;

use std::time::Duration;

use clap::ValueEnum;
use jiff::{SignedDuration, Timestamp};

pub(super) use follow::follow;

use super::render::{self, time, to, visible};
use crate::base::duration;
use crate::control::model::GrantView;

/// When the countdown is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CountdownMode {
    /// If standard error is a terminal
    Auto,
    /// Always, as lines on standard error
    Always,
    /// Never
    Never,
}

/// Remaining times that are announced, the longest first. From the first one on the title shows it, too.
const WARNING_MARKS: [SignedDuration; 3] = [
    SignedDuration::from_mins(5),
    SignedDuration::from_mins(1),
    SignedDuration::from_secs(10),
];
const SECONDS_PER_MINUTE: i64 = 60;

/// Known state of a grant, and of the countdown.
#[derive(Debug, Default)]
pub(super) struct Countdown {
    /// Target and profile of the grant.
    name: String,
    id: String,
    /// Its end, once its window is open.
    until: Option<Timestamp>,
    /// Remaining time at the last look.
    left: Option<SignedDuration>,
    /// There is nothing more to say.
    over: bool,
}

impl Countdown {
    /// The grant is found to be so. What is new about it, if it was known before.
    pub(super) fn see(&mut self, view: &GrantView, now: Timestamp) -> Option<String> {
        let grant = &view.grant;
        if self.over {
            return None;
        }
        self.name = to(grant);
        self.id = grant.id().to_string();
        if grant.given_back() {
            self.over = true;
            return Some(format!(
                "grant {} was released; to continue: tidegate psql {}",
                self.id, self.name
            ));
        }
        if let Some(revocation) = grant.revoked() {
            self.over = true;
            let reason = revocation.reason.as_deref().map(|reason| format!(": {}", visible(reason)));
            let by = visible(&revocation.by);
            return Some(format!("revoked by {by}{} (grant {})", reason.unwrap_or_default(), self.id));
        }
        let before = std::mem::replace(&mut self.until, grant.until());
        if before == self.until {
            return None;
        }
        let until = self.until?;
        self.left = Some(until.duration_since(now));
        let kind = if until > before? { "more" } else { "less" };
        let left = render::left(until, now);
        Some(format!("{kind} time: {left} left, until {} (grant {})", time(until), self.id))
    }

    /// It is that late. What is to be said about it, if something is.
    pub(super) fn tick(&mut self, now: Timestamp) -> Option<String> {
        let until = self.until.filter(|_| !self.over)?;
        let left = until.duration_since(now);
        let before = self.left.replace(left)?;
        if left <= SignedDuration::ZERO {
            self.over = true;
            return Some(format!("the window is closed; to continue: tidegate psql {}", self.name));
        }
        let passed = WARNING_MARKS.iter().any(|mark| before > *mark && left <= *mark);
        passed.then(|| {
            let left = duration::show(rounded(left));
            format!("{left} left; for more: tidegate extend {} --by 30m", self.id)
        })
    }

    /// Returns the title; `None` while there is time enough.
    fn title(&self, now: Timestamp) -> Option<String> {
        let left = self.until?.duration_since(now);
        let [first, ..] = WARNING_MARKS;
        if self.over {
            return Some(format!("closed: {}", self.name));
        }
        (left <= first).then(|| format!("{} left: {}", duration::show(rounded(left)), self.name))
    }

    /// Returns the time at which [`tick`](Self::tick) or [`title`](Self::title) next has something new.
    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.until.filter(|_| !self.over)?;
        let left = until.duration_since(now);
        let [first, ..] = WARNING_MARKS;
        let then = if left > first {
            first
        } else {
            let shown = SignedDuration::try_from(rounded(left)).ok()?;
            shown - SignedDuration::from_secs(step(shown.as_secs()))
        };
        until.checked_sub(then).ok()
    }
}

/// Returns the step of the countdown: ten seconds, and in the last minute one second.
fn step(seconds: i64) -> i64 {
    if seconds > SECONDS_PER_MINUTE { 10 } else { 1 }
}

/// Rounds the remaining time up to whole steps.
fn rounded(left: SignedDuration) -> Duration {
    let begun = i64::from(left.subsec_nanos() > 0);
    let seconds = left.as_secs().saturating_add(begun).max(0);
    let step = step(seconds);
    let whole = (seconds + step - 1) / step * step;
    Duration::from_secs(whole.unsigned_abs())
}

#[cfg(test)]
mod tests;
