//! Reasons for the end of a session or the refusal of a connection: one closed set, each with its SQLSTATE and its texts.
//!
//! This module does not end anything. The texts that a client may read are in `words` and nowhere else; inner errors never reach
//! a client except by conversion into one of these variants.
//!
//! The codes follow the behaviour of drivers: pools evict a connection on class 08 and on 57P01 to 57P03, so the end of a session
//! has one of those. Refusals at login use 28000, and 28P01 for anything that would reveal to an unauthenticated client whether a
//! grant exists.

mod kind;
mod scope;
mod target;
#[cfg(test)]
mod tests;
mod words;

pub use kind::{EndingKind, FateKind};
pub use scope::{HeldBack, HeldBackBy, LimitScope};
pub use target::TargetRefusal;
pub(crate) use words::{OFFERED_EXTENSION, prolonging};

use std::time::Duration;

use jiff::Timestamp;

use crate::model::ids::{GrantId, RequestId};
use crate::model::line::LinePlace;
use crate::model::names::{IdentityName, ProfileName, TargetName};

/// Reason of a revocation that disables the grant's identity: a disabled identity cannot ask again.
pub const IDENTITY_DISABLED: &str = "the identity is disabled";

/// Reason for the end of a session, or for the refusal of a connection before it became one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    // Ended by the client.
    /// The client sent Terminate.
    Quit,
    /// The client's connection broke or closed without Terminate.
    Disconnected,
    /// The client violated the protocol.
    Malformed {
        /// Description of the violation, for the client.
        what: &'static str,
    },

    // Refused before login.
    /// A protocol version other than 3.x.
    ProtocolUnsupported {
        /// Major version asked for.
        major: u16,
        /// Minor version asked for.
        minor: u16,
    },
    /// The startup packet came in clear text although TLS is required.
    TlsRequired,
    /// The startup packet names no user.
    NoUser,
    /// A startup parameter that only the gate may set.
    ParameterRefused {
        /// Name of the parameter as sent, shortened for display.
        name: String,
        /// Rule that forbids it.
        rule: ParameterRule,
    },
    /// The startup parameter `options` cannot be parsed.
    OptionsUnreadable {
        /// Word of it that cannot be parsed, shortened for display.
        word: String,
        /// Kind of the mistake.
        fault: OptionsFault,
    },
    /// A replication connection was requested, but the target does not allow it.
    ReplicationRefused {
        /// Target of the connection.
        target: TargetName,
    },
    /// A step of the handshake took longer than its limit.
    HandshakeTimeout {
        /// Name of the step.
        step: &'static str,
        /// Time limit of the step.
        limit: Duration,
    },
    /// Wrong secret or unknown grant: deliberately not distinguished.
    BadSecret {
        /// User name as sent.
        user: String,
        /// Reason for delaying the answer, if it was delayed.
        held: Option<HeldBack>,
    },
    /// An unknown token, one that is no longer valid, or another identity's: deliberately not distinguished.
    BadToken {
        /// User name as sent.
        user: String,
        /// Form in which the token was sent, or was to be.
        form: TokenForm,
        /// Reason for delaying the answer, if it was delayed.
        held: Option<HeldBack>,
    },
    /// A token would have to cross the network in clear text.
    TokenInClear,

    /// The login is not bound to this TLS connection as it should be: a man in the middle is possible.
    BindingFailed,

    // Refused after the secret was proved.
    /// The grant is for another database than the one asked for.
    WrongDatabase {
        /// Grant used for the login.
        grant: GrantId,
        /// Target of the grant.
        target: TargetName,
        /// Database asked for.
        asked: String,
    },
    /// The grant is for another profile than the one asked for.
    WrongProfile {
        /// Grant used for the login.
        grant: GrantId,
        /// Target of the grant.
        target: TargetName,
        /// Profile of the grant; `None` if it was made by hand without one.
        profile: Option<ProfileName>,
        /// Profile asked for.
        asked: String,
    },
    /// The client's address is outside the grant's network.
    AddressRefused {
        /// Grant used for the login.
        grant: GrantId,
    },
    /// The grant was not activated in time.
    Lapsed {
        /// Grant used for the login.
        grant: GrantId,
        /// Time until which it had to be activated.
        activate_by: Timestamp,
    },
    /// The grant's window had closed before this login.
    LoginExpired {
        /// Grant used for the login.
        grant: GrantId,
        /// Time at which its window closed.
        until: Timestamp,
    },
    /// The grant had been revoked before this login.
    LoginRevoked {
        /// Grant used for the login.
        grant: GrantId,
        /// Time of the revocation.
        at: Timestamp,
    },
    /// An unknown setting of the gate's own (`tidegate.…`).
    UnknownOption {
        /// Name of the setting as sent, shortened for display.
        name: String,
        /// Most similar name of an existing setting.
        nearest: &'static str,
    },
    /// A setting of the gate's own with an invalid value.
    InvalidOption {
        /// Name of the setting.
        name: &'static str,
        /// Description of a valid value.
        wanted: &'static str,
    },
    /// An identity asked for a target that does not exist.
    NoSuchTarget {
        /// Name asked for.
        asked: String,
        /// Most similar name of a target.
        nearest: Option<String>,
        /// Names of the targets.
        known: Vec<TargetName>,
    },
    /// An identity asked for a profile that the target does not have.
    NoSuchProfile {
        /// Target asked for.
        target: TargetName,
        /// Name asked for.
        asked: String,
        /// Names of the target's profiles.
        known: Vec<ProfileName>,
    },
    /// The startup settings of an identity do not make a valid request, for example because a reason is missing or the time is
    /// too long.
    InvalidRequest {
        /// Description of the mistake.
        why: String,
    },
    /// The policies do not allow the identity's request.
    AccessDenied {
        /// Reason, in words.
        why: String,
        /// Names of the policies that decided.
        policies: Vec<String>,
    },
    /// A request of the identity waits for approval, and the login has reached the end of its wait.
    ApprovalPending {
        /// Pending request.
        request: RequestId,
        /// Identities that can approve it.
        approvers: Vec<IdentityName>,
        /// True if no enabled identity may approve it, as far as is known.
        nobody: bool,
        /// Time that the login waited.
        waited: Duration,
    },
    /// An approver rejected the request while the login waited.
    RequestRejected {
        /// Rejected request.
        request: RequestId,
        /// Approver who rejected it.
        by: IdentityName,
        /// Comment of the approver.
        comment: Option<String>,
    },
    /// The request was withdrawn while the login waited.
    RequestWithdrawn {
        /// Withdrawn request.
        request: RequestId,
    },
    /// The request was not approved in time.
    RequestLapsed {
        /// Lapsed request.
        request: RequestId,
        /// Time until which it could be approved.
        until: Timestamp,
    },
    /// The policies no longer allow the grant; they are evaluated again before its window opens.
    PolicyRefused {
        /// Grant used for the login.
        grant: GrantId,
        /// Reason, as the policies state it.
        why: String,
    },
    /// The identity is disabled.
    IdentityDisabled {
        /// Grant used for the login.
        grant: GrantId,
    },
    /// A limit on a number is reached.
    TooMany {
        /// Things that are limited.
        scope: LimitScope,
        /// Limit on their number.
        limit: u32,
    },
    /// The target is in exclusive use, and the login has reached the end of its wait.
    TargetInUse {
        /// Target in use.
        target: TargetName,
        /// Place in line of its grant.
        place: LinePlace,
        /// Time that the login waited.
        waited: Duration,
    },
    /// The template of the grant's own database is in use, so that no copy could be made.
    TemplateInUse {
        /// Target of the grant.
        target: TargetName,
        /// Name of the template.
        template: String,
        /// Time for which it was tried.
        tried: Duration,
    },
    /// The target did not make the grant's own database.
    CopyNotMade {
        /// Target of the grant.
        target: TargetName,
        /// Name of the template.
        template: String,
        /// Reason, where the client may read it.
        fault: CopyFault,
    },
    /// The target does not answer.
    TargetUnreachable {
        /// Target that does not answer.
        target: TargetName,
    },
    /// The target answered, but does not accept the gate's login (its credentials, its TLS, its limits).
    TargetRefused {
        /// Target that refused.
        target: TargetName,
    },
    /// Sessions of a previous run of the gate are still being ended at the target.
    LeftoversPending {
        /// Target with the leftovers.
        target: TargetName,
    },
    /// The target's server refused for a reason that tools act on: they create what is missing, or try again later.
    TargetSaysNo {
        /// Target that refused.
        target: TargetName,
        /// Reason of the refusal.
        refusal: TargetRefusal,
        /// Server's own message, one line of it.
        message: String,
    },
    /// The target did not create the grant's role, so there is no account to log in as.
    RoleNotMade {
        /// Target without the role.
        target: TargetName,
        /// True if the server is read-only at present.
        read_only: bool,
    },
    /// The grant store cannot be read or written.
    LedgerFailed,
    /// The machine's clock has stepped ahead and is not trusted: a window that is over might be taken for open.
    ClockDoubted {
        /// Difference between the machine's clock and gate time.
        ahead: Duration,
    },
    /// The gate is shutting down and accepts no new connections.
    Draining,

    // End of a session.
    /// The grant's window closed.
    Expired {
        /// Grant of the session.
        grant: GrantId,
        /// Deadline of the session.
        until: Timestamp,
        /// True if the grant came from a request, so that its owner can ask for more time.
        requested: bool,
    },
    /// The grant was revoked.
    Revoked {
        /// Grant of the session.
        grant: GrantId,
        /// Time of the revocation.
        at: Timestamp,
        /// Name of the revoker, if known.
        by: Option<String>,
        /// Reason given, if any.
        reason: Option<String>,
    },
    /// The grant's owner released it.
    Released {
        /// Grant of the session.
        grant: GrantId,
        /// Time of the release.
        at: Timestamp,
    },
    /// A person or an operator ended this session before its time.
    Killed {
        /// Grant of the session.
        grant: GrantId,
        /// The one who did.
        by: EndedBy,
        /// The reason given, if any.
        reason: Option<String>,
    },
    /// The client sent nothing for longer than the limit.
    Idle {
        /// Limit on the idle time.
        limit: Duration,
    },
    /// The gate is shutting down.
    Drained,
    /// A record could not be written, so the statement must not be executed.
    AuditFailed {
        /// True if the disk is full (53100), false for any other fault (58030).
        disk_full: bool,
    },
    /// The target closed the session with an error of its own, which was forwarded to the client.
    TargetClosed {
        /// SQLSTATE of that error.
        sqlstate: String,
        /// Message of that error.
        message: String,
    },
    /// The connection to the target broke without an error message, or the target violated the protocol.
    TargetLost {
        /// Target that was lost.
        target: TargetName,
    },
    /// An internal fault of the gate ended this session.
    GateFault,
    /// The gate crashed or was killed; the next start records this ending.
    GateDied,
}

/// Reason for which a grant has no database of its own, as far as its client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFault {
    /// The template does not exist.
    NoTemplate,
    /// The disk of the server is full.
    DiskFull,
    /// Anything else, which is in the gate's own log.
    Other,
}

/// Form in which a client sends its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenForm {
    /// As a password.
    Password,
    /// As the bearer token of OAUTHBEARER.
    Bearer,
}

/// The one who ended a session before its time, as their token proved them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndedBy {
    /// The identity whose grant it is.
    Owner(IdentityName),
    /// Another identity, which the policies let administer the gate.
    Person(IdentityName),
    /// The holder of the admin token, by the name they gave for the record.
    Operator(String),
}

/// The rule by which a startup parameter is not handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterRule {
    /// The gate sets the parameter itself, so that the target detects a broken connection.
    SetByGate,
    /// The parameter would give the session another role than the one of its grant.
    GivenByGrant,
    /// The name is a field of the startup packet and not a setting.
    PacketField,
}

/// Kind of mistake of a word in `options`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionsFault {
    /// A switch other than `-c name=value` and `--name=value`.
    Switch,
    /// A word that is not a switch: most often the rest of a value with a space in it.
    StrayWord,
    /// A setting without `=` or without a name.
    NotNameValue,
}

/// Fate of the transaction at the end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// No transaction was open.
    None,
    /// The transaction was rolled back completely.
    RolledBack,
    /// Only the running statement was open, and it was stopped. The record says rolled back, as its own transaction was.
    Stopped,
    /// The running statement had finished and was committed before it could be stopped.
    Committed,
    /// The target's answer did not arrive. The database must be checked.
    Unknown,
    /// The target was told to stop, and the gate does not wait for its answer. Only clients get this; the record waits.
    Stopping,
}

/// Text for the client: the fields of an ErrorResponse (protocol: "Error and Notice Message Fields").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndingText {
    /// SQLSTATE.
    pub code: &'static str,
    /// `M`: one sentence with the object and the reason.
    pub message: String,
    /// `D`: names and times.
    pub detail: Option<String>,
    /// `H`: remedy.
    pub hint: Option<String>,
}

impl Ending {
    /// Returns the SQLSTATE: the target's, if the target ended the session; the same as in [`Ending::words`] if there are words.
    #[must_use]
    pub fn sqlstate(&self) -> &str {
        match self {
            Self::TargetClosed { sqlstate, .. } => sqlstate,
            other => other.entry().text.code,
        }
    }

    /// Returns a stable name for the log, metrics and scripts.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.kind().as_str()
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> EndingKind {
        self.entry().kind
    }

    /// Returns the reason for delaying the answer to a failed login, if it was delayed.
    #[must_use]
    pub fn held_back(&self) -> Option<&HeldBack> {
        match self {
            Self::BadSecret { held, .. } | Self::BadToken { held, .. } => held.as_ref(),
            _ => None,
        }
    }
}

impl Fate {
    /// Returns the fate as the log has it.
    #[must_use]
    pub fn kind(self) -> FateKind {
        match self {
            Self::None => FateKind::None,
            Self::RolledBack | Self::Stopped => FateKind::RolledBack,
            Self::Committed => FateKind::Committed,
            Self::Unknown | Self::Stopping => FateKind::Unknown,
        }
    }

    /// Returns the sentence for the client, as the detail of the FATAL.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::None => "No transaction was open.",
            Self::RolledBack => "What had not been committed was rolled back.",
            Self::Stopped => "What was running was stopped, and what it had changed, if anything, was rolled back.",
            Self::Committed => "The running statement had already been committed.",
            Self::Unknown => "Whether the running statement was committed is not known.",
            Self::Stopping => "The running statement is being stopped: unless it had just ended, its transaction is rolled back.",
        }
    }
}
