//! *Gate*: health, targets with their drift and roles. For those who may administer.
//!
//! It repairs nothing: what is to be done is said in the words of the command line.

use std::time::Duration;

use axum::extract::Path;
use jiff::Timestamp;
use maud::{Markup, html};

use super::{log, show};
use crate::console::answer::PageAnswer;
use crate::console::form::QueryFields;
use crate::console::templates::frame::{Frame, Section};
use crate::console::templates::table::{TableColumn, table};
use crate::console::templates::text::{count, names, shown};
use crate::console::templates::{state, time};
use crate::control::Call;
use crate::control::model::{ForwardingStatus, GateStatus, ProfileStatus, RoleBody, TargetStatus};
use crate::model::names::{ProfileName, TargetName};

/// Time that lines wait for the receiver from which it counts as behind.
const MAX_LAG_SECONDS: u64 = 60;

/// Target in the list.
pub(in crate::console) struct TargetRow {
    pub(in crate::console) name: TargetName,
    pub(in crate::console) profiles: Vec<ProfileName>,
    /// Its profiles at the last check of its database.
    pub(in crate::console) seen: Vec<ProfileStatus>,
}

/// Content of the first page.
pub(in crate::console) struct GateView<'a> {
    pub(in crate::console) status: &'a GateStatus,
    pub(in crate::console) targets: &'a [TargetRow],
}

/// Shows health and targets.
pub(in crate::console) async fn page(call: Call, query: QueryFields) -> PageAnswer {
    let status = call.status().await?;
    let seen = call.gate.profiles.borrow().clone();
    let rules = call.gate.service.rules();
    let row = |(name, profiles): (&TargetName, &Vec<ProfileName>)| TargetRow {
        name: name.clone(),
        profiles: profiles.clone(),
        seen: seen.get(name).cloned().unwrap_or_default(),
    };
    let targets: Vec<TargetRow> = rules.targets.iter().map(row).collect();
    let view = GateView {
        status: &status,
        targets: &targets,
    };
    Ok(show(&call, &query, frame("Gate"), &body(&view)))
}

/// Shows a target: drift and roles.
pub(in crate::console) async fn target(call: Call, Path(name): Path<String>, query: QueryFields) -> PageAnswer {
    let status = call.target_status(&name).await?;
    Ok(show(
        &call,
        &query,
        frame(status.target.as_str()),
        &target_body(&status, call.gate.clock.now()),
    ))
}

fn frame(title: &str) -> Frame<'_> {
    Frame {
        section: Some(Section::Gate),
        ..Frame::bare(title)
    }
}

/// Returns the content of the first page.
pub(in crate::console) fn body(view: &GateView<'_>) -> Markup {
    let columns: [TableColumn<'_, TargetRow>; 3] = [
        (
            "Target",
            &|row| html! { a href={ "/gate/targets/" (row.name) } { (row.name) } },
        ),
        ("Profiles", &|row| html! { (names(&row.profiles)) }),
        ("At its database", &|row| drift(&row.seen)),
    ];
    let status = view.status;
    html! {
        h1 { "Gate" }
        div.acts {
            a.button.plain href="/gate/users" { "Users" }
            a.button.plain href="/gate/policies" { "Policies" }
            a.button.plain href="/grants" { "Grants" }
            a.button.plain href="/metrics" { "Metrics" }
        }
        h2 { "Health" }
        dl.facts {
            dt { "Sessions" } dd { (condition(status.not_ready.as_deref(), "takes sessions")) " " (status.sessions) " now" }
            dt { "Threads" } dd { (condition(status.not_alive.as_deref(), "make progress")) }
            dt { "Audit log" } dd { (log::extent(&status.log)) }
            dt { "Gate time" } dd { (time::at(status.gate_time)) }
            dt { "Clients connect to" } dd.id { (shown(&status.advertise)) }
            dt { "Version" } dd { (shown(&status.version)) }
        }
        @if let Some(forwarding) = &status.forwarding { (self::forwarding(forwarding)) }
        h2 { "Targets" }
        (table("", view.targets, &columns, &html! { "No target is configured. Add [targets.NAME] to the configuration." }))
    }
}

fn condition(why_not: Option<&str>, good: &str) -> Markup {
    match why_not {
        None => state::good(true, good),
        Some(why) => state::good(false, &shown(why)),
    }
}

/// Shows how far the log was sent on.
fn forwarding(status: &ForwardingStatus) -> Markup {
    let behind = status.lag_seconds >= MAX_LAG_SECONDS;
    let lag = time::length(Duration::from_secs(status.lag_seconds));
    let words = if behind {
        format!("{lag} behind")
    } else {
        "up to date".to_owned()
    };
    html! {
        h2 { "Forwarding of the log" }
        dl.facts {
            dt { "Receiver" } dd.id { (shown(&status.receiver)) }
            dt { "State" } dd { (state::good(!behind, &words)) }
            dt { "Received" } dd { "up to record " (status.received_to) "; " (status.sent) " sent since the start" }
            @if status.missed > 0 { dt { "Removed before they were sent" } dd { (state::good(false, &count(status.missed, "record", "records"))) } }
            @if let Some(failure) = &status.failure {
                dt { "Last failure" } dd { @if let Some(at) = status.failed_at { (time::at(at)) ": " } (shown(failure)) }
            }
        }
    }
}

fn drift(status: &[ProfileStatus]) -> Markup {
    let differences: u64 = status.iter().filter_map(|profile| profile.differences).sum();
    let unknown = status.iter().any(|profile| profile.differences.is_none());
    html! {
        @if status.is_empty() { span.note { "not checked yet, or without profiles of its own" } }
        @else if differences > 0 { (state::good(false, &count(differences, "difference", "differences"))) }
        @else if unknown { (state::good(false, "could not be checked")) }
        @else { (state::good(true, "as configured")) }
    }
}

/// Returns the content of a target's page.
pub(in crate::console) fn target_body(status: &TargetStatus, now: Timestamp) -> Markup {
    let columns: [TableColumn<'_, RoleBody>; 6] = [
        ("Role", &|role| html! { span.id { (shown(&role.role)) } }),
        (
            "Grant",
            &|role| html! { a.id href={ "/grants/" (role.grant) } { (role.grant) } },
        ),
        (
            "Who",
            &|role| html! { @if let Some(identity) = &role.identity { (shown(identity.as_str())) } },
        ),
        (
            "State",
            &|role| html! { (shown(&role.status)) @if !role.can_login { ", cannot log in" } },
        ),
        (
            "Backends",
            &|role| html! { (role.backends) " of " (count(u64::from(role.sessions), "session", "sessions")) },
        ),
        (
            "Time",
            &|role| html! { @if let Some(until) = role.until { (time::left(until, now)) } },
        ),
    ];
    html! {
        p.crumb { a href="/gate" { "Gate" } }
        h1 { "Target " (status.target) }
        @if !status.role_per_grant {
            p.empty { "All sessions share the target's own account. With profiles each grant has a role of its own." }
        } @else {
            dl.facts {
                dt { "Roles made since the start" } dd { (status.made) }
                dt { "Dropped" } dd { (status.retired) }
                dt { "Could not be dropped yet" } dd { (status.left) }
                dt { "Logins past the gate, ended" } dd { (status.intruders) }
                dt { "Of other gates" } dd { (status.elsewhere) }
            }
            h2 { "Profiles" }
            @if status.profiles.is_empty() { p.empty { "They were not checked yet." } }
            @for profile in &status.profiles { (profile_status(profile)) }
            h2 { "Roles of grants" }
            (table("", &status.roles, &columns, &html! { "No grant has a role there now." }))
        }
    }
}

fn profile_status(profile: &ProfileStatus) -> Markup {
    html! {
        div.card {
            div.head { h3 { (profile.profile) } (drift(std::slice::from_ref(profile))) }
            p.note { "Checked " (time::at(profile.looked_at)) }
            @if let Some(problem) = &profile.problem { p { (shown(problem)) } }
            @if !profile.first.is_empty() {
                ul { @for difference in &profile.first { li { code { (shown(difference)) } } } }
                p.note { "To correct them: " code { "tidegate target apply" } }
            }
        }
    }
}
