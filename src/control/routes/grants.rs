//! `/v1/grants`: created and changed by operators, used by their owners.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::{JsonAnswer, TakenAway, body, named, query, taken};
use crate::access::AccessError;
use crate::control::authenticate::Call;
use crate::control::logins::connection_string;
use crate::control::long_poll::LongPollLimiter;
use crate::control::model::{
    EmptyBody, ExtendBody, GrantLoginBody, GrantView, Grants, GrantsQuery, Issued, LineBody, MAX_WAIT_SECONDS, NewGrantBody,
    ReasonBody, ShortenBody,
};
use crate::control::problem::ApiError;
use crate::model::grant::{DEFAULT_ACTIVATE_WITHIN, DEFAULT_SESSIONS, GrantChange, Terms};
use crate::model::names::TargetName;

#[utoipa::path(post, path = "/v1/grants", tag = "grants", summary = "Creates a grant without a request (operators)", request_body = NewGrantBody, responses((status = 201, description = "The grant and its secret", body = Issued)))]
pub(in crate::control) async fn create(Call { gate, caller }: Call, bytes: Bytes) -> Result<Response, ApiError> {
    let admin = gate.service.administer(&caller).await?;
    let body: NewGrantBody = body(&bytes)?;
    let terms = Terms {
        identity: body.identity,
        target: body.target,
        reason: body.reason,
        window: Duration::from_secs(body.window_seconds),
        activate_within: body
            .activate_within_seconds
            .map_or(DEFAULT_ACTIVATE_WITHIN, Duration::from_secs),
        deadline: body.deadline,
        max_sessions: body.max_sessions.unwrap_or(DEFAULT_SESSIONS),
        client_network: body.client_network,
        profile: body.profile,
        request: None,
    };
    let (view, secret) = admin.create_grant(terms).await.map_err(with_all_targets)?;
    let (grant, secret) = (&view.grant, secret.expose().clone());
    let issued = Issued {
        connection_string: connection_string(grant.id().as_str(), &secret, grant.target(), &gate.advertise),
        secret,
        grant: view,
    };
    Ok((StatusCode::CREATED, Json(issued)).into_response())
}

#[utoipa::path(get, path = "/v1/grants", tag = "grants", summary = "The grants", params(GrantsQuery), responses((status = 200, description = "A page of the caller's own grants and those it may revoke or approve; with `administer` or `read-log`, all", body = Grants)))]
pub(in crate::control) async fn list(call: Call, uri: Uri) -> JsonAnswer<Grants> {
    Ok(Json(call.grants(query(&uri)?).await?))
}

#[utoipa::path(get, path = "/v1/grants/{id}", tag = "grants", summary = "One grant", params(("id" = String, Path, description = "The grant")), responses((status = 200, description = "The grant", body = GrantView)))]
pub(in crate::control) async fn show(Call { gate, caller }: Call, Path(id): Path<String>) -> JsonAnswer<GrantView> {
    Ok(Json(gate.service.grant(&caller, &named(&id)?).await?))
}

#[utoipa::path(post, path = "/v1/grants/{id}/login", tag = "grants", summary = "Creates a login for a grant of the caller", params(("id" = String, Path, description = "The grant")), request_body = EmptyBody, responses((status = 200, description = "Connection settings for a client", body = GrantLoginBody)))]
pub(in crate::control) async fn login(call: Call, Path(id): Path<String>, bytes: Bytes) -> JsonAnswer<GrantLoginBody> {
    let EmptyBody {} = body(&bytes)?;
    Ok(Json(call.grant_login(&named(&id)?).await?))
}

#[utoipa::path(post, path = "/v1/grants/{id}/line", tag = "grants", summary = "Waits in line with a grant of the caller, until it may use its target", params(("id" = String, Path, description = "The grant")), request_body = LineBody, responses((status = 200, description = "The grant, with its place in line while it waits", body = GrantView)))]
pub(in crate::control) async fn line(
    Call { gate, caller }: Call,
    Extension(mut limiter): Extension<LongPollLimiter>,
    Path(id): Path<String>,
    bytes: Bytes,
) -> JsonAnswer<GrantView> {
    let LineBody { wait_seconds, keep } = body(&bytes)?;
    let wait = Duration::from_secs(wait_seconds.min(MAX_WAIT_SECONDS));
    let _place = limiter.waiters.enter(&caller)?;
    let standing = gate.service.standing(&caller);
    let stopped = async {
        tokio::select! {
            () = limiter.stopped() => {}
            () = standing.over() => {}
        }
    };
    let view = gate
        .service
        .line_of_own(caller.person()?, &named(&id)?, (wait, keep), stopped)
        .await?;
    if !gate.service.is_as_before(&caller) {
        return Err(ApiError::Unauthorized);
    }
    Ok(Json(view))
}

#[utoipa::path(post, path = "/v1/grants/{id}/extend", tag = "grants", summary = "Extends the window of a grant", params(("id" = String, Path, description = "The grant")), request_body = ExtendBody, responses((status = 200, description = "The grant", body = GrantView)))]
pub(in crate::control) async fn extend(
    Call { gate, caller }: Call,
    Path(id): Path<String>,
    bytes: Bytes,
) -> JsonAnswer<GrantView> {
    let ExtendBody { by_seconds, reason } = body(&bytes)?;
    if by_seconds == 0 {
        return Err(ApiError::Malformed("by_seconds must be at least 1".to_owned()));
    }
    let (id, by) = (named(&id)?, Duration::from_secs(by_seconds));
    let extended = gate.service.extend(&caller, &id, by, reason.as_deref());
    Ok(Json(extended.await?))
}

#[utoipa::path(post, path = "/v1/grants/{id}/shorten", tag = "grants", summary = "Shortens the window of a grant (operators)", params(("id" = String, Path, description = "The grant")), request_body = ShortenBody, responses((status = 200, description = "The grant", body = GrantView), (status = 202, description = "In effect; `effect` shows what is not stored or recorded yet", body = GrantView)))]
pub(in crate::control) async fn shorten(
    Call { gate, caller }: Call,
    Path(id): Path<String>,
    bytes: Bytes,
) -> TakenAway<GrantView> {
    let admin = gate.service.administer_at_once(&caller).await?;
    let ShortenBody {
        by_seconds,
        until,
        reason,
    } = body(&bytes)?;
    let shorter = match (by_seconds, until) {
        (Some(by), None) if by > 0 => GrantChange::ShortenBy(Duration::from_secs(by)),
        (None, Some(until)) => GrantChange::ShortenTo(until),
        _ => {
            return Err(ApiError::Malformed("set either by_seconds (at least 1) or until".to_owned()));
        }
    };
    let view = admin.change(&named(&id)?, shorter, reason.as_deref()).await?;
    Ok(taken(view.effect, view))
}

#[utoipa::path(post, path = "/v1/grants/{id}/release", tag = "grants", summary = "Releases a grant of the caller", params(("id" = String, Path, description = "The grant")), request_body = EmptyBody, responses((status = 200, description = "The grant", body = GrantView), (status = 202, description = "In effect; `effect` shows what is not stored or recorded yet", body = GrantView)))]
pub(in crate::control) async fn release(
    Call { gate, caller }: Call,
    Path(id): Path<String>,
    bytes: Bytes,
) -> TakenAway<GrantView> {
    let EmptyBody {} = body(&bytes)?;
    let view = gate.service.release(caller.person()?, &named(&id)?).await?;
    Ok(taken(view.effect, view))
}

#[utoipa::path(post, path = "/v1/grants/{id}/revoke", tag = "grants", summary = "Ends a grant and its sessions immediately", params(("id" = String, Path, description = "The grant")), request_body = ReasonBody, responses((status = 200, description = "The grant", body = GrantView), (status = 202, description = "In effect; `effect` shows what is not stored or recorded yet", body = GrantView)))]
pub(in crate::control) async fn revoke(
    Call { gate, caller }: Call,
    Path(id): Path<String>,
    bytes: Bytes,
) -> TakenAway<GrantView> {
    let ReasonBody { reason } = body(&bytes)?;
    let view = gate.service.revoke(&caller, &named(&id)?, reason.as_deref()).await?;
    Ok(taken(view.effect, view))
}

/// Converts the error; for an unknown target, its remedy names all targets.
fn with_all_targets(error: AccessError) -> ApiError {
    match error {
        AccessError::NoSuchTarget { asked, known, .. } => {
            let names: Vec<&str> = known.iter().map(TargetName::as_str).collect();
            ApiError::NoSuchTarget {
                asked,
                known: format!("configured targets: {}", names.join(", ")),
            }
        }
        error => error.into(),
    }
}
