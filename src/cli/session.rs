//! `session list|kill`.
//!
//! Each command is one call to the control API.

use std::path::Path;

use super::args::SessionsCommand;
use super::client::ControlClient;
use super::endpoint::UsualCaller;
use super::render;
use crate::base::clock::Clock;
use crate::control::model::{ReasonBody, Sessions, SessionsQuery};
use crate::gate::session::SessionView;

pub(super) async fn run(config: &Path, command: SessionsCommand) -> anyhow::Result<()> {
    match command {
        SessionsCommand::List {
            grant,
            identity,
            target,
            remote,
        } => {
            let query = SessionsQuery { grant, identity, target };
            let sessions: Sessions = ControlClient::new(UsualCaller::Operator, config, &remote.place)?
                .get("/v1/sessions", &query)
                .await?;
            let now = Clock::system(None).now();
            render::show(remote.printing.output, &sessions, |sessions| {
                render::sessions(&sessions.sessions, now)
            })
        }
        SessionsCommand::Kill { session, reason, remote } => {
            let path = format!("/v1/sessions/{session}/kill");
            let view: SessionView = ControlClient::new(UsualCaller::Operator, config, &remote.place)?
                .post(&path, &ReasonBody { reason })
                .await?;
            render::show(remote.printing.output, &view, |view| {
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
