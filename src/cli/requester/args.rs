//! Commands of people: their arguments and help texts.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use super::super::access::AccessArgs;
use super::super::args::{GatePlace, OutputArgs, RemoteArgs};
use super::super::grant::{ExtendArgs, GrantsPage};
use super::super::{complete, run, sign_ins, undo, user};
use crate::base::duration;
use crate::base::tls::Fingerprint;
use crate::model::ids::{GrantId, RequestId};
use crate::model::names::{IdentityName, ProfileName, TargetName};
use crate::model::request::RequestState;

/// Commands of requesters and approvers.
#[derive(Debug, Subcommand)]
pub enum RequesterCommand {
    /// Checks your token at the gate and stores it on this machine
    #[command(after_help = "\
Examples:
  tidegate login --control https://gate.example.org:7433   prompts for your token
  tidegate login --token-file ana.token
  tidegate login --browser                  with the browser of this machine
  tidegate login --sign-in                  with a code, in a browser anywhere
  vault read -field=token secret/tidegate | tidegate login

An operator of the gate creates your token: tidegate user add NAME.")]
    Login {
        /// Trusts certificates of this CA, or this certificate itself (PEM)
        #[arg(long, value_name = "FILE", conflicts_with = "trust")]
        ca: Option<PathBuf>,
        /// Trusts the certificate with this SHA-256; the gate logs it at its start
        #[arg(long, value_name = "SHA256")]
        trust: Option<Fingerprint>,
        /// Signs in with an identity provider, with a code that a browser anywhere takes
        #[arg(long, value_name = "ISSUER", num_args = 0..=1, default_missing_value = "")]
        sign_in: Option<String>,
        /// Signs in at the console, in a browser on this machine, in place of a token
        #[arg(long, conflicts_with = "sign_in")]
        browser: bool,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Removes the login stored on this machine, and ends its sign-in
    Logout,
    /// Shows your identity at the gate
    Whoami {
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Lists your sign-ins at the console and the command line, or ends them
    #[command(after_help = "\
Examples:
  tidegate signins
  tidegate signins end si_4k2m9x0a7b
  tidegate signins end --all

Operators see the sign-ins of all identities.")]
    Signins(Box<sign_ins::SignInsArgs>),
    /// Requests access, waits for approval and starts psql
    Psql(run::PsqlArgs),
    /// Requests access, waits for approval and runs a command; releases the grant afterwards
    Exec(run::ExecArgs),
    /// Requests access, waits for approval and prints the environment variables for a client
    Env(run::EnvArgs),
    /// Prints the statements that undo the recorded changes of a session, grant or run; with --apply runs them
    Undo(Box<undo::UndoArgs>),
    /// Lists the targets and profiles you can request; for one target, also approvers, masks and guard rails
    #[command(after_help = "\
Examples:
  tidegate targets
  tidegate targets orders")]
    Targets {
        /// Shows only this target, with all details
        #[arg(add = complete::targets())]
        target: Option<String>,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Requests access to a target; `request show` shows details for approvers
    Request(Box<RequestCommandArgs>),
    /// Lists requests, by default the pending ones
    Requests(RequestListArgs),
    /// Approves a request in full or in part
    #[command(after_help = "\
Examples:
  tidegate approve rq_4k2m9x0a7b
  tidegate approve rq_4k2m9x0a7b --for 15m --profile read-only --comment \"reading is enough\"")]
    Approve {
        /// The request
        #[arg(add = complete::pending())]
        request: RequestId,
        /// Shorter window than requested
        #[arg(long = "for", value_parser = duration::parse, value_name = "TIME")]
        window: Option<Duration>,
        /// Narrower profile than requested
        #[arg(long, value_name = "NAME", add = complete::profiles())]
        profile: Option<ProfileName>,
        /// Comment; kept in the audit log
        #[arg(long, value_name = "TEXT")]
        comment: Option<String>,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Rejects a request
    #[command(after_help = "\
Example:
  tidegate reject rq_4k2m9x0a7b --comment \"the copy on staging has the same data\"")]
    Reject {
        /// The request
        #[arg(add = complete::pending())]
        request: RequestId,
        /// Reason; shown to the requester
        #[arg(long, value_name = "TEXT")]
        comment: String,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Withdraws a request of yours
    Withdraw {
        /// The request
        #[arg(add = complete::pending())]
        request: RequestId,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Records the result of your review of a break-glass access
    #[command(after_help = "\
Examples:
  tidegate requests --unreviewed
  tidegate review rq_4k2m9x0a7b --comment \"INC-77, as agreed with the on-call lead\"")]
    Review {
        /// The request
        #[arg(add = complete::unreviewed())]
        request: RequestId,
        /// Result of the review
        #[arg(long, value_name = "TEXT")]
        comment: String,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Lists your grants and their remaining time
    #[command(after_help = "\
Examples:
  tidegate grants
  tidegate grants --all --target orders --limit 10")]
    Grants {
        /// Also shows grants that have ended
        #[arg(long, short)]
        all: bool,
        /// Part of the list.
        #[command(flatten)]
        page: GrantsPage,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Requests more time for a grant; open sessions continue
    #[command(after_help = "\
Example:
  tidegate extend gr_4k2m9x0a7b --by 30m --reason \"still reproducing BUG-812\"")]
    Extend {
        /// The grant
        #[arg(add = complete::own_grants())]
        grant: GrantId,
        /// Extension.
        #[command(flatten)]
        extension: ExtendArgs,
    },
    /// Releases a grant of yours; its sessions end immediately
    #[command(after_help = "\
Example:
  tidegate release gr_4k2m9x0a7b")]
    Release {
        /// The grant
        #[arg(add = complete::own_grants())]
        grant: GrantId,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Creates, lists and changes local users
    #[command(subcommand)]
    User(user::UserCommand),
    /// Prints a shell's completion script for commands, targets, profiles, requests and grants
    #[command(after_help = "\
Examples:
  source <(tidegate completions bash)      in ~/.bashrc
  source <(tidegate completions zsh)       in ~/.zshrc, after compinit
  tidegate completions fish | source       in ~/.config/fish/config.fish

Targets, profiles, requests and grants come from the gate of your login, TIDEGATE_CONTROL or the
configuration. If it does not answer within half a second, they are not completed.")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Request to create.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate request orders --for 30m --reason BUG-812
  tidegate request orders --profile read-write --for 2h --reason \"fix the totals\" --ticket SHOP-99 --wait
  tidegate request payments --for 15m --break-glass --reason \"INC-77: checkout is down\"

Once approved, `tidegate psql TARGET --profile PROFILE` uses the grant. The same request made again while it is pending is the
same request.")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct RequestCommandArgs {
    /// Command about an existing request.
    #[command(subcommand)]
    pub command: Option<RequestCommand>,
    /// Target, profile and terms of the request.
    #[command(flatten)]
    pub wanted: Option<AccessArgs>,
    /// Address of the gate.
    #[command(flatten)]
    pub place: GatePlace,
    /// Waits for the decision; Ctrl-C withdraws the request
    #[arg(long, short)]
    pub wait: bool,
    /// Output format.
    #[command(flatten)]
    pub printing: OutputArgs,
}

/// Commands about an existing request.
#[derive(Debug, Subcommand)]
pub enum RequestCommand {
    /// Shows a request, the rights of its profile, earlier requests and open sessions
    #[command(after_help = "\
Example:
  tidegate request show rq_4k2m9x0a7b")]
    Show {
        /// The request
        #[arg(add = complete::requests())]
        request: RequestId,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
}

/// Requests to list.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate requests                      pending requests
  tidegate requests --watch              pending requests, and every change from now on
  tidegate requests --mine               your own requests
  tidegate requests --unreviewed         break-glass accesses without a review
  tidegate requests --all --before rq_4k2m9x0a7b
  tidegate requests --status rejected --output json")]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command")]
pub struct RequestListArgs {
    /// Also shows settled requests
    #[arg(long, short, conflicts_with = "status")]
    pub all: bool,
    /// Shows only requests with this status
    #[arg(long, value_name = "STATUS", value_parser = PossibleValuesParser::new(STATUSES).try_map(status))]
    pub status: Option<RequestState>,
    /// Shows only your own requests, settled ones too
    #[arg(long, short, conflicts_with = "identity")]
    pub mine: bool,
    /// Shows only this identity
    #[arg(long, value_name = "NAME")]
    pub identity: Option<IdentityName>,
    /// Shows only this target
    #[arg(long, value_name = "NAME", add = complete::targets())]
    pub target: Option<TargetName>,
    /// Shows only break-glass accesses without a review
    #[arg(long)]
    pub unreviewed: bool,
    /// Prints a line for every change until Ctrl-C
    #[arg(long, short, conflicts_with_all = ["before", "unreviewed"])]
    pub watch: bool,
    /// Shows requests older than this one (next page)
    #[arg(long, value_name = "REQUEST")]
    pub before: Option<RequestId>,
    /// Maximum number of entries
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Address of the gate, and output format.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Names of the statuses in the API.
const STATUSES: [&str; 6] = ["pending", "approved", "rejected", "denied", "withdrawn", "lapsed"];

fn status(text: String) -> Result<RequestState, serde_json::Error> {
    serde_json::from_value(text.into())
}
