//! Answers that buttons of the gate's messages stand for: the ids of their actions, and their values. Pure.

use std::time::Duration;

use crate::base::duration;
use crate::model::ids::{GrantId, RequestId};
use crate::model::names::{Vocabulary as _, vocabulary};

vocabulary! {
    /// Action of a button.
    pub enum ChatAction {
        /// Approve a request as it is.
        Approve = "approve",
        /// Approve a request for a shorter time.
        ApproveFor = "approve_for",
        /// Reject a request.
        Reject = "reject",
        /// Review a break-glass access.
        Review = "review",
        /// Extend one's own grant.
        Extend = "extend",
    }
}

/// Answer of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChatAnswer {
    /// Approves a request, perhaps for a shorter time.
    Approve(RequestId, Option<Duration>),
    /// Rejects a request.
    Reject(RequestId),
    /// Reviews a break-glass access.
    Review(RequestId),
    /// Extends a grant by this time.
    Extend(GrantId, Duration),
}

/// Id of the input for a comment in a message with buttons.
pub const COMMENT_INPUT: &str = "comment";

/// Writes the value of a button that is about an id and a time.
#[must_use]
pub fn with_id(id: &str, time: Duration) -> String {
    format!("{id} {}", duration::show(time))
}

impl ChatAnswer {
    /// Parses the action and the value of a button.
    #[must_use]
    pub fn parse(action: &str, value: &str) -> Option<Self> {
        let with_time = || {
            let (id, time) = value.split_once(' ')?;
            Some((id, duration::parse(time).ok()?))
        };
        Some(match ChatAction::from_name(action)? {
            ChatAction::Approve => Self::Approve(value.parse().ok()?, None),
            ChatAction::ApproveFor => {
                let (id, time) = with_time()?;
                Self::Approve(id.parse().ok()?, Some(time))
            }
            ChatAction::Reject => Self::Reject(value.parse().ok()?),
            ChatAction::Review => Self::Review(value.parse().ok()?),
            ChatAction::Extend => {
                let (id, time) = with_time()?;
                Self::Extend(id.parse().ok()?, time)
            }
        })
    }

    /// Returns the id of the request or grant that it is about.
    #[must_use]
    pub fn about(&self) -> &str {
        match self {
            Self::Approve(request, _) | Self::Reject(request) | Self::Review(request) => request.as_str(),
            Self::Extend(grant, _) => grant.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_button_says_one_thing() {
        let request: RequestId = "rq_4k2m9x0a7b".parse().unwrap();
        let half = Duration::from_mins(30);
        let value = with_id(request.as_str(), half);
        for (action, value, expected) in [
            ("approve", "rq_4k2m9x0a7b", Some(ChatAnswer::Approve(request.clone(), None))),
            (
                "approve_for",
                value.as_str(),
                Some(ChatAnswer::Approve(request.clone(), Some(half))),
            ),
            ("reject", "rq_4k2m9x0a7b", Some(ChatAnswer::Reject(request.clone()))),
            ("review", "rq_4k2m9x0a7b", Some(ChatAnswer::Review(request))),
            ("review", "gr_4k2m9x0a7b", None),
            (
                "extend",
                "gr_4k2m9x0a7b 1h30m",
                Some(ChatAnswer::Extend("gr_4k2m9x0a7b".parse().unwrap(), Duration::from_mins(90))),
            ),
            ("approve", "rq_4k2m9x0a7b 30m", None),
            ("approve", "gr_4k2m9x0a7b", None),
            ("approve", "", None),
            ("approve_for", "rq_4k2m9x0a7b", None),
            ("approve_for", "rq_4k2m9x0a7b soon", None),
            ("extend", "rq_4k2m9x0a7b 30m", None),
            ("revoke", "gr_4k2m9x0a7b", None),
            ("Approve", "rq_4k2m9x0a7b", None),
        ] {
            assert_eq!(ChatAnswer::parse(action, value), expected, "{action} {value}");
        }
    }
}
