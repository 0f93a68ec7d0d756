//! `/v1/sessions`: lists the running sessions and ends one. A person sees and ends their own, and those under grants that they
//! approved or may revoke.

use axum::Json;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::Uri;

use super::{JsonAnswer, TakenAway, body, named, query, taken};
use crate::control::authenticate::Call;
use crate::control::model::{ReasonBody, Sessions, SessionsQuery};
use crate::gate::session::SessionView;

#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", summary = "The running sessions", params(SessionsQuery), responses((status = 200, description = "The caller's own, and those under grants that it approved or may revoke; with `administer`, all", body = Sessions)))]
pub(in crate::control) async fn list(call: Call, uri: Uri) -> JsonAnswer<Sessions> {
    let wanted: SessionsQuery = query(&uri)?;
    let sessions = call.sessions(&wanted).await;
    let lines = call.lines(&wanted);
    Ok(Json(Sessions { sessions, lines }))
}

#[utoipa::path(post, path = "/v1/sessions/{id}/kill", tag = "sessions", summary = "Ends a session immediately", params(("id" = String, Path, description = "The session")), request_body = ReasonBody, responses((status = 200, description = "The session before its end", body = SessionView), (status = 202, description = "In effect; `effect` shows what is not stored or recorded yet", body = SessionView)))]
pub(in crate::control) async fn kill(call: Call, Path(id): Path<String>, bytes: Bytes) -> TakenAway<SessionView> {
    let ReasonBody { reason } = body(&bytes)?;
    let view = call.end_session(&named(&id)?, reason).await?;
    Ok(taken(view.effect, view))
}
