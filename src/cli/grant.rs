//! `grant create|list|show|extend|shorten|revoke`.
//!
//! Each command is one call to the control API, which enforces the rules.

use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use super::args::RemoteArgs;
use super::client::ControlClient;
use super::{complete, render, views, zone};
use crate::base::clock::Clock;
use crate::base::duration;
use crate::base::times::Coming;
use crate::control::model::{ExtendBody, GrantView, Grants, GrantsQuery, Issued, Me, NewGrantBody, ReasonBody, ShortenBody};
use crate::model::ids::GrantId;
use crate::model::names::{IdentityName, ProfileName, TargetName};

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
        /// Extension.
        #[command(flatten)]
        extension: ExtendArgs,
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

/// Extension of a grant.
#[derive(Debug, Args)]
pub struct ExtendArgs {
    /// Time to add, like 30m or 2h30m
    #[arg(long, value_parser = duration::parse, value_name = "TIME")]
    pub by: Duration,
    /// Reason
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Address of the gate, and output format.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Part of a list of grants.
#[derive(Debug, Clone, Args)]
pub struct GrantsPage {
    /// Shows only this target
    #[arg(long, value_name = "NAME", add = complete::targets())]
    pub target: Option<TargetName>,
    /// Shows grants older than this one (next page)
    #[arg(long, value_name = "GRANT")]
    pub before: Option<GrantId>,
    /// Maximum number of entries
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

pub(super) async fn run(config: &Path, command: GrantCommand) -> anyhow::Result<()> {
    match command {
        GrantCommand::Create(args) => create(config, args).await,
        GrantCommand::List {
            all,
            identity,
            page,
            remote,
        } => list(&remote.place.operator(config)?, &remote, page.query(all, identity), false).await,
        GrantCommand::Show { grant, remote } => {
            let view = remote
                .place
                .operator(config)?
                .get(&format!("/v1/grants/{grant}"), &())
                .await?;
            show(&remote, &view)
        }
        GrantCommand::Extend { grant, extension } => {
            let client = extension.remote.place.operator(config)?;
            extend(&client, &grant, extension).await
        }
        GrantCommand::Shorten {
            grant,
            by,
            until,
            reason,
            remote,
        } => {
            let body = ShortenBody {
                by_seconds: by.map(|by| by.as_secs()),
                until: until.map(|until| until.time(&zone::now())),
                reason,
            };
            change(&remote.place.operator(config)?, &remote, &grant, "shorten", &body).await
        }
        GrantCommand::Revoke { grant, reason, remote } => {
            change(
                &remote.place.operator(config)?,
                &remote,
                &grant,
                "revoke",
                &ReasonBody { reason },
            )
            .await
        }
    }
}

async fn create(config: &Path, args: CreateArgs) -> anyhow::Result<()> {
    let body = NewGrantBody {
        identity: args.identity,
        target: args.target,
        profile: args.profile,
        reason: args.reason,
        window_seconds: args.window.as_secs(),
        activate_within_seconds: args.activate_within.map(|within| within.as_secs()),
        deadline: args.deadline.map(|deadline| deadline.time(&zone::now())),
        max_sessions: args.max_sessions,
        client_network: args.client_network,
    };
    let issued: Issued = args.remote.place.operator(config)?.post("/v1/grants", &body).await?;
    args.remote.show(&issued, views::issued)
}

impl GrantsPage {
    /// Returns this part of the list as a query.
    pub(super) fn query(self, all: bool, identity: Option<IdentityName>) -> GrantsQuery {
        GrantsQuery {
            all,
            identity,
            target: self.target,
            before: self.before,
            limit: Some(self.limit),
        }
    }
}

/// Lists grants: with `own` only those of the caller, the usable ones first.
pub(super) async fn list(client: &ControlClient, remote: &RemoteArgs, mut query: GrantsQuery, own: bool) -> anyhow::Result<()> {
    if own {
        query.identity = Some(client.get::<Me>("/v1/me", &()).await?.name.parse()?);
    }
    let mut found: Grants = client.get("/v1/grants", &query).await?;
    if own {
        // Otherwise in the order of the gate, the latest first.
        found
            .grants
            .sort_by_key(|view| !matches!(view.status.as_str(), "ready" | "active"));
    }
    remote.show(&found, |found| {
        render::page(views::grants(&found.grants, own, now()), found.next.as_ref())
    })
}

/// Extends a grant and shows it.
pub(super) async fn extend(client: &ControlClient, grant: &GrantId, extension: ExtendArgs) -> anyhow::Result<()> {
    let body = ExtendBody {
        by_seconds: extension.by.as_secs(),
        reason: extension.reason,
    };
    change(client, &extension.remote, grant, "extend", &body).await
}

/// Changes a grant and shows it.
pub(super) async fn change(
    client: &ControlClient,
    remote: &RemoteArgs,
    grant: &GrantId,
    verb: &str,
    body: &impl Serialize,
) -> anyhow::Result<()> {
    show(remote, &client.post(&format!("/v1/grants/{grant}/{verb}"), body).await?)
}

fn show(remote: &RemoteArgs, view: &GrantView) -> anyhow::Result<()> {
    remote.show(view, |view| views::grant(view, now()))
}

fn now() -> Timestamp {
    Clock::system(None).now()
}
