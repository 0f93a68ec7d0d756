//! `/v1/targets`: targets that can be requested, and the state of the roles of their grants.
//!
//! It changes nothing.

use axum::Json;
use axum::extract::Path;
use axum::http::Uri;

use super::{JsonAnswer, query};
use crate::control::authenticate::Call;
use crate::control::model::{ProfileBody, TargetBody, TargetStatus, Targets, TargetsQuery};
use crate::model::names::TargetName;

#[utoipa::path(get, path = "/v1/targets", tag = "targets", summary = "Targets and profiles that can be requested", params(TargetsQuery), responses((status = 200, description = "All targets", body = Targets)))]
pub(in crate::control) async fn list(Call { gate, caller }: Call, uri: Uri) -> JsonAnswer<Targets> {
    let TargetsQuery { target: wanted } = query(&uri)?;
    let offers = match wanted {
        Some(wanted) => gate.service.offers_of(&caller, &wanted).await?,
        None => gate.service.offers(&caller),
    };
    let target = |(name, details): (TargetName, Vec<ProfileBody>)| TargetBody {
        name,
        profiles: details.iter().map(|detail| detail.profile.clone()).collect(),
        details,
    };
    Ok(Json(Targets {
        targets: offers.into_iter().map(target).collect(),
    }))
}

#[utoipa::path(get, path = "/v1/targets/{name}/status", tag = "targets", summary = "Roles of a target's grants at its server", params(("name" = String, Path, description = "The target")), responses((status = 200, description = "Current state", body = TargetStatus)))]
pub(in crate::control) async fn status(call: Call, Path(name): Path<String>) -> JsonAnswer<TargetStatus> {
    Ok(Json(call.target_status(&name).await?))
}
