//! Command line: the tree of commands, with the help texts that concern all of them.
//!
//! It runs nothing. The help texts are compared with a snapshot, since users read them first.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::args::{COMMON_HEADING, RemoteArgs};

/// Exit codes of all commands; shown at the end of `--help`.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  invalid command line
  3  the gate is unreachable
  4  no such grant, request, user, session, run or sign-in
  5  refused by the gate or an approver, or in conflict with the current state
  6  no decision in time: the request has lapsed or is still pending
  7  the database differs from its profiles (target plan)
  8  a target is not ready: it lacks something or refuses the gate (check)
psql and exec return the exit code of the program they ran; 130 and 143 mean
stopped by Ctrl-C and by SIGTERM";

const EXAMPLES: &str = "\
Examples:
  tidegate demo                                    try it, no setup needed
  tidegate check && tidegate serve                 check, then run the gate
  tidegate user add ana@example.com --group qa     create her token
  tidegate login --control https://gate:7433       once on her machine
  tidegate psql orders --for 30m --reason BUG-812  request, wait, start psql
  tidegate exec orders --for 20m --reason ci -- pytest
  tidegate requests                                list pending requests
  tidegate approve rq_4k2m9x0a7b --for 15m         approve, but for less time
  tidegate log --identity ana@example.com --since 1h";

/// PostgreSQL access that closes on time.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{}\n\n{EXIT_CODES}", super::endpoint::ENDPOINT_HELP))]
pub struct Cli {
    /// Configuration file
    #[arg(long, global = true, env = "TIDEGATE_CONFIG", default_value = crate::config::DEFAULT_FILE, value_name = "FILE")]
    #[arg(hide_env_values = true, help_heading = COMMON_HEADING)]
    pub config: PathBuf,

    /// Shows times in UTC and reads times without a zone as UTC [default: the time zone of this machine, or TZ]
    #[arg(long, global = true, help_heading = COMMON_HEADING)]
    pub utc: bool,

    /// Prints only errors and requested output
    #[arg(long, short, global = true, help_heading = COMMON_HEADING)]
    pub quiet: bool,

    /// Colours status words; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value_t = clap::ColorChoice::Auto, help_heading = COMMON_HEADING)]
    pub color: clap::ColorChoice,

    /// Command to run.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Runs the gate (SIGTERM drains, SIGHUP reloads)
    Serve,
    /// Checks the configuration, the files it names and the targets; prints all problems
    Check {
        /// Does not connect to the targets
        #[arg(long)]
        offline: bool,
        /// Fails only for problems that prevent the gate's start; problems of one target are printed and do not count
        #[arg(long)]
        start: bool,
    },
    /// Prints the SHA-256 of the gate's certificate for `login --trust`; run it on the gate's machine
    Fingerprint,
    /// Demonstrates the gate with a throwaway database: request, approval, work, end on time
    Demo(DemoArgs),
    /// Commands of requesters and approvers.
    #[command(flatten)]
    People(super::requester::RequesterCommand),
    /// Creates, shows and changes grants
    #[command(subcommand)]
    Grant(super::grant::GrantCommand),
    /// Lists and ends live sessions
    #[command(subcommand)]
    Session(super::session::SessionsCommand),
    /// Reloads the gate's configuration (like SIGHUP) and prints the result
    Reload(RemoteArgs),
    /// Compares gate time with the machine's clock, and corrects it
    #[command(subcommand)]
    Clock(super::clock::ClockCommand),
    /// Checks, explains and tests the policies in a folder
    #[command(subcommand)]
    Policy(super::policy::PolicyCommand),
    /// Compares a target's database with its profiles and applies them; shows the roles of its grants
    #[command(subcommand)]
    Target(super::target::TargetCommand),
    /// Reads the audit log
    Log(Box<super::log::args::LogArgs>),
    /// Reports on test runs from the audit log, and compares them
    #[command(subcommand)]
    Run(Box<super::runs::RunsCommand>),
    /// Verifies and exports the audit log, and manages its key
    #[command(subcommand)]
    Audit(super::audit::AuditCommand),
    /// Writes the manual pages, one for each command
    #[command(after_help = "\
Example:
  tidegate man /usr/local/share/man/man1")]
    Man {
        /// Output folder; created if it does not exist
        #[arg(value_name = "DIR", default_value = "man")]
        dir: PathBuf,
    },
    /// Prints the version
    Version,
}

/// Options of the demo.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Keeps everything up afterwards and prints a connection string to try by hand
    #[arg(long)]
    pub stay: bool,

    /// With --stay: how long the grant to try by hand is; like 5m
    #[arg(long = "for", value_name = "TIME", default_value = "5m", requires = "stay")]
    pub window: String,
}
