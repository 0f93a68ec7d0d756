//! `/v1/requests`: submitted, viewed, awaited and settled by persons; operators can only view.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};

use super::{Answer, Taken, body, named, query, taken};
use crate::access::{AccessError, Asked, Narrowed, Way};
use crate::control::caller::{Caller, Standing};
use crate::control::hold::Hold;
use crate::control::model::{
    AccessBody, ApproveBody, Briefing, CommentBody, EmptyBody, LONGEST_PAGE, LONGEST_WAIT_SECONDS, NewRequestBody, PAGE,
    ProfileBody, RequestBody, Requests, RequestsQuery, WaitQuery,
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
    let view = gate.desk.submit(caller.person()?, asked(&headers, &bytes)?).await?;
    let request = not_denied(view)?;
    Ok((StatusCode::CREATED, Json(with_approvers(&gate, request).await)).into_response())
}

#[utoipa::path(post, path = "/v1/access", tag = "requests", summary = "Joins a live grant that is what is asked for, or asks for access", request_body = NewRequestBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "The caller's own key: asked again with it, it is the same request")),
    responses((status = 200, description = "A live grant of the caller", body = AccessBody), (status = 201, description = "A request, approved or waiting for approvers", body = AccessBody)))]
pub(in crate::control) async fn enter(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let (status, body) = match gate.desk.enter(caller.person()?, asked(&headers, &bytes)?).await? {
        Way::Grant(view, _) => {
            let joined = Some(*view);
            (StatusCode::OK, AccessBody { joined, request: None })
        }
        Way::Request(view) => {
            let request = Some(with_approvers(&gate, not_denied(*view)?).await);
            (StatusCode::CREATED, AccessBody { joined: None, request })
        }
    };
    Ok((status, Json(body)).into_response())
}

fn asked(headers: &HeaderMap, bytes: &[u8]) -> Result<Asked, ApiError> {
    Ok(wanted(body(bytes)?, key(headers)?))
}

/// Converts a body to the type that the desk takes.
pub(super) fn wanted(body: NewRequestBody, key: Option<String>) -> Asked {
    Asked {
        target: body.target,
        profile: body.profile,
        window: body.window_seconds.map(Duration::from_secs),
        reason: body.reason,
        ticket: body.ticket,
        max_sessions: body.max_sessions,
        break_glass: body.break_glass,
        key,
    }
}

/// Returns an error if the request was denied: a request repeated under its key may be one that was.
fn not_denied(view: RequestView) -> Result<RequestView, AccessError> {
    match &view.request.outcome {
        Some(Outcome::Denied { why, .. }) => Err(AccessError::Denied {
            why: why.clone(),
            policies: Vec::new(),
        }),
        _ => Ok(view),
    }
}

#[utoipa::path(get, path = "/v1/requests", tag = "requests", summary = "The requests", params(RequestsQuery), responses((status = 200, description = "One's own and those one may approve, a page", body = Requests)))]
pub(in crate::control) async fn list(State(gate): State<Arc<Gate>>, caller: Caller, uri: Uri) -> Answer<Requests> {
    let wanted: RequestsQuery = query(&uri)?;
    let limit = wanted.limit.unwrap_or(PAGE).clamp(1, LONGEST_PAGE) as usize;
    let filter = RequestFilter {
        status: wanted.status,
        identity: wanted.identity,
        target: wanted.target,
        unreviewed: wanted.unreviewed,
        before: wanted.before,
        // One more than the page shows, to detect a next page.
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
    // Subscribe before reading, so that a change in between is not missed.
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

#[utoipa::path(get, path = "/v1/requests/{id}/briefing", tag = "requests", summary = "What an approver has to know", params(("id" = String, Path, description = "The request")), responses((status = 200, description = "The request, what its profile may do, what came before, who is in", body = Briefing)))]
pub(in crate::control) async fn briefing(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Briefing> {
    let view = see(&gate, &caller, &named(&id)?).await?;
    let wish = view.request.wish.clone();
    let filter = RequestFilter {
        identity: Some(wish.identity.clone()),
        limit: EARLIER + 1,
        ..RequestFilter::default()
    };
    let mut earlier = match &caller {
        Caller::Admin { .. } => gate.ledger.requests(filter).await?,
        Caller::Person(person, _) => gate.desk.requests(person, filter).await?,
    };
    earlier.retain(|other| other.request.id != view.request.id);
    earlier.truncate(EARLIER);
    let mut sessions = gate.registry.list();
    sessions.retain(|session| {
        session.who.target == wish.target && (!caller.is(&wish.identity) || session.who.identity == wish.identity)
    });
    let words = gate.rules.borrow().words(&wish.target, &wish.profile);
    Ok(Json(Briefing {
        profile: ProfileBody::new(wish.profile, words),
        earlier,
        sessions,
        request: with_approvers(&gate, view).await,
    }))
}

/// Number of earlier requests of the same identity in a briefing.
const EARLIER: usize = 5;

/// Returns the request, if the caller may see it.
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
    let (approvers, waits_for_nobody) = if pending(gate, &request) {
        (
            gate.desk.approvers(&request).await,
            gate.desk.waits_for_nobody(&request).await,
        )
    } else {
        (Vec::new(), false)
    };
    RequestBody {
        request,
        approvers,
        waits_for_nobody,
    }
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
        .ok_or_else(|| ApiError::Malformed(format!("{IDEMPOTENCY_HEADER} takes 1 to 200 printable ASCII characters")))
}
