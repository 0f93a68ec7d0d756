//! `/v1/status`: the state of the gate, for administrators, and that of its log, for those who read it.

use axum::Json;

use super::JsonAnswer;
use crate::control::authenticate::Call;
use crate::control::model::{GateStatus, LogStatus};

#[utoipa::path(get, path = "/v1/status", tag = "health", summary = "State of the gate (operators, and with `administer`)", responses((status = 200, description = "Current state", body = GateStatus)))]
pub(in crate::control) async fn gate(call: Call) -> JsonAnswer<GateStatus> {
    Ok(Json(call.status().await?))
}

#[utoipa::path(get, path = "/v1/audit/status", tag = "log", summary = "State of the audit log (operators, and with `read-log`)", responses((status = 200, description = "Current state", body = LogStatus)))]
pub(in crate::control) async fn log(call: Call) -> JsonAnswer<LogStatus> {
    Ok(Json(call.log_status().await?))
}
