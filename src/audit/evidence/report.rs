//! Contents of a report: numbers and lists, without their presentation.
//!
//! [`super::ReportCollector`] fills a report.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::audit::event::{RequestChangeKind, Who};
use crate::audit::report::{BoundedList, Group};
use crate::audit::sql_analysis::ParseFailure;
use crate::audit::verify::VerifyReport;
use crate::model::ids::{GrantId, RequestId};
use crate::model::names::{IdentityName, ProfileName, TargetName};

/// Half-open span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportPeriod {
    /// Start; belongs to the period.
    pub from: Timestamp,
    /// End; does not belong to the period.
    pub to: Timestamp,
}

impl ReportPeriod {
    /// Returns true if the period contains `time`.
    #[must_use]
    pub fn has(&self, time: Timestamp) -> bool {
        self.from <= time && time < self.to
    }
}

/// Report on a period of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceReport {
    /// Period of the report.
    pub period: ReportPeriod,
    /// Every grant that existed in the period, oldest first.
    pub grants: Vec<ReportedGrant>,
    /// Requests and actions that were not allowed.
    pub denials: BoundedList<AccessDenial>,
    /// Logins and tokens that were refused, grouped.
    pub refusals: BoundedList<Group<LoginRefusal>>,
    /// Number of sessions by ending.
    pub endings: BTreeMap<String, u64>,
    /// Number of sessions that had not ended at the end of the period.
    pub open_sessions: u64,
    /// Number of sessions whose end is not on record, because the gate crashed.
    pub lost_sessions: u64,
    /// Delays between the deadline and the confirmed end of sessions that the gate ended.
    pub overshoots: OvershootStats,
    /// Local users that were created or changed.
    pub identities: BoundedList<GateChange>,
    /// Policies and configuration that were loaded.
    pub policies: BoundedList<GateChange>,
    /// Events of the gate and its log: starts, stops, faults, keys, removals.
    pub operation: BoundedList<GateChange>,
    /// Number of records that were refused or given up while the log could not be written.
    pub records_missing: u64,
    /// Number of times that the gate found its log cut or changed, or its file gone.
    pub log_damaged: u64,
    /// Every grant's role that existed at a database in the period, oldest first.
    pub roles: Vec<ReportedRole>,
    /// Statements that guard rails refused, grouped.
    pub rails: BoundedList<Group<RailRefusal>>,
    /// Changed rows of captured tables, grouped.
    pub changed: BoundedList<Group<ChangedTable>>,
    /// Executed statements that could not be parsed, grouped.
    pub unread: BoundedList<Group<UnreadStatement>>,
    /// Statements that ran and were rolled back.
    pub undone: BoundedList<UndoneStatements>,
    /// Numbers of statements by result.
    pub statements: StatementCounts,
    /// Number of records read, up to the end of the period.
    pub records: u64,
    /// Errors of lines that could not be read.
    pub unreadable: BoundedList<String>,
    /// Result of the verification of the log, or the reason why there is none.
    pub verdict: Result<VerifyReport, String>,
    /// Source of the key with which the log was verified; `None`: no key was given.
    pub key_from: Option<String>,
}

/// Numbers of statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatementCounts {
    /// Forwarded to be executed.
    pub executed: u64,
    /// Executed ones that ended with an error.
    pub failed: u64,
    /// Executed ones without a known outcome: none is on record up to the end of the period.
    pub unknown: u64,
}

/// History of a grant: its creation, its limits and its use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedGrant {
    /// Id of the grant.
    pub grant: GrantId,
    /// Identity that may use it.
    pub identity: IdentityName,
    /// Target it gives access to.
    pub target: TargetName,
    /// Profile it gives; `None` if the log does not say.
    pub profile: Option<ProfileName>,
    /// Request that led to it; `None`: an operator made it.
    pub asked: Option<RequestHistory>,
    /// Maker of the grant, as recorded.
    pub by: String,
    /// Reason recorded with the grant itself.
    pub reason: Option<String>,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time at which the window opened.
    pub activated_at: Option<Timestamp>,
    /// Time at which the window ends.
    pub until: Option<Timestamp>,
    /// Time until which the window can be opened.
    pub activate_by: Timestamp,
    /// Length of the window. Seconds.
    pub window_seconds: u64,
    /// Time of the revocation, with the name and the reason of the one who revoked it.
    pub revoked: Option<(Timestamp, String)>,
    /// Number of times that the end was moved.
    pub moved: u32,
    /// Use of the grant in the period.
    pub used: GrantUse,
}

impl ReportedGrant {
    /// Returns the time at which the grant was or will be over, as far as is known. A grant whose window was never opened is
    /// over when it can no longer be opened.
    #[must_use]
    pub fn over_at(&self) -> Timestamp {
        let end = self.until.unwrap_or(self.activate_by);
        self.revoked.as_ref().map_or(end, |(at, _)| end.min(*at))
    }

    /// Returns the profile on the grant's own records, or else on its request (in logs from before grants had it on record).
    #[must_use]
    pub fn profile(&self) -> Option<&ProfileName> {
        let asked = self.asked.as_ref().map(|asked| &asked.profile);
        self.profile.as_ref().or(asked)
    }

    /// Returns the reason of the request, or else the one recorded with the grant.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        let asked = self.asked.as_ref().and_then(|asked| asked.reason.as_deref());
        asked.or(self.reason.as_deref())
    }

    /// Returns true if the grant was never activated and has no session.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.activated_at.is_none() && self.used.sessions == 0
    }
}

/// Request for access, with those who allowed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHistory {
    /// Id of the request.
    pub request: RequestId,
    /// Profile that was requested.
    pub profile: ProfileName,
    /// Reason that the requester gave.
    pub reason: Option<String>,
    /// Ticket that the requester gave.
    pub ticket: Option<String>,
    /// Approvers; empty if the policies grant at once.
    pub approvers: Vec<IdentityName>,
    /// Policies that decided, of all steps.
    pub policies: Vec<String>,
    /// SHA-256 of the policy set that decided.
    pub policy_set: Option<String>,
    /// True if the access was taken by break-glass, without waiting for an approval.
    pub break_glass: bool,
    /// Reviewer of the break-glass access, time of the review, and comment.
    pub review: Option<(IdentityName, Timestamp, Option<String>)>,
}

/// Use of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GrantUse {
    /// Sessions started.
    pub sessions: u64,
    /// Statements executed.
    pub statements: u64,
    /// Rows returned or changed.
    pub rows: u64,
    /// Time of the first use.
    pub first: Option<Timestamp>,
    /// Time of the last use.
    pub last: Option<Timestamp>,
}

impl GrantUse {
    /// Extends the span of use to `time`.
    pub fn at(&mut self, time: Timestamp) {
        self.first.get_or_insert(time);
        self.last = Some(time);
    }
}

/// Request or action that was not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessDenial {
    /// Time of the decision.
    pub time: Timestamp,
    /// Identity that was denied.
    pub identity: IdentityName,
    /// Id of the request with target and profile, or the action and its object.
    pub wanted: String,
    /// Denied by policies, or rejected by a person.
    pub how: RequestChangeKind,
    /// Approver, or `policies`.
    pub by: String,
    /// Reason that was given.
    pub reason: Option<String>,
    /// Policies that decided.
    pub policies: Vec<String>,
    /// SHA-256 of the policy set that decided.
    pub policy_set: Option<String>,
}

/// Refusal of a login or a token, as equal ones are grouped; sorted by the name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoginRefusal {
    /// Name that was claimed, proved or not.
    pub claimed: String,
    /// Reason: the name of an ending, or the error of the token.
    pub why: String,
    /// Address of the client, or the network of grouped ones.
    pub client: String,
}

/// History of a grant's role at its database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedRole {
    /// Grant of the role.
    pub grant: GrantId,
    /// Target of the database.
    pub target: TargetName,
    /// Name of the role at the database.
    pub role: String,
    /// Time of creation; `None` if the log does not say.
    pub made_at: Option<Timestamp>,
    /// Time at which the grant was or will be over.
    pub over_at: Option<Timestamp>,
    /// Time at which the role was dropped.
    pub retired_at: Option<Timestamp>,
    /// Last problem with the role: an error, or a login past the gate.
    pub trouble: Option<String>,
    /// Number of logins with the role past the gate that were found and ended.
    pub intruders: u64,
}

impl ReportedRole {
    /// Returns true if the role still existed at `at` although its grant was over.
    #[must_use]
    pub fn is_left(&self, at: Timestamp) -> bool {
        self.retired_at.is_none() && self.over_at.is_some_and(|over| over < at)
    }

    /// Returns the microseconds from the grant's end until the role was dropped.
    #[must_use]
    pub fn gone_after_us(&self) -> Option<u64> {
        let after = self.retired_at?.duration_since(self.over_at?);
        u64::try_from(after.as_micros()).ok()
    }
}

/// Refusal of a statement by guard rails, as equal ones are grouped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RailRefusal {
    /// Identity whose statements were refused.
    pub identity: IdentityName,
    /// Target of the statements.
    pub target: TargetName,
    /// Profile of the grant; `None` if the log does not say.
    pub profile: Option<ProfileName>,
    /// Name of the rule.
    pub rule: String,
}

/// Change of a row of a captured table, as equal ones are grouped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangedTable {
    /// Identity that changed the row; `None`: it was changed past the gate.
    pub identity: Option<IdentityName>,
    /// Role that was logged in at the database, of a change past the gate.
    pub role: Option<String>,
    /// Target.
    pub target: TargetName,
    /// Table, with its schema.
    pub table: String,
    /// Operation, as recorded.
    pub operation: String,
}

/// Statement that could not be parsed, as those with the same reason are grouped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnreadStatement {
    /// Identity of the statements.
    pub identity: IdentityName,
    /// Target of the statements.
    pub target: TargetName,
    /// Reason why they could not be parsed.
    pub why: ParseFailure,
}

/// Statements that ran and were rolled back when their transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndoneStatements {
    /// Time at which the transaction ended.
    pub time: Timestamp,
    /// Session with its grant, identity and target.
    pub who: Who,
    /// Number of the first of them within the session.
    pub first: u64,
    /// Number of the last of them within the session.
    pub last: u64,
    /// SQLSTATE of the error that rolled them back.
    pub sqlstate: String,
}

/// Delays of the ends that the gate made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OvershootStats {
    /// Number of sessions that the gate ended with a known delay.
    pub count: u64,
    /// Median delay. Microseconds.
    pub p50_us: u64,
    /// Longest delay. Microseconds.
    pub max_us: u64,
    /// Ends that took more than a second, or whose backend was not confirmed gone.
    pub late: BoundedList<LateEnd>,
}

/// End of a session that came late or was not confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateEnd {
    /// Time of the end.
    pub time: Timestamp,
    /// Session with its grant, identity and target.
    pub who: Who,
    /// Name of the ending.
    pub ending: String,
    /// Microseconds from the deadline until the backend was gone, if that is known.
    pub overshoot_us: Option<u64>,
    /// True if the target confirmed that the backend is gone.
    pub confirmed: bool,
}

/// Change of users, policies or configuration, or an event of the gate itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateChange {
    /// Time of the change.
    pub time: Timestamp,
    /// Object of the change, or the kind of event.
    pub what: String,
    /// Author of the change; empty if there is none.
    pub by: String,
    /// Description of the change.
    pub detail: String,
    /// True if the change needs attention.
    pub remarkable: bool,
}
