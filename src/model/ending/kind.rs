//! Kinds of endings and fates: their names in the log, in metrics and for scripts.
//!
//! This module has no texts for people.

use crate::model::names::vocabulary;

vocabulary! {
    /// Kind of an [`Ending`](super::Ending), without its details.
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
        TooManyGrantsInLine = "too_many_grants_in_line",
        TooManyGrantsInLineOfIdentity = "too_many_grants_in_line_of_identity",
        TooManyCopiesOfTarget = "too_many_copies_of_target",
        TargetInUse = "target_in_use",
        TargetUnreachable = "target_unreachable",
        TargetRefused = "target_refused",
        LeftoversPending = "leftovers_pending",
        TargetMissing = "target_missing",
        TargetLocked = "target_locked",
        TargetFull = "target_full",
        TargetNotReady = "target_not_ready",
        RoleNotMade = "role_not_made",
        TemplateInUse = "template_in_use",
        CopyNotMade = "copy_not_made",
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
