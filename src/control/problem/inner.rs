//! Problem classes of errors from the ledger, the audit log and the configuration.

use axum::http::StatusCode;

use super::Class;
use crate::audit::AuditError;
use crate::grant::IllegalChange;
use crate::ledger::{LedgerError, StoreError};
use crate::policy::Action;
use crate::request::IllegalStep;

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
        LedgerError::Illegal(change) => (
            StatusCode::CONFLICT,
            "illegal-change",
            "Not as things stand",
            some(remedy(change)),
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

fn remedy(change: &IllegalChange) -> &'static str {
    match change {
        IllegalChange::Ended(_) => {
            "what has ended is replaced by a new grant: `tidegate request`, or `tidegate grant create` by an operator"
        }
        IllegalChange::Active => "`tidegate grant show` tells until when; `tidegate extend` asks for more",
        IllegalChange::Deadline(_) => "for longer than that, ask for a new grant when this one has ended",
        IllegalChange::TooLong => "ask for less, and for a new grant when this one has ended",
        IllegalChange::TooShort => "`tidegate grant revoke` ends it at once",
        IllegalChange::NotShorter => "name less time than is left: `tidegate grant show` tells when it ends",
    }
}

/// Returns where it is explained what would have to change for an action to be allowed.
pub(super) fn explanation(action: Action) -> String {
    let question = match action {
        Action::Request | Action::AutoApprove | Action::BreakGlass => "--target NAME".to_owned(),
        Action::Approve => format!("{} --request REQUEST", action.name()),
        Action::Extend | Action::Revoke => format!("{} --grant GRANT", action.name()),
        Action::ReadLog | Action::Administer => action.name().to_owned(),
    };
    format!("`tidegate policy explain {question}` tells what would have to change")
}

/// Returns what can be done instead of a step that cannot be taken.
pub(super) fn next_step(step: &IllegalStep) -> Option<&'static str> {
    match step {
        IllegalStep::Settled(_) => Some("`tidegate requests --all` tells how they stand; what is settled is asked for anew"),
        IllegalStep::OwnRequest => Some("ask somebody else: `tidegate request show REQUEST` names those who can"),
        IllegalStep::Twice(_) => Some("it waits for somebody else: `tidegate request show REQUEST` names those who can"),
        IllegalStep::Longer { .. } => Some("approve it without --for, or with less; for more it is asked for anew"),
        IllegalStep::Wider { .. } => Some("approve it without --profile, or with a narrower one; for more it is asked for anew"),
        IllegalStep::NotYours(_) => Some("who may approve it can reject it: `tidegate reject REQUEST`"),
        IllegalStep::NothingToReview => Some("`tidegate requests --unreviewed` lists what is to be reviewed"),
        IllegalStep::OwnReview => Some("ask somebody else who may approve it"),
        IllegalStep::Reviewed(_) => Some("`tidegate request show REQUEST` tells what was found"),
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
