//! `session list|kill`.
//!
//! Each command is one call to the control API.

use std::path::Path;

use clap::Subcommand;

use super::args::RemoteArgs;
use super::{complete, views};
use crate::base::clock::Clock;
use crate::control::model::{ReasonBody, Sessions, SessionsQuery};
use crate::gate::session::SessionView;
use crate::model::ids::{GrantId, SessionId};
use crate::model::names::{IdentityName, TargetName};

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

pub(super) async fn run(config: &Path, command: SessionsCommand) -> anyhow::Result<()> {
    match command {
        SessionsCommand::List {
            grant,
            identity,
            target,
            remote,
        } => {
            let query = SessionsQuery { grant, identity, target };
            let sessions: Sessions = remote.place.operator(config)?.get("/v1/sessions", &query).await?;
            remote.show(&sessions, |found| {
                let table = views::sessions(&found.sessions, Clock::system(None).now());
                match found.lines.as_slice() {
                    [] => table,
                    lines => format!("{table}\n\n{}", views::lines(lines)),
                }
            })
        }
        SessionsCommand::Kill { session, reason, remote } => {
            let path = format!("/v1/sessions/{session}/kill");
            let view: SessionView = remote.place.operator(config)?.post(&path, &ReasonBody { reason }).await?;
            remote.show(&view, |view| {
                let who = &view.who;
                let ended = match view.effect {
                    Some(effect) if effect.is_done() => "has ended, and its end is recorded",
                    _ => "is ending; its end is not recorded yet",
                };
                format!(
                    "Session {} of {} on {} {ended}.",
                    who.session,
                    who.identity,
                    who.target.with(who.profile.as_ref())
                )
            })
        }
    }
}
