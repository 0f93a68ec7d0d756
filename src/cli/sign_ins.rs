//! `signins`: lists and ends sign-ins.
//!
//! Each command is a call to the control API; `end --all` is one for each sign-in.

use std::path::Path;

use clap::{Args, Subcommand};

use super::args::RemoteArgs;
use super::views;
use crate::base::clock::Clock;
use crate::control::model::{Me, SignInView, SignInsBody, SignInsQuery};
use crate::model::ids::SignInId;
use crate::model::names::IdentityName;

/// Sign-ins to list, or the command on them.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SignInsArgs {
    /// Command on sign-ins.
    #[command(subcommand)]
    pub command: Option<SignInsCommand>,
    /// Shows only this identity (for operators)
    #[arg(long, value_name = "NAME")]
    pub identity: Option<IdentityName>,
    /// Address of the gate, and output format.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Command on sign-ins.
#[derive(Debug, Subcommand)]
pub enum SignInsCommand {
    /// Ends a sign-in at once; its token and your grants stay valid
    End {
        /// The sign-in
        #[arg(value_name = "SIGN-IN", required_unless_present = "all", conflicts_with = "all")]
        sign_in: Option<SignInId>,
        /// Ends all sign-ins of yours
        #[arg(long)]
        all: bool,
        /// With --all: ends those of this identity (for operators)
        #[arg(long, value_name = "NAME", requires = "all")]
        identity: Option<IdentityName>,
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
}

pub(super) async fn run(config: &Path, args: SignInsArgs) -> anyhow::Result<()> {
    match args.command {
        None => list(config, args.identity, &args.remote).await,
        Some(SignInsCommand::End {
            sign_in,
            identity,
            remote,
            ..
        }) => end(config, sign_in, identity, &remote).await,
    }
}

async fn list(config: &Path, identity: Option<IdentityName>, remote: &RemoteArgs) -> anyhow::Result<()> {
    let client = remote.place.person(config)?;
    let me: Me = client.get("/v1/me", &()).await?;
    let sign_ins: SignInsBody = client.get("/v1/signins", &SignInsQuery { identity }).await?;
    remote.show(&sign_ins, |found| {
        views::sign_ins(&found.sign_ins, me.sign_in.as_ref(), Clock::system(None).now())
    })
}

/// Ends one sign-in, or all of an identity, that of the command last.
async fn end(
    config: &Path,
    sign_in: Option<SignInId>,
    identity: Option<IdentityName>,
    remote: &RemoteArgs,
) -> anyhow::Result<()> {
    let client = remote.place.person(config)?;
    let ids = if let Some(id) = sign_in {
        vec![id]
    } else {
        let me: Me = client.get("/v1/me", &()).await?;
        let identity = match identity {
            Some(identity) => identity,
            None if me.source == "admin" => anyhow::bail!("the admin token has no sign-ins; name an identity with --identity"),
            None => me.name.parse()?,
        };
        let query = SignInsQuery {
            identity: Some(identity),
        };
        let found: SignInsBody = client.get("/v1/signins", &query).await?;
        let mut ids: Vec<SignInId> = found.sign_ins.into_iter().map(|view| view.id).collect();
        ids.sort_by_key(|id| Some(id) == me.sign_in.as_ref());
        ids
    };
    let mut sign_ins = Vec::with_capacity(ids.len());
    for id in ids {
        sign_ins.push(client.delete::<SignInView>(&format!("/v1/signins/{id}")).await?);
    }
    remote.show(&SignInsBody { sign_ins }, |ended| match ended.sign_ins.as_slice() {
        [] => "No sign-ins to end.".to_owned(),
        ended => ended.iter().map(told).collect::<Vec<_>>().join("\n"),
    })
}

fn told(view: &SignInView) -> String {
    let ended = match view.effect {
        Some(effect) if effect.is_done() => "has ended, and its end is recorded",
        _ => "has ended; its end is not recorded yet",
    };
    format!("Sign-in {} of {} {ended}.", view.id, view.identity)
}
