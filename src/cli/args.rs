//! Command line: the commands, their arguments and their help texts.
//!
//! It runs nothing. The help texts are compared with a snapshot, since users read them first.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use super::complete;
use crate::duration;
use crate::ids::{GrantId, SessionId};
use crate::names::{IdentityName, InvalidName, ProfileName, TargetName};
use crate::times::Coming;

/// Exit codes of all commands; shown at the end of `--help`.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line is wrong
  3  the gate cannot be reached
  4  there is no such grant, request, user or session
  5  refused: the gate or an approver does not allow it (as things stand)
  6  nobody has decided in time: the request has lapsed, or is still pending
  7  the database differs from what the profiles say (target plan)
  8  a target is not ready: it lacks something, or keeps the gate out (check)
psql and exec leave with the exit code of what they ran; 130, 143: stopped by
Ctrl-C, by SIGTERM";

/// Heading of the options that many commands share.
const COMMON: &str = "Common options";

const EXAMPLES: &str = "\
Examples:
  tidegate demo                                    see it work, nothing needed
  tidegate check && tidegate serve                 check, then run the gate
  tidegate user add ana@example.com --group qa     makes her token
  tidegate login --control https://gate:7433       once on her machine
  tidegate psql orders --for 30m --reason BUG-812  asks, waits, starts psql
  tidegate exec orders --for 20m --reason ci -- pytest
  tidegate requests                                what waits for an approver
  tidegate approve rq_4k2m9x0a7b --for 15m         yes, but shorter
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
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{}\n\n{EXIT_CODES}", super::reach::HELP))]
pub struct Cli {
    /// The configuration file
    #[arg(long, global = true, env = "TIDEGATE_CONFIG", default_value = crate::config::DEFAULT_FILE, value_name = "FILE")]
    #[arg(hide_env_values = true, help_heading = COMMON)]
    pub config: PathBuf,

    /// Shows times in UTC, and means UTC where a time has no zone [default: the time zone of this machine, or TZ]
    #[arg(long, global = true, help_heading = COMMON)]
    pub utc: bool,

    /// Says nothing but errors and what was asked for
    #[arg(long, short, global = true, help_heading = COMMON)]
    pub quiet: bool,

    /// Colours words of status; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value_t = clap::ColorChoice::Auto, help_heading = COMMON)]
    pub color: clap::ColorChoice,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
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
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
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

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the gate (SIGTERM drains, SIGHUP reloads)
    Serve,
    /// Checks the configuration and every file it names, and asks the targets what they lack; prints all that is wrong
    Check {
        /// Does not ask the targets
        #[arg(long)]
        offline: bool,
        /// Fails only for what must keep a gate from starting; a target that lacks something is named, and keeps no other from being served
        #[arg(long)]
        start: bool,
    },
    /// Prints the SHA-256 of the gate's certificate, which `login --trust` takes; on the gate's machine
    Fingerprint,
    /// Shows it all on this machine, with a throwaway database: ask, approve, work, the end on time
    Demo(super::demo::Args),
    /// What people do.
    #[command(flatten)]
    People(super::people::Command),
    /// Makes, shows and changes grants
    #[command(subcommand)]
    Grant(GrantCommand),
    /// Lists and ends live sessions
    #[command(subcommand)]
    Session(SessionCommand),
    /// Has the gate read its configuration again (as SIGHUP does), and tells what came of it
    Reload(Remote),
    /// Shows the gate's time beside the machine's, and sets it right
    #[command(subcommand)]
    Clock(super::clock::Command),
    /// Checks, explains and tests the policies in a folder
    #[command(subcommand)]
    Policy(super::policy::PolicyCommand),
    /// Brings a target's database in step with its profiles; shows the roles of its grants
    #[command(subcommand)]
    Target(super::target::TargetCommand),
    /// Reads the audit log
    Log(Box<super::log::args::LogArgs>),
    /// Proves the audit log, and what that takes
    #[command(subcommand)]
    Audit(super::audit::AuditCommand),
    /// Writes the manual pages, one for each command
    #[command(after_help = "\
Example:
  tidegate man /usr/local/share/man/man1")]
    Man {
        /// The folder; made if it does not exist
        #[arg(value_name = "DIR", default_value = "man")]
        dir: PathBuf,
    },
    /// Prints the version
    Version,
}

/// How to reach the gate and how to print what it says.
#[derive(Debug, Clone, Args)]
pub struct Remote {
    /// Which gate.
    #[command(flatten)]
    pub place: Place,
    /// How to print.
    #[command(flatten)]
    pub printing: Printing,
}

/// How to reach the gate.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Where the gate's control API is: unix:/path or https://host:port [env: TIDEGATE_CONTROL]
    /// [default: as `tidegate login` or the configuration says]
    #[arg(long, value_name = "ADDRESS", help_heading = COMMON)]
    pub control: Option<String>,

    /// The file with your token [env: TIDEGATE_TOKEN_FILE, or the token itself: TIDEGATE_TOKEN]
    /// [default: as `tidegate login` or the configuration says]
    #[arg(long, value_name = "FILE", help_heading = COMMON)]
    pub token_file: Option<PathBuf>,
}

impl Place {
    /// Returns true if the command line or the environment names a gate.
    pub(super) fn is_named(&self) -> bool {
        self.control.is_some() || self.token_file.is_some() || super::reach::Environment::read().control.is_some()
    }
}

/// How to print what the gate says.
#[derive(Debug, Clone, Args)]
pub struct Printing {
    /// How to print
    #[arg(long, short, value_enum, default_value_t = Output::Table, help_heading = COMMON)]
    pub output: Output,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For scripts
    Json,
}

/// Makes, shows and changes grants.
#[derive(Debug, Subcommand)]
pub enum GrantCommand {
    /// Makes a grant and prints its secret, once
    #[command(after_help = "\
Example:
  tidegate grant create orders --identity ana@example.com --for 30m --reason BUG-812

The window opens at the first connect and closes after --for, whatever is running then.")]
    Create(CreateArgs),
    /// Lists the grants that have not ended
    List {
        /// Those that have ended too
        #[arg(long, short)]
        all: bool,
        /// Only of this identity
        #[arg(long, value_name = "NAME")]
        identity: Option<IdentityName>,
        /// Only for this target
        #[arg(long, value_name = "NAME", add = complete::targets())]
        target: Option<TargetName>,
        /// Which part of the list.
        #[command(flatten)]
        page: GrantsPage,
        /// Which gate, and how to print.
        #[command(flatten)]
        remote: Remote,
    },
    /// Shows one grant
    Show {
        /// The grant
        #[arg(add = complete::grants())]
        grant: GrantId,
        /// Which gate, and how to print.
        #[command(flatten)]
        remote: Remote,
    },
    /// Moves the end of a grant's window further off; open sessions go on
    Extend {
        /// The grant
        #[arg(add = complete::grants())]
        grant: GrantId,
        /// By how much, like 30m or 2h30m
        #[arg(long, value_parser = duration::parse, value_name = "TIME")]
        by: Duration,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Which gate, and how to print.
        #[command(flatten)]
        remote: Remote,
    },
    /// Moves the end of a grant's window nearer; open sessions end then
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
        /// By how much, like 10m
        #[arg(long, value_parser = duration::parse, value_name = "TIME", group = "end")]
        by: Option<Duration>,
        /// The new end: 18:30, tomorrow 9:00, tuesday 14:00, 2026-08-01T12:00Z, or how long from now (2h)
        #[arg(long, value_name = "WHEN", group = "end", value_parser = Coming::parse)]
        until: Option<Coming>,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Which gate, and how to print.
        #[command(flatten)]
        remote: Remote,
    },
    /// Ends a grant and its open sessions now, for good
    #[command(after_help = "\
Example:
  tidegate grant revoke gr_4k2m9x0a7b --reason \"the nightly restore begins\"")]
    Revoke {
        /// The grant
        #[arg(add = complete::grants())]
        grant: GrantId,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Which gate, and how to print.
        #[command(flatten)]
        remote: Remote,
    },
}

/// Which part of a list of grants.
#[derive(Debug, Clone, Args)]
pub struct GrantsPage {
    /// Only older ones than this grant: the next page
    #[arg(long, value_name = "GRANT")]
    pub before: Option<GrantId>,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// A grant to be made.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The database, by its name in the configuration
    #[arg(add = complete::targets())]
    pub target: TargetName,
    /// Whom it is for
    #[arg(long, value_name = "NAME")]
    pub identity: IdentityName,
    /// With which of the target's profiles [default: the narrowest where profiles say what they may do, else none]
    #[arg(long, value_name = "NAME", add = complete::profiles())]
    pub profile: Option<ProfileName>,
    /// How long, from the first connect; like 30m or 2h30m
    #[arg(long = "for", value_parser = duration::parse, value_name = "TIME")]
    pub window: Duration,
    /// Why; kept in the log
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// How long it waits for the first connect [default: 1h]
    #[arg(long, value_parser = duration::parse, value_name = "TIME")]
    pub activate_within: Option<Duration>,
    /// A time it does not go past, whenever it is first used: 18:30, tomorrow 9:00, tuesday 14:00, 2026-08-01T12:00Z, or how long
    /// from now (2h)
    #[arg(long, value_name = "WHEN", value_parser = Coming::parse)]
    pub deadline: Option<Coming>,
    /// Sessions at once [default: 10]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_sessions: Option<u32>,
    /// Where its clients have to come from, like 10.1.0.0/16
    #[arg(long, value_name = "NETWORK")]
    pub client_network: Option<IpNet>,
    /// Which gate, and how to print.
    #[command(flatten)]
    pub remote: Remote,
}

/// Lists and ends live sessions.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// Lists the live sessions
    List {
        /// Only under this grant
        #[arg(long, value_name = "GRANT", add = complete::grants())]
        grant: Option<GrantId>,
        /// Only of this identity
        #[arg(long, value_name = "NAME")]
        identity: Option<IdentityName>,
        /// Only on this target
        #[arg(long, value_name = "NAME", add = complete::targets())]
        target: Option<TargetName>,
        /// Which gate, and how to print.
        #[command(flatten)]
        remote: Remote,
    },
    /// Ends one session; its grant stays as it is
    #[command(after_help = "\
Example:
  tidegate session kill se_4k2m9x0a7b --reason \"holds a lock\"")]
    Kill {
        /// The session
        session: SessionId,
        /// Why; the client reads it
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Which gate, and how to print.
        #[command(flatten)]
        remote: Remote,
    },
}
