//! `/v1/clock`: gate time beside the machine's clock, and correcting gate time; for operators and administrators.

use axum::Json;
use axum::body::Bytes;

use super::{JsonAnswer, body};
use crate::control::authenticate::Call;
use crate::control::model::{ClockView, ReasonBody};

#[utoipa::path(get, path = "/v1/clock", tag = "clock", summary = "Gate time and the machine's clock", responses((status = 200, description = "Both times, and the reason if the gate ignores the machine's clock", body = ClockView)))]
pub(in crate::control) async fn show(Call { gate, caller }: Call) -> JsonAnswer<ClockView> {
    Ok(Json(gate.service.administer(&caller).await?.clock()))
}

#[utoipa::path(post, path = "/v1/clock/set-right", tag = "clock", summary = "Sets gate time to the machine's clock; a step back ends all grants", request_body = ReasonBody, responses((status = 200, description = "Both times after the change", body = ClockView)))]
pub(in crate::control) async fn set_right(Call { gate, caller }: Call, bytes: Bytes) -> JsonAnswer<ClockView> {
    let admin = gate.service.administer(&caller).await?;
    let ReasonBody { reason } = body(&bytes)?;
    let view = admin.set_clock_right(reason.as_deref()).await?;
    tracing::warn!(gate_time = %view.gate_time, by = caller.name(), "an operator set gate time to the machine's clock");
    Ok(Json(view))
}
