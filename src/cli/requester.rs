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
use super::speech::is_quiet;
use super::{complete, grant, logout, profile, render, run, sign_ins, targets, undo, user, views, wait, watch};
use crate::base::clock::Clock;
use crate::base::tls::GateTrust;
use crate::control::model::{ApproveBody, CommentBody, EmptyBody, Me, RequestView, RequestsBody, RequestsQuery};
use crate::model::ids::RequestId;
use crate::model::request::RequestState;

/// Runs a command and returns its exit code: that of the program it ran, if it ran one.
pub(super) async fn run(config: &Path, command: RequesterCommand) -> anyhow::Result<u8> {
    match command {
        RequesterCommand::Psql(args) => return run::psql(config, args).await,
        RequesterCommand::Exec(args) => return run::exec(config, args).await,
        RequesterCommand::Env(args) => return run::env(config, args).await,
        RequesterCommand::Undo(args) => return undo::run(config, *args).await,
        RequesterCommand::Login {
            ca,
            trust,
            sign_in,
            browser,
            remote,
        } => {
            let trust = trust.map(GateTrust::Pin).or(ca.map(GateTrust::Ca));
            let way = match sign_in {
                _ if browser => profile::SignInWay::Browser,
                Some(issuer) => profile::SignInWay::Code(Some(issuer).filter(|issuer| !issuer.is_empty())),
                None => profile::SignInWay::Token,
            };
            profile::login(config, &remote, trust, way).await
        }
        RequesterCommand::Logout => logout::run().await,
        RequesterCommand::Whoami { remote } => profile::whoami(config, &remote).await,
        RequesterCommand::Signins(args) => sign_ins::run(config, *args).await,
        RequesterCommand::Targets { target, remote } => targets::run(config, target, &remote).await,
        RequesterCommand::Request(args) => match args.command {
            Some(RequestCommand::Show { request, remote }) => watch::brief(config, &request, &remote).await,
            None => request(config, *args).await,
        },
        RequesterCommand::Requests(args) => requests(config, args).await,
        RequesterCommand::Grants { all, page, remote } => {
            grant::list(&remote.place.person(config)?, &remote, page.query(all, None), true).await
        }
        RequesterCommand::User(command) => user::run(config, command).await,
        RequesterCommand::Completions { shell } => Ok(render::print(completion_script(shell)?.trim_end())?),
        other => change(config, other).await,
    }
    .map(|()| 0)
}

/// Runs a command that changes one request or grant.
async fn change(config: &Path, command: RequesterCommand) -> anyhow::Result<()> {
    let said = |comment| CommentBody { comment: Some(comment) };
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
        RequesterCommand::Extend { grant, extension } => {
            let client = extension.remote.place.person(config)?;
            grant::extend(&client, &grant, extension).await
        }
        RequesterCommand::Release { grant, remote } => {
            grant::change(&remote.place.person(config)?, &remote, &grant, "release", &EmptyBody {}).await
        }
        // `run` has handled all others.
        _ => Ok(()),
    }
}

async fn step(config: &Path, remote: &RemoteArgs, request: &RequestId, verb: &str, body: &impl Serialize) -> anyhow::Result<()> {
    let view: RequestView = remote
        .place
        .person(config)?
        .post(&format!("/v1/requests/{request}/{verb}"), body)
        .await?;
    remote.show(&view, |view| views::request(view, &[], Clock::system(None).now()))
}

async fn request(config: &Path, args: RequestCommandArgs) -> anyhow::Result<()> {
    let wanted = args.wanted.context("no target given: tidegate request TARGET")?;
    let client = args.place.person(config)?;
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
    let client = args.remote.place.person(config)?;
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
        ..RequestsQuery::default()
    };
    let requests: RequestsBody = client.get("/v1/requests", &query).await?;
    args.remote.show(&requests, |page| {
        let table = views::requests(&page.requests, Clock::system(None).now());
        render::page(table, page.next.as_ref())
    })?;
    if args.watch {
        watch::requests(&client, args.remote.printing.output).await?;
    }
    Ok(())
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
