//! The paths of the control API, one file for each resource: each reads its request, makes one call, and answers with a body
//! of [`super::model`].
//!
//! Who calls is settled before a handler runs ([`super::caller`]); what may be done is the policies' and the ledger's to say.

pub(super) mod audit;
pub(super) mod clock;
pub(super) mod events;
pub(super) mod grants;
pub(super) mod policy;
pub(super) mod reload;
pub(super) mod requests;
pub(super) mod sessions;
pub(super) mod targets;
pub(super) mod users;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use serde::de::DeserializeOwned;

use super::Gate;
use super::caller::Caller;
use super::model::Me;
use super::problem::ApiError;
use crate::ledger::Effect;

type Answer<T> = Result<Json<T>, ApiError>;
/// The answer to what took rights away: 200 when that is stored and on record, 202 when it is in effect and one of these is still to come.
type Taken<T> = Result<(StatusCode, Json<T>), ApiError>;

fn taken<T>(view: T, effect: Option<Effect>) -> (StatusCode, Json<T>) {
    let status = match effect {
        Some(effect) if !effect.is_done() => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    };
    (status, Json(view))
}

#[utoipa::path(get, path = "/v1/me", tag = "me", summary = "As whom the caller is known", responses((status = 200, description = "The caller", body = Me)))]
pub(super) async fn me(State(gate): State<Arc<Gate>>, caller: Caller) -> Answer<Me> {
    Ok(Json(Me {
        name: caller.name().to_owned(),
        groups: caller
            .person()
            .map(|person| person.identity.groups.clone())
            .unwrap_or_default(),
        source: caller.source().to_owned(),
        admin: caller.sees_all(&gate),
    }))
}

/// Reads an id or a name out of a path.
fn named<T: std::str::FromStr>(text: &str) -> Result<T, ApiError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| ApiError::Malformed(error.to_string()))
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
