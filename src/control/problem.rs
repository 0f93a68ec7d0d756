//! Errors of the control API as `application/problem+json` (RFC 9457): the object, the reason, the remedy.
//!
//! It maps the errors of the modules below to a status and words. Inner errors go to the gate's own log only: an answer
//! contains no file content and no secret.

mod inner;

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::model::Problem;
use crate::access::strangers::Displaced;
use crate::access::{AccessError, ProviderError};
use crate::audit::AuditError;
use crate::audit::runs::RunSelector;
use crate::model::ending::HeldBack;
use crate::model::ids::SessionId;
use crate::model::names::{IdentityName, ProfileName, TargetName};

/// Remedy for a missing or wrong token.
const PROVE_REMEDY: &str = "send `Authorization: Bearer …` with your token, or as an operator with the content of admin.token in the gate's state folder";

/// Remedy for a run without sessions.
const NAME_RUN_REMEDY: &str =
    "list sessions with `tidegate log --event session_started`; a connection names its run with `options=-c tidegate.run=NAME`";

/// Status, stable name, title and remedy of a problem.
struct ProblemClass {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    remedy: Option<String>,
}

fn class(status: StatusCode, kind: &'static str, title: &'static str) -> ProblemClass {
    ProblemClass {
        status,
        kind,
        title,
        remedy: None,
    }
}

impl ProblemClass {
    fn with(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }
}

/// Error of the control API.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The token is missing or wrong.
    #[error("the token is missing or not accepted")]
    Unauthorized,
    /// The token is missing or wrong, and the answer was delayed.
    #[error("the token is missing or not accepted. {}", .0.told())]
    HeldBack(HeldBack),
    /// A request with a cookie would change something, and does not come from a page of the gate.
    #[error(
        "a page of another site sent this request with your cookie, or the browser does not say which page did; nothing was changed"
    )]
    CrossSite,
    /// The request cannot be parsed.
    #[error("{0}")]
    Malformed(String),
    /// The target is not configured.
    #[error("no target `{asked}`")]
    NoSuchTarget {
        /// Name in the request.
        asked: String,
        /// Nearest existing name, or the existing names.
        known: String,
    },
    /// The target's server is unreachable, or refuses the gate.
    #[error("cannot query target {target}: {reason}")]
    TargetAway {
        /// Name of the target.
        target: TargetName,
        /// Reason in words.
        reason: String,
    },
    /// The session does not exist, or no longer.
    #[error("no session {0}")]
    NoSuchSession(SessionId),
    /// The log has no session of the run.
    #[error("the log has no session of run {0}")]
    NoSuchRun(RunSelector),
    /// Too many callers are waiting already.
    #[error("too many callers are waiting already")]
    Busy,
    /// A connection that gave way to a newer one.
    #[error(
        "this connection gave way to a newer one: at most {} that have not proved who they are may be open{}",
        .0.limit,
        if .0.of_address { " from one address, which others may share" } else { "" }
    )]
    Displaced(Displaced),
    /// One identity holds too many answers open.
    #[error("{identity} already has {limit} open answers of this kind")]
    HoldsTooMany {
        /// Identity that holds the answers open.
        identity: IdentityName,
        /// Limit of open answers.
        limit: usize,
    },
    /// The configuration could not be put in force.
    #[error("the new configuration was not applied; the running one stays in force: {}", .0.join("; "))]
    NotReloaded(Vec<String>),
    /// A search of the log took too long.
    #[error("the search was stopped after {} s", .0.as_secs())]
    SearchStopped(Duration),
    /// The rules changed while the answer was made.
    #[error("the rules of the gate changed while this answer was made, so your rights have to be checked again")]
    RulesChanged,
    /// The gate is shutting down.
    #[error("the gate is shutting down")]
    Stopping,
    /// The path does not exist.
    #[error("no resource at {0}")]
    NoSuchPath(String),
    /// The path exists, but not for this method.
    #[error("this path does not support {0}")]
    Method(String),
    /// The access service refused, or failed.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The audit log cannot be read.
    #[error("cannot read the audit log: {0}")]
    Log(String),
    /// The audit log cannot be written, or its key cannot be changed.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl ApiError {
    /// Returns the body of the answer.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let ProblemClass {
            status,
            kind,
            title,
            remedy,
        } = self.class();
        Problem {
            kind: format!("urn:tidegate:problem:{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.to_string(),
            remedy,
            policies: self.policies(),
            nearest: self.nearest(),
            sign_in_again: matches!(self, Self::Access(AccessError::Denied { sign_in_again: true, .. })),
        }
    }

    fn policies(&self) -> Vec<String> {
        match self {
            Self::Access(AccessError::Denied { policies, .. }) => policies.clone(),
            _ => Vec::new(),
        }
    }

    fn nearest(&self) -> Option<String> {
        match self {
            Self::Access(AccessError::NoSuchTarget { nearest, .. }) => nearest.clone(),
            // The most likely name comes first.
            Self::Access(AccessError::NoSuchProfile { known, .. }) => known.first().map(ProfileName::to_string),
            Self::Access(AccessError::NoSuchUser { nearest, .. } | AccessError::NeverSeen { nearest, .. }) => {
                nearest.as_ref().map(IdentityName::to_string)
            }
            _ => None,
        }
    }

    /// Returns the number of seconds after which trying again makes sense, where it does.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Access(AccessError::TooMany { wait, .. } | AccessError::TooManyDevices { wait }) => {
                Some(u32::try_from(wait.as_secs().max(1)).unwrap_or(u32::MAX))
            }
            Self::Displaced(_) | Self::RulesChanged => Some(1),
            Self::Busy
            | Self::HoldsTooMany { .. }
            | Self::Stopping
            | Self::Access(AccessError::LineFull { .. } | AccessError::Provider(ProviderError::Busy(_))) => Some(5),
            _ => None,
        }
    }

    fn class(&self) -> ProblemClass {
        match self {
            Self::Unauthorized | Self::HeldBack(_) => {
                class(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized").with(PROVE_REMEDY)
            }
            Self::CrossSite => class(StatusCode::FORBIDDEN, "cross-site", "Forbidden from another site")
                .with("do it in the gate's console; a program sends `Authorization: Bearer …` and no cookie"),
            Self::Malformed(_) => class(StatusCode::BAD_REQUEST, "malformed", "Bad request"),
            Self::NoSuchTarget { known, .. } => {
                class(StatusCode::UNPROCESSABLE_ENTITY, "no-such-target", "Target not found").with(known.clone())
            }
            Self::TargetAway { .. } => class(StatusCode::SERVICE_UNAVAILABLE, "target-away", "Target unavailable")
                .with("run `tidegate check` on the gate's machine to see what is missing"),
            Self::Busy => class(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "Service unavailable: too many callers",
            )
            .with("try again in a moment"),
            Self::Displaced(_) => class(StatusCode::SERVICE_UNAVAILABLE, "displaced", "Too many callers")
                .with("connect again, and send a request with a token at once"),
            Self::HoldsTooMany { .. } => class(
                StatusCode::TOO_MANY_REQUESTS,
                "holds-too-many",
                "Rate limited: too many open answers",
            )
            .with("close one, or wait until one ends"),
            Self::SearchStopped(_) => class(StatusCode::UNPROCESSABLE_ENTITY, "search-stopped", "Search stopped")
                .with("narrow it: a shorter time, one person, one target"),
            Self::RulesChanged => {
                class(StatusCode::SERVICE_UNAVAILABLE, "rules-changed", "Rules changed").with("repeat the call")
            }
            Self::Stopping => class(StatusCode::SERVICE_UNAVAILABLE, "stopping", "Shutting down")
                .with("try again in a moment; if nobody answers then, its operator starts it again"),
            Self::NotReloaded(_) => class(StatusCode::UNPROCESSABLE_ENTITY, "not-reloaded", "Configuration not applied")
                .with("fix the mistakes, check with `tidegate check`, and reload again"),
            Self::NoSuchSession(_) => class(StatusCode::NOT_FOUND, "no-such-session", "Session not found")
                .with("it may have ended; list live sessions with `tidegate session list`"),
            Self::NoSuchRun(_) => class(StatusCode::NOT_FOUND, "no-such-run", "Run not found").with(NAME_RUN_REMEDY),
            Self::NoSuchPath(_) => class(StatusCode::NOT_FOUND, "no-such-path", "Path not found"),
            Self::Method(_) => class(StatusCode::METHOD_NOT_ALLOWED, "method", "Method not allowed"),
            Self::Access(error) => access(error),
            Self::Audit(error) => inner::audit(error),
            Self::Log(_) => {
                class(StatusCode::INTERNAL_SERVER_ERROR, "log-unreadable", "Audit log unreadable").with("see the gate's own log")
            }
        }
    }
}

/// Returns the class of an unknown target. Without a nearest name it lists the first 10: an answer never lists a thousand.
fn no_such_target(nearest: Option<&str>, known: &[TargetName]) -> ProblemClass {
    const MAX_NAMES: usize = 10;
    let remedy = if let Some(nearest) = nearest {
        format!("did you mean `{nearest}`?")
    } else {
        let names: Vec<&str> = known.iter().take(MAX_NAMES).map(TargetName::as_str).collect();
        let more = if known.len() > MAX_NAMES { ", ..." } else { "" };
        format!("list targets with `tidegate targets`: {}{more}", names.join(", "))
    };
    class(StatusCode::UNPROCESSABLE_ENTITY, "no-such-target", "Target not found").with(remedy)
}

fn no_such_profile(target: &TargetName, known: &[ProfileName]) -> ProblemClass {
    let known: Vec<&str> = known.iter().map(ProfileName::as_str).collect();
    let remedy = format!("{target} has: {}", known.join(", "));
    class(StatusCode::UNPROCESSABLE_ENTITY, "no-such-profile", "Profile not found").with(remedy)
}

/// Returns the class of an unknown user, with the nearest existing name.
fn no_such_user(nearest: Option<&IdentityName>, unseen: &str) -> ProblemClass {
    let remedy = match nearest {
        Some(nearest) => format!("did you mean {nearest}? List users with `tidegate user list`{unseen}"),
        None => format!("list users with `tidegate user list`{unseen}"),
    };
    class(StatusCode::NOT_FOUND, "no-such-user", "User not found").with(remedy)
}

/// Returns the class of an error of the access service.
fn access(error: &AccessError) -> ProblemClass {
    match error {
        AccessError::NotIdentified => class(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized").with(PROVE_REMEDY),
        AccessError::NoPerson => class(StatusCode::FORBIDDEN, "no-person", "Forbidden for the admin token")
            .with("send a user's token (created by `tidegate user add`) or a token of a trusted issuer"),
        AccessError::ForOneself => class(StatusCode::FORBIDDEN, "for-oneself", "Forbidden for yourself")
            .with("request access (`tidegate request`), or ask another operator"),
        AccessError::NotInChat(_) => class(StatusCode::FORBIDDEN, "not-in-chat", "Forbidden from chat"),
        AccessError::NoSuchState => class(StatusCode::FORBIDDEN, "no-such-state", "Forbidden: no such sign-in")
            .with("sign in again from the gate's own page, at the address where it comes back to (`console.address`)"),
        AccessError::NoSuchDevice => class(StatusCode::FORBIDDEN, "no-such-device", "Forbidden: no such sign-in")
            .with("begin again: `tidegate login --sign-in`"),
        AccessError::NoSuchCode => class(StatusCode::FORBIDDEN, "no-such-code", "Forbidden: no such code")
            .with("begin again in the terminal: `tidegate login --browser`"),
        AccessError::NotSignedIn(_) => class(StatusCode::UNAUTHORIZED, "not-signed-in", "Unauthorized by the provider's answer")
            .with("sign in again; if that does not help, ask the gate's operator: `tidegate log --event identity_refused` has the reason"),
        AccessError::TooManyDevices { .. } => class(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Rate limited")
            .with("try again after that time, or sign in with the browser of this machine: `tidegate login --browser`"),
        AccessError::Provider(error) => inner::provider(error),
        AccessError::SignedInAlready => class(StatusCode::FORBIDDEN, "signed-in-already", "Forbidden for a sign-in")
            .with("send your token; a sign-in is renewed by signing in again"),
        AccessError::NoSuchSignIn(_) => class(StatusCode::NOT_FOUND, "no-such-sign-in", "Sign-in not found")
            .with("it may have ended; list sign-ins with `tidegate signins`"),
        AccessError::NoSuchUser { nearest, .. } => no_such_user(nearest.as_ref(), ""),
        AccessError::NeverSeen { nearest, .. } => no_such_user(
            nearest.as_ref(),
            "; to disable an issuer's identity that the gate has not seen yet: `--unseen`",
        ),
        AccessError::IssuersName { .. } => class(StatusCode::CONFLICT, "issuers-name", "Conflict: name of an issuer")
            .with("choose another name; this one would give the issuer's identity the same rights"),
        AccessError::NoSuchTarget { nearest, known, .. } => no_such_target(nearest.as_deref(), known),
        AccessError::NoSuchProfile { target, known, .. } => no_such_profile(target, known),
        AccessError::Invalid(_) => class(StatusCode::UNPROCESSABLE_ENTITY, "invalid-request", "Invalid request"),
        AccessError::Denied {
            action, sign_in_again, ..
        } => {
            let remedy = if *sign_in_again {
                "sign in again (at the console, or `tidegate login`), and repeat it".to_owned()
            } else {
                inner::explanation(*action)
            };
            class(StatusCode::FORBIDDEN, "denied", "Forbidden by the policies").with(remedy)
        }
        AccessError::TooMany { .. } => class(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Rate limited")
            .with("try again after that time; a repeated pending request does not count"),
        AccessError::LineFull { .. } => class(StatusCode::TOO_MANY_REQUESTS, "line-full", "Rate limited: the line is full")
            .with("try again when others have had their turn; release the grants that you do not need: `tidegate grants`"),
        AccessError::NoSuchRequest(_) => class(StatusCode::NOT_FOUND, "no-such-request", "Request not found")
            .with("list the requests visible to you with `tidegate requests`"),
        AccessError::NotYours(_) => class(StatusCode::FORBIDDEN, "not-yours", "Forbidden: another identity's grant")
            .with("list your grants with `tidegate grants`"),
        AccessError::Illegal(step) => class(StatusCode::CONFLICT, "illegal-step", "Conflict").with(inner::next_step(step)),
        AccessError::Ledger(error) => inner::ledger(error),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = self.problem();
        // The gate's log has the failures of providers already, once a minute: strangers can make any number of them.
        let of_provider = matches!(self, Self::Access(AccessError::Provider(_)));
        if problem.status >= 500 && !of_provider {
            tracing::error!(error = &self as &dyn std::error::Error, "a request to the control API failed");
        }
        let retry_after = self.retry_after();
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(problem.clone())).into_response();
        // The console makes a page of it.
        response.extensions_mut().insert(problem);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
