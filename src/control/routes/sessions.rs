//! `/v1/sessions`: lists the running sessions and ends one. A person sees and ends only their own.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::Uri;

use super::{Answer, Taken, body, named, query, taken};
use crate::control::Gate;
use crate::control::caller::Caller;
use crate::control::model::{ReasonBody, Sessions, SessionsQuery};
use crate::control::problem::ApiError;
use crate::ids::SessionId;
use crate::policy::Action;
use crate::session::SessionView;

#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", summary = "The running sessions", params(SessionsQuery), responses((status = 200, description = "One's own; with `administer`, all", body = Sessions)))]
pub(in crate::control) async fn list(State(gate): State<Arc<Gate>>, caller: Caller, uri: Uri) -> Answer<Sessions> {
    let wanted: SessionsQuery = query(&uri)?;
    let all = caller.sees_all(&gate);
    let mut sessions = gate.registry.list();
    sessions.retain(|SessionView { who, .. }| {
        (all || caller.is(&who.identity))
            && wanted.grant.as_ref().is_none_or(|grant| who.grant == *grant)
            && wanted.identity.as_ref().is_none_or(|identity| who.identity == *identity)
            && wanted.target.as_ref().is_none_or(|target| who.target == *target)
    });
    Ok(Json(Sessions { sessions }))
}

#[utoipa::path(post, path = "/v1/sessions/{id}/kill", tag = "sessions", summary = "Ends a session at once", params(("id" = String, Path, description = "The session")), request_body = ReasonBody, responses((status = 200, description = "As it was", body = SessionView), (status = 202, description = "In effect; `effect` says what is still to come", body = SessionView)))]
pub(in crate::control) async fn kill(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Path(id): Path<String>,
    bytes: Bytes,
) -> Taken<SessionView> {
    let ReasonBody { reason } = body(&bytes)?;
    let id: SessionId = named(&id)?;
    let view = gate.registry.list().into_iter().find(|view| view.who.session == id);
    if !view.as_ref().is_some_and(|view| caller.is(&view.who.identity)) {
        caller.may_take_away(&gate, Action::Administer).await?;
    }
    let killed = gate.registry.kill(&id, caller.name(), reason).await;
    let view = killed.ok_or(ApiError::NoSuchSession(id))?;
    let effect = view.effect;
    Ok(taken(view, effect))
}
