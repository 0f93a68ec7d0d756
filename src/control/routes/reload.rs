//! `/v1/reload`: reads the configuration again, like SIGHUP, and reports the result; for operators and administrators.

use axum::Json;
use tokio::sync::oneshot;

use super::JsonAnswer;
use crate::access::policy::Action;
use crate::control::ApiError;
use crate::control::authenticate::Call;
use crate::control::model::Reload;

#[utoipa::path(post, path = "/v1/reload", tag = "configuration", summary = "Reloads the configuration, as a whole or not at all", responses((status = 200, description = "The new configuration is in force", body = Reload)))]
pub(in crate::control) async fn reload(Call { gate, caller }: Call) -> JsonAnswer<Reload> {
    gate.service.may(&caller, Action::Administer).await?;
    tracing::info!(by = caller.name(), "received a reload request");
    let (order, done) = oneshot::channel();
    // A gate that is stopping takes no more orders.
    gate.reload.send(order).await.map_err(|_| ApiError::Stopping)?;
    let reloaded = done.await.map_err(|_| ApiError::Stopping)?;
    reloaded.map(|detail| Json(Reload { detail })).map_err(ApiError::NotReloaded)
}
