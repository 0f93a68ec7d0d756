//! `/v1/sessions`: lists the running sessions and ends one. A person sees and ends only their own.

use axum::Json;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::Uri;

use super::{JsonAnswer, TakenAway, body, named, query, taken};
use crate::access::Caller;
use crate::access::policy::Action;
use crate::control::authenticate::Call;
use crate::control::model::{ReasonBody, Sessions, SessionsQuery};
use crate::control::problem::ApiError;
use crate::gate::session::SessionView;
use crate::model::ending::EndedBy;
use crate::model::ids::SessionId;

#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", summary = "The running sessions", params(SessionsQuery), responses((status = 200, description = "The caller's own; with `administer`, all", body = Sessions)))]
pub(in crate::control) async fn list(Call { gate, caller }: Call, uri: Uri) -> JsonAnswer<Sessions> {
    let wanted: SessionsQuery = query(&uri)?;
    let all = gate.service.would(&caller, Action::Administer);
    let mut sessions = gate.registry.list();
    sessions.retain(|SessionView { who, .. }| {
        (all || caller.is(&who.identity))
            && wanted.grant.as_ref().is_none_or(|grant| who.grant == *grant)
            && wanted.identity.as_ref().is_none_or(|identity| who.identity == *identity)
            && wanted.target.as_ref().is_none_or(|target| who.target == *target)
    });
    Ok(Json(Sessions { sessions }))
}

#[utoipa::path(post, path = "/v1/sessions/{id}/kill", tag = "sessions", summary = "Ends a session immediately", params(("id" = String, Path, description = "The session")), request_body = ReasonBody, responses((status = 200, description = "The session before its end", body = SessionView), (status = 202, description = "In effect; `effect` shows what is not stored or recorded yet", body = SessionView)))]
pub(in crate::control) async fn kill(
    Call { gate, caller }: Call,
    Path(id): Path<String>,
    bytes: Bytes,
) -> TakenAway<SessionView> {
    let ReasonBody { reason } = body(&bytes)?;
    let id: SessionId = named(&id)?;
    let view = gate.registry.list().into_iter().find(|view| view.who.session == id);
    let own = view.as_ref().is_some_and(|view| caller.is(&view.who.identity));
    if !own {
        gate.service.may_take_away(&caller, Action::Administer).await?;
    }
    let killed = gate.registry.kill(&id, ended_by(&caller, own), reason).await;
    let view = killed.ok_or(ApiError::NoSuchSession(id))?;
    Ok(taken(view.effect, view))
}

fn ended_by(caller: &Caller, own: bool) -> EndedBy {
    match caller {
        Caller::Admin { operator } => EndedBy::Operator(operator.clone()),
        Caller::Person(person, _) if own => EndedBy::Owner(person.name().clone()),
        Caller::Person(person, _) => EndedBy::Person(person.name().clone()),
    }
}
