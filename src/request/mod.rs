//! What a request for access is, and which steps may follow which.
//!
//! It does not decide who may take a step (policies do), stores nothing and reads no clock: `now` is an argument.
//!
//! INVARIANT: only a request that is pending can be approved, rejected or withdrawn: these steps exist on [`Pending`] alone, and
//! [`Request::pending`] is the only way to one. An approver can narrow what was asked for and never widen it; approvals of the
//! requester, and second ones of the same approver, do not exist.

mod step;

pub use step::{Approve, IllegalStep, Next, Pending};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{GrantId, RequestId};
use crate::names::{GroupName, IdentityName, ProfileName, TargetName};

/// An identity asks for a profile on a target, for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// What is asked for, by whom.
    #[serde(flatten)]
    pub wish: Wish,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// Until when it can be approved.
    pub expires_at: Timestamp,
    /// How many distinct approvers it needs; 0: it needed none.
    pub approvals_needed: u32,
    /// The approvals so far, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// What it came to, once that is settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The extent that was asked for, where an approver has given less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub narrowed_from: Option<Extent>,
    /// For a break-glass request: who looked at it afterwards, and what they found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// Who asks.
    pub identity: IdentityName,
    /// The groups it was in when it asked.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<GroupName>,
    /// The issuer whose token proved it; `None`: it is a local user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What that token said of the run (`repository`, `ref`, ...): for approvers, and for the policies at activation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
    /// Where to.
    pub target: TargetName,
    /// With which privileges.
    pub profile: ProfileName,
    /// How long the window is to be, from activation.
    #[serde(rename = "window_seconds", serialize_with = "as_seconds", deserialize_with = "from_seconds")]
    pub window: Duration,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Under which ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// How many sessions at once.
    pub max_sessions: u32,
    /// At once, without waiting for anybody, to be reviewed afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
}

/// The part of a wish that an approver can make smaller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// With which privileges.
    pub profile: ProfileName,
    /// How long.
    #[serde(rename = "window_seconds", serialize_with = "as_seconds", deserialize_with = "from_seconds")]
    pub window: Duration,
}

/// One approver's yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Who.
    pub by: IdentityName,
    /// When.
    pub at: Timestamp,
    /// In their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// What a request came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The policies forbade it.
    Denied {
        /// When.
        at: Timestamp,
        /// Why, for whoever asked.
        why: String,
    },
    /// It became a grant.
    Approved {
        /// When.
        at: Timestamp,
        /// By whom.
        how: How,
        /// The grant.
        grant: GrantId,
    },
    /// An approver said no.
    Rejected {
        /// When.
        at: Timestamp,
        /// Who.
        by: IdentityName,
        /// In their words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comment: Option<String>,
    },
    /// The requester took it back.
    Withdrawn {
        /// When.
        at: Timestamp,
    },
}

/// By whom a request was approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// By the policies alone.
    Automatic,
    /// By people.
    People,
    /// By nobody: to be reviewed.
    BreakGlass,
}

/// What somebody found who looked at a break-glass access afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// Who.
    pub by: IdentityName,
    /// When.
    pub at: Timestamp,
    /// What they found.
    pub comment: String,
}

/// Where a request stands at a moment. Computed, never stored: nothing has to run for a request to lapse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Waits for approvers.
    Pending,
    /// Nobody approved it in time.
    Lapsed,
    /// See [`Outcome`].
    Denied,
    /// See [`Outcome`].
    Approved,
    /// See [`Outcome`].
    Rejected,
    /// See [`Outcome`].
    Withdrawn,
}

impl Status {
    /// A stable name for the log, tables and scripts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Lapsed => "lapsed",
            Self::Denied => "denied",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl Request {
    /// Where it stands at `now`.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> Status {
        match &self.outcome {
            Some(Outcome::Denied { .. }) => Status::Denied,
            Some(Outcome::Approved { .. }) => Status::Approved,
            Some(Outcome::Rejected { .. }) => Status::Rejected,
            Some(Outcome::Withdrawn { .. }) => Status::Withdrawn,
            None if now < self.expires_at => Status::Pending,
            None => Status::Lapsed,
        }
    }

    /// Profile and window as they were asked for, whatever an approver has made of them.
    #[must_use]
    pub fn asked_for(&self) -> Extent {
        let asked = || Extent {
            profile: self.wish.profile.clone(),
            window: self.wish.window,
        };
        self.narrowed_from.clone().unwrap_or_else(asked)
    }

    /// The grant it became.
    #[must_use]
    pub fn grant(&self) -> Option<&GrantId> {
        match &self.outcome {
            Some(Outcome::Approved { grant, .. }) => Some(grant),
            _ => None,
        }
    }

    /// Whether somebody still has to look at it: a break-glass access that nobody has reviewed.
    #[must_use]
    pub fn wants_review(&self) -> bool {
        self.wish.break_glass && self.grant().is_some() && self.review.is_none()
    }

    /// How many approvals are missing.
    #[must_use]
    pub fn approvals_missing(&self) -> u32 {
        let have = u32::try_from(self.approvals.len()).unwrap_or(u32::MAX);
        self.approvals_needed.saturating_sub(have)
    }
}

fn as_seconds<S: Serializer>(window: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(window.as_secs())
}

fn from_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

#[cfg(test)]
mod tests;
