//! Limits that were reached and answers that were delayed, with the reason, the duration and the remedy.
//!
//! This module does not count anything.

use std::time::Duration;

use super::EndingKind as Kind;
use super::words::{EndingEntry, say, span};
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
    /// Logins that wait, for an approval or in line.
    Waiting,
    /// Logins of one identity that wait, for an approval or in line.
    WaitingOf(IdentityName),
    /// Grants in line at one target.
    Line(TargetName),
    /// Grants of one identity in line at a target.
    LineOf(IdentityName),
    /// Databases of grants at one target, each a copy of a template.
    Copies(TargetName),
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
    /// Returns the entry of the ending that the limit makes.
    pub(super) fn entry(&self, limit: u32) -> EndingEntry {
        let say = |kind, message: String| say(kind, "53300", message);
        let entry = match self {
            Self::Gate => say(Kind::TooManyConnections, "the gate has no connection slot left".to_owned())
                .hint("connect again when others have left; the gate's operator can raise limits.connections"),
            Self::Unfinished => say(
                Kind::TooManyUnfinishedLogins,
                "too many unfinished logins at the gate".to_owned(),
            )
            .hint("connect again now, and log in without a pause"),
            Self::UnfinishedOfAddress => {
                let message = "too many unfinished logins from your address".to_owned();
                say(Kind::TooManyUnfinishedLoginsOfAddress, message).hint(
                    "connect again now, and log in without a pause; other clients behind your address (a proxy, say) leave \
                     logins unfinished",
                )
            }
            Self::Target(target) => say(Kind::TooManySessionsOfTarget, format!("too many sessions on \"{target}\""))
                .hint("close another session, or connect again when others have left"),
            Self::Grant(grant) => say(Kind::TooManySessionsOfGrant, format!("too many sessions under grant {grant}"))
                .hint("close another session under it, or ask for a grant of more sessions"),
            Self::Waiting => say(
                Kind::TooManyWaitingLogins,
                "too many logins wait for approval or in line".to_owned(),
            )
            .hint("connect again later; a request that is pending stays so"),
            Self::Line(target) => {
                let message = format!("too many grants wait in line for \"{target}\"");
                say(Kind::TooManyGrantsInLine, message)
                    .hint("connect again later; the gate's operator can raise limits.grants_in_line")
            }
            Self::LineOf(identity) => {
                let message = format!("too many grants of {identity} wait in line");
                say(Kind::TooManyGrantsInLineOfIdentity, message)
                    .hint("release one that waits, or connect again when others have had their turn")
            }
            Self::Copies(target) => {
                let message = format!("too many grants have a database of their own on \"{target}\"");
                say(Kind::TooManyCopiesOfTarget, message)
                    .hint("connect again when a grant with one has ended; the gate's operator can raise `copies` of the target")
            }
            Self::WaitingOf(identity) => {
                let message = format!("too many logins of {identity} wait for approval or in line");
                say(Kind::TooManyWaitingLoginsOfIdentity, message).hint(
                    "close another login that waits, or connect again when it is settled; a request that is pending stays so",
                )
            }
            Self::Requests { identity, .. } => {
                let message = format!("too many requests of {identity} within a minute");
                say(Kind::TooManyRequests, message)
                    .hint("wait so long, then ask again; what is pending already is found again and does not count")
            }
        };
        entry.detail(match self {
            Self::Unfinished | Self::UnfinishedOfAddress => {
                format!("At most {limit} at once; the newest takes the place of the oldest, which this one was.")
            }
            Self::Requests { wait, .. } => format!("At most {limit} in a minute; the next one is taken in {}.", span(*wait)),
            _ => format!("At most {limit} at once."),
        })
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
