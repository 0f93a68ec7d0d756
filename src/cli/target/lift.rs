//! `target lift`: work of the owner on tables that masking views depend on.
//!
//! INVARIANT: once the masks are lifted they are applied again, however the command ended.

use std::ffi::OsString;
use std::path::Path;

use clap::Args;

use super::{TargetArgs, applied, at};
use crate::cli::args::OutputFormat;
use crate::cli::render;
use crate::cli::run::{at_the_terminal, run_to_its_end};
use crate::cli::wait::Signals;
use crate::database::provision::profiles::lift;

/// Target, account, and command to run meanwhile.
#[derive(Debug, Args)]
pub struct LiftArgs {
    /// Target, and account to log in as.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Command to run while the masks are lifted, with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Lifts the masks, runs the command and applies the masks again; returns the exit code.
pub(super) async fn run(config: &Path, args: &LiftArgs) -> anyhow::Result<u8> {
    let settings = args.target.settings(config)?;
    let profiles = args.target.profiles(&settings);
    // From here on Ctrl-C is for the command; this program goes on.
    let mut stops = Signals::new()?;
    let lifted = lift(&profiles.0, &profiles.1).await.map_err(|error| at(&settings, error))?;
    let name = &settings.upstream.name;
    say(
        args,
        &format!(
            "{name}: masks are lifted ({} views); sessions of profiles with masks cannot read those tables",
            lifted.len()
        ),
    );
    let Some((program, arguments)) = args.command.split_first() else {
        say(args, &format!("apply them again with: tidegate target apply {name}"));
        return Ok(0);
    };
    let mut command = tokio::process::Command::new(program);
    command.args(arguments);
    let ran = run_to_its_end(command, !at_the_terminal(), &mut stops).await;
    let done = applied(&args.target, &settings, &profiles).await;
    let done = done.map_err(|error| {
        error.context(format!(
            "the masks of {name} are still lifted, and sessions of profiles with masks cannot read those tables; fix this error, then run: tidegate target apply {name}"
        ))
    })?;
    match ran {
        Ok(0) => Ok(done),
        Ok(code) => Ok(code),
        Err(reason) => Err(anyhow::Error::new(reason).context(format!("cannot run {}", program.to_string_lossy()))),
    }
}

/// Prints a line for people; scripts read the output of `apply`.
fn say(args: &LiftArgs, line: &str) {
    if args.target.printing.output == OutputFormat::Table {
        render::print_line(&render::visible(line));
    }
}
