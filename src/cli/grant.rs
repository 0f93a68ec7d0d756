//! `grant create|list|show|extend|shorten|revoke`.
//!
//! Each command is one call to the control API, which enforces the rules.

use std::path::Path;

use jiff::Timestamp;

use super::args::{CreateArgs, GrantCommand, RemoteArgs};
use super::client::ControlClient;
use super::endpoint::UsualCaller;
use super::{render, zone};
use crate::base::clock::Clock;
use crate::control::model::{ExtendBody, GrantView, Grants, GrantsQuery, Issued, NewGrantBody, ReasonBody, ShortenBody};
use crate::model::ids::GrantId;

pub(super) async fn run(config: &Path, command: GrantCommand) -> anyhow::Result<()> {
    match command {
        GrantCommand::Create(args) => create(config, args).await,
        GrantCommand::List {
            all,
            identity,
            target,
            page,
            remote,
        } => {
            let query = GrantsQuery {
                all,
                identity,
                target,
                before: page.before,
                limit: Some(page.limit),
            };
            let grants: Grants = ControlClient::new(UsualCaller::Operator, config, &remote.place)?
                .get("/v1/grants", &query)
                .await?;
            render::show(remote.printing.output, &grants, |grants| {
                render::page(render::grants(&grants.grants, now()), grants.next.as_ref())
            })
        }
        GrantCommand::Show { grant, remote } => {
            let view: GrantView = ControlClient::new(UsualCaller::Operator, config, &remote.place)?
                .get(&path(&grant, ""), &())
                .await?;
            show(&remote, &view)
        }
        GrantCommand::Extend {
            grant,
            by,
            reason,
            remote,
        } => {
            let by_seconds = by.as_secs();
            change(config, &remote, &path(&grant, "/extend"), &ExtendBody { by_seconds, reason }).await
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
            change(config, &remote, &path(&grant, "/shorten"), &body).await
        }
        GrantCommand::Revoke { grant, reason, remote } => {
            change(config, &remote, &path(&grant, "/revoke"), &ReasonBody { reason }).await
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
    let issued: Issued = ControlClient::new(UsualCaller::Operator, config, &args.remote.place)?
        .post("/v1/grants", &body)
        .await?;
    render::show(args.remote.printing.output, &issued, render::issued)
}

async fn change(config: &Path, remote: &RemoteArgs, path: &str, body: &impl serde::Serialize) -> anyhow::Result<()> {
    let view: GrantView = ControlClient::new(UsualCaller::Operator, config, &remote.place)?
        .post(path, body)
        .await?;
    show(remote, &view)
}

fn show(remote: &RemoteArgs, view: &GrantView) -> anyhow::Result<()> {
    render::show(remote.printing.output, view, |view| render::grant(view, now()))
}

fn path(grant: &GrantId, verb: &str) -> String {
    format!("/v1/grants/{grant}{verb}")
}

fn now() -> Timestamp {
    Clock::system(None).now()
}
