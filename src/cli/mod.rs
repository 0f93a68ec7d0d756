//! Commands: each converts its arguments to one call, and the answer to a table or JSON.
//!
//! They contain no rules; the gate decides what is permitted. Exit codes are in [`command_line`].

mod access;
mod address;
pub mod args;
pub mod audit;
mod browser;
mod client;
mod client_error;
mod clock;
pub mod command_line;
mod complete;
mod device;
mod endpoint;
pub mod evidence;
mod gate;
mod grant;
mod groups;
mod line;
pub mod log;
mod logout;
mod man;
pub mod policy;
mod profile;
mod reload;
mod render;
mod report_text;
pub mod requester;
pub mod run;
pub mod runs;
mod session;
mod sign_ins;
mod speech;
mod stored_login;
mod table;
pub mod target;
mod targets;
mod terminal;
#[cfg(test)]
mod tests;
pub mod undo;
pub mod user;
mod views;
pub(crate) mod wait;
mod watch;
mod zone;

use std::process::ExitCode;

use clap::FromArgMatches as _;
use clap_complete::CompleteEnv;

pub use client_error::ClientError;
use command_line::{Cli, CliCommand, DemoArgs};
use run::StartProgramError;
use speech::complain;
use wait::Interrupted;
pub use wait::WaitError;

use crate::audit::runs::RunError;

/// Runs the command line that this process was started with. `demo` is the room above this one: no other command needs what it
/// brings.
#[must_use]
pub fn main(demo: impl FnOnce(&DemoArgs) -> anyhow::Result<()>) -> ExitCode {
    // If a shell asks for completion candidates, this answers and exits.
    CompleteEnv::with_factory(groups::command)
        .var(complete::COMPLETE_VARIABLE)
        .complete();
    // clap itself prints usage errors and exits with 2.
    let cli = Cli::from_arg_matches(&groups::command().get_matches()).unwrap_or_else(|error| error.exit());
    zone::settle(cli.utc);
    speech::settle(cli.quiet, cli.color);
    match dispatch(cli, demo) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Runs a command and returns its exit code: 0, or that of the program it ran.
fn dispatch(cli: Cli, demo: impl FnOnce(&DemoArgs) -> anyhow::Result<()>) -> anyhow::Result<u8> {
    let config = cli.config;
    let done = match cli.command {
        CliCommand::People(command) => return wait_for(requester::run(&config, command)),
        CliCommand::Serve => return gate::serve(&config),
        CliCommand::Check { offline, start } => return gate::check(&config, offline, start),
        CliCommand::Fingerprint => gate::fingerprint(&config),
        CliCommand::Demo(args) => demo(&args),
        CliCommand::Grant(command) => wait_for(grant::run(&config, command)),
        CliCommand::Session(command) => wait_for(session::run(&config, command)),
        CliCommand::Reload(remote) => wait_for(reload::run(&config, &remote)),
        CliCommand::Clock(command) => wait_for(clock::run(&config, command)),
        CliCommand::Log(args) => wait_for(log::run(&config, *args)),
        CliCommand::Run(command) => wait_for(runs::run(&config, *command)),
        CliCommand::Audit(command) => return wait_for(audit::run(&config, command)),
        CliCommand::Target(command) => return wait_for(target::run(&config, command)),
        CliCommand::Policy(command) => wait_for(policy::run(&config, command)),
        CliCommand::Man { dir } => man::write(&dir),
        CliCommand::Version => Ok(render::print(concat!("tidegate ", env!("CARGO_PKG_VERSION")))?),
    };
    done.map(|()| 0)
}

/// Runs a command on a single thread, which is enough for one call.
fn wait_for<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(command)
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref::<ClientError>() {
        return error.exit_code();
    }
    if let Some(error) = error.downcast_ref::<WaitError>() {
        return error.exit_code();
    }
    if let Some(Interrupted(code)) = error.downcast_ref() {
        return *code;
    }
    if error.is::<log::NoSuchSessionError>() || matches!(error.downcast_ref(), Some(RunError::NoSuchRun(_))) {
        return 4;
    }
    match error.downcast_ref::<StartProgramError>() {
        Some(error) if error.reason.kind() == std::io::ErrorKind::NotFound => 127,
        Some(_) => 126,
        None => 1,
    }
}
