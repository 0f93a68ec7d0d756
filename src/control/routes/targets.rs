//! `/v1/targets`: targets that can be requested, and the state of the roles of their grants.
//!
//! It changes nothing.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::Path;
use axum::http::Uri;

use super::{JsonAnswer, named, query};
use crate::control::authenticate::Call;
use crate::control::model::{ProfileBody, RoleBody, TargetBody, TargetStatus, Targets, TargetsQuery};
use crate::control::problem::ApiError;
use crate::model::ids::GrantId;
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
pub(in crate::control) async fn status(Call { gate, caller }: Call, Path(name): Path<String>) -> JsonAnswer<TargetStatus> {
    let admin = gate.service.administer(&caller).await?;
    let target: TargetName = named(&name)?;
    let Some(target_state) = (gate.target_state)(&target) else {
        let names: Vec<String> = gate.service.rules().targets.keys().map(ToString::to_string).collect();
        return Err(ApiError::NoSuchTarget {
            asked: name,
            known: names.join(", "),
        });
    };
    let Some(roles) = &target_state.roles else {
        return Ok(Json(TargetStatus::shared(target)));
    };
    let found = roles.look().await.map_err(|fault| ApiError::TargetAway {
        target: target.clone(),
        reason: fault.to_string(),
    })?;
    let mut sessions: BTreeMap<GrantId, u32> = BTreeMap::new();
    for session in gate.registry.list() {
        *sessions.entry(session.who.grant).or_default() += 1;
    }
    let counted = roles.counted();
    let mut status = TargetStatus {
        role_per_grant: true,
        made: counted.made,
        retired: counted.retired,
        left: counted.left,
        intruders: counted.intruders,
        profiles: gate.profiles.borrow().get(&target).cloned().unwrap_or_default(),
        ..TargetStatus::shared(target)
    };
    for role in found {
        if !roles.ours(&role) {
            status.elsewhere += 1;
            continue;
        }
        // The status of a role whose grant is not in this gate's store is `unknown`.
        let grant = admin.grant(&role.grant).await.ok();
        status.roles.push(RoleBody {
            sessions: sessions.get(&role.grant).copied().unwrap_or_default(),
            backends: u32::try_from(role.backends.len()).unwrap_or(u32::MAX),
            identity: grant.as_ref().map(|view| view.grant.identity().clone()),
            until: grant.as_ref().and_then(|view| view.grant.until()),
            status: grant.map_or_else(|| "unknown".to_owned(), |view| view.status),
            role: role.role,
            grant: role.grant,
            can_login: role.can_login,
        });
    }
    Ok(Json(status))
}
