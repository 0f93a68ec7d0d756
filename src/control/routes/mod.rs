//! Paths of the control API, one file per resource: each handler parses its request, makes one call, and answers with a body of
//! [`super::model`].
//!
//! The caller is identified before a handler runs ([`mod@super::authenticate`]), but by [`chat`] itself; the access service decides
//! what is permitted.

pub(super) mod audit;
pub(super) mod chat;
pub(super) mod clock;
pub(super) mod events;
pub(super) mod grants;
pub(super) mod policy;
pub(super) mod providers;
pub(super) mod reload;
pub(super) mod requests;
pub(super) mod sessions;
pub(super) mod sign_ins;
pub(super) mod status;
pub(super) mod targets;
pub(super) mod terminals;
pub(super) mod users;

use axum::Json;
use axum::extract::Query;
use axum::http::{StatusCode, Uri};
use serde::de::DeserializeOwned;

use super::authenticate::Call;
use super::calls::named;
use super::model::Me;
use super::problem::ApiError;
use crate::access::policy::Action;
use crate::ledger::ChangeEffect;

type JsonAnswer<T> = Result<Json<T>, ApiError>;
/// Answer to a change that takes rights away: 200 if it is stored and recorded, 202 if it is in effect and one of these is
/// still to come.
type TakenAway<T> = Result<(StatusCode, Json<T>), ApiError>;

fn taken<T>(effect: Option<ChangeEffect>, view: T) -> (StatusCode, Json<T>) {
    let status = match effect {
        Some(effect) if !effect.is_done() => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    };
    (status, Json(view))
}

#[utoipa::path(get, path = "/v1/me", tag = "me", summary = "Identity of the caller", responses((status = 200, description = "The caller", body = Me)))]
pub(super) async fn me(Call { gate, caller }: Call) -> JsonAnswer<Me> {
    Ok(Json(Me {
        name: caller.name().to_owned(),
        groups: caller
            .person()
            .map(|person| person.identity.groups.clone())
            .unwrap_or_default(),
        source: caller.source().to_owned(),
        admin: gate.service.would(&caller, Action::Administer),
        until: caller.person().ok().and_then(|person| person.proof_until),
        sign_in: caller
            .person()
            .ok()
            .and_then(|person| Some(person.sign_in.as_ref()?.id.clone())),
    }))
}

/// Parses a body; an absent one counts as an empty object.
fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(text).map_err(|error| ApiError::Malformed(format!("invalid body: {error}")))
}

pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, ApiError> {
    match Query::try_from_uri(uri) {
        Ok(Query(query)) => Ok(query),
        Err(error) => Err(ApiError::Malformed(format!("invalid query: {}", error.body_text()))),
    }
}
