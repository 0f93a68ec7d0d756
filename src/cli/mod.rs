//! The commands: each turns words on the command line into one call, and its answer into a table or JSON.
//!
//! It holds no rules of its own; what may be done is decided by the gate. Exit codes are in [`args`].

pub mod args;
mod client;
pub mod demo;
mod gate;
mod grant;
mod log;
pub mod policy;
mod render;
mod session;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
pub use client::ClientError;

/// Runs the command line this process was started with.
#[must_use]
pub fn main() -> ExitCode {
    // clap itself prints usage errors and leaves with 2.
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(exit_code(&error))
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let config = cli.config;
    match cli.command {
        Command::Serve => gate::serve(&config),
        Command::Check => gate::check(&config),
        Command::Demo(args) => demo::run(&args),
        Command::Grant(command) => wait(grant::run(&config, command)),
        Command::Session(command) => wait(session::run(&config, command)),
        Command::Log(args) => wait(log::run(&config, args)),
        Command::Policy(command) => policy::run(&config, command),
        Command::Version => Ok(render::print(concat!("tidegate ", env!("CARGO_PKG_VERSION")))?),
    }
}

/// One thread is enough for a command that makes one call.
fn wait(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(command)
}

fn exit_code(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<ClientError>().map_or(1, ClientError::exit_code)
}

#[expect(clippy::print_stderr, reason = "the one place that tells the user what went wrong")]
fn complain(text: &str) {
    for line in text.lines() {
        eprintln!("tidegate: {}", render::visible(line));
    }
}
