//! `target status`: the roles of a target's grants, by one call to the control API.

use std::fmt::Write as _;
use std::path::Path;

use clap::Args;
use jiff::Timestamp;

use crate::base::clock::Clock;
use crate::cli::args::RemoteArgs;
use crate::cli::client::ControlClient;
use crate::cli::complete;
use crate::cli::endpoint::UsualCaller;
use crate::cli::render;
use crate::cli::table::{cut, less, whole};
use crate::control::model::{ProfileStatus, RoleBody, TargetStatus};
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
    let client = ControlClient::new(UsualCaller::Operator, config, &args.remote.place)?;
    let status: TargetStatus = client.get(&path, &()).await?;
    let now = Clock::system(None).now();
    render::show(args.remote.printing.output, &status, |status| told(status, now))
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
            let named = first
                .iter()
                .fold(String::new(), |named, first| named + "\n  " + &render::visible(first));
            return format!(
                "Profile {profile}: the database differs in {differences}; see `tidegate target plan {target}` (checked at {looked_at}){named}"
            );
        }
        (None, problem) => {
            let problem = problem.as_deref().unwrap_or("not checked yet");
            format!("cannot compare the database: {}", render::visible(problem))
        }
    };
    format!("Profile {profile}: {state} (checked at {looked_at})")
}

fn roles(roles: &[RoleBody], now: Timestamp) -> String {
    if roles.is_empty() {
        return "No roles of grants.".to_owned();
    }
    let columns = [
        whole("ROLE"),
        cut("IDENTITY", 12),
        less("GRANT", 1),
        whole("ENDS"),
        less("LOGIN", 2),
        less("BACKENDS", 3),
        less("SESSIONS", 4),
    ];
    let row = |role: &RoleBody| {
        [
            render::visible(&role.role),
            role.identity.as_ref().map_or_else(|| "?".to_owned(), ToString::to_string),
            format!("{} ({})", role.grant, render::visible(&role.status)),
            role.until.map_or_else(|| "-".to_owned(), |until| render::left(until, now)),
            if role.can_login { "yes" } else { "no" }.to_owned(),
            role.backends.to_string(),
            role.sessions.to_string(),
        ]
    };
    render::table(columns, &roles.iter().map(row).collect::<Vec<_>>())
}
