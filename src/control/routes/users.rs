//! `/v1/users`: local users and their tokens; for operators and administrators.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::{Answer, Taken, body, named, taken};
use crate::control::Gate;
use crate::control::caller::Caller;
use crate::control::model::{DisableBody, EmptyBody, GroupsBody, IssuedUser, NewUserBody, UserView, Users};
use crate::control::problem::ApiError;
use crate::ledger::{Effect, LedgerError, RequestFilter, RotatedToken};
use crate::names::IdentityName;
use crate::policy::Action;
use crate::secret::Secret;

#[utoipa::path(get, path = "/v1/users", tag = "users", summary = "The local users", responses((status = 200, description = "All that are known", body = Users)))]
pub(in crate::control) async fn list(State(gate): State<Arc<Gate>>, caller: Caller) -> Answer<Users> {
    caller.may(&gate, Action::Administer).await?;
    Ok(Json(Users {
        users: gate.ledger.users(),
    }))
}

#[utoipa::path(post, path = "/v1/users", tag = "users", summary = "Makes a local user", request_body = NewUserBody, responses((status = 201, description = "The user and its token", body = IssuedUser)))]
pub(in crate::control) async fn create(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    caller.may(&gate, Action::Administer).await?;
    let NewUserBody { name, groups } = body(&bytes)?;
    nobody_elses(&gate, &name).await?;
    let token = gate.ledger.add_user(&name, groups, caller.name()).await?;
    Ok((StatusCode::CREATED, Json(issued(&gate, name, Some(&token))?)).into_response())
}

#[utoipa::path(post, path = "/v1/users/{name}/rotate", tag = "users", summary = "Gives a user a fresh token", params(("name" = String, Path, description = "The user")), request_body = EmptyBody, responses((status = 200, description = "The user and its token; the old one is good no more", body = IssuedUser), (status = 202, description = "In effect; `effect` says what is still to come", body = IssuedUser)))]
pub(in crate::control) async fn rotate(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Path(name): Path<String>,
    bytes: Bytes,
) -> Taken<IssuedUser> {
    caller.may_take_away(&gate, Action::Administer).await?;
    let EmptyBody {} = body(&bytes)?;
    let name: IdentityName = named(&name)?;
    let rotated = gate.ledger.rotate_user(&name, caller.name()).await;
    let RotatedToken { token, effect } = rotated.map_err(|error| with_nearest(&gate, error))?;
    // The old token is revoked even if no new one could be made: an error would claim that nothing was done.
    let effect = Effect {
        recorded: effect.recorded && token.is_some(),
        ..effect
    };
    let mut issued = issued(&gate, name, token.as_ref())?;
    issued.user.effect = Some(effect);
    Ok(taken(issued, Some(effect)))
}

#[utoipa::path(post, path = "/v1/users/{name}/disable", tag = "users", summary = "Shuts an identity out; its sessions end at once", params(("name" = String, Path, description = "The identity: a local user, or an issuer's")), request_body = DisableBody, responses((status = 200, description = "The user", body = UserView), (status = 202, description = "In effect; `effect` says what is still to come", body = UserView)))]
pub(in crate::control) async fn disable(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Path(name): Path<String>,
    bytes: Bytes,
) -> Taken<UserView> {
    caller.may_take_away(&gate, Action::Administer).await?;
    let DisableBody { unseen } = body(&bytes)?;
    let name: IdentityName = named(&name)?;
    // A typing error in the name must not look like a successful disable.
    if !unseen && !gate.ledger.knows(&name).await {
        let nearest = gate.ledger.nearest_user(&name);
        return Err(ApiError::NeverSeen { name, nearest });
    }
    let view = gate.ledger.disable_user(&name, caller.name()).await?;
    let effect = view.effect;
    Ok(taken(view, effect))
}

#[utoipa::path(post, path = "/v1/users/{name}/enable", tag = "users", summary = "Lets an identity in again", params(("name" = String, Path, description = "The identity")), request_body = EmptyBody, responses((status = 200, description = "The user", body = UserView)))]
pub(in crate::control) async fn enable(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Path(name): Path<String>,
    bytes: Bytes,
) -> Answer<UserView> {
    caller.may(&gate, Action::Administer).await?;
    let EmptyBody {} = body(&bytes)?;
    let enabled = gate.ledger.enable_user(&named(&name)?, caller.name()).await;
    Ok(Json(enabled.map_err(|error| with_nearest(&gate, error))?))
}

#[utoipa::path(post, path = "/v1/users/{name}/groups", tag = "users", summary = "Puts a user into other groups", params(("name" = String, Path, description = "The user")), request_body = GroupsBody, responses((status = 200, description = "The user", body = UserView), (status = 202, description = "In effect; `effect` says what is still to come", body = UserView)))]
pub(in crate::control) async fn groups(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Path(name): Path<String>,
    bytes: Bytes,
) -> Taken<UserView> {
    caller.may_take_away(&gate, Action::Administer).await?;
    let GroupsBody { groups } = body(&bytes)?;
    let name: IdentityName = named(&name)?;
    if caller.is(&name) {
        return Err(ApiError::ForOneself);
    }
    let regrouped = gate.ledger.regroup_user(&name, groups, caller.name()).await;
    let view = regrouped.map_err(|error| with_nearest(&gate, error))?;
    let effect = view.effect;
    Ok(taken(view, effect))
}

/// Checks that the name belongs to no issuer, now or when it was used in a request. A new user takes over all that belongs to
/// the name: grants, requests, approvals.
async fn nobody_elses(gate: &Gate, name: &IdentityName) -> Result<(), ApiError> {
    let foreign = |issuer| ApiError::IssuersName {
        name: name.clone(),
        issuer,
    };
    let named = gate
        .rules
        .borrow()
        .issuers
        .who_names(name)
        .map(|issuer| issuer.issuer.clone());
    if let Some(issuer) = named {
        return Err(foreign(issuer));
    }
    let last = RequestFilter {
        identity: Some(name.clone()),
        limit: 1,
        ..RequestFilter::default()
    };
    let last = gate.ledger.requests(last).await?.pop();
    match last.and_then(|view| view.request.wish.issuer) {
        Some(issuer) => Err(foreign(issuer)),
        None => Ok(()),
    }
}

/// Converts the error, and adds the nearest existing name for an unknown user.
fn with_nearest(gate: &Gate, error: LedgerError) -> ApiError {
    match error {
        LedgerError::NoSuchUser(name) => ApiError::NoSuchUser {
            nearest: gate.ledger.nearest_user(&name),
            name,
        },
        error => error.into(),
    }
}

fn issued(gate: &Gate, name: IdentityName, token: Option<&Secret<String>>) -> Result<IssuedUser, ApiError> {
    let user = gate.ledger.user(&name);
    let user = user.ok_or_else(|| with_nearest(gate, LedgerError::NoSuchUser(name)))?;
    Ok(IssuedUser {
        user,
        token: token.map(|token| token.expose().clone()),
    })
}
