//! Events of the log: a closed set.
//!
//! An event is data; it does not know how it is written or stored. The names here are the names in the log file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use utoipa::ToSchema;

mod at_target;
mod kinds;
mod rows;
mod sign_in;
mod statement;

pub use at_target::{CopyChanged, LineChanged, RoleChanged};
pub use kinds::{
    CopyChangeKind, GrantChangeKind, LineChangeKind, RefusalKind, RequestChangeKind, RoleChangeKind, SignInChangeKind,
    TlsVersion, UserChangeKind, not_stored_reason,
};
pub use rows::{RowChange, RowDigest, RowOperation, RowValues, RowsChanged};
pub use sign_in::SignInChanged;
use statement::is_default;
pub use statement::{
    OutsideText, ParameterValue, RolledBack, SqlText, Statement, StatementKind, StatementOutcome, StatementResult,
    TransactionChanged, TransactionStatus,
};

use super::chain::ChainLink;
use super::checkpoint::Checkpoint;
use super::key::PublicKey;
use crate::model::arrival::CallerVia;
use crate::model::ending::{EndingKind, FateKind};
use crate::model::ids::{GrantId, LogId, RequestId, SessionId};
use crate::model::names::{EnumOrUnknown, IdentityName, ProfileName, TargetName};

/// Event of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// The gate started.
    GateStarted(Cow<'a, GateStarted>),
    /// The gate stopped in an orderly way.
    GateStopped {},
    /// Configuration and certificates were reloaded.
    Reloaded(Reloaded),
    /// An operator set gate time to the machine's clock.
    ClockSet(ClockSet),
    /// The journal met a fault and continues.
    JournalHealed(JournalHealed),
    /// A segment of the log begins; the first line of each segment.
    SegmentBegan(Cow<'a, SegmentBegan>),
    /// A signature of the gate under all lines before it.
    Checkpoint(Cow<'a, Checkpoint>),
    /// The signing key changes here.
    KeyChanged(KeyChanged),
    /// Old segments are removed after the retention period.
    SegmentsRemoved(SegmentsRemoved),
    /// A connection did not become a session.
    Refused(Cow<'a, ConnectionRefused>),
    /// Refusals of unauthenticated clients that have no record of their own.
    RefusalsCounted(RefusalsCounted),
    /// A client sent a CancelRequest.
    CancelRequested(CancelRequested),
    /// A grant was created or changed.
    GrantChanged(Cow<'a, GrantChanged>),
    /// A live grant was used for a reason other than the requested one.
    GrantJoined(Cow<'a, GrantJoined>),
    /// A request was submitted or took a step.
    RequestChanged(Cow<'a, RequestChanged>),
    /// The policies allowed or denied an action other than a request: an approval, an extension, reading the log.
    DecisionMade(Cow<'a, DecisionMade>),
    /// A grant's role at its target was created, changed or dropped.
    RoleChanged(Cow<'a, RoleChanged>),
    /// A grant's own database, a copy of a template, was created or dropped.
    CopyChanged(Cow<'a, CopyChanged>),
    /// A grant began to wait for its target, began to use it exclusively, or left the line.
    LineChanged(Cow<'a, LineChanged>),
    /// A local user was created or changed.
    UserChanged(Cow<'a, UserChanged>),
    /// A person signed in at the gate itself, or a sign-in ended.
    SignInChanged(Cow<'a, SignInChanged>),
    /// An authentication failed.
    IdentityRefused(Cow<'a, IdentityRefused>),
    /// A policy set was loaded.
    PolicyLoaded(Cow<'a, PolicyLoaded>),
    /// A session began.
    SessionStarted(Cow<'a, SessionStarted>),
    /// A session ended.
    SessionEnded(Cow<'a, SessionEnded>),
    /// A backend is gone that was not confirmed gone at the end of its session.
    BackendGone(BackendGone),
    /// A statement is about to be forwarded: the intent record.
    Statement(Statement<'a>),
    /// The outcome record of a statement.
    Outcome(StatementOutcome<'a>),
    /// A transaction began, failed or ended between pipelined statements.
    TransactionChanged(TransactionChanged<'a>),
    /// A statement changed rows of a captured table; recorded after the transaction was committed.
    RowsChanged(Cow<'a, RowsChanged>),
}

/// Session with its grant, identity, target and profile.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Who {
    /// Id of the session.
    pub session: SessionId,
    /// Id of the grant.
    pub grant: GrantId,
    /// Name of the user or workload.
    pub identity: IdentityName,
    /// Name of the target.
    pub target: TargetName,
    /// Profile; absent if the target has no profiles (and in logs from before it was recorded).
    #[schema(nullable = false)]
    pub profile: Option<ProfileName>,
}

/// Start of the gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateStarted {
    /// Version of the program.
    pub version: String,
    /// Process id of the gate.
    pub pid: u32,
}

/// Reload of configuration and certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// True if the new ones are in force; if not, the old ones stay.
    pub accepted: bool,
    /// Error, or list of the changes.
    pub detail: String,
}

/// Change of gate time to the machine's clock, by an operator; recorded before it is done, at the old time.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockSet {
    /// Gate time before.
    pub from: Timestamp,
    /// Gate time after. If it is earlier, every grant was ended first, and later records have earlier times.
    pub to: Timestamp,
    /// Name of the operator.
    pub by: String,
    /// Reason given by the operator.
    pub reason: Option<String>,
}

/// Fault that the journal met before it continued; the first record after the fault.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalHealed {
    /// Kind of fault.
    pub fault: JournalFault,
    /// Time since which no record could be written.
    pub since: Option<Timestamp>,
    /// Number of records that were refused meanwhile; the actions they announced did not take place.
    #[serde(default, skip_serializing_if = "is_default")]
    pub refused: u64,
    /// Number of records of past events that were given up because memory for them is limited.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lost: u64,
    /// Number of bytes of an unfinished line that were cut off.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cut_bytes: u64,
    /// Place of a fault that was found in the files.
    pub detail: Option<String>,
}

impl JournalHealed {
    /// Returns a record of a fault without a measure or a place.
    pub(super) fn of(fault: JournalFault) -> Self {
        Self {
            fault,
            since: None,
            refused: 0,
            lost: 0,
            cut_bytes: 0,
            detail: None,
        }
    }
}

/// Fault of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JournalFault {
    /// The file ended in the middle of a line: the gate or the machine crashed while it was written.
    TornTail,
    /// The disk was full.
    DiskFull,
    /// The file could not be written or synced for another reason.
    WriteFailed,
    /// The file was removed or replaced while the gate had it open; a new file was begun.
    FileLost,
    /// A line in the newest segment does not fit the chain: the file was changed while no gate wrote it. A new segment follows.
    ChainBroken,
    /// The log ends before the last checkpoint that was signed: lines are missing at its end (a machine that lost power can
    /// lose them, with durability `process`).
    LinesMissing,
    /// The ledger knows the log up to a line, and there is no log: its folder was emptied, or is another one.
    LogMissing,
    /// The log is not the one that the ledger knows.
    LogReplaced,
    /// The log has another line where the ledger knows one: it was rewritten.
    LogRewritten,
    /// There is a log, and no ledger that knows its end.
    LedgerMissing,
}

impl JournalFault {
    /// Returns a description of the fault.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::TornTail => "the log ended in the middle of a record",
            Self::DiskFull => "the disk was full",
            Self::WriteFailed => "the log could not be written",
            Self::FileLost => "the log's file was removed or replaced",
            Self::ChainBroken => "a record was changed while no gate was running",
            Self::LinesMissing => "records are missing at the log's end",
            Self::LogMissing => "the previous log is missing",
            Self::LogReplaced => "another log is in place of the previous one",
            Self::LogRewritten => "the log was rewritten",
            Self::LedgerMissing => "the ledger that stores the log's end is missing",
        }
    }

    /// Returns true if written records are missing or changed.
    #[must_use]
    pub fn is_damage(self) -> bool {
        matches!(self, Self::FileLost | Self::ChainBroken) || self.is_gap()
    }

    /// Returns true if the start found that a part of the log is or may be missing, which the rest of the log does not show.
    #[must_use]
    pub fn is_gap(self) -> bool {
        match self {
            Self::LinesMissing | Self::LogMissing | Self::LogReplaced | Self::LogRewritten | Self::LedgerMissing => true,
            Self::TornTail | Self::DiskFull | Self::WriteFailed | Self::FileLost | Self::ChainBroken => false,
        }
    }
}

/// Beginning of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentBegan {
    /// Id of the log.
    pub log: LogId,
    /// Number of the segment, from 1.
    pub segment: u32,
    /// Link before this line: after the last line of the segment before.
    pub previous: ChainLink,
    /// Key of the signatures that follow.
    pub key: PublicKey,
    /// True if the file of the segment before may have further bytes after its last line, which could not be written whole nor
    /// taken back: they are no part of the log, and no caller was told that they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rest_void: bool,
}

/// Change of the signing key. The next checkpoint is still signed with the old key, which vouches for the new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChanged {
    /// New key.
    pub key: PublicKey,
    /// Old key.
    pub previous: PublicKey,
    /// True if the old key signs the checkpoint that follows; false if it was lost.
    pub vouched: bool,
    /// Name of an operator, or `gate`.
    pub by: String,
}

/// Removal of old segments; recorded before it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentsRemoved {
    /// Number of the first one.
    pub first: u32,
    /// Number of the last one.
    pub last: u32,
    /// Number of the last line in them.
    pub last_seq: u64,
    /// Link after that line: the `previous` of the segment that is now the first.
    pub link: ChainLink,
}

/// Connection that did not become a session.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRefused {
    /// Address of the client.
    pub client: IpAddr,
    /// Port of the client.
    pub port: u16,
    /// User name that the client sent, if it came that far.
    pub user: Option<String>,
    /// Database that the client requested.
    pub database: Option<String>,
    /// Grant, if its secret was proved.
    pub grant: Option<GrantId>,
    /// Identity, if the secret was proved.
    pub identity: Option<IdentityName>,
    /// Reason.
    pub ending: EnumOrUnknown<EndingKind>,
    /// SQLSTATE that the client got.
    pub sqlstate: String,
    /// Detail for the operator, which the client did not get.
    pub detail: Option<String>,
}

/// Refusals of unauthenticated clients that have no record of their own: those of one kind, from one address.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalsCounted {
    /// Address, for IPv6 its /64 network; absent if there were more addresses than are counted separately.
    pub network: Option<String>,
    /// Kind.
    pub ending: EnumOrUnknown<RefusalKind>,
    /// Number of refusals, without those that have a record of their own.
    pub count: u64,
    /// Time of the first one.
    pub first: Timestamp,
    /// Time of the last one.
    pub last: Timestamp,
}

/// CancelRequest of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequested {
    /// Address of the client.
    pub client: IpAddr,
    /// Session of the key; `None` if the key fits no live session.
    #[serde(flatten)]
    pub who: Option<Who>,
    /// True if the request was forwarded to the target.
    pub forwarded: bool,
}

/// Creation or change of a grant.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantChanged {
    /// Id of the grant.
    pub grant: GrantId,
    /// Identity of the grant.
    pub identity: IdentityName,
    /// Target of the grant.
    pub target: TargetName,
    /// Profile; absent if none was named (and in logs from before it was recorded).
    pub profile: Option<ProfileName>,
    /// Kind of change.
    pub change: EnumOrUnknown<GrantChangeKind>,
    /// Author: the name of an operator, or the identity itself at activation.
    pub by: String,
    /// Reason given by the author.
    pub reason: Option<String>,
    /// Time until which it has to be activated.
    pub activate_by: Timestamp,
    /// End of the window, once it is activated.
    pub until: Option<Timestamp>,
    /// Latest end of any window, if the grant has one.
    pub deadline: Option<Timestamp>,
    /// Length of the window in seconds.
    pub window_seconds: u64,
}

/// Submission or step of a request.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestChanged {
    /// Id of the request.
    pub request: RequestId,
    /// Requester.
    pub identity: IdentityName,
    /// Target that is requested.
    pub target: TargetName,
    /// Profile that is requested at this time.
    pub profile: ProfileName,
    /// Step.
    pub change: EnumOrUnknown<RequestChangeKind>,
    /// Author of the step.
    pub by: IdentityName,
    /// Window that is requested or granted, in seconds.
    pub window_seconds: u64,
    /// Reason of the requester or of a denial, or comment of an approver.
    pub reason: Option<String>,
    /// Ticket of the requester.
    pub ticket: Option<String>,
    /// True if the access was taken by break-glass, without waiting for an approval.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
    /// Grant that it became.
    pub grant: Option<GrantId>,
    /// Policies that decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// SHA-256 of the policy set, in hexadecimal.
    pub policy_set: Option<String>,
    /// Errors of the policies' evaluation, which the caller did not get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// Address of the author, if on a network.
    pub client: Option<IpAddr>,
    /// Way by which the author came, if a policy was asked.
    pub via: Option<EnumOrUnknown<CallerVia>>,
    /// Issuer of the requester's token, if the requester was not authenticated locally.
    pub issuer: Option<String>,
    /// Claims of that token (a pipeline's repository, branch, run), as the policies saw them; only in the record of the
    /// submission.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
}

/// Decision of the policies about an action.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionMade {
    /// Identity that wanted to act.
    pub identity: IdentityName,
    /// Action of the policies.
    pub action: String,
    /// Object of the action: the id of a request or grant, or `gate`.
    pub about: String,
    /// True if the action is allowed.
    pub allowed: bool,
    /// Address of the caller, if on a network.
    pub client: Option<IpAddr>,
    /// Way by which the caller came.
    pub via: Option<EnumOrUnknown<CallerVia>>,
    /// Policies that decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// Errors of the policies' evaluation, which the caller did not get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// SHA-256 of the policy set, in hexadecimal.
    pub policy_set: String,
}

/// Use of a live grant for a reason other than the requested one.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantJoined {
    /// Id of the grant.
    pub grant: GrantId,
    /// Identity of the grant.
    pub identity: IdentityName,
    /// Target of the grant.
    pub target: TargetName,
    /// Profile of the grant.
    pub profile: Option<ProfileName>,
    /// Reason of this use.
    pub reason: String,
    /// Address of the client, if on a network.
    pub client: Option<IpAddr>,
}

/// Creation or change of a local user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserChanged {
    /// Name of the user.
    pub identity: IdentityName,
    /// Kind of change.
    pub change: EnumOrUnknown<UserChangeKind>,
    /// Name of the operator.
    pub by: String,
    /// Groups after the change.
    pub groups: Vec<String>,
}

/// Failed authentication.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRefused {
    /// Address of the client, if over a network.
    pub client: Option<IpAddr>,
    /// Name that the client or its token claims; not proved.
    pub claimed: Option<String>,
    /// Reason, which the client did not get.
    pub detail: String,
}

/// Loading of a policy set.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyLoaded {
    /// True if the set is in force; if not, the one before is.
    pub accepted: bool,
    /// SHA-256 of the policy set in force, in hexadecimal.
    pub policy_set: Option<String>,
    /// Number of policies, or the error.
    pub detail: String,
}

/// Start of a session: authenticated, admitted, connected to the target.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStarted {
    /// Session, grant, identity, target and profile.
    #[serde(flatten)]
    pub who: Who,
    /// Address of the client.
    pub client: IpAddr,
    /// Port of the client.
    pub port: u16,
    /// TLS version towards the client.
    pub tls: EnumOrUnknown<TlsVersion>,
    /// Application name that the client sent.
    pub application: Option<String>,
    /// Process id of the target's backend.
    pub backend_pid: i32,
    /// Deadline at the start.
    pub until: Timestamp,
    /// Groups of the identity when its access was granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Run that the session belongs to: as the client named it, or else from the pipeline's token.
    pub run: Option<String>,
    /// Number of tables that the profile sees through masks; absent if there are none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub masked_tables: u64,
    /// Name of the grant's own database; absent if the session is in the target's.
    pub copy: Option<String>,
}

/// End of a session.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEnded {
    /// Session, grant, identity, target and profile.
    #[serde(flatten)]
    pub who: Who,
    /// Reason.
    pub ending: EnumOrUnknown<EndingKind>,
    /// SQLSTATE that the client got, from the gate or the target; `00000` if it left by itself.
    pub sqlstate: String,
    /// Message that the client got (the target's own, if the target ended the session), or detail for the operator.
    pub detail: Option<String>,
    /// State of the transaction at the end.
    pub fate: EnumOrUnknown<FateKind>,
    /// Microseconds from start to end.
    pub duration_us: u64,
    /// Number of executed statements.
    pub statements: u64,
    /// Number of rows returned or changed: the sum of the outcomes' `rows`.
    pub rows: u64,
    /// Number of rows sent to the client: the sum of the outcomes' `rows_sent`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rows_sent: u64,
    /// Number of bytes from the client.
    pub bytes_in: u64,
    /// Number of bytes to the client.
    pub bytes_out: u64,
    /// True if the FATAL reached the client's socket whole; `None` if none was due.
    pub client_told: Option<bool>,
    /// True if the target confirmed that the backend is gone; `None` if the gate did not end it.
    pub backend_gone: Option<bool>,
    /// Microseconds from the deadline (or the command to end) until the backend was confirmed gone.
    pub overshoot_us: Option<u64>,
}

/// Confirmation that a backend is gone, after the end of its session was recorded without one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendGone {
    /// Session, grant, identity, target and profile.
    #[serde(flatten)]
    pub who: Who,
    /// Process id of the backend at the target.
    pub backend_pid: i32,
    /// Microseconds from the deadline (or the command to end) until it was seen gone.
    pub overshoot_us: u64,
}

#[cfg(test)]
mod tests;
