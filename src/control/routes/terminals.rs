//! Sign-ins of terminals: a signed-in person lets a program on the same machine in, which comes with its code.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;

use super::body;
use super::providers::proved;
use crate::base::secret::Secret;
use crate::control::ControlContext;
use crate::control::authenticate::{Call, CallOrigin};
use crate::control::model::{IssuedSignIn, TerminalBody, TerminalCode, TerminalStepBody};
use crate::control::problem::ApiError;

#[utoipa::path(post, path = "/v1/signins/terminals", tag = "signins", summary = "Lets a program on the caller's machine in", request_body = TerminalBody, responses((status = 201, description = "The code for it", body = TerminalCode)))]
pub(in crate::control) async fn let_in(
    Call { gate, caller }: Call,
    bytes: Bytes,
) -> Result<(StatusCode, Json<TerminalCode>), ApiError> {
    let TerminalBody { challenge } = body(&bytes)?;
    let code = gate.service.let_terminal_in(&caller, &challenge)?.expose().clone();
    Ok((StatusCode::CREATED, Json(TerminalCode { code })))
}

#[utoipa::path(post, path = "/signin/terminal", tag = "signins", summary = "Signs a program in with its code", request_body = TerminalStepBody, responses((status = 201, description = "The sign-in and its secret", body = IssuedSignIn)))]
pub(in crate::control) async fn finish(
    State(gate): State<Arc<ControlContext>>,
    ConnectInfo(client): ConnectInfo<CallOrigin>,
    bytes: Bytes,
) -> Result<(StatusCode, Json<IssuedSignIn>), ApiError> {
    let TerminalStepBody { code, verifier } = body(&bytes)?;
    let (code, verifier) = (Secret::new(code), Secret::new(verifier));
    let finished = gate.service.finish_terminal_sign_in(&code, &verifier, client.address).await;
    let made = proved(&client, finished).await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}
