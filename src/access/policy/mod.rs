//! Access decisions by a set of Cedar policies: one question, and its verdict with the reasons.
//!
//! It reads no file, no clock and no store: policies come as texts, everything else with the question.
//!
//! INVARIANT: nothing is allowed without a permit; a policy that cannot be evaluated refuses; nothing is approved automatically
//! for longer than the `@max_duration` of a policy.

mod cedar;
mod class;
mod explain;
mod fit;
mod index;
mod judge;
mod load;
mod notes;
pub mod table;
#[cfg(test)]
mod tests;
mod words;

pub use class::QuestionClass;
pub use explain::{Remedy, RequestExplanation};
pub use words::PolicyVocabulary;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use crate::identity::Identity;
use crate::model::arrival::Arrival;
use crate::model::names::{GroupName, nearest};
use crate::model::request::{Request, RequestSpec};

/// Action that an identity wants to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ask for access.
    Request,
    /// Get access without an approver.
    AutoApprove,
    /// Get access at once, reviewed afterwards.
    BreakGlass,
    /// Approve or reject a request of another; review a break-glass access.
    Approve,
    /// Move the end of a grant to a later time.
    Extend,
    /// End a grant or session of another.
    Revoke,
    /// Read the audit log.
    ReadLog,
    /// Manage users, make grants by hand, and all other operations of an operator.
    Administer,
}

/// Subject of a question.
#[derive(Debug, Clone, Copy)]
pub enum Resource<'a> {
    /// The gate itself: reading the log, administering.
    Gate,
    /// A profile on a target: asking for access, extending, revoking.
    Access(&'a RequestSpec),
    /// A request: approving.
    Request(&'a Request),
}

/// Context of a question.
#[derive(Debug, Clone, Copy)]
pub struct QuestionContext {
    /// Gate time; policies see its hour and weekday in the configured zone.
    pub now: Timestamp,
    /// Address of the client; `None` if it is not on a network.
    pub client: Option<IpAddr>,
    /// Number of grants of the identity that have not ended.
    pub active_grants: u32,
    /// Way by which the identity comes, and the age of its sign-in.
    pub arrival: Arrival,
}

impl QuestionContext {
    /// Returns the same context with a sign-in of this moment, if the identity has signed in before it.
    #[must_use]
    pub fn signed_in_now(self) -> Option<Self> {
        let age = self.arrival.signed_in_ago.filter(|age| !age.is_zero());
        age.map(|_| Self {
            arrival: Arrival {
                signed_in_ago: Some(Duration::ZERO),
                ..self.arrival
            },
            ..self
        })
    }
}

/// One access question.
#[derive(Debug, Clone, Copy)]
pub struct AccessQuestion<'a> {
    /// Identity that wants to act.
    pub identity: &'a Identity,
    /// Action it wants to take.
    pub action: Action,
    /// Subject of the action.
    pub resource: Resource<'a>,
    /// Further facts that policies see.
    pub context: QuestionContext,
}

/// Answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// True if the action is allowed.
    pub allowed: bool,
    /// Ids of the policies that decided; empty if nothing permits.
    pub policies: Vec<String>,
    /// Errors of policies that could not be evaluated; with any of them nothing is allowed.
    pub errors: Vec<String>,
}

/// Verdict on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestVerdict {
    /// Denied.
    Denied {
        /// Reason, in words for the requester: the policy's `@advice`, or the missing condition.
        why: String,
    },
    /// Pending until this number of distinct approvers approve.
    Approvals(u32),
    /// Approved without an approver.
    Automatic,
}

/// Verdict on a request, with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: RequestVerdict,
    /// Ids of the policies that decided.
    pub policies: Vec<String>,
    /// Errors of policies that could not be evaluated, for the operator and the log; with any of them the request is denied.
    pub errors: Vec<String>,
}

/// Reason given to the caller if a policy could not be evaluated; the details are for the log.
pub const NOT_EVALUATED: &str = "a policy could not be evaluated, so the request is denied; tell the gate's operator";

/// File of a policy set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFile {
    /// Name, for error messages and the hash.
    pub name: String,
    /// Contents.
    pub text: String,
}

/// Errors of a policy set, one line each (`file:line: reason; remedy`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct PolicyError(pub Vec<String>);

/// Validated set of policies.
#[derive(Debug)]
pub struct Policies {
    cedar: cedar::CedarSchema,
    index: index::PolicyIndex,
    /// Parts of questions that the policies about an action look at.
    parts: HashMap<Action, class::DistinguishingParts>,
    /// Annotations, by the id of the policy.
    notes: BTreeMap<String, notes::PolicyNotes>,
    words: PolicyVocabulary,
    hash: String,
}

impl Policies {
    /// Parses and validates a set; its hours and weekdays are in `zone`.
    pub fn parse(schema: &PolicyFile, policies: &[PolicyFile], zone: jiff::tz::TimeZone) -> Result<Self, PolicyError> {
        load::load(schema, policies, zone)
    }

    /// Returns the SHA-256 of the set, in hexadecimal.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Returns the values that it names.
    #[must_use]
    pub fn vocabulary(&self) -> &PolicyVocabulary {
        &self.words
    }

    /// Returns the sentence about a group that no policy names, and what it does for those who are in it.
    #[must_use]
    pub fn unnamed(&self, group: &GroupName, members: &str) -> Option<String> {
        let groups = &self.words.groups;
        (!groups.contains(group)).then(|| {
            let meant = nearest(group.as_str(), groups.iter().map(GroupName::as_str));
            let meant = meant.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            format!("no policy names the group `{group}` of {members}, so it grants nothing{meant}")
        })
    }

    /// Returns the ids of its policies, in order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.notes.keys().map(String::as_str)
    }
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 8] = [
        Self::Request,
        Self::AutoApprove,
        Self::BreakGlass,
        Self::Approve,
        Self::Extend,
        Self::Revoke,
        Self::ReadLog,
        Self::Administer,
    ];

    /// Returns the name of the action in policies.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::AutoApprove => "auto-approve",
            Self::BreakGlass => "break-glass",
            Self::Approve => "approve",
            Self::Extend => "extend",
            Self::Revoke => "revoke",
            Self::ReadLog => "read-log",
            Self::Administer => "administer",
        }
    }

    /// Returns true if the action gives access, or more of it, without an approver. A permit of it needs an `@max_duration`.
    fn unattended(self) -> bool {
        matches!(self, Self::AutoApprove | Self::BreakGlass | Self::Extend)
    }
}
