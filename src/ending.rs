//! Why a session ends or a connection is refused: one closed set, each with its SQLSTATE and its words.
//!
//! It does not end anything. What a client may read is written in `words` and nowhere else; inner errors never reach a client
//! except by conversion into one of these variants.
//!
//! The codes follow what drivers do with them: pools evict a connection on class 08 and on 57P01 to 57P03, so what ends a
//! session is one of those; refusals at login use 28000, and 28P01 for anything that would tell a stranger whether a grant exists.

mod scope;
mod target;
#[cfg(test)]
mod tests;
mod words;

pub use scope::{HeldBack, HeldBackBy, Scope};
pub use target::TargetRefusal;
pub(crate) use words::prolonging;

use std::time::Duration;

use jiff::Timestamp;

use crate::ids::{GrantId, RequestId};
use crate::names::{IdentityName, ProfileName, TargetName};

/// The reason of a revocation that shuts out the grant's identity: who is shut out cannot ask again.
pub const IDENTITY_DISABLED: &str = "the identity is disabled";

/// Why a session ended, or a connection was refused before it became one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    // The client's own doing.
    /// The client said Terminate.
    Quit,
    /// The client's connection broke or closed without Terminate.
    Disconnected,
    /// The client sent what the protocol does not allow.
    Malformed {
        /// What was wrong, in words for the client.
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
    /// The startup packet came in clear where TLS is required.
    TlsRequired,
    /// The startup packet names no user.
    NoUser,
    /// A startup parameter that is the gate's to say.
    ParameterRefused {
        /// Its name as sent, cut to a sane length.
        name: String,
        /// Why.
        rule: ParameterRule,
    },
    /// The startup parameter `options` cannot be read.
    OptionsUnreadable {
        /// The word of it that cannot, cut to a sane length.
        word: String,
        /// Why.
        fault: OptionsFault,
    },
    /// `replication` asked for where the target does not allow it.
    ReplicationRefused {
        /// The target.
        target: TargetName,
    },
    /// A step of the handshake took longer than its limit.
    HandshakeTimeout {
        /// Which step.
        step: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// Wrong secret or unknown grant: deliberately not told apart.
    BadSecret {
        /// The user name as sent.
        user: String,
        /// The answer came late, and why.
        held: Option<HeldBack>,
    },
    /// A token nobody has, one that is not good any more, or another identity's: deliberately not told apart.
    BadToken {
        /// The user name as sent.
        user: String,
        /// The answer came late, and why.
        held: Option<HeldBack>,
    },
    /// A token would have to cross the network in clear.
    TokenInClear,

    /// The login is not bound to this TLS connection as it should be: somebody may stand between client and gate.
    BindingFailed,

    // Refused after the secret was proved.
    /// The grant is for another database than the one asked for.
    WrongDatabase {
        /// The grant.
        grant: GrantId,
        /// The target it is for.
        target: TargetName,
        /// The database asked for.
        asked: String,
    },
    /// The grant is for another profile than the one asked for.
    WrongProfile {
        /// The grant.
        grant: GrantId,
        /// The target it is for.
        target: TargetName,
        /// The profile it is for; none where it was made by hand without one.
        profile: Option<ProfileName>,
        /// The profile asked for.
        asked: String,
    },
    /// The client's address is outside the grant's network.
    AddressRefused {
        /// The grant.
        grant: GrantId,
    },
    /// The grant was not activated in time.
    Lapsed {
        /// The grant.
        grant: GrantId,
        /// By when it had to be activated.
        activate_by: Timestamp,
    },
    /// The grant's window had closed before this login.
    LoginExpired {
        /// The grant.
        grant: GrantId,
        /// When it closed.
        until: Timestamp,
    },
    /// The grant had been revoked before this login.
    LoginRevoked {
        /// The grant.
        grant: GrantId,
        /// When.
        at: Timestamp,
    },
    /// A setting of ours (`tidegate.…`) that there is not.
    UnknownOption {
        /// Its name as sent, cut to a sane length.
        name: String,
        /// The nearest there is.
        nearest: &'static str,
    },
    /// A setting of ours with a value that makes no sense.
    InvalidOption {
        /// Its name.
        name: &'static str,
        /// What it has to be.
        wanted: &'static str,
    },
    /// An identity asked for a database the gate does not have.
    NoSuchTarget {
        /// The name asked for.
        asked: String,
        /// The nearest there is.
        nearest: Option<String>,
        /// The names there are.
        known: Vec<TargetName>,
    },
    /// An identity asked for a profile the target does not have.
    NoSuchProfile {
        /// The target.
        target: TargetName,
        /// The name asked for.
        asked: String,
        /// The names there are.
        known: Vec<ProfileName>,
    },
    /// What an identity asked for makes no request: a reason is missing, the time is too long.
    InvalidRequest {
        /// Why.
        why: String,
    },
    /// The policies do not let the identity in.
    AccessDenied {
        /// Why, in words.
        why: String,
        /// The policies that decided.
        policies: Vec<String>,
    },
    /// A request of the identity waits for approval, and the login waits no longer.
    ApprovalPending {
        /// The request.
        request: RequestId,
        /// Who can approve it.
        approvers: Vec<IdentityName>,
        /// As far as is known, there is nobody.
        nobody: bool,
        /// How long the login waited.
        waited: Duration,
    },
    /// An approver said no while the login waited.
    RequestRejected {
        /// The request.
        request: RequestId,
        /// Who.
        by: IdentityName,
        /// In their words.
        comment: Option<String>,
    },
    /// The request was taken back while the login waited.
    RequestWithdrawn {
        /// The request.
        request: RequestId,
    },
    /// Nobody approved the request in time.
    RequestLapsed {
        /// The request.
        request: RequestId,
        /// Until when it could be approved.
        until: Timestamp,
    },
    /// The policies no longer allow what the grant was made for; asked again before its window opens.
    PolicyRefused {
        /// The grant.
        grant: GrantId,
        /// Why, as the policies say it.
        why: String,
    },
    /// The identity was shut out.
    IdentityDisabled {
        /// The grant.
        grant: GrantId,
    },
    /// Too many at once.
    TooMany {
        /// Of what.
        scope: Scope,
        /// How many are allowed.
        limit: u32,
    },
    /// The target does not answer.
    TargetUnreachable {
        /// The target.
        target: TargetName,
    },
    /// The target answered, but does not let the gate in (its credentials, its TLS, its limits).
    TargetRefused {
        /// The target.
        target: TargetName,
    },
    /// What a former run of the gate left at the target is still being ended.
    LeftoversPending {
        /// The target.
        target: TargetName,
    },
    /// The target's server said no for a reason that tools act on: they make what is missing, or try again later.
    TargetSaysNo {
        /// The target.
        target: TargetName,
        /// The reason.
        refusal: TargetRefusal,
        /// The server's own words, one line of them.
        message: String,
    },
    /// The target did not make the grant's role, so there is nothing to log in as.
    RoleNotMade {
        /// The target.
        target: TargetName,
        /// Because its server takes no changes at present.
        read_only: bool,
    },
    /// The grant store cannot be read or written.
    LedgerFailed,
    /// The machine's clock has stepped ahead and is not believed: a window that is over might be taken for open.
    ClockDoubted {
        /// How far it is ahead of gate time.
        ahead: Duration,
    },
    /// The gate is shutting down and takes nobody new.
    Draining,

    // A session's end.
    /// The grant's window closed.
    Expired {
        /// The grant.
        grant: GrantId,
        /// The deadline.
        until: Timestamp,
        /// It came of a request, so its owner can ask for more time.
        requested: bool,
    },
    /// The grant was revoked.
    Revoked {
        /// The grant.
        grant: GrantId,
        /// When.
        at: Timestamp,
        /// By whom, where that is known.
        by: Option<String>,
        /// The reason given, if any.
        reason: Option<String>,
    },
    /// Its owner gave the grant back.
    Released {
        /// The grant.
        grant: GrantId,
        /// When.
        at: Timestamp,
    },
    /// Somebody ended this session before its time.
    Killed {
        /// The grant.
        grant: GrantId,
        /// The one who did.
        by: EndedBy,
        /// The reason given, if any.
        reason: Option<String>,
    },
    /// The client sent nothing for too long.
    Idle {
        /// The limit.
        limit: Duration,
    },
    /// The gate is shutting down.
    Drained,
    /// A record could not be written, so the statement must not run.
    AuditFailed {
        /// The disk is full (53100), as against any other fault (58030).
        disk_full: bool,
    },
    /// The target closed the session and said why; its own words went to the client.
    TargetClosed {
        /// Its SQLSTATE.
        sqlstate: String,
        /// Its message.
        message: String,
    },
    /// The connection to the target broke without a word, or it sent what the protocol does not allow.
    TargetLost {
        /// The target.
        target: TargetName,
    },
    /// A fault of the gate's own broke this session off.
    GateFault,
    /// The gate died; found by the next start.
    GateDied,
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
    /// The gate sets it itself, so that the target notices a connection that is gone.
    SetByGate,
    /// It would make another role of the session than the one of its grant.
    GivenByGrant,
    /// It is a field of the startup packet and no setting.
    PacketField,
}

/// The fault of a word in `options`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionsFault {
    /// A switch other than `-c name=value` and `--name=value`.
    Switch,
    /// No switch at all: most often the rest of a value with a space in it.
    StrayWord,
    /// A setting without `=` or without a name.
    NotNameValue,
}

/// What became of the transaction when a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// No transaction was open.
    None,
    /// It was rolled back: nothing of it remains.
    RolledBack,
    /// Nothing was open but the running statement, which was stopped. On record as rolled back, which its own transaction was.
    Stopped,
    /// The running statement had finished and was committed before it could be stopped.
    Committed,
    /// The target's answer did not arrive. Look into the database to know.
    Unknown,
    /// The target has been told to stop, and its answer is not waited for. Said to clients only: the record waits.
    Stopping,
}

/// What a client reads: the fields of an ErrorResponse (protocol: "Error and Notice Message Fields").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// SQLSTATE.
    pub code: &'static str,
    /// `M`: one sentence: the thing and the reason.
    pub message: String,
    /// `D`: names and times.
    pub detail: Option<String>,
    /// `H`: what to do next.
    pub hint: Option<String>,
}

impl Ending {
    /// A stable name for the log, metrics and scripts.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Quit => "quit",
            Self::Disconnected => "disconnected",
            Self::Malformed { .. } => "malformed",
            Self::ProtocolUnsupported { .. } => "protocol_unsupported",
            Self::TlsRequired => "tls_required",
            Self::NoUser => "no_user",
            Self::ParameterRefused { .. } => "parameter_refused",
            Self::OptionsUnreadable { .. } => "options_unreadable",
            Self::ReplicationRefused { .. } => "replication_refused",
            Self::HandshakeTimeout { .. } => "handshake_timeout",
            Self::BadSecret { .. } => "bad_secret",
            Self::BadToken { .. } => "bad_token",
            Self::TokenInClear => "token_in_clear",
            Self::BindingFailed => "binding_failed",
            Self::WrongDatabase { .. } => "wrong_database",
            Self::WrongProfile { .. } => "wrong_profile",
            Self::AddressRefused { .. } => "address_refused",
            Self::Lapsed { .. } => "lapsed",
            Self::LoginExpired { .. } => "login_expired",
            Self::LoginRevoked { .. } => "login_revoked",
            Self::PolicyRefused { .. } => "policy_refused",
            Self::IdentityDisabled { .. } => "identity_disabled",
            Self::UnknownOption { .. } => "unknown_option",
            Self::InvalidOption { .. } => "invalid_option",
            Self::NoSuchTarget { .. } => "no_such_target",
            Self::NoSuchProfile { .. } => "no_such_profile",
            Self::InvalidRequest { .. } => "invalid_request",
            Self::AccessDenied { .. } => "access_denied",
            Self::ApprovalPending { .. } => "approval_pending",
            Self::RequestRejected { .. } => "request_rejected",
            Self::RequestWithdrawn { .. } => "request_withdrawn",
            Self::RequestLapsed { .. } => "request_lapsed",
            Self::TooMany { scope, .. } => scope.name(),
            Self::TargetUnreachable { .. } => "target_unreachable",
            Self::TargetRefused { .. } => "target_refused",
            Self::LeftoversPending { .. } => "leftovers_pending",
            Self::TargetSaysNo { refusal, .. } => refusal.name(),
            Self::RoleNotMade { .. } => "role_not_made",
            Self::LedgerFailed => "ledger_failed",
            Self::ClockDoubted { .. } => "clock_doubted",
            Self::Draining => "draining",
            Self::Expired { .. } => "expired",
            Self::Revoked { .. } => "revoked",
            Self::Released { .. } => "released",
            Self::Killed { .. } => "killed",
            Self::Idle { .. } => "idle",
            Self::Drained => "drained",
            Self::AuditFailed { .. } => "audit_failed",
            Self::TargetClosed { .. } => "target_closed",
            Self::TargetLost { .. } => "target_lost",
            Self::GateFault => "gate_fault",
            Self::GateDied => "gate_died",
        }
    }

    /// The SQLSTATE: the target's, where that ended it; the same as in [`Ending::words`] where there are words.
    #[must_use]
    pub fn sqlstate(&self) -> &str {
        match self {
            Self::TargetClosed { sqlstate, .. } => sqlstate,
            other => other.code(),
        }
    }

    /// Why the answer to a failed login came late, where it did.
    #[must_use]
    pub fn held_back(&self) -> Option<&HeldBack> {
        match self {
            Self::BadSecret { held, .. } | Self::BadToken { held, .. } => held.as_ref(),
            _ => None,
        }
    }

    /// The SQLSTATE of the gate's own words, `00000` where there are none.
    fn code(&self) -> &'static str {
        match self {
            Self::Quit | Self::TargetClosed { .. } => "00000",
            // read_only_sql_transaction, as the server has it.
            Self::RoleNotMade { read_only: true, .. } => "25006",
            Self::Disconnected | Self::TargetRefused { .. } | Self::RoleNotMade { .. } | Self::TargetLost { .. } => "08006",
            Self::TargetUnreachable { .. } => "08001",
            Self::Malformed { .. } => "08P01",
            Self::ProtocolUnsupported { .. } => "0A000",
            Self::TlsRequired
            | Self::NoUser
            | Self::BindingFailed
            | Self::TokenInClear
            | Self::WrongDatabase { .. }
            | Self::WrongProfile { .. }
            | Self::AccessDenied { .. }
            | Self::ApprovalPending { .. }
            | Self::RequestRejected { .. }
            | Self::RequestWithdrawn { .. }
            | Self::RequestLapsed { .. }
            | Self::AddressRefused { .. }
            | Self::Lapsed { .. }
            | Self::LoginExpired { .. }
            | Self::LoginRevoked { .. }
            | Self::PolicyRefused { .. }
            | Self::IdentityDisabled { .. } => "28000",
            Self::BadSecret { .. } | Self::BadToken { .. } => "28P01",
            // Both as the server says it.
            Self::UnknownOption { .. }
            | Self::ParameterRefused {
                rule: ParameterRule::PacketField,
                ..
            } => "42704",
            Self::OptionsUnreadable { .. } => "42601",
            Self::InvalidOption { .. } | Self::InvalidRequest { .. } => "22023",
            Self::NoSuchTarget { .. } | Self::NoSuchProfile { .. } => "3D000",
            Self::ParameterRefused { .. } | Self::ReplicationRefused { .. } => "42501",
            // What PostgreSQL itself says when authentication takes too long.
            Self::HandshakeTimeout { .. } => "57014",
            Self::TargetSaysNo { refusal, .. } => refusal.sqlstate(),
            Self::TooMany { .. } => "53300",
            Self::LedgerFailed | Self::AuditFailed { disk_full: false } => "58030",
            Self::AuditFailed { disk_full: true } => "53100",
            Self::Draining | Self::ClockDoubted { .. } | Self::LeftoversPending { .. } => "57P03",
            Self::Expired { .. }
            | Self::Revoked { .. }
            | Self::Released { .. }
            | Self::Killed { .. }
            | Self::Drained
            | Self::GateDied => "57P01",
            Self::Idle { .. } => "57P05",
            Self::GateFault => "XX000",
        }
    }
}

impl Fate {
    /// A stable name for the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::RolledBack | Self::Stopped => "rolled_back",
            Self::Committed => "committed",
            Self::Unknown => "unknown",
            Self::Stopping => "stopping",
        }
    }

    /// What the client reads about it, as the detail of the FATAL.
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
