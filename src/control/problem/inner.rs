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
            "No such grant",
            some("`tidegate grants --all` shows yours, `tidegate grant list --all` an operator those there are"),
        ),
        LedgerError::NoSuchRequest(_) => (
            StatusCode::NOT_FOUND,
            "no-such-request",
            "No such request",
            some("`tidegate requests` shows those there are"),
        ),
        LedgerError::NoSuchUser(_) => (
            StatusCode::NOT_FOUND,
            "no-such-user",
            "No such user",
            some("`tidegate user list` shows those there are"),
        ),
        LedgerError::UserExists(_) => (
            StatusCode::CONFLICT,
            "user-exists",
            "There is one already",
            some("`tidegate user rotate` gives it a fresh token"),
        ),
        LedgerError::Disabled(_) => (
            StatusCode::CONFLICT,
            "identity-disabled",
            "The identity is shut out",
            some("`tidegate user enable` lets it in again"),
        ),
        LedgerError::Illegal(_) => (
            StatusCode::CONFLICT,
            "illegal-change",
            "Not as things stand",
            some("`tidegate grant show` tells how they stand; what has ended is replaced by a new grant"),
        ),
        LedgerError::Terms(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid-terms", "Not a grant", None),
        LedgerError::Unsettled => (
            StatusCode::SERVICE_UNAVAILABLE,
            "unsettled",
            "Not done: something taken away here is not durable yet",
            some("make room for the state folder and the audit log, and try again; /readyz tells when both can be written"),
        ),
        LedgerError::Store(StoreError::Overtaken) => (
            StatusCode::CONFLICT,
            "overtaken",
            "Not as things stand",
            some("something was taken away here meanwhile: look at it again"),
        ),
        LedgerError::Audit(error) => audit(error),
        LedgerError::Store(_) | LedgerError::Random(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "ledger-failed",
            "Not done: the gate cannot store it",
            some("look into the gate's own messages"),
        ),
    }
}

pub(super) fn audit(error: &AuditError) -> Class {
    let some = |text: &str| Some(text.to_owned());
    match error {
        AuditError::Key(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "key-kept",
            "Not done: there is no new key",
            some("see that the gate can write the folder of its key (audit.key), and try again"),
        ),
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not-on-record",
            "Not done: it cannot be put on record",
            some("make room for the audit log, or repair it, and try again"),
        ),
    }
}

pub(super) fn not_reloaded() -> Class {
    (
        StatusCode::UNPROCESSABLE_ENTITY,
        "not-reloaded",
        "Configuration refused",
        Some("mend what is named, try it with `tidegate check`, and reload again".to_owned()),
    )
}
