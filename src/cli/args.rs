//! Command line: the commands, their arguments and their help texts.
//!
//! It runs nothing. The help texts are compared with a snapshot, since users read them first.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use super::complete;
use crate::base::duration;
use crate::base::times::Coming;
use crate::model::ids::{GrantId, SessionId};
use crate::model::names::{IdentityName, NameError, ProfileName, TargetName};

/// Exit codes of all commands; shown at the end of `--help`.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  invalid command line
  3  the gate is unreachable
  4  no such grant, request, user or session
  5  refused by the gate or an approver, or in conflict with the current state
  6  no decision in time: the request has lapsed or is still pending
  7  the database differs from its profiles (target plan)
  8  a target is not ready: it lacks something or refuses the gate (check)
psql and exec return the exit code of the program they ran; 130 and 143 mean
stopped by Ctrl-C and by SIGTERM";

/// Heading of the options that many commands share.
const COMMON_HEADING: &str = "Common options";

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

/// Target, with one of its profiles if named: `orders` or `orders/read-only`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnTarget {
    /// Name of the target.
    pub target: TargetName,
    /// Name of the profile.
    pub profile: Option<ProfileName>,
}

impl FromStr for OnTarget {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (target, profile) = match text.split_once('/') {
            Some((target, profile)) => (target, Some(profile.parse()?)),
            None => (text, None),
        };
        Ok(Self {
            target: target.parse()?,
            profile,
        })
    }
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
    Demo(super::demo::DemoArgs),
    /// Commands of requesters and approvers.
    #[command(flatten)]
    People(super::requester::RequesterCommand),
    /// Creates, shows and changes grants
    #[command(subcommand)]
    Grant(GrantCommand),
    /// Lists and ends live sessions
    #[command(subcommand)]
    Session(SessionsCommand),
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

/// Address of the gate, and output format.
#[derive(Debug, Clone, Args)]
pub struct RemoteArgs {
    /// Address of the gate.
    #[command(flatten)]
    pub place: GatePlace,
    /// Output format.
    #[command(flatten)]
    pub printing: OutputArgs,
}

/// Address of the gate.
#[derive(Debug, Clone, Args)]
pub struct GatePlace {
    /// Address of the gate's control API: unix:/path or https://host:port [env: TIDEGATE_CONTROL]
    /// [default: from `tidegate login` or the configuration]
    #[arg(long, value_name = "ADDRESS", help_heading = COMMON_HEADING)]
    pub control: Option<String>,

    /// File with your token [env: TIDEGATE_TOKEN_FILE, or the token itself: TIDEGATE_TOKEN]
    /// [default: from `tidegate login` or the configuration]
    #[arg(long, value_name = "FILE", help_heading = COMMON_HEADING)]
    pub token_file: Option<PathBuf>,
}

impl GatePlace {
    /// Returns true if the command line or the environment names a gate.
    pub(super) fn is_named(&self) -> bool {
        self.control.is_some() || self.token_file.is_some() || super::endpoint::EndpointEnvironment::read().control.is_some()
    }
}

/// Output format of answers.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// Output format
    #[arg(long, short, value_enum, default_value_t = OutputFormat::Table, help_heading = COMMON_HEADING)]
    pub output: OutputFormat,
}

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Text for people
    Table,
    /// JSON for scripts
    Json,
}

/// Makes, shows and changes grants.
#[derive(Debug, Subcommand)]
pub enum GrantCommand {
    /// Creates a grant and prints its secret, once
    #[command(after_help = "\
Example:
  tidegate grant create orders --identity ana@example.com --for 30m --reason BUG-812

The window opens at the first connect. When it closes after --for, all sessions end.")]
    Create(CreateArgs),
    /// Lists the grants that have not ended
    List {
        /// Also shows grants that have ended
        #[arg(long, short)]
        all: bool,
        /// Shows only this identity
        #[arg(long, value_name = "NAME")]
        identity: Option<IdentityName>,
        /// Shows only this target
        #[arg(long, value_name = "NAME", add = complete::targets())]
        target: Option<TargetName>,
        /// Part of the list.
        #[command(flatten)]
        page: GrantsPage,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Shows one grant
    Show {
        /// The grant
        #[arg(add = complete::grants())]
        grant: GrantId,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Gives a grant more time; open sessions continue
    Extend {
        /// The grant
        #[arg(add = complete::grants())]
        grant: GrantId,
        /// Time to add, like 30m or 2h30m
        #[arg(long, value_parser = duration::parse, value_name = "TIME")]
        by: Duration,
        /// Reason
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Gives a grant less time; open sessions end at the new end
    #[command(after_help = "\
Examples:
  tidegate grant shorten gr_4k2m9x0a7b --by 10m --reason \"the restore begins at noon\"
  tidegate grant shorten gr_4k2m9x0a7b --until 18:30
  tidegate grant shorten gr_4k2m9x0a7b --until 2026-08-01T12:00Z")]
    #[command(group = clap::ArgGroup::new("end").required(true))]
    Shorten {
        /// The grant
        #[arg(add = complete::grants())]
        grant: GrantId,
        /// Time to take away, like 10m
        #[arg(long, value_parser = duration::parse, value_name = "TIME", group = "end")]
        by: Option<Duration>,
        /// New end: 18:30, tomorrow 9:00, tuesday 14:00, 2026-08-01T12:00Z, or a time from now (2h)
        #[arg(long, value_name = "WHEN", group = "end", value_parser = Coming::parse)]
        until: Option<Coming>,
        /// Reason
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Ends a grant and its open sessions permanently
    #[command(after_help = "\
Example:
  tidegate grant revoke gr_4k2m9x0a7b --reason \"the nightly restore begins\"")]
    Revoke {
        /// The grant
        #[arg(add = complete::grants())]
        grant: GrantId,
        /// Reason
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
}

/// Part of a list of grants.
#[derive(Debug, Clone, Args)]
pub struct GrantsPage {
    /// Shows grants older than this one (next page)
    #[arg(long, value_name = "GRANT")]
    pub before: Option<GrantId>,
    /// Maximum number of entries
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// Grant to create.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name of the target in the configuration
    #[arg(add = complete::targets())]
    pub target: TargetName,
    /// Identity that gets the grant
    #[arg(long, value_name = "NAME")]
    pub identity: IdentityName,
    /// Profile of the target [default: the narrowest if the target's profiles define rights, otherwise none]
    #[arg(long, value_name = "NAME", add = complete::profiles())]
    pub profile: Option<ProfileName>,
    /// Length of the window, from the first connect; like 30m or 2h30m
    #[arg(long = "for", value_parser = duration::parse, value_name = "TIME")]
    pub window: Duration,
    /// Reason; kept in the audit log
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Time limit for the first connect [default: 1h]
    #[arg(long, value_parser = duration::parse, value_name = "TIME")]
    pub activate_within: Option<Duration>,
    /// Latest end of the window, whenever it opens: 18:30, tomorrow 9:00, tuesday 14:00, 2026-08-01T12:00Z, or a time from
    /// now (2h)
    #[arg(long, value_name = "WHEN", value_parser = Coming::parse)]
    pub deadline: Option<Coming>,
    /// Maximum number of concurrent sessions [default: 10]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_sessions: Option<u32>,
    /// Network that clients must connect from, like 10.1.0.0/16
    #[arg(long, value_name = "NETWORK")]
    pub client_network: Option<IpNet>,
    /// Address of the gate, and output format.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Lists and ends live sessions.
#[derive(Debug, Subcommand)]
pub enum SessionsCommand {
    /// Lists the live sessions
    List {
        /// Shows only this grant
        #[arg(long, value_name = "GRANT", add = complete::grants())]
        grant: Option<GrantId>,
        /// Shows only this identity
        #[arg(long, value_name = "NAME")]
        identity: Option<IdentityName>,
        /// Shows only this target
        #[arg(long, value_name = "NAME", add = complete::targets())]
        target: Option<TargetName>,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Ends one session; its grant stays valid
    #[command(after_help = "\
Example:
  tidegate session kill se_4k2m9x0a7b --reason \"holds a lock\"")]
    Kill {
        /// The session
        session: SessionId,
        /// Reason; shown to the client
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
}
