//! Commands of people under their own name: request access, decide on requests, extend grants, give them back.
//!
//! Each is one call to the control API, which decides what is permitted. `wait` waits for decisions, `run` runs programs.

mod args;

use std::path::Path;

use anyhow::Context as _;
use clap_complete::env::Shells;
use serde::Serialize;

pub use args::{RequestCommand, RequestCommandArgs, RequestListArgs, RequesterCommand};

use super::access::submit;
use super::args::RemoteArgs;
use super::client::ControlClient;
use super::endpoint::UsualCaller;
use super::speech::is_quiet;
use super::{complete, profile, render, run, targets, user, views, wait, watch};
use crate::base::clock::Clock;
use crate::base::tls::GateTrust;
use crate::control::model::{
    ApproveBody, CommentBody, EmptyBody, ExtendBody, GrantView, Grants, GrantsQuery, Me, RequestView, RequestsBody, RequestsQuery,
};
use crate::model::ids::RequestId;
use crate::model::request::RequestState;

/// Runs a command and returns its exit code: that of the program it ran, if it ran one.
pub(super) async fn run(config: &Path, command: RequesterCommand) -> anyhow::Result<u8> {
    match command {
        RequesterCommand::Psql(args) => return run::psql(config, args).await,
        RequesterCommand::Exec(args) => return run::exec(config, args).await,
        RequesterCommand::Env(args) => return run::env(config, args).await,
        RequesterCommand::Login { ca, trust, remote } => {
            let trust = trust.map(GateTrust::Pin).or(ca.map(GateTrust::Ca));
            profile::login(config, &remote, trust).await
        }
        RequesterCommand::Logout => profile::logout(),
        RequesterCommand::Whoami { remote } => profile::whoami(config, &remote).await,
        RequesterCommand::Targets { target, remote } => targets::run(config, target, &remote).await,
        RequesterCommand::Request(args) => match args.command {
            Some(RequestCommand::Show { request, remote }) => watch::brief(config, &request, &remote).await,
            None => request(config, *args).await,
        },
        RequesterCommand::Requests(args) => requests(config, args).await,
        RequesterCommand::Grants {
            all,
            target,
            page,
            remote,
        } => {
            let query = GrantsQuery {
                all,
                target,
                before: page.before,
                limit: Some(page.limit),
                ..GrantsQuery::default()
            };
            grants(config, query, &remote).await
        }
        RequesterCommand::User(command) => user::run(config, command).await,
        RequesterCommand::Completions { shell } => completions(shell),
        other => change(config, other).await,
    }
    .map(|()| 0)
}

/// Runs a command that changes one request or grant.
async fn change(config: &Path, command: RequesterCommand) -> anyhow::Result<()> {
    match command {
        RequesterCommand::Approve {
            request,
            window,
            profile,
            comment,
            remote,
        } => {
            let body = ApproveBody {
                window_seconds: window.map(|window| window.as_secs()),
                profile,
                comment,
            };
            step(config, &remote, &request, "approve", &body).await
        }
        RequesterCommand::Reject {
            request,
            comment,
            remote,
        } => step(config, &remote, &request, "reject", &said(comment)).await,
        RequesterCommand::Review {
            request,
            comment,
            remote,
        } => step(config, &remote, &request, "review", &said(comment)).await,
        RequesterCommand::Withdraw { request, remote } => step(config, &remote, &request, "withdraw", &EmptyBody {}).await,
        RequesterCommand::Extend {
            grant,
            by,
            reason,
            remote,
        } => {
            let by_seconds = by.as_secs();
            moved(
                config,
                &remote,
                &format!("/v1/grants/{grant}/extend"),
                &ExtendBody { by_seconds, reason },
            )
            .await
        }
        RequesterCommand::Release { grant, remote } => {
            moved(config, &remote, &format!("/v1/grants/{grant}/release"), &EmptyBody {}).await
        }
        // `run` has handled all others.
        _ => Ok(()),
    }
}

fn said(comment: String) -> CommentBody {
    CommentBody { comment: Some(comment) }
}

async fn step(config: &Path, remote: &RemoteArgs, request: &RequestId, verb: &str, body: &impl Serialize) -> anyhow::Result<()> {
    let client = ControlClient::new(UsualCaller::Person, config, &remote.place)?;
    let view: RequestView = client.post(&format!("/v1/requests/{request}/{verb}"), body).await?;
    let now = Clock::system(None).now();
    render::show(remote.printing.output, &view, |view| views::request(view, &[], now))
}

async fn moved(config: &Path, remote: &RemoteArgs, path: &str, body: &impl Serialize) -> anyhow::Result<()> {
    let view: GrantView = ControlClient::new(UsualCaller::Person, config, &remote.place)?
        .post(path, body)
        .await?;
    render::show(remote.printing.output, &view, |view| {
        render::grant(view, Clock::system(None).now())
    })
}

async fn request(config: &Path, args: RequestCommandArgs) -> anyhow::Result<()> {
    let wanted = args.wanted.context("no target given: tidegate request TARGET")?;
    let client = ControlClient::new(UsualCaller::Person, config, &args.place)?;
    let mut request = submit(&client, &wanted).await?;
    if args.wait {
        let mut stops = wait::Signals::new()?;
        request = wait::until_granted(&client, request, wanted.wait_at_most, &mut stops).await?;
    }
    render::show(args.printing.output, &request, |request| {
        let now = Clock::system(None).now();
        let text = views::request(&request.request, &request.approvers, now);
        if request.waits_for_nobody {
            return format!("{text}\n\nNo enabled user of this gate may approve it; ask the gate's operator.");
        }
        match views::next_step(&request.request).filter(|_| !is_quiet()) {
            Some(next) => format!("{text}\n\n{next}"),
            None => text,
        }
    })
}

async fn requests(config: &Path, args: RequestListArgs) -> anyhow::Result<()> {
    let client = ControlClient::new(UsualCaller::Person, config, &args.remote.place)?;
    let identity = if args.mine {
        Some(client.get::<Me>("/v1/me", &()).await?.name.parse()?)
    } else {
        args.identity
    };
    let open_only = !(args.all || args.mine || args.unreviewed);
    let query = RequestsQuery {
        status: args.status.or(open_only.then_some(RequestState::Pending)),
        identity,
        target: args.target,
        unreviewed: args.unreviewed,
        before: args.before,
        limit: Some(args.limit),
    };
    let requests: RequestsBody = client.get("/v1/requests", &query).await?;
    render::show(args.remote.printing.output, &requests, |page| {
        let table = views::requests(&page.requests, Clock::system(None).now());
        render::page(table, page.next.as_ref())
    })?;
    if args.watch {
        watch::requests(&client, args.remote.printing.output).await?;
    }
    Ok(())
}

/// Returns the caller's own grants; operators see those of all identities with `grant list`.
async fn my_grants(client: &ControlClient, query: GrantsQuery) -> anyhow::Result<Grants> {
    let me: Me = client.get("/v1/me", &()).await?;
    let query = GrantsQuery {
        identity: Some(me.name.parse()?),
        ..query
    };
    let mut mine: Grants = client.get("/v1/grants", &query).await?;
    // Usable ones first; otherwise in the order of the gate, the latest first.
    mine.grants.sort_by_key(|view| !views::live(view));
    Ok(mine)
}

async fn grants(config: &Path, query: GrantsQuery, remote: &RemoteArgs) -> anyhow::Result<()> {
    let client = ControlClient::new(UsualCaller::Person, config, &remote.place)?;
    let mine = my_grants(&client, query).await?;
    render::show(remote.printing.output, &mine, |mine| {
        let table = views::grants(&mine.grants, Clock::system(None).now());
        render::page(table, mine.next.as_ref())
    })
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    Ok(render::print(completion_script(shell)?.trim_end())?)
}

/// Returns the script that makes a shell ask this program for completion candidates.
pub(super) fn completion_script(shell: clap_complete::Shell) -> anyhow::Result<String> {
    let shells = Shells::builtins();
    let name = shell.to_string();
    let known = shells
        .completer(&name)
        .with_context(|| format!("no completions for {name}"))?;
    let mut script = Vec::new();
    known.write_registration(complete::COMPLETE_VARIABLE, "tidegate", "tidegate", "tidegate", &mut script)?;
    Ok(String::from_utf8(script)?)
}
