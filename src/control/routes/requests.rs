//! `/v1/requests`: asked for, looked at, waited for, and settled, by persons only; an operator may look.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::{Answer, Taken, body, named, query, taken};
use crate::access::{AccessError, Asked, Narrowed};
use crate::control::caller::{Caller, Standing};
use crate::control::hold::Hold;
use crate::control::model::{
    ApproveBody, CommentBody, EmptyBody, LONGEST_PAGE, LONGEST_WAIT_SECONDS, NewRequestBody, PAGE, RequestBody, Requests,
    RequestsQuery, WaitQuery,
};
use crate::control::problem::ApiError;
use crate::control::{Gate, IDEMPOTENCY_HEADER};
use crate::ids::RequestId;
use crate::ledger::{RequestFilter, RequestView};
use crate::request::{Outcome, Status};

#[utoipa::path(post, path = "/v1/requests", tag = "requests", summary = "Asks for access", request_body = NewRequestBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "The caller's own key: asked again with it, it is the same request")),
    responses((status = 201, description = "Approved, or waiting for approvers", body = RequestBody)))]
pub(in crate::control) async fn submit(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let person = caller.person()?;
    let body: NewRequestBody = body(&bytes)?;
    let asked = Asked {
        target: body.target,
        profile: body.profile,
        window: body.window_seconds.map(Duration::from_secs),
        reason: body.reason,
        ticket: body.ticket,
        max_sessions: body.max_sessions,
        break_glass: body.break_glass,
        key: key(&headers)?,
    };
    let view = gate.desk.submit(person, asked).await?;
    // A request made again under its key may be one that was denied.
    if let Some(Outcome::Denied { why, .. }) = &view.request.outcome {
        let (why, policies) = (why.clone(), Vec::new());
        return Err(AccessError::Denied { why, policies }.into());
    }
    Ok((StatusCode::CREATED, Json(with_approvers(&gate, view).await)).into_response())
}

#[utoipa::path(get, path = "/v1/requests", tag = "requests", summary = "The requests", params(RequestsQuery), responses((status = 200, description = "One's own and those one may approve, a page", body = Requests)))]
pub(in crate::control) async fn list(State(gate): State<Arc<Gate>>, caller: Caller, uri: Uri) -> Answer<Requests> {
    let wanted: RequestsQuery = query(&uri)?;
    let limit = wanted.limit.unwrap_or(PAGE).clamp(1, LONGEST_PAGE) as usize;
    let filter = RequestFilter {
        status: wanted.status.map(Status::from),
        identity: wanted.identity,
        target: wanted.target,
        unreviewed: wanted.unreviewed,
        before: wanted.before,
        // One more than is shown tells whether there is a next page.
        limit: limit + 1,
    };
    let mut requests = match &caller {
        Caller::Admin { .. } => gate.ledger.requests(filter).await?,
        Caller::Person(person, _) => gate.desk.requests(person, filter).await?,
    };
    let more = requests.len() > limit;
    requests.truncate(limit);
    let next = requests.last().filter(|_| more).map(|view| view.request.id.clone());
    Ok(Json(Requests { requests, next }))
}

#[utoipa::path(get, path = "/v1/requests/{id}", tag = "requests", summary = "One request, now or when it changes", params(("id" = String, Path, description = "The request"), WaitQuery), responses((status = 200, description = "The request", body = RequestBody)))]
pub(in crate::control) async fn show(
    State(gate): State<Arc<Gate>>,
    Extension(mut hold): Extension<Hold>,
    caller: Caller,
    Path(id): Path<String>,
    uri: Uri,
) -> Answer<RequestBody> {
    let WaitQuery { wait_seconds } = query(&uri)?;
    let id: RequestId = named(&id)?;
    let wait = Duration::from_secs(wait_seconds.unwrap_or(0).min(LONGEST_WAIT_SECONDS));
    // Watched before it is read: a change between the two is not missed.
    let watched = (!wait.is_zero()).then(|| gate.ledger.watch_request(&id)).flatten();
    let mut view = see(&gate, &caller, &id).await?;
    if let Some(mut watched) = watched
        && pending(&gate, &view)
    {
        let _place = hold.wait(&caller)?;
        let standing = Standing::of(&caller, &gate);
        let changed = async {
            tokio::select! {
                _ = watched.changed() => {}
                () = gate.clock.sleep_until(view.request.expires_at) => {}
                () = hold.stopped() => {}
                () = standing.over() => {}
            }
        };
        let _ = tokio::time::timeout(wait, changed).await;
        if !caller.is_as_before(&gate) {
            return Err(ApiError::Unauthorized);
        }
        view = see(&gate, &caller, &id).await?;
    }
    Ok(Json(with_approvers(&gate, view).await))
}

#[utoipa::path(post, path = "/v1/requests/{id}/approve", tag = "requests", summary = "Says yes, perhaps to less", params(("id" = String, Path, description = "The request")), request_body = ApproveBody, responses((status = 200, description = "The request", body = RequestBody)))]
pub(in crate::control) async fn approve(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Path(id): Path<String>,
    bytes: Bytes,
) -> Answer<RequestBody> {
    let person = caller.person()?;
    let ApproveBody {
        window_seconds,
        profile,
        comment,
    } = body(&bytes)?;
    let window = window_seconds.map(Duration::from_secs);
    let narrowed = Narrowed { window, profile };
    let view = gate.desk.approve(person, &named(&id)?, narrowed, comment).await?;
    Ok(Json(with_approvers(&gate, view).await))
}

#[utoipa::path(post, path = "/v1/requests/{id}/reject", tag = "requests", summary = "Says no", params(("id" = String, Path, description = "The request")), request_body = CommentBody, responses((status = 200, description = "The request", body = RequestBody), (status = 202, description = "In effect; `effect` says what is still to come", body = RequestBody)))]
pub(in crate::control) async fn reject(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Path(id): Path<String>,
    bytes: Bytes,
) -> Taken<RequestBody> {
    let person = caller.person()?;
    let CommentBody { comment } = body(&bytes)?;
    let view = gate.desk.reject(person, &named(&id)?, comment).await?;
    let effect = view.effect;
    Ok(taken(with_approvers(&gate, view).await, effect))
}

#[utoipa::path(post, path = "/v1/requests/{id}/withdraw", tag = "requests", summary = "Takes one's own request back", params(("id" = String, Path, description = "The request")), request_body = EmptyBody, responses((status = 200, description = "The request", body = RequestBody), (status = 202, description = "In effect; `effect` says what is still to come", body = RequestBody)))]
pub(in crate::control) async fn withdraw(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Path(id): Path<String>,
    bytes: Bytes,
) -> Taken<RequestBody> {
    let person = caller.person()?;
    let EmptyBody {} = body(&bytes)?;
    let view = gate.desk.withdraw(person, &named(&id)?).await?;
    let effect = view.effect;
    Ok(taken(with_approvers(&gate, view).await, effect))
}

#[utoipa::path(post, path = "/v1/requests/{id}/review", tag = "requests", summary = "Notes what a break-glass access was found to be", params(("id" = String, Path, description = "The request")), request_body = CommentBody, responses((status = 200, description = "The request", body = RequestBody)))]
pub(in crate::control) async fn review(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Path(id): Path<String>,
    bytes: Bytes,
) -> Answer<RequestBody> {
    let person = caller.person()?;
    let CommentBody { comment } = body(&bytes)?;
    let said = comment.filter(|comment| !comment.trim().is_empty());
    let comment = said.ok_or_else(|| ApiError::Malformed("a review needs a comment: what was found".to_owned()))?;
    let view = gate.desk.review(person, &named(&id)?, comment).await?;
    Ok(Json(with_approvers(&gate, view).await))
}

/// The request, if the caller may see it.
async fn see(gate: &Gate, caller: &Caller, id: &RequestId) -> Result<RequestView, ApiError> {
    Ok(match caller {
        Caller::Admin { .. } => gate.ledger.request(id).await?,
        Caller::Person(person, _) => gate.desk.request(person, id).await?,
    })
}

fn pending(gate: &Gate, view: &RequestView) -> bool {
    view.request.status(gate.clock.now()) == Status::Pending
}

async fn with_approvers(gate: &Gate, request: RequestView) -> RequestBody {
    let approvers = if pending(gate, &request) {
        gate.desk.approvers(&request).await
    } else {
        Vec::new()
    };
    RequestBody { request, approvers }
}

/// The caller's own key: printable, and no longer than one that a person or a machine makes up.
fn key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_HEADER) else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .filter(|key| !key.is_empty() && key.len() <= 200)
        .map(|key| Some(key.to_owned()))
        .ok_or_else(|| ApiError::Malformed(format!("{IDEMPOTENCY_HEADER} takes 1 to 200 printable ASCII characters")))
}
