//! Problem classes of errors from the ledger, the audit log and the configuration.

use axum::http::StatusCode;

use super::Class;
use crate::audit::AuditError;
use crate::ledger::{LedgerError, StoreError};

pub(super) fn ledger(error: &LedgerError) -> Class {
    let some = |text: &str| Some(text.to_owned());
    match error {
        LedgerError::NoSuchGrant(_) => (
            StatusCode::NOT_FOUND,
            "no-such-grant",
            "Grant not found",
            some("list your grants with `tidegate grants --all`; as an operator, all grants with `tidegate grant list --all`"),
        ),
        LedgerError::NoSuchRequest(_) => (
            StatusCode::NOT_FOUND,
            "no-such-request",
            "Request not found",
            some("list requests with `tidegate requests`"),
        ),
        LedgerError::NoSuchUser(_) => (
            StatusCode::NOT_FOUND,
            "no-such-user",
            "User not found",
            some("list users with `tidegate user list`"),
        ),
        LedgerError::UserExists(_) => (
            StatusCode::CONFLICT,
            "user-exists",
            "Conflict: user exists",
            some("for a new token: `tidegate user rotate`"),
        ),
        LedgerError::Disabled(_) => (
            StatusCode::CONFLICT,
            "identity-disabled",
            "Conflict: identity disabled",
            some("to enable it again: `tidegate user enable`"),
        ),
        LedgerError::Illegal(_) => (
            StatusCode::CONFLICT,
            "illegal-change",
            "Conflict",
            some("`tidegate grant show` tells how they stand; what has ended is replaced by a new grant"),
        ),
        LedgerError::Terms(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid-terms", "Invalid grant", None),
        LedgerError::Unsettled => (
            StatusCode::SERVICE_UNAVAILABLE,
            "unsettled",
            "Service unavailable: a revocation is not stored yet",
            some("free disk space for the state folder and the audit log; try again when /readyz reports ready"),
        ),
        LedgerError::Store(StoreError::Overtaken) => (
            StatusCode::CONFLICT,
            "overtaken",
            "Conflict",
            some("rights were revoked meanwhile; check the current state and try again"),
        ),
        LedgerError::Audit(error) => audit(error),
        LedgerError::Store(_) | LedgerError::Random(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "ledger-failed",
            "Service unavailable: cannot store the change",
            some("see the gate's own log"),
        ),
    }
}

pub(super) fn audit(error: &AuditError) -> Class {
    let some = |text: &str| Some(text.to_owned());
    match error {
        AuditError::Key(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "key-kept",
            "Service unavailable: cannot replace the audit key",
            some("make the folder of the key (audit.key) writable for the gate, and try again"),
        ),
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not-on-record",
            "Service unavailable: cannot write the audit log",
            some("free disk space for the audit log, or repair its folder, and try again"),
        ),
    }
}

pub(super) fn not_reloaded() -> Class {
    (
        StatusCode::UNPROCESSABLE_ENTITY,
        "not-reloaded",
        "Configuration not applied",
        Some("fix the mistakes, check with `tidegate check`, and reload again".to_owned()),
    )
}
