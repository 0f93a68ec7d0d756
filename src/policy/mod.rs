//! One access question, and the verdict of the policies with its reasons. Cedar decides; this asks it.
//!
//! It reads no file, no clock and no store: policies come as texts, everything else with the question.
//!
//! INVARIANT: what no policy permits is denied; a policy that cannot be evaluated refuses; nothing is approved automatically
//! for longer than a policy that says so in its `@max_duration`.

mod cedar;
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

pub use explain::{Explanation, Remedy};

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;

use crate::identity::Identity;
use crate::names::{GroupName, ProfileName, TargetName};
use crate::request::{Request, Wish};

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ask for access.
    Request,
    /// Have it without an approver.
    AutoApprove,
    /// Have it at once, to be reviewed afterwards.
    BreakGlass,
    /// Approve or reject somebody's request; review a break-glass access.
    Approve,
    /// Move the end of a grant further off.
    Extend,
    /// End somebody else's grant or session.
    Revoke,
    /// Read the audit log.
    ReadLog,
    /// Users, grants by hand, everything else of an operator.
    Administer,
}

/// What it is about.
#[derive(Debug, Clone, Copy)]
pub enum Resource<'a> {
    /// The gate itself: reading the log, administering.
    Gate,
    /// A profile on a target: asking for access, extending, revoking.
    Access(&'a Wish),
    /// Somebody's request: approving.
    Request(&'a Request),
}

/// What else the policies may look at.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// Gate time; policies see hour and weekday of it in the configured zone.
    pub now: Timestamp,
    /// Where the client is, if it is on a network.
    pub client: Option<IpAddr>,
    /// The grants of the identity that have not ended.
    pub active_grants: u32,
}

/// One access question.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who.
    pub identity: &'a Identity,
    /// What they want to do.
    pub action: Action,
    /// What it is about.
    pub resource: Resource<'a>,
    /// What else there is to look at.
    pub context: Context,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether they may.
    pub allowed: bool,
    /// The ids of the policies that decided; none where nothing permits.
    pub policies: Vec<String>,
    /// What could not be evaluated; then it is not allowed.
    pub errors: Vec<String>,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may not be asked for.
    Denied {
        /// Why, in words for whoever asked: the policy's `@advice`, or what is missing.
        why: String,
    },
    /// It waits for so many distinct approvers.
    Approvals(u32),
    /// It is approved.
    Automatic,
}

/// The verdict on a request, with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What becomes of it.
    pub verdict: Verdict,
    /// The ids of the policies that decided.
    pub policies: Vec<String>,
    /// What could not be evaluated, for the operator and the log; then it is denied.
    pub errors: Vec<String>,
}

/// What whoever asks is told where a policy could not be evaluated: what exactly is for the log.
pub const NOT_EVALUATED: &str = "a policy could not be evaluated, so the request is denied; tell the gate's operator";

/// Names of profiles and targets, for suggestions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The target.
    pub target: TargetName,
    /// Its profiles, the narrowest first.
    pub profiles: Vec<ProfileName>,
}

/// A file of a policy set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name, for mistakes and ids.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// What is wrong with a set of policies: every mistake, a line each (`file:line: reason; remedy`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct PolicyError(pub Vec<String>);

/// A validated set of policies.
#[derive(Debug)]
pub struct Policies {
    cedar: cedar::Cedar,
    index: index::Index,
    /// By id.
    notes: BTreeMap<String, notes::Notes>,
    words: words::Words,
    hash: String,
}

impl Policies {
    /// Reads and validates a set; `zone` is where its hours and weekdays are.
    pub fn parse(schema: &Source, policies: &[Source], zone: jiff::tz::TimeZone) -> Result<Self, PolicyError> {
        load::load(schema, policies, zone)
    }

    /// SHA-256 of the set, in hexadecimal.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The groups it names.
    #[must_use]
    pub fn groups(&self) -> &BTreeSet<GroupName> {
        &self.words.groups
    }

    /// The profiles it names, with their targets or without.
    #[must_use]
    pub fn profiles(&self) -> &BTreeSet<ProfileName> {
        &self.words.profiles
    }

    /// The targets it names, each with the id of a policy that does.
    #[must_use]
    pub fn targets(&self) -> &BTreeMap<String, String> {
        &self.words.targets
    }

    /// The same for what it names as `target/profile`.
    #[must_use]
    pub fn accesses(&self) -> &BTreeMap<String, String> {
        &self.words.accesses
    }

    /// The ids of its policies, in order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.notes.keys().map(String::as_str)
    }
}

impl Action {
    /// Every action there is.
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

    /// As the policies name it.
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

    /// Whether it gives access that nobody looked at, or more of it: then the permit says for how long a window at most.
    fn unattended(self) -> bool {
        matches!(self, Self::AutoApprove | Self::BreakGlass | Self::Extend)
    }
}
