//! Kinds of endings and fates: their names in the log, in metrics and for scripts.
//!
//! This module has no texts for people.

use super::{Ending, Fate};
use crate::model::names::vocabulary;

vocabulary! {
    /// Kind of an [`Ending`], without its details.
    #[expect(missing_docs, reason = "described at the variants of Ending, Scope and TargetRefusal")]
    pub enum EndingKind {
        Quit = "quit",
        Disconnected = "disconnected",
        Malformed = "malformed",
        ProtocolUnsupported = "protocol_unsupported",
        TlsRequired = "tls_required",
        NoUser = "no_user",
        ParameterRefused = "parameter_refused",
        OptionsUnreadable = "options_unreadable",
        ReplicationRefused = "replication_refused",
        HandshakeTimeout = "handshake_timeout",
        BadSecret = "bad_secret",
        BadToken = "bad_token",
        TokenInClear = "token_in_clear",
        BindingFailed = "binding_failed",
        WrongDatabase = "wrong_database",
        WrongProfile = "wrong_profile",
        AddressRefused = "address_refused",
        Lapsed = "lapsed",
        LoginExpired = "login_expired",
        LoginRevoked = "login_revoked",
        PolicyRefused = "policy_refused",
        IdentityDisabled = "identity_disabled",
        UnknownOption = "unknown_option",
        InvalidOption = "invalid_option",
        NoSuchTarget = "no_such_target",
        NoSuchProfile = "no_such_profile",
        InvalidRequest = "invalid_request",
        AccessDenied = "access_denied",
        ApprovalPending = "approval_pending",
        RequestRejected = "request_rejected",
        RequestWithdrawn = "request_withdrawn",
        RequestLapsed = "request_lapsed",
        TooManyConnections = "too_many_connections",
        TooManyUnfinishedLogins = "too_many_unfinished_logins",
        TooManyUnfinishedLoginsOfAddress = "too_many_unfinished_logins_of_address",
        TooManySessionsOfTarget = "too_many_sessions_of_target",
        TooManySessionsOfGrant = "too_many_sessions_of_grant",
        TooManyWaitingLogins = "too_many_waiting_logins",
        TooManyWaitingLoginsOfIdentity = "too_many_waiting_logins_of_identity",
        TooManyRequests = "too_many_requests",
        TargetUnreachable = "target_unreachable",
        TargetRefused = "target_refused",
        LeftoversPending = "leftovers_pending",
        TargetMissing = "target_missing",
        TargetLocked = "target_locked",
        TargetFull = "target_full",
        TargetNotReady = "target_not_ready",
        RoleNotMade = "role_not_made",
        LedgerFailed = "ledger_failed",
        ClockDoubted = "clock_doubted",
        Draining = "draining",
        Expired = "expired",
        Revoked = "revoked",
        Released = "released",
        Killed = "killed",
        Idle = "idle",
        Drained = "drained",
        AuditFailed = "audit_failed",
        TargetClosed = "target_closed",
        TargetLost = "target_lost",
        GateFault = "gate_fault",
        GateDied = "gate_died",
    }
}

vocabulary! {
    /// Fate of a transaction as the log has it.
    pub enum FateKind {
        /// No transaction was open.
        None = "none",
        /// Uncommitted changes were rolled back.
        RolledBack = "rolled_back",
        /// The running statement had been committed before it could be stopped.
        Committed = "committed",
        /// The target's answer did not arrive. The database must be checked.
        Unknown = "unknown",
    }
}

impl Ending {
    /// Returns a stable name for the log, metrics and scripts.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.kind().as_str()
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> EndingKind {
        match self {
            Self::Quit => EndingKind::Quit,
            Self::Disconnected => EndingKind::Disconnected,
            Self::Malformed { .. } => EndingKind::Malformed,
            Self::ProtocolUnsupported { .. } => EndingKind::ProtocolUnsupported,
            Self::TlsRequired => EndingKind::TlsRequired,
            Self::NoUser => EndingKind::NoUser,
            Self::ParameterRefused { .. } => EndingKind::ParameterRefused,
            Self::OptionsUnreadable { .. } => EndingKind::OptionsUnreadable,
            Self::ReplicationRefused { .. } => EndingKind::ReplicationRefused,
            Self::HandshakeTimeout { .. } => EndingKind::HandshakeTimeout,
            Self::BadSecret { .. } => EndingKind::BadSecret,
            Self::BadToken { .. } => EndingKind::BadToken,
            Self::TokenInClear => EndingKind::TokenInClear,
            Self::BindingFailed => EndingKind::BindingFailed,
            Self::WrongDatabase { .. } => EndingKind::WrongDatabase,
            Self::WrongProfile { .. } => EndingKind::WrongProfile,
            Self::AddressRefused { .. } => EndingKind::AddressRefused,
            Self::Lapsed { .. } => EndingKind::Lapsed,
            Self::LoginExpired { .. } => EndingKind::LoginExpired,
            Self::LoginRevoked { .. } => EndingKind::LoginRevoked,
            Self::PolicyRefused { .. } => EndingKind::PolicyRefused,
            Self::IdentityDisabled { .. } => EndingKind::IdentityDisabled,
            Self::UnknownOption { .. } => EndingKind::UnknownOption,
            Self::InvalidOption { .. } => EndingKind::InvalidOption,
            Self::NoSuchTarget { .. } => EndingKind::NoSuchTarget,
            Self::NoSuchProfile { .. } => EndingKind::NoSuchProfile,
            Self::InvalidRequest { .. } => EndingKind::InvalidRequest,
            Self::AccessDenied { .. } => EndingKind::AccessDenied,
            Self::ApprovalPending { .. } => EndingKind::ApprovalPending,
            Self::RequestRejected { .. } => EndingKind::RequestRejected,
            Self::RequestWithdrawn { .. } => EndingKind::RequestWithdrawn,
            Self::RequestLapsed { .. } => EndingKind::RequestLapsed,
            Self::TooMany { scope, .. } => scope.kind(),
            Self::TargetUnreachable { .. } => EndingKind::TargetUnreachable,
            Self::TargetRefused { .. } => EndingKind::TargetRefused,
            Self::LeftoversPending { .. } => EndingKind::LeftoversPending,
            Self::TargetSaysNo { refusal, .. } => refusal.kind(),
            Self::RoleNotMade { .. } => EndingKind::RoleNotMade,
            Self::LedgerFailed => EndingKind::LedgerFailed,
            Self::ClockDoubted { .. } => EndingKind::ClockDoubted,
            Self::Draining => EndingKind::Draining,
            Self::Expired { .. } => EndingKind::Expired,
            Self::Revoked { .. } => EndingKind::Revoked,
            Self::Released { .. } => EndingKind::Released,
            Self::Killed { .. } => EndingKind::Killed,
            Self::Idle { .. } => EndingKind::Idle,
            Self::Drained => EndingKind::Drained,
            Self::AuditFailed { .. } => EndingKind::AuditFailed,
            Self::TargetClosed { .. } => EndingKind::TargetClosed,
            Self::TargetLost { .. } => EndingKind::TargetLost,
            Self::GateFault => EndingKind::GateFault,
            Self::GateDied => EndingKind::GateDied,
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
}
