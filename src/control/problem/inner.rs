//! Problem classes of errors from the ledger and the audit log.

use axum::http::StatusCode;

use super::{ProblemClass, class};
use crate::access::ProviderError;
use crate::access::policy::Action;
use crate::audit::AuditError;
use crate::ledger::{LedgerError, StoreError};
use crate::model::grant::ChangeError;
use crate::model::request::StepError;

pub(super) fn ledger(error: &LedgerError) -> ProblemClass {
    match error {
        LedgerError::NoSuchGrant(_) => class(StatusCode::NOT_FOUND, "no-such-grant", "Grant not found")
            .with("list your grants with `tidegate grants --all`; as an operator, all grants with `tidegate grant list --all`"),
        LedgerError::NoSuchRequest(_) => {
            class(StatusCode::NOT_FOUND, "no-such-request", "Request not found").with("list requests with `tidegate requests`")
        }
        LedgerError::NoSuchUser(_) => {
            class(StatusCode::NOT_FOUND, "no-such-user", "User not found").with("list users with `tidegate user list`")
        }
        LedgerError::UserExists(_) => {
            class(StatusCode::CONFLICT, "user-exists", "Conflict: user exists").with("for a new token: `tidegate user rotate`")
        }
        LedgerError::Disabled(_) => class(StatusCode::CONFLICT, "identity-disabled", "Conflict: identity disabled")
            .with("to enable it again: `tidegate user enable`"),
        LedgerError::Illegal(change) => class(StatusCode::CONFLICT, "illegal-change", "Conflict").with(remedy(change)),
        LedgerError::Terms(_) => class(StatusCode::UNPROCESSABLE_ENTITY, "invalid-terms", "Invalid grant"),
        LedgerError::Unsettled => class(
            StatusCode::SERVICE_UNAVAILABLE,
            "unsettled",
            "Service unavailable: a revocation is not stored yet",
        )
        .with("free disk space for the state folder and the audit log; try again when /readyz reports ready"),
        LedgerError::Store(StoreError::Overtaken) => class(StatusCode::CONFLICT, "overtaken", "Conflict")
            .with("rights were revoked meanwhile; check the current state and try again"),
        LedgerError::Audit(error) => audit(error),
        LedgerError::Store(_) | LedgerError::Random(_) => class(
            StatusCode::SERVICE_UNAVAILABLE,
            "ledger-failed",
            "Service unavailable: cannot store the change",
        )
        .with("see the gate's own log"),
    }
}

pub(super) fn provider(error: &ProviderError) -> ProblemClass {
    match error {
        ProviderError::Unknown(_) => class(StatusCode::NOT_FOUND, "no-such-provider", "Provider not found")
            .with("sign in with your token, or with an issuer of `GET /signin/providers`"),
        ProviderError::Away { .. } => class(StatusCode::SERVICE_UNAVAILABLE, "provider-away", "Provider unavailable")
            .with("try again in a moment; a token of the gate works all the same"),
        ProviderError::NoDeviceFlow(_) => class(
            StatusCode::UNPROCESSABLE_ENTITY,
            "no-device-flow",
            "Provider without a device flow",
        )
        .with("sign in with the browser of this machine: `tidegate login --browser`; or with your token: `tidegate login`"),
        ProviderError::Busy(_) => class(
            StatusCode::SERVICE_UNAVAILABLE,
            "provider-busy",
            "Service unavailable: too many sign-ins",
        )
        .with("try again in a moment; a token of the gate works all the same"),
        ProviderError::Refused { .. } => class(StatusCode::FORBIDDEN, "provider-refused", "Forbidden by the provider")
            .with("sign in again, or ask whoever runs the provider"),
        ProviderError::Token(_) => class(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized"),
    }
}

fn remedy(change: &ChangeError) -> &'static str {
    match change {
        ChangeError::Ended(_) => {
            "what has ended is replaced by a new grant: `tidegate request`, or `tidegate grant create` by an operator"
        }
        ChangeError::Active => "`tidegate grant show` tells until when; `tidegate extend` asks for more",
        ChangeError::Deadline(_) => "for longer than that, ask for a new grant when this one has ended",
        ChangeError::TooLong => "ask for less, and for a new grant when this one has ended",
        ChangeError::TooShort => "`tidegate grant revoke` ends it at once",
        ChangeError::NotLater => "connect now; when it has lapsed, ask for a new grant",
        ChangeError::NotShorter => "name less time than is left: `tidegate grant show` tells when it ends",
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
pub(super) fn next_step(step: &StepError) -> &'static str {
    match step {
        StepError::Settled(_) => "`tidegate requests --all` tells how they stand; what is settled is asked for anew",
        StepError::OwnRequest => "ask somebody else: `tidegate request show REQUEST` names those who can",
        StepError::Twice(_) => "it waits for somebody else: `tidegate request show REQUEST` names those who can",
        StepError::Longer { .. } => "approve it without --for, or with less; for more it is asked for anew",
        StepError::Wider { .. } => "approve it without --profile, or with a narrower one; for more it is asked for anew",
        StepError::NotYours(_) => "who may approve it can reject it: `tidegate reject REQUEST`",
        StepError::NothingToReview => "`tidegate requests --unreviewed` lists what is to be reviewed",
        StepError::OwnReview => "ask somebody else who may approve it",
        StepError::Reviewed(_) => "`tidegate request show REQUEST` tells what was found",
    }
}

pub(super) fn audit(error: &AuditError) -> ProblemClass {
    match error {
        AuditError::Key(_) => class(
            StatusCode::SERVICE_UNAVAILABLE,
            "key-kept",
            "Service unavailable: cannot replace the audit key",
        )
        .with("make the folder of the key (audit.key) writable for the gate, and try again"),
        _ => class(
            StatusCode::SERVICE_UNAVAILABLE,
            "not-on-record",
            "Service unavailable: cannot write the audit log",
        )
        .with("free disk space for the audit log, or repair its folder, and try again"),
    }
}
