//! `target`: the meaning of a target's profiles at the database, the differences, and the commands that apply them; the roles
//! of the target's grants.
//!
//! No gate is involved, except for the roles: the command reads the configuration and connects to the database itself, also
//! with another account than the gate's, since only the owner of a table may grant its rights. Only `apply` and `lift` change
//! anything.

mod lift;
mod status;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use super::args::{OutputArgs, OutputFormat};
use super::client_error::ClientError;
use super::{complete, render};
use crate::app::profiles::{TargetProfiles, profiles};
use crate::base::clock::Clock;
use crate::base::secret::Secret;
use crate::config::{self, TargetSettings};
use crate::database::copy::CopySource;
use crate::database::provision::profiles::{ProfileComparison, ProfilesError, TargetComparison, apply, compare};
use crate::database::provision::{TargetFinding, inspect_templates};
use crate::database::upstream::TargetAccount;
use crate::model::names::TargetName;

/// Exit code of `plan` if the database differs from the profiles.
const DIFFERS_EXIT_CODE: u8 = 7;

/// Compares a target's database with its profiles and applies them; shows the roles of its grants.
#[derive(Debug, Subcommand)]
pub enum TargetCommand {
    /// Shows the SQL that would make the database match its profiles; changes nothing
    #[command(after_help = "\
Examples:
  tidegate target plan orders
  tidegate target plan orders --user postgres --password-file /run/secrets/postgres

Exit codes: 0 the database matches, 7 it differs, 1 it cannot be compared.")]
    Plan(TargetArgs),
    /// Runs the SQL that `plan` shows, in one transaction
    #[command(after_help = "\
Example:
  tidegate target apply orders --user postgres --password-file - < postgres.password

The account needs CREATEROLE for the profiles' roles. It must own the objects that they get rights
on, or be a member of the owner; a superuser can do both. The account owns the views with masks.

Exit codes: 0 the database matches, 7 everything this account may change was changed, but another
role granted a profile's role more, 1 nothing was changed.")]
    Apply(TargetArgs),
    /// Removes the views with masks while a migration or restore runs, which they would block, then applies them again
    #[command(after_help = "\
Examples:
  tidegate target lift orders --user shop_owner --password-file owner.password -- pg_restore --clean -d shop shop.dump
  tidegate target lift orders --user shop_owner --password-file owner.password -- psql -f migration.sql

Meanwhile sessions of profiles with masks cannot read those tables. The masks are applied again even
if the command fails or is interrupted. Without a command, they stay lifted until `tidegate target
apply`. The command gets this program's environment, but no password.

Exit codes: the command's, if it is not 0, otherwise those of `apply`; 1 nothing was lifted, or the
masks could not be applied again.")]
    Lift(lift::LiftArgs),
    /// Shows the roles of a target's grants at its server: identity, end, backends, and leftover roles
    #[command(after_help = "\
Examples:
  tidegate target status orders
  tidegate target status orders --output json

The running gate queries the server. More backends than sessions mean a login that bypassed the
gate; the gate ends it within about a minute.")]
    Status(status::StatusArgs),
}

/// Target, and account to log in as.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// Name of the target in the configuration
    #[arg(add = complete::targets())]
    pub target: TargetName,
    /// Template of profiles with `copy_of`, whose rights are in it [default: the target's database]
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
    /// Account to log in as [default: the configured one]
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// File with the account's password; `-`: standard input
    #[arg(long, value_name = "FILE", requires = "user", conflicts_with = "password_env")]
    pub password_file: Option<PathBuf>,
    /// Environment variable with the account's password
    #[arg(long, value_name = "VARIABLE", requires = "user")]
    pub password_env: Option<String>,
    /// Output format.
    #[command(flatten)]
    pub printing: OutputArgs,
}

/// Runs the command and returns its exit code.
pub(super) async fn run(config: &Path, command: TargetCommand) -> anyhow::Result<u8> {
    match command {
        TargetCommand::Plan(args) => show_plan(config, &args).await,
        TargetCommand::Apply(args) => bring_in_step(config, &args).await,
        TargetCommand::Lift(args) => lift::run(config, &args).await,
        TargetCommand::Status(args) => status::run(config, args).await.map(|()| 0),
    }
}

impl TargetArgs {
    /// Returns the named account.
    fn account(&self) -> anyhow::Result<Option<TargetAccount>> {
        let Some(user) = self.user.clone() else { return Ok(None) };
        let password = match (&self.password_file, &self.password_env) {
            (Some(file), _) => {
                let text = if file.as_os_str() == "-" {
                    std::io::read_to_string(std::io::stdin())
                } else {
                    std::fs::read_to_string(file)
                };
                let text = text.with_context(|| format!("cannot read {}", file.display()))?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            (None, Some(variable)) => {
                let text = std::env::var(variable).with_context(|| format!("the environment variable {variable}"))?;
                Some(text)
            }
            (None, None) => None,
        };
        let mut account = TargetAccount::own(user);
        account.password = password.map(Secret::new);
        Ok(Some(account))
    }

    fn settings(&self, config: &Path) -> anyhow::Result<TargetSettings> {
        let mut target = config::target(config, &self.target, self.account()?).map_err(ClientError::Config)?;
        if !target.has_rights() {
            anyhow::bail!(
                "the profiles of {} define no rights, so there is nothing to compare; define them in [targets.{0}.profiles.NAME]",
                self.target
            );
        }
        if let Some(template) = &self.database {
            let sources = target.profiles.iter().filter_map(|profile| profile.copy.as_ref());
            let templates: Vec<&str> = sources.map(|source| source.template.as_str()).collect();
            if !templates.contains(&template.as_str()) {
                let known = if templates.is_empty() {
                    "none has copy_of".to_owned()
                } else {
                    templates.join(", ")
                };
                anyhow::bail!(
                    "no profile of {} works in copies of {template}; templates: {known}",
                    self.target
                );
            }
            // It was read just now, and nobody else has it.
            let upstream = Arc::get_mut(&mut target.upstream).context("the target's settings are in use")?;
            upstream.database.clone_from(template);
        }
        Ok(target)
    }

    /// Returns the definitions of the profiles that work in the database.
    fn profiles(&self, settings: &TargetSettings) -> TargetProfiles {
        profiles(settings, self.database.as_deref())
    }
}

async fn show_plan(config: &Path, args: &TargetArgs) -> anyhow::Result<u8> {
    let settings = args.settings(config)?;
    let (target, definitions) = args.profiles(&settings);
    let comparison = compare(&target, &definitions).await.map_err(|error| at(&settings, error))?;
    let templates = templates(&settings).await?;
    let in_step = comparison.in_step() && !templates.iter().any(TargetFinding::stops);
    let templates: Vec<String> = templates.iter().map(ToString::to_string).collect();
    let value = json!({
        "target": settings.upstream.name, "in_step": in_step, "profiles": comparison.profiles,
        "everybody": comparison.everybody, "left": comparison.left, "templates": templates
    });
    render::show(args.printing.output, &value, |_| told(&settings, &comparison, &templates))?;
    Ok(if in_step { 0 } else { DIFFERS_EXIT_CODE })
}

/// Returns what the gate's account can do with the templates of the profiles, and what it lacks.
async fn templates(settings: &TargetSettings) -> anyhow::Result<Vec<TargetFinding>> {
    let mut sources: Vec<&CopySource> = settings.profiles.iter().filter_map(|profile| profile.copy.as_ref()).collect();
    sources.dedup_by(|a, b| a.template == b.template);
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let (target, clock) = (&settings.upstream, Clock::system(None));
    Ok(inspect_templates(target, sources, &settings.provisioner, &clock).await?)
}

async fn bring_in_step(config: &Path, args: &TargetArgs) -> anyhow::Result<u8> {
    let settings = args.settings(config)?;
    applied(args, &settings, &args.profiles(&settings)).await
}

/// Applies the profiles, and prints the statements.
async fn applied(args: &TargetArgs, settings: &TargetSettings, (target, definitions): &TargetProfiles) -> anyhow::Result<u8> {
    let progress = |profile: &_, step: &crate::database::provision::profiles::PlanStep| {
        if args.printing.output == OutputFormat::Table {
            let line = format!("{profile}: {};", step.sql);
            render::print_line(&render::visible(&line));
        }
    };
    let done = apply(target, definitions, progress)
        .await
        .map_err(|error| at(settings, error))?;
    let steps: usize = done.profiles.iter().map(|compared| compared.plan.steps.len()).sum();
    let more = done.excess();
    let value = json!({ "target": settings.upstream.name, "in_step": more == 0, "done": done.profiles });
    render::show(args.printing.output, &value, |_| {
        let mut text = match steps {
            0 => format!("{}: the database already matched its profiles", settings.upstream.name),
            1 => format!(
                "{}: the database now matches its profiles, after one change",
                settings.upstream.name
            ),
            steps => format!(
                "{}: the database now matches its profiles, after {steps} changes",
                settings.upstream.name
            ),
        };
        text.push_str(if more > 0 {
            ", except for rights granted by others\n"
        } else {
            "\n"
        });
        for ProfileComparison { profile, plan, .. } in &done.profiles {
            say(&mut text, &format!("{profile}: granted by others: "), &plan.excess);
            say(&mut text, &format!("{profile}: note: "), &plan.warnings);
        }
        text.trim_end().to_owned()
    })?;
    Ok(if more == 0 { 0 } else { DIFFERS_EXIT_CODE })
}

/// Adds the target to an error.
fn at(settings: &TargetSettings, error: ProfilesError) -> anyhow::Error {
    let place = format!("{} ({})", settings.upstream.name, settings.address());
    anyhow::Error::new(error).context(place)
}

fn told(settings: &TargetSettings, comparison: &TargetComparison, templates: &[String]) -> String {
    let mut text = format!(
        "{}: database {} at {}\n",
        settings.upstream.name,
        render::visible(&settings.upstream.database),
        settings.address()
    );
    for compared in &comparison.profiles {
        text.push_str(&of_profile(compared));
    }
    for (head, lines) in [
        ("rights of PUBLIC, outside all profiles", comparison.everybody.as_slice()),
        ("roles of removed profiles", comparison.left.as_slice()),
        ("templates of copies", templates),
    ] {
        if !lines.is_empty() {
            text.extend(["\n", head, ":\n"]);
            say(&mut text, "  ", lines);
        }
    }
    text.trim_end().to_owned()
}

fn of_profile(compared: &ProfileComparison) -> String {
    let plan = &compared.plan;
    let state = match (plan.steps.len(), plan.blocked.len() + plan.excess.len()) {
        (0, 0) => "matches".to_owned(),
        (0, _) => "differs".to_owned(),
        (1, _) => "differs by one statement".to_owned(),
        (steps, _) => format!("differs by {steps} statements"),
    };
    let mut text = format!("\n{} (role {}): {state}\n", compared.profile, render::visible(&compared.role));
    for step in &plan.steps {
        let (sql, why) = (render::visible(&step.sql), render::visible(&step.why));
        text.extend(["  ", &sql, ";  -- ", &why, "\n"]);
    }
    say(&mut text, "  blocked: ", &plan.blocked);
    say(&mut text, "  granted by others: ", &plan.excess);
    say(&mut text, "  note: ", &plan.warnings);
    text
}

/// Adds each line, after `word`.
fn say(text: &mut String, word: &str, lines: &[String]) {
    for line in lines {
        text.extend([word, &render::visible(line), "\n"]);
    }
}
