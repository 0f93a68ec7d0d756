//! Why a session ends or a connection is refused: one closed set, each with its SQLSTATE and its words.
//!
//! It does not end anything. What a client may read is written here and nowhere else; inner errors never reach a client
//! except by conversion into one of these variants.
//!
//! The codes follow what drivers do with them: pools evict a connection on class 08 and on 57P01 to 57P03, so what ends a
//! session is one of those; refusals at login use 28000, and 28P01 for anything that would tell a stranger whether a grant exists.

use std::time::Duration;

use jiff::Timestamp;

use crate::ids::GrantId;
use crate::names::TargetName;

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
    /// A startup parameter that is not on the list of allowed ones.
    ParameterRefused {
        /// Its name as sent, cut to a sane length.
        name: String,
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
    },

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
    /// The grant store cannot be read or written.
    LedgerFailed,
    /// The gate is shutting down and takes nobody new.
    Draining,

    // A session's end.
    /// The grant's window closed.
    Expired {
        /// The grant.
        grant: GrantId,
        /// The deadline.
        until: Timestamp,
    },
    /// The grant was revoked.
    Revoked {
        /// The grant.
        grant: GrantId,
        /// When.
        at: Timestamp,
    },
    /// An operator ended this session.
    Killed {
        /// The grant.
        grant: GrantId,
        /// The operator.
        by: String,
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
    /// The session holds more prepared statements or portals than the gate keeps account of.
    TooManyPrepared {
        /// How many are allowed.
        limit: usize,
    },
    /// The target closed the session and said why; its own words went to the client.
    TargetClosed,
    /// The connection to the target broke without a word, or it sent what the protocol does not allow.
    TargetLost {
        /// The target.
        target: TargetName,
    },
    /// The gate died; found by the next start.
    GateDied,
}

/// What there is too much of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Connections to the gate.
    Gate,
    /// Sessions on one target.
    Target(TargetName),
    /// Sessions under one grant.
    Grant(GrantId),
}

/// What became of the transaction when a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// No transaction was open.
    None,
    /// It was rolled back: nothing of it remains.
    RolledBack,
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
            Self::ReplicationRefused { .. } => "replication_refused",
            Self::HandshakeTimeout { .. } => "handshake_timeout",
            Self::BadSecret { .. } => "bad_secret",
            Self::BindingFailed => "binding_failed",
            Self::WrongDatabase { .. } => "wrong_database",
            Self::AddressRefused { .. } => "address_refused",
            Self::Lapsed { .. } => "lapsed",
            Self::LoginExpired { .. } => "login_expired",
            Self::LoginRevoked { .. } => "login_revoked",
            Self::PolicyRefused { .. } => "policy_refused",
            Self::IdentityDisabled { .. } => "identity_disabled",
            Self::TooMany { .. } => "too_many",
            Self::TargetUnreachable { .. } => "target_unreachable",
            Self::TargetRefused { .. } => "target_refused",
            Self::LedgerFailed => "ledger_failed",
            Self::Draining => "draining",
            Self::Expired { .. } => "expired",
            Self::Revoked { .. } => "revoked",
            Self::Killed { .. } => "killed",
            Self::Idle { .. } => "idle",
            Self::Drained => "drained",
            Self::AuditFailed { .. } => "audit_failed",
            Self::TooManyPrepared { .. } => "too_many_prepared",
            Self::TargetClosed => "target_closed",
            Self::TargetLost { .. } => "target_lost",
            Self::GateDied => "gate_died",
        }
    }

    /// The SQLSTATE; the same as in [`Ending::words`] where there are words.
    #[must_use]
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::Quit | Self::TargetClosed => "00000",
            Self::Disconnected | Self::TargetRefused { .. } | Self::TargetLost { .. } => "08006",
            Self::TargetUnreachable { .. } => "08001",
            Self::Malformed { .. } => "08P01",
            Self::ProtocolUnsupported { .. } => "0A000",
            Self::TlsRequired
            | Self::NoUser
            | Self::BindingFailed
            | Self::WrongDatabase { .. }
            | Self::AddressRefused { .. }
            | Self::Lapsed { .. }
            | Self::LoginExpired { .. }
            | Self::LoginRevoked { .. }
            | Self::PolicyRefused { .. }
            | Self::IdentityDisabled { .. } => "28000",
            Self::BadSecret { .. } => "28P01",
            Self::ParameterRefused { .. } | Self::ReplicationRefused { .. } => "42501",
            // What PostgreSQL itself says when authentication takes too long.
            Self::HandshakeTimeout { .. } => "57014",
            Self::TooMany { .. } => "53300",
            Self::TooManyPrepared { .. } => "54000",
            Self::LedgerFailed | Self::AuditFailed { disk_full: false } => "58030",
            Self::AuditFailed { disk_full: true } => "53100",
            Self::Draining => "57P03",
            Self::Expired { .. } | Self::Revoked { .. } | Self::Killed { .. } | Self::Drained | Self::GateDied => "57P01",
            Self::Idle { .. } => "57P05",
        }
    }

    /// What the client reads, or nothing where it has already been told or is not there any more.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "one entry for each ending: a table, not a procedure")]
    pub fn words(&self) -> Option<Words> {
        let (message, detail, hint) = match self {
            Self::Quit | Self::Disconnected | Self::TargetClosed | Self::GateDied => return None,
            Self::Malformed { what } => ((*what).to_owned(), None, None),
            Self::ProtocolUnsupported { major, minor } => {
                (format!("unsupported frontend protocol {major}.{minor}: this gate speaks 3.0 to 3.2"), None, None)
            }
            Self::TlsRequired => (
                "connection requires TLS".to_owned(),
                None,
                Some("connect with sslmode=require or stronger".to_owned()),
            ),
            Self::NoUser => (
                "no user name in the startup packet".to_owned(),
                None,
                Some("give the grant id as user name".to_owned()),
            ),
            Self::ParameterRefused { name } => (
                format!("startup parameter \"{name}\" is not allowed through this gate"),
                None,
                Some("leave it out of the connection string (or PGOPTIONS), or ask the gate's operator to list it under `startup_parameters` of the target".to_owned()),
            ),
            Self::ReplicationRefused { target } => (
                format!("replication connections to \"{target}\" are not allowed through this gate"),
                None,
                Some("ask the gate's operator to set `replication = true` on the target if they are wanted".to_owned()),
            ),
            Self::HandshakeTimeout { step, limit } => (
                format!("{step} took longer than {}", span(*limit)),
                None,
                Some("connect again".to_owned()),
            ),
            Self::BadSecret { user } => (
                format!("password authentication failed for user \"{user}\""),
                None,
                Some("user is the grant id (gr_…), password is the secret shown when the grant was made".to_owned()),
            ),
            Self::BindingFailed => (
                "SCRAM channel binding check failed".to_owned(),
                None,
                Some("somebody may stand between you and the gate: check its address and certificate (sslmode=verify-full)".to_owned()),
            ),
            Self::WrongDatabase { grant, target, asked } => (
                format!("grant {grant} is not for database \"{asked}\""),
                Some(format!("It is for \"{target}\".")),
                Some(format!("connect with dbname={target}")),
            ),
            Self::AddressRefused { grant } => (
                format!("grant {grant} is not valid from this address"),
                None,
                Some("connect from the network the grant was made for, or ask for a grant for this one".to_owned()),
            ),
            Self::Lapsed { grant, activate_by } => (
                format!("grant {grant} has lapsed"),
                Some(format!("It had to be used first by {}.", clock_time(*activate_by))),
                Some("ask for a new grant".to_owned()),
            ),
            Self::LoginExpired { grant, until } => (
                format!("grant {grant} expired at {}", clock_time(*until)),
                None,
                Some("ask for a new grant".to_owned()),
            ),
            Self::LoginRevoked { grant, at } => (
                format!("grant {grant} was revoked at {}", clock_time(*at)),
                None,
                Some("ask whoever revoked it, or for a new grant".to_owned()),
            ),
            Self::PolicyRefused { grant, why } => (
                format!("grant {grant} cannot be used now: the policies do not allow it any more"),
                Some(format!("Policies: {why}.")),
                Some("ask again for what you need".to_owned()),
            ),
            Self::IdentityDisabled { grant } => (
                format!("grant {grant} cannot be used: the identity it is for has been disabled"),
                None,
                Some("ask the gate's operator".to_owned()),
            ),
            Self::TooMany { scope, limit } => (
                match scope {
                    Scope::Gate => "the gate has no connection slot left".to_owned(),
                    Scope::Target(target) => format!("too many sessions on \"{target}\""),
                    Scope::Grant(grant) => format!("too many sessions under grant {grant}"),
                },
                Some(format!("At most {limit} at once.")),
                Some("close another one, or try again later".to_owned()),
            ),
            Self::TargetUnreachable { target } => (
                format!("database \"{target}\" cannot be reached"),
                None,
                Some("the gate is up, the database behind it is not: try again, then tell its operator".to_owned()),
            ),
            Self::TargetRefused { target } => (
                format!("database \"{target}\" does not let the gate in"),
                None,
                Some("tell the gate's operator: the gate's log has the reason (credentials, TLS or connection limit of the target)".to_owned()),
            ),
            Self::LedgerFailed => (
                "the gate cannot read or write its grants, so it lets nobody in".to_owned(),
                None,
                Some("tell the gate's operator".to_owned()),
            ),
            Self::Draining => (
                "the gate is shutting down".to_owned(),
                None,
                Some("connect again in a moment".to_owned()),
            ),
            Self::Expired { grant, until } => (
                format!("grant {grant} ended at {}: the session is closed", clock_time(*until)),
                None,
                Some(format!("to go on, ask for a new grant; a live one is prolonged with: tidegate grant extend {grant} --by 30m")),
            ),
            Self::Revoked { grant, at } => (
                format!("grant {grant} was revoked at {}: the session is closed", clock_time(*at)),
                None,
                Some("ask whoever revoked it, or for a new grant".to_owned()),
            ),
            Self::Killed { grant, by, reason } => (
                format!("operator {by} ended this session under grant {grant}"),
                reason.as_ref().map(|reason| format!("Reason: {reason}.")),
                Some("the grant itself is still valid: connect again, or ask the operator".to_owned()),
            ),
            Self::Idle { limit } => (
                format!("the session was idle for more than {}", span(*limit)),
                None,
                Some("connect again".to_owned()),
            ),
            Self::Drained => (
                "the gate is shutting down: the session is closed".to_owned(),
                None,
                Some("connect again in a moment".to_owned()),
            ),
            Self::AuditFailed { disk_full } => (
                "nothing was run: it could not be put on record".to_owned(),
                Some(if *disk_full { "The disk of the audit log is full." } else { "The audit log cannot be written." }.to_owned()),
                Some("tell the gate's operator; connect again when the log can be written".to_owned()),
            ),
            Self::TooManyPrepared { limit } => (
                format!("more than {limit} prepared statements and portals in one session, or more than 64 MiB of them"),
                None,
                Some("close prepared statements that are not needed any more".to_owned()),
            ),
            Self::TargetLost { target } => (
                format!("the connection to database \"{target}\" was lost"),
                None,
                Some("connect again".to_owned()),
            ),
        };
        Some(Words {
            code: self.sqlstate(),
            message,
            detail,
            hint,
        })
    }
}

impl Fate {
    /// A stable name for the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::RolledBack => "rolled_back",
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
            Self::RolledBack => "The open transaction was rolled back.",
            Self::Committed => "The running statement had already been committed.",
            Self::Unknown => "Whether the running statement was committed is not known.",
            Self::Stopping => "The running statement is being stopped: unless it had just ended, its transaction is rolled back.",
        }
    }
}

/// A time as a person reads it: to the second, in UTC, and saying so.
fn clock_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A length of time as a person reads it.
fn span(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        secs if secs < 120 => format!("{secs} s"),
        secs => format!("{} min", secs / 60),
    }
}
