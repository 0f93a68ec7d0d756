//! Line of a target in exclusive use: waits for the turn of a grant before a program starts, and keeps its use while it runs.
//!
//! The gate has the line. A command that is killed loses its place with its connection.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Context as _;

use super::client::ControlClient;
use super::client_error::ClientError;
use super::render;
use super::speech::note;
use super::views;
use super::wait::{Interrupted, MAX_ATTEMPTS, RETRY_INTERVAL, Signals, WaitError, code_of, over};
use crate::control::model::{GrantView, LineBody, LinePlace, LineStanding};
use crate::model::ids::GrantId;

/// Number of seconds that the gate may delay an answer; after it the place in line is said anew.
const TOLD_EVERY_SECONDS: u64 = 5;
/// Number of seconds of one call that keeps the use.
const KEPT_SECONDS: u64 = 20;
/// Pause after a failed call that keeps the use.
const PAUSE: Duration = Duration::from_secs(1);

/// Waits until a grant may use its target. Returns true if it uses it exclusively then.
pub(super) async fn until_turn(
    client: &ControlClient,
    grant: &GrantId,
    limit: Option<Duration>,
    stops: &mut Signals,
) -> anyhow::Result<bool> {
    let mut told = None;
    let mut limit = std::pin::pin!(over(limit));
    loop {
        let wait = LineBody {
            wait_seconds: TOLD_EVERY_SECONDS,
            keep: false,
        };
        let view = tokio::select! {
            biased;
            view = ask(client, grant, &wait) => view?,
            stop = stops.next() => return Err(Interrupted(code_of(stop.as_raw())).into()),
            () = &mut limit => return Err(WaitError::InLine(grant.clone()).into()),
        };
        let Some(LineStanding::Waits(place)) = &view.line else {
            if told.is_some() {
                note(&format!("it is your turn: {}", views::to(&view.grant)));
            }
            return Ok(view.line.is_some());
        };
        if told.as_ref() != Some(place) {
            note(&waiting(&view, place));
            told = Some(place.clone());
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// Says that a grant has to wait in line, if it has.
pub(super) async fn tell(client: &ControlClient, grant: &GrantId) -> anyhow::Result<()> {
    let view = ask(client, grant, &LineBody::default())
        .await
        .context("asking for the place in line")?;
    if let Some(LineStanding::Waits(place)) = &view.line {
        note(&format!("{}; the first connect waits there again", waiting(&view, place)));
    }
    Ok(())
}

/// Keeps the exclusive use of a grant, between the connections of a program too.
pub(super) async fn keep(client: &ControlClient, grant: &GrantId) -> Infallible {
    let keep = LineBody {
        wait_seconds: KEPT_SECONDS,
        keep: true,
    };
    loop {
        // A gate that is away has no line, and keeps the use by itself for a while when it is back.
        if call(client, grant, &keep).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

/// Describes the place in line of a grant.
fn waiting(view: &GrantView, place: &LinePlace) -> String {
    let number = match place.place {
        1 => "next".to_owned(),
        number => format!("number {number}"),
    };
    let holders = render::visible(&place.holders(render::time));
    format!(
        "{} is {holders}; you are {number} in line (grant {})",
        view.grant.target(),
        view.grant.id()
    )
}

/// Asks, also while the gate is away for a moment.
async fn ask(client: &ControlClient, grant: &GrantId, wait: &LineBody) -> Result<GrantView, ClientError> {
    let mut tries = 0;
    loop {
        match call(client, grant, wait).await {
            Err(error) if error.may_pass() && tries < MAX_ATTEMPTS => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}

async fn call(client: &ControlClient, grant: &GrantId, wait: &LineBody) -> Result<GrantView, ClientError> {
    client.post(&format!("/v1/grants/{grant}/line"), wait).await
}
