//! `/v1/chat/slack`: clicks on buttons of the gate's messages in a chat.
//!
//! INVARIANT: an unsigned call learns only that it is refused, and counts like a failed login. Nothing of its body is parsed.

use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use crate::chat::{Click, SIGNATURE_HEADER, SignatureError, TIMESTAMP_HEADER};
use crate::control::authenticate::{CallOrigin, held_back, whole};
use crate::control::problem::ApiError;
use crate::control::{ControlContext, chat};

#[utoipa::path(post, path = "/v1/chat/slack", tag = "chat", summary = "Takes a click on a button of a message in Slack",
    description = "Slack calls it, and signs the call (`X-Slack-Signature`). What came of the click is told in Slack.",
    request_body(content = String, content_type = "application/x-www-form-urlencoded"), responses((status = 200, description = "It will be decided; the body is empty")))]
pub(in crate::control) async fn slack(
    State(gate): State<Arc<ControlContext>>,
    ConnectInfo(client): ConnectInfo<CallOrigin>,
    request: Request,
) -> Result<StatusCode, Response> {
    let path = request.uri().path().to_owned();
    let none = || ApiError::NoSuchPath(path.clone()).into_response();
    gate.chat.settings().ok_or_else(none)?;
    let (parts, body) = whole(request).await?;
    // Those of now: the secret may have been replaced while the body came.
    let settings = gate.chat.settings().ok_or_else(none)?;
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let accepted = match (header(TIMESTAMP_HEADER), header(SIGNATURE_HEADER)) {
        (Some(time), Some(signature)) => gate.chat.accept(&settings, time, signature, &body).await,
        _ => Err(SignatureError::Unsigned),
    };
    if let Err(error) = accepted {
        gate.service.refused_in_chat(None, error.to_string(), client.address).await;
        return Err(held_back(&client, ApiError::Unauthorized).await.into_response());
    }
    let click = match Click::parse(&body, &settings) {
        Ok(Some(click)) => click,
        Ok(None) => return Ok(StatusCode::OK),
        Err(error) => {
            gate.service.refused_in_chat(None, error.to_string(), client.address).await;
            return Err(ApiError::Malformed(error.to_string()).into_response());
        }
    };
    let permit = gate
        .chat
        .answering(&click.user)
        .ok_or_else(|| ApiError::Busy.into_response())?;
    // Slack waits for three seconds; a question about its user may take longer.
    tokio::spawn(async move {
        let _permit = permit;
        chat::answer(gate, settings, click).await;
    });
    Ok(StatusCode::OK)
}
