//! Limits that were reached and answers that were delayed, with the reason, the duration and the remedy.
//!
//! This module does not count anything.

use std::time::Duration;

use super::EndingKind;
use super::words::span;
use crate::model::ids::GrantId;
use crate::model::names::{IdentityName, TargetName};

/// Things of which there are too many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitScope {
    /// Connections to the gate.
    Gate,
    /// Logins that are not finished, from anywhere.
    Unfinished,
    /// Unfinished logins of one address.
    UnfinishedOfAddress,
    /// Sessions on one target.
    Target(TargetName),
    /// Sessions under one grant.
    Grant(GrantId),
    /// Logins that wait for approval.
    Waiting,
    /// Logins of one identity that wait for approval.
    WaitingOf(IdentityName),
    /// Requests of one identity within a minute.
    Requests {
        /// Identity that made the requests.
        identity: IdentityName,
        /// Time until the next request is accepted.
        wait: Duration,
    },
}

/// Delay of the answer to a failed login, because many logins had failed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldBack {
    /// Failures that were too many.
    pub by: HeldBackBy,
    /// Time without another failure after which answers are immediate again.
    pub over_in: Duration,
}

/// Group of failures that delays an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBackBy {
    /// Failures of the address, under any names.
    Address,
    /// Failures of the name, from the address.
    Name,
}

impl LimitScope {
    /// Returns the kind of ending.
    pub(super) fn kind(&self) -> EndingKind {
        match self {
            Self::Gate => EndingKind::TooManyConnections,
            Self::Unfinished => EndingKind::TooManyUnfinishedLogins,
            Self::UnfinishedOfAddress => EndingKind::TooManyUnfinishedLoginsOfAddress,
            Self::Target(_) => EndingKind::TooManySessionsOfTarget,
            Self::Grant(_) => EndingKind::TooManySessionsOfGrant,
            Self::Waiting => EndingKind::TooManyWaitingLogins,
            Self::WaitingOf(_) => EndingKind::TooManyWaitingLoginsOfIdentity,
            Self::Requests { .. } => EndingKind::TooManyRequests,
        }
    }

    /// Returns message, detail and hint.
    pub(super) fn words(&self, limit: u32) -> (String, Option<String>, Option<String>) {
        let message = match self {
            Self::Gate => "the gate has no connection slot left".to_owned(),
            Self::Unfinished => "too many unfinished logins at the gate".to_owned(),
            Self::UnfinishedOfAddress => "too many unfinished logins from your address".to_owned(),
            Self::Target(target) => format!("too many sessions on \"{target}\""),
            Self::Grant(grant) => format!("too many sessions under grant {grant}"),
            Self::Waiting => "too many logins wait for approval".to_owned(),
            Self::WaitingOf(identity) => format!("too many logins of {identity} wait for approval"),
            Self::Requests { identity, .. } => format!("too many requests of {identity} within a minute"),
        };
        let detail = match self {
            Self::Unfinished | Self::UnfinishedOfAddress => {
                format!("At most {limit} at once; the newest takes the place of the oldest, which this one was.")
            }
            Self::Requests { wait, .. } => format!("At most {limit} in a minute; the next one is taken in {}.", span(*wait)),
            _ => format!("At most {limit} at once."),
        };
        let hint = match self {
            Self::Unfinished => "connect again now, and log in without a pause",
            Self::UnfinishedOfAddress => {
                "connect again now, and log in without a pause; other clients behind your address (a proxy, say) leave logins unfinished"
            }
            Self::Gate => "connect again when others have left; the gate's operator can raise limits.connections",
            Self::Target(_) => "close another session, or connect again when others have left",
            Self::Grant(_) => "close another session under it, or ask for a grant of more sessions",
            Self::Waiting => "connect again later; a request that is pending stays so",
            Self::WaitingOf(_) => {
                "close another login that waits, or connect again when it is settled; a request that is pending stays so"
            }
            Self::Requests { .. } => "wait so long, then ask again; what is pending already is found again and does not count",
        };
        (message, Some(detail), Some(hint.to_owned()))
    }
}

impl HeldBack {
    /// Returns the stable name of the reason, for the log and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.by {
            HeldBackBy::Address => "address",
            HeldBackBy::Name => "name",
        }
    }

    /// Returns the sentences for the client whose answer was delayed. They reveal nothing about the name: failures count whether
    /// it exists or not.
    #[must_use]
    pub fn told(&self) -> String {
        let many = match self.by {
            HeldBackBy::Address => "too many have failed from your address, which others may share",
            HeldBackBy::Name => "too many have failed under this name from your address",
        };
        format!(
            "This answer was held back: {many}. That is over after {} without a failure; what is right is never held back.",
            span(self.over_in)
        )
    }
}
