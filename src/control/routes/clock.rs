//! `/v1/clock`: gate time beside the machine's clock, and correcting gate time; for operators and administrators.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;

use super::{Answer, body};
use crate::control::Gate;
use crate::control::caller::Caller;
use crate::control::model::{ClockView, ReasonBody};
use crate::policy::Action;

#[utoipa::path(get, path = "/v1/clock", tag = "clock", summary = "The gate's time beside the machine's", responses((status = 200, description = "Both, and why the machine's is not believed, if so", body = ClockView)))]
pub(in crate::control) async fn show(State(gate): State<Arc<Gate>>, caller: Caller) -> Answer<ClockView> {
    caller.may(&gate, Action::Administer).await?;
    Ok(Json(gate.ledger.clock()))
}

#[utoipa::path(post, path = "/v1/clock/set-right", tag = "clock", summary = "Makes gate time what the machine's clock says; going back ends every grant", request_body = ReasonBody, responses((status = 200, description = "Both, after it", body = ClockView)))]
pub(in crate::control) async fn set_right(State(gate): State<Arc<Gate>>, caller: Caller, bytes: Bytes) -> Answer<ClockView> {
    caller.may(&gate, Action::Administer).await?;
    let ReasonBody { reason } = body(&bytes)?;
    let view = gate.ledger.set_clock_right(caller.name(), reason.as_deref()).await?;
    tracing::warn!(gate_time = %view.gate_time, by = caller.name(), "the gate's clock was set right by an operator");
    Ok(Json(view))
}
