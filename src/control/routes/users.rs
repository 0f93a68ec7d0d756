//! `/v1/users`: local users and their tokens; for operators and administrators.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::{JsonAnswer, TakenAway, body, named, taken};
use crate::access::policy::Action;
use crate::base::secret::Secret;
use crate::control::ControlContext;
use crate::control::caller::Caller;
use crate::control::model::{DisableBody, EmptyBody, GroupsBody, IssuedUser, NewUserBody, RegroupedUser, UserView, UsersBody};
use crate::control::problem::ApiError;
use crate::ledger::{ChangeEffect, LedgerError, RequestFilter, RotatedToken};
use crate::model::names::{GroupName, IdentityName};

#[utoipa::path(get, path = "/v1/users", tag = "users", summary = "The local users", responses((status = 200, description = "All local users", body = UsersBody)))]
pub(in crate::control) async fn list(State(gate): State<Arc<ControlContext>>, caller: Caller) -> JsonAnswer<UsersBody> {
    caller.may(&gate, Action::Administer).await?;
    Ok(Json(UsersBody {
        users: gate.ledger.users(),
    }))
}

#[utoipa::path(post, path = "/v1/users", tag = "users", summary = "Creates a local user", request_body = NewUserBody, responses((status = 201, description = "The user and its token", body = IssuedUser)))]
pub(in crate::control) async fn create(
    State(gate): State<Arc<ControlContext>>,
    caller: Caller,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    caller.may(&gate, Action::Administer).await?;
    let NewUserBody { name, groups } = body(&bytes)?;
    nobody_elses(&gate, &name).await?;
    let warnings = unnamed(&gate, &name, &groups);
    let token = gate.ledger.add_user(&name, groups, caller.name()).await?;
    let issued = IssuedUser {
        warnings,
        ..issued(&gate, name, Some(&token))?
    };
    Ok((StatusCode::CREATED, Json(issued)).into_response())
}

#[utoipa::path(post, path = "/v1/users/{name}/rotate", tag = "users", summary = "Replaces the token of a user", params(("name" = String, Path, description = "The user")), request_body = EmptyBody, responses((status = 200, description = "The user and the new token; the old one is no longer valid", body = IssuedUser), (status = 202, description = "In effect; `effect` shows what is not stored or recorded yet", body = IssuedUser)))]
pub(in crate::control) async fn rotate(
    State(gate): State<Arc<ControlContext>>,
    caller: Caller,
    Path(name): Path<String>,
    bytes: Bytes,
) -> TakenAway<IssuedUser> {
    caller.may_take_away(&gate, Action::Administer).await?;
    let EmptyBody {} = body(&bytes)?;
    let name: IdentityName = named(&name)?;
    let rotated = gate.ledger.rotate_user(&name, caller.name()).await;
    let RotatedToken { token, effect } = rotated.map_err(|error| with_nearest(&gate, error))?;
    // The old token is revoked even if no new one could be made: an error would claim that nothing was done.
    let effect = ChangeEffect {
        recorded: effect.recorded && token.is_some(),
        ..effect
    };
    let mut issued = issued(&gate, name, token.as_ref())?;
    issued.user.effect = Some(effect);
    Ok(taken(issued, Some(effect)))
}

#[utoipa::path(post, path = "/v1/users/{name}/disable", tag = "users", summary = "Disables an identity; its sessions end immediately", params(("name" = String, Path, description = "The identity: a local user, or an issuer's")), request_body = DisableBody, responses((status = 200, description = "The user", body = UserView), (status = 202, description = "In effect; `effect` shows what is not stored or recorded yet", body = UserView)))]
pub(in crate::control) async fn disable(
    State(gate): State<Arc<ControlContext>>,
    caller: Caller,
    Path(name): Path<String>,
    bytes: Bytes,
) -> TakenAway<UserView> {
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

#[utoipa::path(post, path = "/v1/users/{name}/enable", tag = "users", summary = "Enables an identity again", params(("name" = String, Path, description = "The identity")), request_body = EmptyBody, responses((status = 200, description = "The user", body = UserView)))]
pub(in crate::control) async fn enable(
    State(gate): State<Arc<ControlContext>>,
    caller: Caller,
    Path(name): Path<String>,
    bytes: Bytes,
) -> JsonAnswer<UserView> {
    caller.may(&gate, Action::Administer).await?;
    let EmptyBody {} = body(&bytes)?;
    let enabled = gate.ledger.enable_user(&named(&name)?, caller.name()).await;
    Ok(Json(enabled.map_err(|error| with_nearest(&gate, error))?))
}

#[utoipa::path(post, path = "/v1/users/{name}/groups", tag = "users", summary = "Replaces the groups of a user", params(("name" = String, Path, description = "The user")), request_body = GroupsBody, responses((status = 200, description = "The user", body = RegroupedUser), (status = 202, description = "In effect; `effect` shows what is not stored or recorded yet", body = RegroupedUser)))]
pub(in crate::control) async fn groups(
    State(gate): State<Arc<ControlContext>>,
    caller: Caller,
    Path(name): Path<String>,
    bytes: Bytes,
) -> TakenAway<RegroupedUser> {
    caller.may_take_away(&gate, Action::Administer).await?;
    let GroupsBody { groups } = body(&bytes)?;
    let name: IdentityName = named(&name)?;
    if caller.is(&name) {
        return Err(ApiError::ForOneself);
    }
    let warnings = unnamed(&gate, &name, &groups);
    let regrouped = gate.ledger.regroup_user(&name, groups, caller.name()).await;
    let user = regrouped.map_err(|error| with_nearest(&gate, error))?;
    let effect = user.effect;
    Ok(taken(RegroupedUser { user, warnings }, effect))
}

/// Returns a sentence for each group that no policy in force names.
fn unnamed(gate: &ControlContext, name: &IdentityName, groups: &BTreeSet<GroupName>) -> Vec<String> {
    let Some(policies) = gate.rules.borrow().policies.clone() else {
        return Vec::new();
    };
    groups
        .iter()
        .filter_map(|group| policies.unnamed(group, name.as_str()))
        .collect()
}

/// Checks that the name belongs to no issuer, now or when it was used in a request. A new user takes over all that belongs to
/// the name: grants, requests, approvals.
async fn nobody_elses(gate: &ControlContext, name: &IdentityName) -> Result<(), ApiError> {
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
fn with_nearest(gate: &ControlContext, error: LedgerError) -> ApiError {
    match error {
        LedgerError::NoSuchUser(name) => ApiError::NoSuchUser {
            nearest: gate.ledger.nearest_user(&name),
            name,
        },
        error => error.into(),
    }
}

fn issued(gate: &ControlContext, name: IdentityName, token: Option<&Secret<String>>) -> Result<IssuedUser, ApiError> {
    let user = gate.ledger.user(&name);
    let user = user.ok_or_else(|| with_nearest(gate, LedgerError::NoSuchUser(name)))?;
    Ok(IssuedUser {
        user,
        token: token.map(|token| token.expose().clone()),
        warnings: Vec::new(),
    })
}
