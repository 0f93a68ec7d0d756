//! `/v1/signins`: signs a person in, lists sign-ins and ends them. A person sees and ends only their own.

use axum::Json;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{StatusCode, Uri};

use super::{JsonAnswer, TakenAway, body, named, query, taken};
use crate::control::authenticate::Call;
use crate::control::model::{IssuedSignIn, NewSignInBody, SignInView, SignInsBody, SignInsQuery};
use crate::control::problem::ApiError;

#[utoipa::path(post, path = "/v1/signins", tag = "signins", summary = "Signs in, with a token", request_body = NewSignInBody, responses((status = 201, description = "The sign-in and its secret, which takes the place of the token until the sign-in ends", body = IssuedSignIn)))]
pub(in crate::control) async fn create(
    Call { gate, caller }: Call,
    bytes: Bytes,
) -> Result<(StatusCode, Json<IssuedSignIn>), ApiError> {
    let NewSignInBody { via } = body(&bytes)?;
    let made = gate.service.sign_in(&caller, via).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

#[utoipa::path(get, path = "/v1/signins", tag = "signins", summary = "The sign-ins that have not ended", params(SignInsQuery), responses((status = 200, description = "The caller's own; with `administer`, all", body = SignInsBody)))]
pub(in crate::control) async fn list(Call { gate, caller }: Call, uri: Uri) -> JsonAnswer<SignInsBody> {
    let SignInsQuery { identity } = query(&uri)?;
    let sign_ins = gate.service.sign_ins(&caller, identity.as_ref());
    Ok(Json(SignInsBody { sign_ins }))
}

#[utoipa::path(delete, path = "/v1/signins/{id}", tag = "signins", summary = "Ends a sign-in immediately", params(("id" = String, Path, description = "The sign-in")), responses((status = 200, description = "The sign-in before its end", body = SignInView), (status = 202, description = "In effect; `effect` shows what is not stored or recorded yet", body = SignInView)))]
pub(in crate::control) async fn end(Call { gate, caller }: Call, Path(id): Path<String>) -> TakenAway<SignInView> {
    let view = gate.service.end_sign_in(&caller, &named(&id)?).await?;
    Ok(taken(view.effect, view))
}
