//! State machine of a grant: [`apply`] is the one function that changes a grant.
//!
//! It does not decide who may ask for a change, and it does not store one: the ledger does.

use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;

use super::{Grant, GrantState, Revocation, canonical_network};
use crate::model::ids::{GrantId, RequestId};
use crate::model::names::{IdentityName, ProfileName, TargetName};

/// Minimum length of a window.
pub const MIN_WINDOW: Duration = Duration::from_secs(1);
/// Maximum length of a window, extensions included: the gate is for short-lived grants.
pub const MAX_WINDOW: Duration = Duration::from_hours(31 * 24);

/// Age up to which a grant may wait in line for its target.
pub const MAX_LINE_AGE: Duration = Duration::from_hours(24);

/// Time that a grant waits for its first connect, if nothing else is said.
pub const DEFAULT_ACTIVATE_WITHIN: Duration = Duration::from_hours(1);
/// Number of simultaneous sessions, if nothing else is said: enough for a database tool with several windows or a small test
/// suite.
pub const DEFAULT_SESSIONS: u32 = 10;

/// Terms of a new grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Identity it is for.
    pub identity: IdentityName,
    /// Target it opens.
    pub target: TargetName,
    /// Reason for the access.
    pub reason: Option<String>,
    /// Length of the window, from the first connect.
    pub window: Duration,
    /// Time it waits for the first connect.
    pub activate_within: Duration,
    /// Absolute deadline: no window ends after it.
    pub deadline: Option<Timestamp>,
    /// Maximum number of concurrent sessions; at least 1.
    pub max_sessions: u32,
    /// Network its clients have to connect from; `None`: any.
    pub client_network: Option<IpNet>,
    /// Profile whose privileges it gives, if it names one.
    pub profile: Option<ProfileName>,
    /// Request it results from.
    pub request: Option<RequestId>,
}

/// Error of terms that make no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// The window is shorter than [`MIN_WINDOW`] or longer than [`MAX_WINDOW`].
    #[error("a window is {MIN_WINDOW:?} to 31 days long, not {0:?}")]
    Window(Duration),
    /// The time to wait for the first connect is outside the same bounds.
    #[error("the time limit for the first connect is {MIN_WINDOW:?} to 31 days, not {0:?}")]
    ActivateWithin(Duration),
    /// The deadline is not in the future.
    #[error("the deadline {0} has passed")]
    Deadline(Timestamp),
    /// The maximum number of sessions is 0.
    #[error("a grant allows at least one session")]
    NoSessions,
}

/// Change of a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantChange {
    /// Opens the window: the first connect, or an explicit activation.
    Activate,
    /// Gives a grant that waits in line so much time from now for its first connect, where it has less.
    Postpone(Duration),
    /// Moves the end of the window to a later time.
    Extend(Duration),
    /// Moves the end of the window to an earlier time; at the earliest to now, which ends the grant.
    ShortenBy(Duration),
    /// Moves the end of the window to a given time before the present end; at the earliest to now, which ends the grant.
    ShortenTo(Timestamp),
    /// Ends the grant.
    Revoke {
        /// Name of the operator.
        by: String,
        /// Reason given.
        reason: Option<String>,
    },
}

impl GrantChange {
    /// Returns true if the change can only reduce what a grant gives.
    #[must_use]
    pub fn takes_away(&self) -> bool {
        match self {
            Self::Activate | Self::Postpone(_) | Self::Extend(_) => false,
            Self::ShortenBy(_) | Self::ShortenTo(_) | Self::Revoke { .. } => true,
        }
    }
}

/// Error of a change that cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// It has ended, by its standing; there is no way back.
    #[error("the grant has ended ({0}) and cannot be changed")]
    Ended(&'static str),
    /// Its window is open already.
    #[error("the grant is already active")]
    Active,
    /// The extension has no effect: the window ends at the absolute deadline of the grant already.
    #[error("the grant has a fixed deadline, {0}, that an extension cannot move")]
    Deadline(Timestamp),
    /// The window would become longer than [`MAX_WINDOW`].
    #[error("a window is at most 31 days long")]
    TooLong,
    /// A window that is not open yet would become shorter than [`MIN_WINDOW`]; revoke the grant instead.
    #[error("a window is at least {MIN_WINDOW:?} long; revoke the grant instead")]
    TooShort,
    /// The time limit for the first connect is as late as that already, or as late as it may be.
    #[error("the grant has so much time for its first connect already")]
    NotLater,
    /// The new end is not before the present one.
    #[error("the grant ends before that time")]
    NotShorter,
}

/// Creates a grant that waits for its first connect.
pub fn create(id: GrantId, terms: Terms, by: &str, now: Timestamp) -> Result<Grant, TermsError> {
    let bounds = MIN_WINDOW..=MAX_WINDOW;
    if !bounds.contains(&terms.window) {
        return Err(TermsError::Window(terms.window));
    }
    if !bounds.contains(&terms.activate_within) {
        return Err(TermsError::ActivateWithin(terms.activate_within));
    }
    if let Some(deadline) = terms.deadline.filter(|deadline| *deadline <= now) {
        return Err(TermsError::Deadline(deadline));
    }
    if terms.max_sessions == 0 {
        return Err(TermsError::NoSessions);
    }
    Ok(Grant {
        id,
        identity: terms.identity,
        target: terms.target,
        reason: terms.reason,
        created_at: now,
        created_by: by.to_owned(),
        activate_by: no_later(later(now, terms.activate_within), terms.deadline),
        window: terms.window,
        deadline: terms.deadline,
        max_sessions: terms.max_sessions,
        client_network: terms.client_network.map(canonical_network),
        activated_at: None,
        until: None,
        revoked: None,
        profile: terms.profile,
        request: terms.request,
    })
}

/// Returns the grant after `change`, if the change is legal. Pure: the grant given stays as it is.
pub fn apply(grant: &Grant, change: &GrantChange, now: Timestamp) -> Result<Grant, ChangeError> {
    let status = grant.status(now);
    if status.ended() {
        return Err(ChangeError::Ended(grant.standing(now)));
    }
    match (status, change) {
        (_, GrantChange::Revoke { by, reason }) => Ok(Grant {
            revoked: Some(Revocation {
                at: now,
                by: by.clone(),
                reason: reason.clone(),
            }),
            ..grant.clone()
        }),
        (GrantState::Active { from, until }, change) => change_active(grant, change, Window { from, until }, now),
        (_, GrantChange::Activate) => {
            let until = no_later(later(now, grant.window), grant.deadline);
            Ok(with_window(grant, Window { from: now, until }))
        }
        (_, GrantChange::Postpone(by)) => postpone(grant, *by, now),
        (_, GrantChange::Extend(by)) => resize(grant, grant.window.saturating_add(*by)),
        (_, GrantChange::ShortenBy(by)) => resize(grant, grant.window.saturating_sub(*by)),
        (_, GrantChange::ShortenTo(to)) => shorten_ready(grant, *to, now),
    }
}

/// Open window: `from` included, `until` not.
#[derive(Clone, Copy)]
struct Window {
    from: Timestamp,
    until: Timestamp,
}

fn change_active(grant: &Grant, change: &GrantChange, window: Window, now: Timestamp) -> Result<Grant, ChangeError> {
    let Window { from, until } = window;
    let until = match change {
        GrantChange::Activate | GrantChange::Postpone(_) | GrantChange::Revoke { .. } => return Err(ChangeError::Active),
        GrantChange::Extend(by) => {
            let wanted = later(until, *by);
            if wanted > later(from, MAX_WINDOW) {
                return Err(ChangeError::TooLong);
            }
            match grant.deadline {
                Some(deadline) if until >= deadline => return Err(ChangeError::Deadline(deadline)),
                deadline => no_later(wanted, deadline),
            }
        }
        GrantChange::ShortenBy(by) => shorter(until, earlier(until, *by), now)?,
        GrantChange::ShortenTo(to) => shorter(until, *to, now)?,
    };
    Ok(with_window(grant, Window { from, until }))
}

/// Returns the new end of an open window: `to`, but not in the past, so that everything done under the grant until now stays
/// covered.
fn shorter(until: Timestamp, to: Timestamp, now: Timestamp) -> Result<Timestamp, ChangeError> {
    if to < until {
        Ok(to.max(now))
    } else {
        Err(ChangeError::NotShorter)
    }
}

fn resize(grant: &Grant, window: Duration) -> Result<Grant, ChangeError> {
    if window > MAX_WINDOW {
        return Err(ChangeError::TooLong);
    }
    if window < MIN_WINDOW {
        return Err(ChangeError::TooShort);
    }
    Ok(Grant { window, ..grant.clone() })
}

/// Moves the latest time of the first connect, but not beyond [`MAX_LINE_AGE`] after the grant was made, nor beyond its deadline.
fn postpone(grant: &Grant, by: Duration, now: Timestamp) -> Result<Grant, ChangeError> {
    let latest = no_later(later(grant.created_at, MAX_LINE_AGE), grant.deadline);
    let to = later(now, by).min(latest);
    if to <= grant.activate_by {
        return Err(ChangeError::NotLater);
    }
    Ok(Grant {
        activate_by: to,
        ..grant.clone()
    })
}

/// Shortens a window that is not open yet. It has no end to move, so the grant gets a deadline instead.
fn shorten_ready(grant: &Grant, to: Timestamp, now: Timestamp) -> Result<Grant, ChangeError> {
    if grant.deadline.is_some_and(|deadline| deadline <= to) {
        return Err(ChangeError::NotShorter);
    }
    let to = to.max(now);
    Ok(Grant {
        deadline: Some(to),
        activate_by: grant.activate_by.min(to),
        ..grant.clone()
    })
}

fn with_window(grant: &Grant, window: Window) -> Grant {
    let length = window.until.duration_since(window.from);
    Grant {
        activated_at: Some(window.from),
        until: Some(window.until),
        window: Duration::try_from(length).unwrap_or(Duration::ZERO),
        ..grant.clone()
    }
}

fn no_later(time: Timestamp, limit: Option<Timestamp>) -> Timestamp {
    limit.map_or(time, |limit| time.min(limit))
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn earlier(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_sub(by).unwrap_or(Timestamp::MIN)
}
