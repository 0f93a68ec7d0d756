//! The paths of the control API: each reads its request, makes one call, and answers with a body of [`super::model`].
//!
//! Who may call is settled before a handler runs ([`mod@super::serve`]); what may be done is the ledger's to say.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use super::model::{
    ACTIVATE_WITHIN_SECONDS, ExtendBody, GrantView, Grants, GrantsQuery, Issued, MAX_SESSIONS, NewGrantBody, ReasonBody,
    Sessions, SessionsQuery, ShortenBody,
};
use super::problem::ApiError;
use super::{Gate, OPERATOR_HEADER};
use crate::grant::{Change, Grant, Terms};
use crate::ids::{GrantId, SessionId};
use crate::secret::Secret;
use crate::session::SessionView;

type Answer<T> = Result<Json<T>, ApiError>;

pub(super) async fn create(State(gate): State<Arc<Gate>>, headers: HeaderMap, bytes: Bytes) -> Result<Response, ApiError> {
    let body: NewGrantBody = body(&bytes)?;
    known(&gate, body.target.as_str())?;
    let terms = Terms {
        identity: body.identity,
        target: body.target,
        reason: body.reason,
        window: Duration::from_secs(body.window_seconds),
        activate_within: Duration::from_secs(body.activate_within_seconds.unwrap_or(ACTIVATE_WITHIN_SECONDS)),
        deadline: body.deadline,
        max_sessions: body.max_sessions.unwrap_or(MAX_SESSIONS),
        client_network: body.client_network,
        profile: None,
        request: None,
    };
    let (grant, secret) = gate.ledger.create(terms, &operator(&headers)).await?;
    let issued = Issued {
        connection_string: connection_string(&grant, &secret, &gate.advertise),
        secret: secret.expose().clone(),
        grant: gate.ledger.grant(grant.id()).await?,
    };
    Ok((StatusCode::CREATED, Json(issued)).into_response())
}

pub(super) async fn list(State(gate): State<Arc<Gate>>, uri: Uri) -> Answer<Grants> {
    let wanted: GrantsQuery = query(&uri)?;
    let mut grants = gate.ledger.grants();
    let now = gate.clock.now();
    grants.retain(|view| {
        (wanted.all || !view.grant.status(now).ended())
            && wanted
                .identity
                .as_ref()
                .is_none_or(|identity| view.grant.identity() == identity)
            && wanted.target.as_ref().is_none_or(|target| view.grant.target() == target)
    });
    Ok(Json(Grants { grants }))
}

pub(super) async fn show(State(gate): State<Arc<Gate>>, Path(id): Path<String>) -> Answer<GrantView> {
    Ok(Json(gate.ledger.grant(&grant_id(&id)?).await?))
}

pub(super) async fn extend(
    State(gate): State<Arc<Gate>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer<GrantView> {
    let ExtendBody { by_seconds, reason } = body(&bytes)?;
    if by_seconds == 0 {
        return Err(ApiError::Malformed("by_seconds must be at least 1".to_owned()));
    }
    change(
        &gate,
        &id,
        Change::Extend(Duration::from_secs(by_seconds)),
        &operator(&headers),
        reason,
    )
    .await
}

pub(super) async fn shorten(
    State(gate): State<Arc<Gate>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer<GrantView> {
    let ShortenBody {
        by_seconds,
        until,
        reason,
    } = body(&bytes)?;
    let shorter = match (by_seconds, until) {
        (Some(by), None) if by > 0 => Change::ShortenBy(Duration::from_secs(by)),
        (None, Some(until)) => Change::ShortenTo(until),
        _ => {
            return Err(ApiError::Malformed(
                "give one of by_seconds (at least 1) and until".to_owned(),
            ));
        }
    };
    change(&gate, &id, shorter, &operator(&headers), reason).await
}

pub(super) async fn revoke(
    State(gate): State<Arc<Gate>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer<GrantView> {
    let ReasonBody { reason } = body(&bytes)?;
    let by = operator(&headers);
    let revoke = Change::Revoke {
        by: by.clone(),
        reason: reason.clone(),
    };
    change(&gate, &id, revoke, &by, reason).await
}

pub(super) async fn sessions(State(gate): State<Arc<Gate>>, uri: Uri) -> Answer<Sessions> {
    let wanted: SessionsQuery = query(&uri)?;
    let mut sessions = gate.registry.list();
    sessions.retain(|SessionView { who, .. }| {
        wanted.grant.as_ref().is_none_or(|grant| who.grant == *grant)
            && wanted.identity.as_ref().is_none_or(|identity| who.identity == *identity)
            && wanted.target.as_ref().is_none_or(|target| who.target == *target)
    });
    Ok(Json(Sessions { sessions }))
}

pub(super) async fn kill(
    State(gate): State<Arc<Gate>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer<SessionView> {
    let ReasonBody { reason } = body(&bytes)?;
    let id: SessionId = id
        .parse()
        .map_err(|error: crate::ids::InvalidId| ApiError::Malformed(error.to_string()))?;
    let view = gate.registry.list().into_iter().find(|view| view.who.session == id);
    match view {
        Some(view) if gate.registry.kill(&id, &operator(&headers), reason) => Ok(Json(view)),
        _ => Err(ApiError::NoSuchSession(id)),
    }
}

async fn change(gate: &Gate, id: &str, change: Change, by: &str, reason: Option<String>) -> Answer<GrantView> {
    let view = gate.ledger.change(&grant_id(id)?, change, by, reason.as_deref()).await?;
    Ok(Json(view))
}

/// What a tester pastes into a client. The gate always speaks TLS; `require` is right with its own certificate too.
fn connection_string(grant: &Grant, secret: &Secret<String>, advertise: &str) -> String {
    // Ids, secrets and target names consist of characters that need no escape in a URI.
    format!(
        "postgresql://{}:{}@{advertise}/{}?sslmode=require",
        grant.id(),
        secret.expose(),
        grant.target()
    )
}

/// A grant for a target that does not exist would never let anyone in: better said now.
fn known(gate: &Gate, asked: &str) -> Result<(), ApiError> {
    let targets = gate.targets.borrow();
    if targets.iter().any(|target| target.as_str() == asked) {
        return Ok(());
    }
    let names: Vec<&str> = targets.iter().map(crate::names::TargetName::as_str).collect();
    Err(ApiError::NoSuchTarget {
        asked: asked.to_owned(),
        known: format!("the gate has: {}", names.join(", ")),
    })
}

/// The name for the record. It is what the caller says it is: a short printable word, or `admin`.
fn operator(headers: &HeaderMap) -> String {
    headers
        .get(OPERATOR_HEADER)
        .and_then(|name| name.to_str().ok())
        .filter(|name| !name.is_empty() && name.len() <= 63 && name.bytes().all(|byte| byte.is_ascii_graphic()))
        .unwrap_or("admin")
        .to_owned()
}

fn grant_id(text: &str) -> Result<GrantId, ApiError> {
    text.parse()
        .map_err(|error: crate::ids::InvalidId| ApiError::Malformed(error.to_string()))
}

/// Reads a body; an absent one is an empty object.
fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(text).map_err(|error| ApiError::Malformed(format!("the body is not understood: {error}")))
}

pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, ApiError> {
    match Query::try_from_uri(uri) {
        Ok(Query(query)) => Ok(query),
        Err(error) => Err(ApiError::Malformed(format!(
            "the query is not understood: {}",
            error.body_text()
        ))),
    }
}
