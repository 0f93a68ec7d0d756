//! Login that waits in line while its target is in exclusive use: the client gets a notice at once, when its place changes, and
//! repeatedly, until the turn of its grant comes.
//!
//! This module keeps no line and decides nothing: the access service does. The window of a grant stays closed while it waits.
//!
//! INVARIANT: a waiting login holds no more than one that waits for approval, and takes a permit of the same number; a client that
//! goes leaves the line.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep_until;

use super::arrive::AuthorizedClient;
use super::limits::length;
use super::refusal::RefusedLogin;
use super::waiting::{ApprovalWaiter, left, tell};
use super::{SessionRules, SharedState};
use crate::access::{LineTicket, LineTurn, TargetUse};
use crate::base::clock::Clock;
use crate::model::ending::{Ending, EndingText};
use crate::model::line::LinePlace;
use crate::model::names::TargetName;
use crate::protocol::wire::{encode, error_response};

/// Brings a client to the line of its target and waits for its turn, or returns the refusal.
pub(super) async fn wait(
    mut arrival: AuthorizedClient,
    rules: &SessionRules,
    shared: &SharedState,
) -> Result<(AuthorizedClient, TargetUse), RefusedLogin> {
    match Box::pin(taken(&mut arrival, rules, shared)).await {
        Ok(using) => Ok((arrival, using)),
        Err(ending) => {
            let mut record = arrival.record;
            record.grant = Some(arrival.pass.grant);
            Err(RefusedLogin {
                arriving: arrival.arriving,
                transport: arrival.client.transport,
                record,
                denied: ending.into(),
            })
        }
    }
}

async fn taken(arrival: &mut AuthorizedClient, rules: &SessionRules, shared: &SharedState) -> Result<TargetUse, Ending> {
    let AuthorizedClient {
        client, pass, record, ..
    } = arrival;
    let came = shared
        .service
        .line_up(&pass.grant, pass.database.as_deref(), record.client)
        .await;
    let mut ticket = came.map_err(|refused| {
        record.identity = refused.identity.or_else(|| record.identity.take());
        refused.ending
    })?;
    let place = match ticket.look().await {
        Ok(LineTurn::Now) => return Ok(ticket.into_use()),
        Ok(LineTurn::Waits(place)) => place,
        Err(error) => return Err(ticket.ending(error)),
    };
    let identity = ticket.grant().borrow().identity().clone();
    record.identity = Some(identity.clone());
    let settings = &rules.session.waiting;
    let limit = pass.wait.map_or(settings.limit, |wait| wait.min(settings.limit));
    if limit.is_zero() {
        return Err(in_use(&ticket, place, limit));
    }
    let waiter = shared.waiters.enter(&identity, settings)?;
    tracing::info!(grant = %pass.grant, %identity, client = %client.client, "a login waits in line");
    let wait = LineWait {
        ticket,
        limit,
        repeat: settings.repeat,
    };
    let welcomed = std::mem::replace(&mut pass.welcomed, true);
    wait.run(&mut client.transport, (&waiter, welcomed), &shared.clock).await
}

/// Wait of a login for the turn of its grant.
struct LineWait {
    ticket: LineTicket,
    /// Maximum time that this client waits.
    limit: Duration,
    /// Interval between notices to the client.
    repeat: Duration,
}

impl LineWait {
    /// Waits until the grant may use the target. AuthenticationOk is sent first, unless the client has it: libpq accepts no notices
    /// before it.
    async fn run(
        mut self,
        client: &mut (impl AsyncRead + AsyncWrite + Unpin),
        (waiter, welcomed): (&ApprovalWaiter, bool),
        clock: &Clock,
    ) -> Result<TargetUse, Ending> {
        let began = clock.moment().instant;
        let enough = began.checked_add(self.limit).unwrap_or(began);
        let mut next = began;
        let mut told = None;
        let mut out = BytesMut::new();
        if !welcomed {
            encode::authentication_ok(&mut out);
        }
        loop {
            let place = match self.ticket.look().await {
                Ok(LineTurn::Now) => return Ok(self.ticket.into_use()),
                Ok(LineTurn::Waits(place)) => place,
                Err(error) => return Err(self.ticket.ending(error)),
            };
            let now = clock.moment().instant;
            if now >= next || told.as_ref() != Some(&place) {
                let so_far = told.is_some().then(|| now.saturating_duration_since(began));
                out.extend(error_response::notice(&waits(self.ticket.target(), &place, so_far)));
                next = now.checked_add(self.repeat).unwrap_or(enough);
                told = Some(place.clone());
            }
            tell(client, &mut out).await?;
            tokio::select! {
                biased;
                () = waiter.closed() => return Err(Ending::Draining),
                () = self.ticket.changed() => {}
                () = sleep_until(enough) => return Err(in_use(&self.ticket, place, self.limit)),
                ending = left(client) => return Err(ending),
            }
        }
    }
}

fn in_use(ticket: &LineTicket, place: LinePlace, waited: Duration) -> Ending {
    Ending::TargetInUse {
        target: ticket.target().clone(),
        place,
        waited,
    }
}

/// The words for a client that waits in line.
fn waits(target: &TargetName, place: &LinePlace, so_far: Option<Duration>) -> EndingText {
    let number = match place.place {
        1 => "next in line".to_owned(),
        number => format!("number {number} in line"),
    };
    let waited = so_far.map(|so_far| format!(" after {}", length(so_far))).unwrap_or_default();
    let holders = place.holders(|until| until.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
    EndingText {
        code: "01000",
        message: format!("waiting for \"{target}\"{waited}, {number}: it is {holders}"),
        detail: None,
        hint: Some("the login goes on by itself when its turn comes; the window of its grant opens only then".to_owned()),
    }
}
