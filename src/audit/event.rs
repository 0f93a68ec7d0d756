//! What the log records: one closed set of events.
//!
//! An event is data; it does not know how it is written or stored. Names here are the names in the log file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

mod statement;
mod text;

pub use statement::{Done, Kind, Outcome, Parameter, RolledBack, Statement, TransactionChanged, TransactionStatus};
pub use text::{Sql, Text};

use super::chain::Link;
use super::checkpoint::Checkpoint;
use super::key::PublicKey;
use crate::ids::{GrantId, LogId, RequestId, SessionId};
use crate::names::{IdentityName, ProfileName, TargetName};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// The gate started.
    GateStarted(Cow<'a, GateStarted>),
    /// The gate stopped in order.
    GateStopped {},
    /// Configuration and certificates were read again.
    Reloaded(Reloaded),
    /// An operator made the gate's time what the machine's clock says.
    ClockSet(ClockSet),
    /// The journal met a fault and goes on.
    JournalHealed(JournalHealed),
    /// A segment of the log begins: the first line of each.
    SegmentBegan(Cow<'a, SegmentBegan>),
    /// The gate's signature under all lines before it.
    Checkpoint(Cow<'a, Checkpoint>),
    /// From here on another key signs.
    KeyChanged(KeyChanged),
    /// Old segments are removed, for they are older than is to be kept.
    SegmentsRemoved(SegmentsRemoved),
    /// A connection did not become a session.
    Refused(Cow<'a, Refused>),
    /// Strangers were refused more often than has a record each.
    RefusalsCounted(RefusalsCounted),
    /// Somebody sent a CancelRequest.
    CancelRequested(CancelRequested),
    /// A grant was made or changed.
    GrantChanged(Cow<'a, GrantChanged>),
    /// A live grant was used for a reason of its own, not the one it was asked for.
    GrantJoined(Cow<'a, GrantJoined>),
    /// Somebody asked for access, or a request took a step.
    RequestChanged(Cow<'a, RequestChanged>),
    /// The policies allowed or forbade something other than a request: an approval, an extension, reading the log.
    DecisionMade(Cow<'a, DecisionMade>),
    /// A grant's role at its target was made, or came closer to its end.
    RoleChanged(Cow<'a, RoleChanged>),
    /// A local user was made or changed.
    UserChanged(Cow<'a, UserChanged>),
    /// Somebody did not prove who they are.
    IdentityRefused(Cow<'a, IdentityRefused>),
    /// A set of policies was read.
    PolicyLoaded(Cow<'a, PolicyLoaded>),
    /// A session began.
    SessionStarted(Cow<'a, SessionStarted>),
    /// A session ended.
    SessionEnded(Cow<'a, SessionEnded>),
    /// A backend is gone that the end of its session could not confirm.
    BackendGone(BackendGone),
    /// A statement is about to be forwarded: the intent record.
    Statement(Statement<'a>),
    /// What became of a statement: the outcome record.
    Outcome(Outcome<'a>),
    /// A transaction began, failed or ended where statements are pipelined.
    TransactionChanged(TransactionChanged<'a>),
}

/// Under whose name, through which grant, to which target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The session.
    pub session: SessionId,
    /// The grant.
    pub grant: GrantId,
    /// The person or workload.
    pub identity: IdentityName,
    /// The target.
    pub target: TargetName,
    /// With which privileges; absent where the target has no profiles (and in logs from before it was recorded).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileName>,
}

/// The gate started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateStarted {
    /// The program's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
}

/// Configuration and certificates were read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Whether the new ones are in force; if not, the old ones stay.
    pub accepted: bool,
    /// What was wrong, or what changed.
    pub detail: String,
}

/// An operator made the gate's time what the machine's clock says: written before it is done, in the time as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockSet {
    /// Gate time before.
    pub from: Timestamp,
    /// Gate time after. Where that is earlier, every grant was ended first, and later records have earlier times.
    pub to: Timestamp,
    /// An operator's name.
    pub by: String,
    /// The reason given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The journal met a fault and goes on: the first record after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalHealed {
    /// What had happened.
    pub fault: Fault,
    /// Since when no record could be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// How many records were refused meanwhile; what they stood for did not take place.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused: u64,
    /// How many records of what had already happened were given up, for there were too many to keep in memory.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// How many bytes of an unfinished line were cut off.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut_bytes: u64,
    /// Where, for what was found in the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// A fault of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The file ended in the middle of a line: the gate or the machine died while it was written.
    TornTail,
    /// The disk was full.
    DiskFull,
    /// The file could not be written or synced for another reason.
    WriteFailed,
    /// The file was removed or replaced while the gate had it open; a new one was begun.
    FileLost,
    /// A line in the newest segment does not fit the chain: the file was changed while no gate wrote it. What follows is a new
    /// segment.
    ChainBroken,
    /// The log ends before the last checkpoint that was signed: lines are missing at its end (a machine that lost power can lose
    /// them, with durability `process`).
    LinesMissing,
    /// The ledger knows the log up to a line, and there is no log: its folder was emptied, or is another.
    LogMissing,
    /// The log is not the one that the ledger knows.
    LogReplaced,
    /// The log has another line where the ledger knows one: it was written anew.
    LogRewritten,
    /// There is a log, and no ledger that knows how far it had come.
    LedgerMissing,
}

impl Fault {
    /// What had happened, in words.
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

    /// Whether records that were written are not there any more, or not as they were.
    #[must_use]
    pub fn is_damage(self) -> bool {
        matches!(self, Self::FileLost | Self::ChainBroken) || self.is_gap()
    }

    /// Whether a start found that something of the log is missing, or may be, which what is left of it does not show.
    #[must_use]
    pub fn is_gap(self) -> bool {
        match self {
            Self::LinesMissing | Self::LogMissing | Self::LogReplaced | Self::LogRewritten | Self::LedgerMissing => true,
            Self::TornTail | Self::DiskFull | Self::WriteFailed | Self::FileLost | Self::ChainBroken => false,
        }
    }
}

/// A segment of the log begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentBegan {
    /// The log.
    pub log: LogId,
    /// The segment's number, from 1.
    pub segment: u32,
    /// The chain before this line: after the last line of the segment before.
    pub previous: Link,
    /// Whose signatures follow.
    pub key: PublicKey,
    /// The file of the segment before may go on behind its last line with what could not be written whole, nor be taken back: that
    /// is no part of the log, and nobody was told that it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rest_void: bool,
}

/// From here on another key signs. The next checkpoint is still the old one's, which vouches for the new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChanged {
    /// The new key.
    pub key: PublicKey,
    /// The old one.
    pub previous: PublicKey,
    /// Whether the old one signs the checkpoint that follows; not if it was lost.
    pub vouched: bool,
    /// An operator's name, or `gate`.
    pub by: String,
}

/// Old segments are removed: written before it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentsRemoved {
    /// The number of the first of them.
    pub first: u32,
    /// The number of the last.
    pub last: u32,
    /// The number of the last line in them.
    pub last_seq: u64,
    /// The chain after that line: the `previous` of the segment that is now the first.
    pub link: Link,
}

/// A connection did not become a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The client's address.
    pub client: IpAddr,
    /// The client's port.
    pub port: u16,
    /// The user name it gave, if it came that far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The database it asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The grant, once its secret was proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantId>,
    /// The identity, once the secret was proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityName>,
    /// Why: [`crate::ending::Ending::name`].
    pub ending: String,
    /// The SQLSTATE the client was given.
    pub sqlstate: String,
    /// More, for the operator; the client was not shown this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Strangers were refused more often than has a record each: one kind of refusal, from one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalsCounted {
    /// The address, of IPv6 its /64 network; absent where there were more of them than are told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The kind: `ending` of [`Refused`], or `identity_refused`, or `cancel_requested` for a key that fits no session.
    pub ending: String,
    /// How many, beside those with a record of their own.
    pub count: u64,
    /// When the first of them was.
    pub first: Timestamp,
    /// When the last was.
    pub last: Timestamp,
}

/// Somebody sent a CancelRequest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequested {
    /// Where it came from.
    pub client: IpAddr,
    /// Whose key it was; `None` when the key fits no live session.
    #[serde(flatten)]
    pub who: Option<Who>,
    /// Whether it was handed on to the target.
    pub forwarded: bool,
}

/// A grant was made or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantChanged {
    /// The grant.
    pub grant: GrantId,
    /// Whom it is for.
    pub identity: IdentityName,
    /// What it is for.
    pub target: TargetName,
    /// With which privileges; absent where none were named (and in logs from before it was recorded).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileName>,
    /// `created`, `activated`, `extended`, `shortened`, `revoked`, `login_issued` (a further login), or `not_stored`.
    pub change: String,
    /// Who did it: an operator's name, or the identity itself at activation.
    pub by: String,
    /// The reason given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// By when it has to be activated.
    pub activate_by: Timestamp,
    /// The window's end, once it is activated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The time that no window goes past, if the grant has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The window's length in seconds.
    pub window_seconds: u64,
}

/// Somebody asked for access, or a request took a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestChanged {
    /// The request.
    pub request: RequestId,
    /// Who asked.
    pub identity: IdentityName,
    /// Where to.
    pub target: TargetName,
    /// With which privileges, as things stand.
    pub profile: ProfileName,
    /// `denied`, `submitted` (it waits), `granted` (at once), `approved` (one approver's yes), `rejected`, `withdrawn`, `reviewed`,
    /// or `not_stored` when the record before it came to nothing.
    pub change: String,
    /// Who did it.
    pub by: IdentityName,
    /// The window asked for or given, in seconds.
    pub window_seconds: u64,
    /// The reason, an approver's comment, or why it was denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// It was opened without waiting for anybody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
    /// The grant it became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantId>,
    /// The policies that decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// SHA-256 of the set of policies, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_set: Option<String>,
    /// What could not be evaluated; they were not told this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// Where whoever did it was, if on a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// Where who asked was identified, if not here: the issuer of their token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What that token said of them (a pipeline's repository, branch, run), as policies saw it; when they asked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
}

/// The policies allowed or forbade something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionMade {
    /// Who wanted it.
    pub identity: IdentityName,
    /// What: an action of the policies.
    pub action: String,
    /// What it was about: a request's, a grant's id, or `gate`.
    pub about: String,
    /// Whether they may.
    pub allowed: bool,
    /// Where they were, if on a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The policies that decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    /// What could not be evaluated; they were not told this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// SHA-256 of the set of policies, in hexadecimal.
    pub policy_set: String,
}

/// A live grant was used for a reason of its own, not the one it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantJoined {
    /// The grant.
    pub grant: GrantId,
    /// Whose it is.
    pub identity: IdentityName,
    /// Where to.
    pub target: TargetName,
    /// With which privileges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileName>,
    /// The reason for using it now.
    pub reason: String,
    /// From where, if on a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
}

/// A grant's role at its target was made, or came closer to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleChanged {
    /// The grant.
    pub grant: GrantId,
    /// Where.
    pub target: TargetName,
    /// The role's name there.
    pub role: String,
    /// `made` (written before it is, so that there is no role without a record; `not_made` follows where it came to nothing),
    /// `extended` (its logins end at another time), `retired` (it is gone), `left` (it can log nobody in but is still there;
    /// tried again until it is gone), `intruder_ended` (somebody logged in as it past the gate), `undone` (what sessions of its
    /// profile gave others of what the profile owns was taken back; the detail has the statements).
    pub change: String,
    /// Until when it can log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why not, or who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// A local user was made or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserChanged {
    /// Who.
    pub identity: IdentityName,
    /// `added`, `token_withdrawn` (the old token is good no more), `rotated` (there is a new one), `regrouped`, `disabled`, `enabled`, or
    /// `not_stored`.
    pub change: String,
    /// An operator's name.
    pub by: String,
    /// The groups after it.
    pub groups: Vec<String>,
}

/// Somebody did not prove who they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRefused {
    /// Where they came from, if over a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The name they gave, or the token says; not proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimed: Option<String>,
    /// Why; they were not told this.
    pub detail: String,
}

/// A set of policies was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyLoaded {
    /// Whether it is in force; if not, the one before is.
    pub accepted: bool,
    /// SHA-256 of the set, in hexadecimal; of the one in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_set: Option<String>,
    /// How many policies there are, or what is wrong.
    pub detail: String,
}

/// A session began: authenticated, admitted, connected to the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStarted {
    /// Who.
    #[serde(flatten)]
    pub who: Who,
    /// The client's address.
    pub client: IpAddr,
    /// The client's port.
    pub port: u16,
    /// TLS version towards the client, or `none`.
    pub tls: String,
    /// The application name the client gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// The process id of the target's backend.
    pub backend_pid: i32,
    /// The deadline as it stands.
    pub until: Timestamp,
    /// The groups of the identity when its access was granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The run it belongs to: as the client said, or else the pipeline's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// How many tables its profile is shown through masks; absent where none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub masked_tables: u64,
}

/// A session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEnded {
    /// Who.
    #[serde(flatten)]
    pub who: Who,
    /// Why: [`crate::ending::Ending::name`].
    pub ending: String,
    /// The SQLSTATE the client was given, by the gate or by the target; `00000` where it left by itself.
    pub sqlstate: String,
    /// The words the client was given (the target's own, where it ended the session), or more for the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What became of the transaction: [`crate::ending::Fate::name`].
    pub fate: String,
    /// Microseconds from start to end.
    pub duration_us: u64,
    /// Executed statements.
    pub statements: u64,
    /// Rows returned or changed: the sum of its outcomes' `rows`.
    pub rows: u64,
    /// Rows sent to the client: the sum of its outcomes' `rows_sent`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows_sent: u64,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// Whether the FATAL reached the client's socket whole; `None` where none was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_told: Option<bool>,
    /// Whether the target confirmed that the backend is gone; `None` where it was not ended by us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_gone: Option<bool>,
    /// Microseconds from the deadline (or the order to end) until the backend was confirmed gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overshoot_us: Option<u64>,
}

/// A backend is gone that was not confirmed gone when the end of its session was put on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendGone {
    /// Whose.
    #[serde(flatten)]
    pub who: Who,
    /// Its process id at the target.
    pub backend_pid: i32,
    /// Microseconds from the deadline (or the order to end) until it was seen gone.
    pub overshoot_us: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;
