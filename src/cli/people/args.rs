//! Commands of people: their arguments and help texts.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use super::super::args::{GrantsPage, Place, Printing, Remote};
use super::super::{complete, run, user};
use crate::duration;
use crate::ids::{GrantId, RequestId};
use crate::names::{IdentityName, ProfileName, TargetName};
use crate::request::Status;
use crate::tls::Fingerprint;

/// What people do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Stores who you are on this machine, after the gate has confirmed it
    #[command(after_help = "\
Examples:
  tidegate login --control https://gate.example.org:7433   asks for your token, without showing it
  tidegate login --token-file ana.token
  vault read -field=token secret/tidegate | tidegate login

Whoever operates the gate makes your token: tidegate user add NAME.")]
    Login {
        /// Trust the gate's certificate by this one: its CA's or its own, PEM
        #[arg(long, value_name = "FILE", conflicts_with = "trust")]
        ca: Option<PathBuf>,
        /// Trust the gate by its certificate's SHA-256 alone; the gate says it when it starts
        #[arg(long, value_name = "SHA256")]
        trust: Option<Fingerprint>,
        /// Which gate, and how to print.
        #[command(flatten)]
        remote: Remote,
    },
    /// Forgets what `login` stored
    Logout,
    /// Says who the gate takes you for
    Whoami {
        /// Which gate, and how to print.
        #[command(flatten)]
        remote: Remote,
    },
    /// Asks for access, waits for it, and starts psql
    Psql(run::PsqlArgs),
    /// Asks for access, waits for it, and runs a command with it; gives the access back when the command ends
    Exec(run::ExecArgs),
    /// Asks for access, waits for it, and prints the variables a client needs
    Env(run::EnvArgs),
    /// Lists what can be asked for, in words; of one target with masks and guard rails
    #[command(after_help = "\
Examples:
  tidegate targets
  tidegate targets orders")]
    Targets {
        /// Only this one, with everything about it
        #[arg(add = complete::targets())]
        target: Option<String>,
        /// Which gate, and how to print.
        #[command(flatten)]
        remote: Remote,
    },
    /// Asks for access to a target; `request show` says what an approver has to know
    Request(Box<RequestArgs>),
    /// Lists requests: those that wait for somebody, if nothing else is said
    Requests(RequestsArgs),
    /// Says yes to a request, to all of it or to less
    #[command(after_help = "\
Examples:
  tidegate approve rq_4k2m9x0a7b
  tidegate approve rq_4k2m9x0a7b --for 15m --profile read-only --comment \"reading is enough\"")]
    Approve {
        /// The request
        #[arg(add = complete::pending())]
        request: RequestId,
        /// A shorter window than was asked for
        #[arg(long = "for", value_parser = duration::parse, value_name = "TIME")]
        window: Option<Duration>,
        /// A narrower profile than was asked for
        #[arg(long, value_name = "NAME", add = complete::profiles())]
        profile: Option<ProfileName>,
        /// In your words; kept in the log
        #[arg(long, value_name = "TEXT")]
        comment: Option<String>,
        /// Which gate, and how to print.
        #[command(flatten)]
        remote: Remote,
    },
    /// Says no to a request
    #[command(after_help = "\
Example:
  tidegate reject rq_4k2m9x0a7b --comment \"the copy on staging has the same data\"")]
    Reject {
        /// The request
        #[arg(add = complete::pending())]
        request: RequestId,
        /// Why; whoever asked reads it
        #[arg(long, value_name = "TEXT")]
        comment: String,
        /// Which gate, and how to print.
        #[command(flatten)]
        remote: Remote,
    },
    /// Takes a request of yours back
    Withdraw {
        /// The request
        #[arg(add = complete::pending())]
        request: RequestId,
        /// Which gate, and how to print.
        #[command(flatten)]
        remote: Remote,
    },
    /// Puts on record what you found about a break-glass access
    #[command(after_help = "\
Examples:
  tidegate requests --unreviewed
  tidegate review rq_4k2m9x0a7b --comment \"INC-77, as agreed with the on-call lead\"")]
    Review {
        /// The request
        #[arg(add = complete::unreviewed())]
        request: RequestId,
        /// What you found
        #[arg(long, value_name = "TEXT")]
        comment: String,
        /// Which gate, and how to print.
        #[command(flatten)]
        remote: Remote,
    },
    /// Lists your grants and how much time they have left
    #[command(after_help = "\
Examples:
  tidegate grants
  tidegate grants --all --target orders --limit 10")]
    Grants {
        /// Those that have ended too
        #[arg(long, short)]
        all: bool,
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
    /// Asks for more time; open sessions go on
    #[command(after_help = "\
Example:
  tidegate extend gr_4k2m9x0a7b --by 30m --reason \"still reproducing BUG-812\"")]
    Extend {
        /// The grant
        #[arg(add = complete::own_grants())]
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
    /// Gives a grant of yours back; its sessions end now
    #[command(after_help = "\
Example:
  tidegate release gr_4k2m9x0a7b")]
    Release {
        /// The grant
        #[arg(add = complete::own_grants())]
        grant: GrantId,
        /// Which gate, and how to print.
        #[command(flatten)]
        remote: Remote,
    },
    /// Makes, lists and changes local users
    #[command(subcommand)]
    User(user::Command),
    /// Prints what has a shell complete commands, targets, profiles, requests and grants
    #[command(after_help = "\
Examples:
  source <(tidegate completions bash)      in ~/.bashrc
  source <(tidegate completions zsh)       in ~/.zshrc, after compinit
  tidegate completions fish | source       in ~/.config/fish/config.fish

Targets, profiles, requests and grants come from the gate of your login, TIDEGATE_CONTROL or the
configuration; where it does not answer within half a second there are none.")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// What is asked for.
#[derive(Debug, Clone, Args)]
pub struct Wanted {
    /// The database, by its name at the gate, and with which profile: `orders` or `orders/read-only`
    #[arg(value_name = "TARGET[/PROFILE]", add = complete::destinations())]
    pub target: String,
    /// With which profile [default: the target's narrowest]
    #[arg(long, short, value_name = "NAME", add = complete::profiles())]
    pub profile: Option<String>,
    /// How long, from the first connect; like 30m or 2h30m [default: as the gate has it]
    #[arg(long = "for", value_parser = duration::parse, value_name = "TIME")]
    pub window: Option<Duration>,
    /// Why; approvers read it, and it is kept in the log
    #[arg(long, short, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Under which ticket
    #[arg(long, value_name = "TICKET")]
    pub ticket: Option<String>,
    /// Sessions at once [default: as the gate has it]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub sessions: Option<u32>,
    /// At once, without an approver: short, loud, and reviewed afterwards. Needs --reason
    #[arg(long, requires = "reason")]
    pub break_glass: bool,
    /// Waits no longer than this for an approver (exit code 6) [default: until the request lapses]
    #[arg(long, value_parser = duration::parse, value_name = "TIME")]
    pub wait_at_most: Option<Duration>,
}

impl Wanted {
    /// Returns the target and the profile, which is named after a slash or by `--profile`.
    pub(in crate::cli) fn destination(&self) -> anyhow::Result<(String, Option<String>)> {
        let Some((target, named)) = self.target.split_once('/') else {
            return Ok((self.target.clone(), self.profile.clone()));
        };
        match &self.profile {
            Some(other) if other != named => {
                anyhow::bail!(
                    "{} names the profile {named} and --profile {other}: name one of them",
                    self.target
                )
            }
            _ => Ok((target.to_owned(), Some(named.to_owned()))),
        }
    }
}

/// A request to be made.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate request orders --for 30m --reason BUG-812
  tidegate request orders --profile read-write --for 2h --reason \"fix the totals\" --ticket SHOP-99 --wait
  tidegate request payments --for 15m --break-glass --reason \"INC-77: checkout is down\"

When it is granted, `tidegate psql TARGET --profile PROFILE` uses it. Asking for the same again while it is pending is the
same request.")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct RequestArgs {
    /// A request there is.
    #[command(subcommand)]
    pub command: Option<RequestCommand>,
    /// What is asked for.
    #[command(flatten)]
    pub wanted: Option<Wanted>,
    /// Which gate.
    #[command(flatten)]
    pub place: Place,
    /// Waits until it is decided; Ctrl-C withdraws it
    #[arg(long, short)]
    pub wait: bool,
    /// How to print.
    #[command(flatten)]
    pub printing: Printing,
}

/// The commands about a request there is.
#[derive(Debug, Subcommand)]
pub enum RequestCommand {
    /// Shows a request, what its profile may do, what came before, and who is in
    #[command(after_help = "\
Example:
  tidegate request show rq_4k2m9x0a7b")]
    Show {
        /// The request
        #[arg(add = complete::requests())]
        request: RequestId,
        /// Which gate, and how to print.
        #[command(flatten)]
        remote: Remote,
    },
}

/// Which requests.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate requests                      what waits for an approver
  tidegate requests --watch              what waits, and every change from now on
  tidegate requests --mine               what became of mine
  tidegate requests --unreviewed         break-glass accesses nobody has looked at
  tidegate requests --all --before rq_4k2m9x0a7b
  tidegate requests --status rejected --output json")]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command")]
pub struct RequestsArgs {
    /// Those that are settled too
    #[arg(long, short, conflicts_with = "status")]
    pub all: bool,
    /// Only with this status
    #[arg(long, value_name = "STATUS", value_parser = PossibleValuesParser::new(STATUSES).try_map(status))]
    pub status: Option<Status>,
    /// Only mine, the settled ones too
    #[arg(long, short, conflicts_with = "identity")]
    pub mine: bool,
    /// Only of this identity
    #[arg(long, value_name = "NAME")]
    pub identity: Option<IdentityName>,
    /// Only for this target
    #[arg(long, value_name = "NAME", add = complete::targets())]
    pub target: Option<TargetName>,
    /// Only break-glass accesses that nobody has reviewed
    #[arg(long)]
    pub unreviewed: bool,
    /// Goes on with a line for every change, until it is stopped
    #[arg(long, short, conflicts_with_all = ["before", "unreviewed"])]
    pub watch: bool,
    /// Only older ones than this request: the next page
    #[arg(long, value_name = "REQUEST")]
    pub before: Option<RequestId>,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Which gate, and how to print.
    #[command(flatten)]
    pub remote: Remote,
}

/// Names of the statuses in the API.
const STATUSES: [&str; 6] = ["pending", "approved", "rejected", "denied", "withdrawn", "lapsed"];

fn status(text: String) -> Result<Status, serde_json::Error> {
    serde_json::from_value(text.into())
}
