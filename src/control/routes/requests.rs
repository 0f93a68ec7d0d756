//! `/v1/requests`: submitted, viewed, awaited and settled by persons; operators can only view.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::{JsonAnswer, TakenAway, body, named, query, taken};
use crate::access::{EntryDecision, NarrowedRequest, RequestArgs};
use crate::control::authenticate::Call;
use crate::control::long_poll::LongPollLimiter;
use crate::control::model::{
    AccessBody, ApproveBody, Briefing, CommentBody, EmptyBody, MAX_WAIT_SECONDS, NewRequestBody, RequestBody, RequestsBody,
    RequestsQuery, WaitQuery,
};
use crate::control::problem::ApiError;
use crate::control::{ControlContext, IDEMPOTENCY_HEADER};
use crate::ledger::RequestView;
use crate::model::ids::RequestId;
use crate::model::request::RequestState;

#[utoipa::path(post, path = "/v1/requests", tag = "requests", summary = "Requests access", request_body = NewRequestBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Key chosen by the caller; a repeated call with the same key returns the same request")),
    responses((status = 201, description = "Approved, or waiting for approvers", body = RequestBody)))]
pub(in crate::control) async fn submit(call: Call, headers: HeaderMap, bytes: Bytes) -> Result<Response, ApiError> {
    let view = call
        .gate
        .service
        .submit(call.caller.person()?, asked(&headers, &bytes)?)
        .await?;
    Ok((StatusCode::CREATED, Json(call.with_approvers(view).await)).into_response())
}

#[utoipa::path(post, path = "/v1/access", tag = "requests", summary = "Joins a live grant that covers the request, or requests access", request_body = NewRequestBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Key chosen by the caller; a repeated call with the same key returns the same request")),
    responses((status = 200, description = "A live grant of the caller", body = AccessBody), (status = 201, description = "A request, approved or waiting for approvers", body = AccessBody)))]
pub(in crate::control) async fn enter(call: Call, headers: HeaderMap, bytes: Bytes) -> Result<Response, ApiError> {
    let (status, body) = match call
        .gate
        .service
        .enter(call.caller.person()?, asked(&headers, &bytes)?)
        .await?
    {
        EntryDecision::Grant(view, _) => {
            let joined = Some(*view);
            (StatusCode::OK, AccessBody { joined, request: None })
        }
        EntryDecision::Request(view) => {
            let request = Some(call.with_approvers(*view).await);
            (StatusCode::CREATED, AccessBody { joined: None, request })
        }
    };
    Ok((status, Json(body)).into_response())
}

fn asked(headers: &HeaderMap, bytes: &[u8]) -> Result<RequestArgs, ApiError> {
    Ok(wanted(body(bytes)?, key(headers)?))
}

/// Converts a body to the type that the access service takes.
pub(super) fn wanted(body: NewRequestBody, key: Option<String>) -> RequestArgs {
    RequestArgs {
        target: body.target,
        profile: body.profile,
        window: body.window_seconds.map(Duration::from_secs),
        reason: body.reason,
        ticket: body.ticket,
        max_sessions: body.max_sessions,
        break_glass: body.break_glass,
        alone: body.alone,
        key,
    }
}

#[utoipa::path(get, path = "/v1/requests", tag = "requests", summary = "The requests", params(RequestsQuery), responses((status = 200, description = "A page of the caller's own requests and those it may approve", body = RequestsBody)))]
pub(in crate::control) async fn list(call: Call, uri: Uri) -> JsonAnswer<RequestsBody> {
    Ok(Json(call.requests(query(&uri)?).await?))
}

#[utoipa::path(get, path = "/v1/requests/{id}", tag = "requests", summary = "One request, immediately or after its next change", params(("id" = String, Path, description = "The request"), WaitQuery), responses((status = 200, description = "The request", body = RequestBody)))]
pub(in crate::control) async fn show(
    call: Call,
    Extension(mut limiter): Extension<LongPollLimiter>,
    Path(id): Path<String>,
    uri: Uri,
) -> JsonAnswer<RequestBody> {
    let WaitQuery { wait_seconds } = query(&uri)?;
    let id: RequestId = named(&id)?;
    let wait = Duration::from_secs(wait_seconds.unwrap_or(0).min(MAX_WAIT_SECONDS));
    // Subscribe before reading, so that a change in between is not missed.
    let watched = (!wait.is_zero()).then(|| call.gate.service.watch_request(&id)).flatten();
    let mut view = call.gate.service.request(&call.caller, &id).await?;
    if let Some(mut watched) = watched
        && pending(&call.gate, &view)
    {
        let _place = limiter.waiters.enter(&call.caller)?;
        let standing = call.gate.service.standing(&call.caller);
        let changed = async {
            tokio::select! {
                _ = watched.changed() => {}
                () = call.gate.clock.sleep_until(view.request.expires_at) => {}
                () = limiter.stopped() => {}
                () = standing.over() => {}
            }
        };
        let _ = tokio::time::timeout(wait, changed).await;
        if !call.gate.service.is_as_before(&call.caller) {
            return Err(ApiError::Unauthorized);
        }
        view = call.gate.service.request(&call.caller, &id).await?;
    }
    Ok(Json(call.with_approvers(view).await))
}

#[utoipa::path(post, path = "/v1/requests/{id}/approve", tag = "requests", summary = "Approves a request in full or in part", params(("id" = String, Path, description = "The request")), request_body = ApproveBody, responses((status = 200, description = "The request", body = RequestBody)))]
pub(in crate::control) async fn approve(call: Call, Path(id): Path<String>, bytes: Bytes) -> JsonAnswer<RequestBody> {
    let person = call.caller.person()?;
    let ApproveBody {
        window_seconds,
        profile,
        comment,
    } = body(&bytes)?;
    let window = window_seconds.map(Duration::from_secs);
    let narrowed = NarrowedRequest { window, profile };
    let view = call.gate.service.approve(person, &named(&id)?, narrowed, comment).await?;
    Ok(Json(call.with_approvers(view).await))
}

#[utoipa::path(post, path = "/v1/requests/{id}/reject", tag = "requests", summary = "Rejects a request", params(("id" = String, Path, description = "The request")), request_body = CommentBody, responses((status = 200, description = "The request", body = RequestBody), (status = 202, description = "In effect; `effect` shows what is not stored or recorded yet", body = RequestBody)))]
pub(in crate::control) async fn reject(call: Call, Path(id): Path<String>, bytes: Bytes) -> TakenAway<RequestBody> {
    let person = call.caller.person()?;
    let CommentBody { comment } = body(&bytes)?;
    let view = call.gate.service.reject(person, &named(&id)?, comment).await?;
    Ok(taken(view.effect, call.with_approvers(view).await))
}

#[utoipa::path(post, path = "/v1/requests/{id}/withdraw", tag = "requests", summary = "Withdraws a request of the caller", params(("id" = String, Path, description = "The request")), request_body = EmptyBody, responses((status = 200, description = "The request", body = RequestBody), (status = 202, description = "In effect; `effect` shows what is not stored or recorded yet", body = RequestBody)))]
pub(in crate::control) async fn withdraw(call: Call, Path(id): Path<String>, bytes: Bytes) -> TakenAway<RequestBody> {
    let person = call.caller.person()?;
    let EmptyBody {} = body(&bytes)?;
    let view = call.gate.service.withdraw(person, &named(&id)?).await?;
    Ok(taken(view.effect, call.with_approvers(view).await))
}

#[utoipa::path(post, path = "/v1/requests/{id}/review", tag = "requests", summary = "Records the result of the review of a break-glass access", params(("id" = String, Path, description = "The request")), request_body = CommentBody, responses((status = 200, description = "The request", body = RequestBody)))]
pub(in crate::control) async fn review(call: Call, Path(id): Path<String>, bytes: Bytes) -> JsonAnswer<RequestBody> {
    let person = call.caller.person()?;
    let CommentBody { comment } = body(&bytes)?;
    let said = comment.filter(|comment| !comment.trim().is_empty());
    let comment = said.ok_or_else(|| ApiError::Malformed("a review needs a comment with its result".to_owned()))?;
    let view = call.gate.service.review(person, &named(&id)?, comment).await?;
    Ok(Json(call.with_approvers(view).await))
}

#[utoipa::path(get, path = "/v1/requests/{id}/briefing", tag = "requests", summary = "Details of a request for approvers", params(("id" = String, Path, description = "The request")), responses((status = 200, description = "The request, the rights of its profile, earlier requests and open sessions", body = Briefing)))]
pub(in crate::control) async fn briefing(call: Call, Path(id): Path<String>) -> JsonAnswer<Briefing> {
    Ok(Json(call.briefing(&named(&id)?).await?))
}

fn pending(gate: &ControlContext, view: &RequestView) -> bool {
    view.request.status(gate.clock.now()) == RequestState::Pending
}

/// Returns the caller's idempotency key: 1 to 200 printable characters.
fn key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_HEADER) else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .filter(|key| !key.is_empty() && key.len() <= 200)
        .map(|key| Some(key.to_owned()))
        .ok_or_else(|| ApiError::Malformed(format!("{IDEMPOTENCY_HEADER} must have 1 to 200 printable ASCII characters")))
}
