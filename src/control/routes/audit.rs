//! `/v1/audit`: proof of the log. Its readers get the checkpoint; administrators rotate its key.

use axum::Json;
use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::{JsonAnswer, body};
use crate::access::policy::Action;
use crate::control::authenticate::Call;
use crate::control::model::{AuditKeyBody, EmptyBody};
use crate::control::problem::ApiError;
use crate::control::schema::CheckpointShape;

#[utoipa::path(get, path = "/v1/audit/checkpoint", tag = "log", summary = "Signs the current end of the audit log (operators, and with `read-log`)", responses((status = 200, description = "Line of the latest checkpoint, to be stored elsewhere", body = CheckpointShape)))]
pub(in crate::control) async fn checkpoint(Call { gate, caller }: Call) -> Result<Response, ApiError> {
    gate.service.may(&caller, Action::ReadLog).await?;
    let line = gate.journal.checkpoint().await?;
    let line = line.ok_or_else(|| ApiError::Log("the audit log has no records yet".to_owned()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], line + "\n").into_response())
}

#[utoipa::path(post, path = "/v1/audit/rotate-key", tag = "log", summary = "Replaces the key that signs the audit log", request_body = EmptyBody, responses((status = 200, description = "The new key; the old one has confirmed it in the log", body = AuditKeyBody)))]
pub(in crate::control) async fn rotate_key(Call { gate, caller }: Call, bytes: Bytes) -> JsonAnswer<AuditKeyBody> {
    gate.service.may(&caller, Action::Administer).await?;
    let EmptyBody {} = body(&bytes)?;
    let key = gate.journal.rotate_key(caller.name()).await?;
    tracing::warn!(key = key.id(), by = caller.name(), "rotated the audit key");
    Ok(Json(AuditKeyBody::of(&key)))
}
