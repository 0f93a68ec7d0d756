//! `/v1/reload`: reads the configuration again, like SIGHUP, and reports the result; for operators and administrators.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use tokio::sync::oneshot;

use super::JsonAnswer;
use crate::access::policy::Action;
use crate::control::caller::Caller;
use crate::control::model::Reload;
use crate::control::{ApiError, ControlContext};

#[utoipa::path(post, path = "/v1/reload", tag = "configuration", summary = "Reloads the configuration, as a whole or not at all", responses((status = 200, description = "The new configuration is in force", body = Reload)))]
pub(in crate::control) async fn reload(State(gate): State<Arc<ControlContext>>, caller: Caller) -> JsonAnswer<Reload> {
    caller.may(&gate, Action::Administer).await?;
    tracing::info!(by = caller.name(), "received a reload request");
    let (order, done) = oneshot::channel();
    // A gate that is stopping takes no more orders.
    gate.reload.send(order).await.map_err(|_| ApiError::Stopping)?;
    let reloaded = done.await.map_err(|_| ApiError::Stopping)?;
    reloaded.map(|detail| Json(Reload { detail })).map_err(ApiError::NotReloaded)
}
