//! `target status`: the roles of a target's grants, by one call to the control API.

use std::fmt::Write as _;
use std::path::Path;

use clap::Args;
use jiff::Timestamp;

use crate::base::clock::Clock;
use crate::cli::args::RemoteArgs;
use crate::cli::complete;
use crate::cli::render::{self, visible};
use crate::cli::table::{Column, cut, less, table, whole};
use crate::control::model::{CopyBody, ProfileStatus, RoleBody, TargetStatus};
use crate::model::names::TargetName;

/// Target.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Name of the target in the gate's configuration
    #[arg(add = complete::targets())]
    pub target: TargetName,
    /// Address of the gate, and output format.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

pub(super) async fn run(config: &Path, args: StatusArgs) -> anyhow::Result<()> {
    let path = format!("/v1/targets/{}/status", args.target);
    let status: TargetStatus = args.remote.place.operator(config)?.get(&path, &()).await?;
    args.remote.show(&status, |status| told(status, Clock::system(None).now()))
}

fn told(status: &TargetStatus, now: Timestamp) -> String {
    let TargetStatus {
        target,
        made,
        retired,
        left,
        intruders,
        elsewhere,
        ..
    } = status;
    if !status.role_per_grant {
        return format!("All sessions on {target} share its account; grants have no roles there.");
    }
    let mut text = roles(&status.roles, now);
    if !status.profiles.is_empty() {
        text.push('\n');
    }
    for profile in &status.profiles {
        text.extend(["\n", &of_profile(profile, target)]);
    }
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "\n\nSince the gate's start: {made} created, {retired} dropped, {left} could not be dropped yet."
    );
    if !status.copies.is_empty() || status.copies_made > 0 {
        text.push_str(&copies(status));
    }
    if *intruders > 0 {
        let _ = write!(
            text,
            "\nEnded {intruders} logins that bypassed the gate; allow these roles only from the gate in pg_hba.conf."
        );
    }
    if *elsewhere > 0 {
        let _ = write!(
            text,
            "\n{elsewhere} more belong to another gate or target and are left alone."
        );
    }
    text
}

fn copies(status: &TargetStatus) -> String {
    let size = |bytes: u64| format!(", {} MiB", bytes.div_ceil(1 << 20));
    let copy = |copy: &CopyBody| {
        let size = copy.bytes.map(size).unwrap_or_default();
        format!("\n  {} (grant {}{size})", visible(&copy.database), copy.grant)
    };
    let (made, dropped) = (status.copies_made, status.copies_dropped);
    format!(
        "\nDatabases of grants: {} now; {made} made and {dropped} dropped since the gate's start.{}",
        status.copies.len(),
        render::joined(status.copies.iter().map(copy), "")
    )
}

fn of_profile(status: &ProfileStatus, target: &TargetName) -> String {
    let ProfileStatus {
        profile,
        looked_at,
        differences,
        first,
        problem,
    } = status;
    let looked_at = render::time(*looked_at);
    let state = match (differences, problem) {
        (Some(0), _) => "the database matches".to_owned(),
        (Some(differences), _) => {
            let named = render::joined(first.iter().map(|first| format!("\n  {}", visible(first))), "");
            return format!(
                "Profile {profile}: the database differs in {differences}; see `tidegate target plan {target}` (checked at {looked_at}){named}"
            );
        }
        (None, problem) => {
            let problem = problem.as_deref().unwrap_or("not checked yet");
            format!("cannot compare the database: {}", visible(problem))
        }
    };
    format!("Profile {profile}: {state} (checked at {looked_at})")
}

fn roles(roles: &[RoleBody], now: Timestamp) -> String {
    let columns: [Column<'_, RoleBody>; 7] = [
        (whole("ROLE"), &|role| visible(&role.role)),
        (cut("IDENTITY", 12), &|role| optional(role.identity.as_ref(), "?")),
        (less("GRANT", 1), &|role| {
            format!("{} ({})", role.grant, visible(&role.status))
        }),
        (whole("ENDS"), &|role| {
            optional(role.until.map(|until| render::left(until, now)), "-")
        }),
        (less("LOGIN", 2), &|role| if role.can_login { "yes" } else { "no" }.to_owned()),
        (less("BACKENDS", 3), &|role| role.backends.to_string()),
        (less("SESSIONS", 4), &|role| role.sessions.to_string()),
    ];
    table(roles, "No roles of grants.", &columns)
}

fn optional(value: Option<impl ToString>, absent: &str) -> String {
    value.map_or_else(|| absent.to_owned(), |value| value.to_string())
}
