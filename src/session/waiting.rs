//! A login that waits for somebody to approve its request: told so at once and every so often, until there is an answer.
//!
//! It approves nothing and makes no request. A client that goes away leaves its request pending: whoever connects again for the
//! same thing finds it, approved meanwhile or not.
//!
//! INVARIANT: a waiting login has no target, no buffer and no place among handshakes or connections, only a seat in the lobby;
//! seats are bounded, in all and for each identity, and free again when dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::limits::length;
use crate::clock::Clock;
use crate::ending::{Ending, Scope, Words};
use crate::ids::{GrantId, RequestId};
use crate::names::{IdentityName, ProfileName};
use crate::request::{Outcome, Request};
use crate::visible::visible;
use crate::wire::{encode, error_response};

/// How long a client has to take a notice: they are small, so one that does not is gone.
const TAKES: Duration = Duration::from_secs(10);
/// The message Terminate.
const TERMINATE: u8 = b'X';

/// How long logins wait, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitSettings {
    /// The longest wait.
    pub limit: Duration,
    /// How often a client that waits is told so.
    pub repeat: Duration,
    /// Waiting logins at once.
    pub logins: u32,
    /// Of these, of one identity.
    pub of_one: u32,
}

/// Where logins wait.
#[derive(Debug, Default)]
pub struct Lobby {
    seats: Mutex<Seats>,
    closed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Seats {
    taken: u32,
    of: HashMap<IdentityName, u32>,
}

/// A waiting login's seat. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Seat {
    lobby: Arc<Lobby>,
    identity: IdentityName,
}

impl Lobby {
    /// Sends everybody away, and whoever comes: the gate shuts down.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    /// How many logins wait.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.seats().taken
    }

    /// A seat, if there is one left.
    pub(super) fn enter(self: &Arc<Self>, identity: &IdentityName, settings: &WaitSettings) -> Result<Seat, Ending> {
        let mut seats = self.seats();
        let of_one = seats.of.get(identity).copied().unwrap_or_default();
        let full = |scope, limit| Err(Ending::TooMany { scope, limit });
        if of_one >= settings.of_one {
            return full(Scope::WaitingOf(identity.clone()), settings.of_one);
        }
        if seats.taken >= settings.logins {
            return full(Scope::Waiting, settings.logins);
        }
        seats.taken = seats.taken.saturating_add(1);
        seats.of.insert(identity.clone(), of_one.saturating_add(1));
        drop(seats);
        Ok(Seat {
            lobby: Arc::clone(self),
            identity: identity.clone(),
        })
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        // Nothing between lock and unlock leaves the counts half changed.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.lobby.seats();
        seats.taken = seats.taken.saturating_sub(1);
        if let Some(count) = seats.of.get_mut(&self.identity) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                seats.of.remove(&self.identity);
            }
        }
    }
}

/// What is waited for.
pub(super) struct Wait {
    /// The request, now and after every step.
    pub(super) request: watch::Receiver<Arc<Request>>,
    /// Who can approve it.
    pub(super) approvers: Vec<IdentityName>,
    /// As far as is known, there is nobody.
    pub(super) nobody: bool,
    /// The longest this client waits.
    pub(super) limit: Duration,
    /// How often it is told so.
    pub(super) repeat: Duration,
}

/// What a waiting login has to look at.
enum Woken {
    /// The request took a step.
    Step,
    /// The login has waited long enough.
    Enough,
    /// The client is to be told again.
    Again,
}

impl Wait {
    /// Waits until the request is a grant. AuthenticationOk goes out first: before it libpq takes no notices.
    pub(super) async fn run(
        mut self,
        client: &mut (impl AsyncRead + AsyncWrite + Unpin),
        seat: &Seat,
        clock: &Clock,
    ) -> Result<GrantId, Ending> {
        let mut closed = seat.lobby.closed.subscribe();
        let began = clock.moment().instant;
        let enough = began.checked_add(self.limit).unwrap_or(began);
        let mut next = began.checked_add(self.repeat).unwrap_or(enough);
        let mut approvals = 0;
        let mut out = BytesMut::new();
        encode::authentication_ok(&mut out);
        let mut request = self.request.borrow_and_update().clone();
        self.notice(&mut out, &request, "waiting for approval");
        loop {
            tell(client, &mut out).await?;
            if let Some(answer) = answer(&request) {
                return answer;
            }
            let woken = tokio::select! {
                biased;
                _ = closed.wait_for(|closed| *closed) => return Err(Ending::Draining),
                woken = self.woken(enough, next) => woken?,
                () = clock.sleep_until(request.expires_at) => return Err(lapsed(&request)),
                ending = left(client) => return Err(ending),
            };
            match woken {
                Woken::Step => {
                    request = self.request.borrow_and_update().clone();
                    if request.approvals.len() > approvals && request.outcome.is_none() {
                        self.notice(&mut out, &request, "approved in part");
                    }
                    approvals = request.approvals.len();
                }
                Woken::Enough => return Err(self.pending(&request.id, self.limit)),
                Woken::Again => {
                    next = next.checked_add(self.repeat).unwrap_or(enough);
                    let waited = clock.moment().instant.saturating_duration_since(began);
                    self.notice(&mut out, &request, &format!("still waiting after {}", length(waited)));
                }
            }
        }
    }

    async fn woken(&mut self, enough: Instant, next: Instant) -> Result<Woken, Ending> {
        tokio::select! {
            biased;
            changed = self.request.changed() => match changed {
                Ok(()) => Ok(Woken::Step),
                // Only a ledger that is gone lets go of a request that is pending.
                Err(_) => Err(Ending::LedgerFailed),
            },
            () = sleep_until(enough) => Ok(Woken::Enough),
            () = sleep_until(next) => Ok(Woken::Again),
        }
    }

    /// The refusal of a client that waits no longer, or does not want to.
    pub(super) fn pending(&self, request: &RequestId, waited: Duration) -> Ending {
        Ending::ApprovalPending {
            request: request.clone(),
            approvers: self.approvers.clone(),
            nobody: self.nobody,
            waited,
        }
    }

    pub(super) fn notice(&self, out: &mut BytesMut, request: &Request, what: &str) {
        error_response::notice(out, &waits(request, what, &self.approvers, self.nobody));
    }
}

/// The words for a client that waits.
pub(crate) fn waits(request: &Request, what: &str, approvers: &[IdentityName], nobody: bool) -> Words {
    let id = &request.id;
    let message = match (request.approvals.len(), request.approvals_needed) {
        (0, 0 | 1) => format!("{what}: {id}"),
        (have, needed) => format!("{what}: {id} ({have} of {needed} approvals)"),
    };
    let hint = match approvers {
        [] if nobody => "nobody who may approve it is enabled at this gate: tell its operator".to_owned(),
        [] => format!("somebody the policies let approve it can: tidegate approve {id}"),
        names => {
            let names: Vec<_> = names.iter().take(10).map(ToString::to_string).collect();
            format!("{} can approve it: tidegate approve {id}", names.join(", "))
        }
    };
    Words {
        code: "01000",
        message,
        detail: None,
        hint: Some(hint),
    }
}

/// What the request came to, if it has come to something.
pub(super) fn answer(request: &Request) -> Option<Result<GrantId, Ending>> {
    let id = request.id.clone();
    Some(match request.outcome.as_ref()? {
        Outcome::Approved { grant, .. } => Ok(grant.clone()),
        Outcome::Denied { why, .. } => Err(Ending::AccessDenied {
            why: why.clone(),
            policies: Vec::new(),
        }),
        Outcome::Rejected { by, comment, .. } => Err(Ending::RequestRejected {
            request: id,
            by: by.clone(),
            comment: comment.clone(),
        }),
        Outcome::Withdrawn { .. } => Err(Ending::RequestWithdrawn { request: id }),
    })
}

/// The words for a request that was approved for less than it asked for.
pub(crate) fn narrowed(request: &Request) -> Option<Words> {
    let asked = request.narrowed_from.as_ref()?;
    let (wish, extent) = (&request.wish, request.asked_for());
    let said = |profile: &ProfileName, window| format!("{}/{profile} for {}", wish.target, length(window));
    let by: Vec<String> = request
        .approvals
        .iter()
        .map(|approval| match &approval.comment {
            Some(comment) => format!("{}: {}", approval.by, visible(comment)),
            None => approval.by.to_string(),
        })
        .collect();
    let hint = (asked.profile != wish.profile).then(|| format!("you have what {} may do, and no more", wish.profile));
    Some(Words {
        code: "01000",
        message: format!(
            "request {} was approved for less than it asked for: {}, not {}",
            request.id,
            said(&wish.profile, wish.window),
            said(&extent.profile, extent.window)
        ),
        detail: Some(format!("Approved by {}.", by.join("; "))),
        hint,
    })
}

fn lapsed(request: &Request) -> Ending {
    Ending::RequestLapsed {
        request: request.id.clone(),
        until: request.expires_at,
    }
}

async fn tell(client: &mut (impl AsyncWrite + Unpin), out: &mut BytesMut) -> Result<(), Ending> {
    if out.is_empty() {
        return Ok(());
    }
    let telling = timeout(TAKES, async {
        client.write_all(out).await?;
        client.flush().await
    });
    let told = telling.await;
    out.clear();
    match told {
        Ok(Ok(())) => Ok(()),
        _ => Err(Ending::Disconnected),
    }
}

/// Ends when the client goes away, or says anything: before ReadyForQuery it has nothing to say but that it goes.
async fn left(client: &mut (impl AsyncRead + Unpin)) -> Ending {
    let mut byte = [0];
    match client.read(&mut byte).await {
        Ok(0) | Err(_) => Ending::Disconnected,
        Ok(_) if byte == [TERMINATE] => Ending::Quit,
        Ok(_) => Ending::Malformed {
            what: "a message while the login waits for approval",
        },
    }
}

#[cfg(test)]
mod tests;
