//! `/v1/users`: local users and their tokens; for operators and administrators.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::{JsonAnswer, TakenAway, body, named, query, taken};
use crate::control::authenticate::Call;
use crate::control::model::{
    DisableBody, EmptyBody, GroupsBody, IssuedUser, NewUserBody, RegroupedUser, RotateBody, UserView, UsersBody, UsersQuery,
};
use crate::control::problem::ApiError;
use crate::model::names::IdentityName;

#[utoipa::path(get, path = "/v1/users", tag = "users", summary = "The local users", params(UsersQuery), responses((status = 200, description = "The local users, or a page of them", body = UsersBody)))]
pub(in crate::control) async fn list(call: Call, uri: Uri) -> JsonAnswer<UsersBody> {
    Ok(Json(call.users(query(&uri)?).await?))
}

#[utoipa::path(post, path = "/v1/users", tag = "users", summary = "Creates a local user", request_body = NewUserBody, responses((status = 201, description = "The user and its token", body = IssuedUser)))]
pub(in crate::control) async fn create(Call { gate, caller }: Call, bytes: Bytes) -> Result<Response, ApiError> {
    let admin = gate.service.administer(&caller).await?;
    let NewUserBody {
        name,
        groups,
        token_seconds,
    } = body(&bytes)?;
    let warnings = gate.service.unnamed_groups(&name, &groups);
    let (user, token) = admin.add_user(&name, groups, token_seconds.map(Duration::from_secs)).await?;
    let issued = IssuedUser {
        token: Some(token.expose().clone()),
        user,
        warnings,
        ended_sign_ins: None,
    };
    Ok((StatusCode::CREATED, Json(issued)).into_response())
}

#[utoipa::path(post, path = "/v1/users/{name}/rotate", tag = "users", summary = "Replaces the token of a user", params(("name" = String, Path, description = "The user")), request_body = RotateBody, responses((status = 200, description = "The user and the new token; the old one is no longer valid", body = IssuedUser), (status = 202, description = "In effect; `effect` shows what is not stored or recorded yet", body = IssuedUser)))]
pub(in crate::control) async fn rotate(
    Call { gate, caller }: Call,
    Path(name): Path<String>,
    bytes: Bytes,
) -> TakenAway<IssuedUser> {
    let admin = gate.service.administer_at_once(&caller).await?;
    let RotateBody { token_seconds } = body(&bytes)?;
    let life = token_seconds.map(Duration::from_secs);
    let (user, rotated) = admin.rotate_user(&named(&name)?, life).await?;
    let issued = IssuedUser {
        token: rotated.token.map(|token| token.expose().clone()),
        warnings: Vec::new(),
        ended_sign_ins: Some(rotated.ended_sign_ins),
        user,
    };
    Ok(taken(issued.user.effect, issued))
}

#[utoipa::path(post, path = "/v1/users/{name}/disable", tag = "users", summary = "Disables an identity; its sessions end immediately", params(("name" = String, Path, description = "The identity: a local user, or an issuer's")), request_body = DisableBody, responses((status = 200, description = "The user", body = UserView), (status = 202, description = "In effect; `effect` shows what is not stored or recorded yet", body = UserView)))]
pub(in crate::control) async fn disable(
    Call { gate, caller }: Call,
    Path(name): Path<String>,
    bytes: Bytes,
) -> TakenAway<UserView> {
    let admin = gate.service.administer_at_once(&caller).await?;
    let DisableBody { unseen } = body(&bytes)?;
    let view = admin.disable_user(&named(&name)?, unseen).await?;
    Ok(taken(view.effect, view))
}

#[utoipa::path(post, path = "/v1/users/{name}/enable", tag = "users", summary = "Enables an identity again", params(("name" = String, Path, description = "The identity")), request_body = EmptyBody, responses((status = 200, description = "The user", body = UserView)))]
pub(in crate::control) async fn enable(
    Call { gate, caller }: Call,
    Path(name): Path<String>,
    bytes: Bytes,
) -> JsonAnswer<UserView> {
    let admin = gate.service.administer(&caller).await?;
    let EmptyBody {} = body(&bytes)?;
    Ok(Json(admin.enable_user(&named(&name)?).await?))
}

#[utoipa::path(post, path = "/v1/users/{name}/groups", tag = "users", summary = "Replaces the groups of a user", params(("name" = String, Path, description = "The user")), request_body = GroupsBody, responses((status = 200, description = "The user", body = RegroupedUser), (status = 202, description = "In effect; `effect` shows what is not stored or recorded yet", body = RegroupedUser)))]
pub(in crate::control) async fn groups(
    Call { gate, caller }: Call,
    Path(name): Path<String>,
    bytes: Bytes,
) -> TakenAway<RegroupedUser> {
    let admin = gate.service.administer_at_once(&caller).await?;
    let GroupsBody { groups } = body(&bytes)?;
    let name: IdentityName = named(&name)?;
    let warnings = gate.service.unnamed_groups(&name, &groups);
    let user = admin.regroup_user(&name, groups).await?;
    Ok(taken(user.effect, RegroupedUser { user, warnings }))
}
