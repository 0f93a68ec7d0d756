//! Login that waits for the approval of its request: the client gets a notice at once and repeatedly, until there is an answer.
//!
//! This module approves nothing and makes no request. If a client disconnects, its request stays pending: a later login for the
//! same access finds it, approved or not.
//!
//! [`super::line`] waits in the same way for the turn of a grant.
//!
//! INVARIANT: a waiting login has no target, no buffer and no slot among handshakes or connections, only a permit to wait; these
//! permits are limited, in total and per identity, and returned when dropped.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::limits::length;
use crate::access::Approvers;
use crate::access::identity_limiter::{IdentityLimiter, IdentityPermit, ReachedLimit};
use crate::base::clock::Clock;
use crate::base::visible::visible;
use crate::model::ending::{Ending, EndingText, LimitScope};
use crate::model::ids::{GrantId, RequestId};
use crate::model::names::{IdentityName, ProfileName};
use crate::model::request::{Request, RequestOutcome};
use crate::protocol::wire::{encode, error_response};

/// Time for a client to take a notice; notices are small, so a client that does not take it counts as gone.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(10);
/// Type byte of Terminate.
const TERMINATE_TAG: u8 = b'X';

/// Limits on waiting logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitSettings {
    /// Maximum time that a login waits.
    pub limit: Duration,
    /// Interval between notices to a waiting client.
    pub repeat: Duration,
    /// Maximum number of logins that wait at the same time.
    pub logins: u32,
    /// Maximum number of these for one identity.
    pub of_one: u32,
}

/// Logins that wait, for an approval or in line.
#[derive(Debug, Default)]
pub struct ApprovalWaiters {
    permits: IdentityLimiter,
    closed: watch::Sender<bool>,
}

/// Permit of a login to wait. Dropping it returns it.
#[derive(Debug)]
pub(super) struct ApprovalWaiter {
    _permit: IdentityPermit,
    closed: watch::Receiver<bool>,
}

impl ApprovalWaiter {
    /// Waits until no login may wait any more.
    pub(super) async fn closed(&self) {
        // The sender lives as long as the gate.
        let _ = self.closed.clone().wait_for(|closed| *closed).await;
    }
}

impl ApprovalWaiters {
    /// Ends the wait of all logins, also of those to come: the gate shuts down.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Returns the number of waiting logins.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        u32::try_from(self.permits.in_use()).unwrap_or(u32::MAX)
    }

    /// Returns a permit to wait if one is left.
    pub(super) fn enter(&self, identity: &IdentityName, settings: &WaitSettings) -> Result<ApprovalWaiter, Ending> {
        let (of_one, in_all) = (settings.of_one, settings.logins);
        let permit = self.permits.enter(Some(identity), of_one as usize, in_all as usize);
        let permit = permit.map_err(|reached| {
            let (scope, limit) = match reached {
                ReachedLimit::OfOne => (LimitScope::WaitingOf(identity.clone()), of_one),
                ReachedLimit::InAll => (LimitScope::Waiting, in_all),
            };
            Ending::TooMany { scope, limit }
        })?;
        Ok(ApprovalWaiter {
            _permit: permit,
            closed: self.closed.subscribe(),
        })
    }
}

/// Request that a login waits for, and the limits of the wait.
pub(super) struct ApprovalWait {
    /// Request, now and after every change.
    pub(super) request: watch::Receiver<Arc<Request>>,
    /// Identities that can approve it.
    pub(super) approvers: Approvers,
    /// Maximum time that this client waits.
    pub(super) limit: Duration,
    /// Interval between notices to the client.
    pub(super) repeat: Duration,
}

/// Event that a waiting login has to handle.
enum WakeReason {
    /// The request has changed.
    Step,
    /// The login has waited for its maximum time.
    Enough,
    /// The next notice is due.
    Again,
}

impl ApprovalWait {
    /// Waits until the request becomes a grant. AuthenticationOk is sent first: libpq accepts no notices before it.
    pub(super) async fn run(
        mut self,
        client: &mut (impl AsyncRead + AsyncWrite + Unpin),
        waiter: &ApprovalWaiter,
        clock: &Clock,
    ) -> Result<GrantId, Ending> {
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
                () = waiter.closed() => return Err(Ending::Draining),
                woken = self.woken(enough, next) => woken?,
                () = clock.sleep_until(request.expires_at) => return Err(lapsed(&request)),
                ending = left(client) => return Err(ending),
            };
            match woken {
                WakeReason::Step => {
                    request = self.request.borrow_and_update().clone();
                    if request.approvals.len() > approvals && request.outcome.is_none() {
                        self.notice(&mut out, &request, "approved in part");
                    }
                    approvals = request.approvals.len();
                }
                WakeReason::Enough => return Err(self.pending(&request.id, self.limit)),
                WakeReason::Again => {
                    next = next.checked_add(self.repeat).unwrap_or(enough);
                    let so_far = clock.moment().instant.saturating_duration_since(began);
                    self.notice(&mut out, &request, &format!("still waiting after {}", length(so_far)));
                }
            }
        }
    }

    async fn woken(&mut self, enough: Instant, next: Instant) -> Result<WakeReason, Ending> {
        tokio::select! {
            biased;
            changed = self.request.changed() => match changed {
                Ok(()) => Ok(WakeReason::Step),
                // Only a ledger that is shut down drops the sender of a pending request.
                Err(_) => Err(Ending::LedgerFailed),
            },
            () = sleep_until(enough) => Ok(WakeReason::Enough),
            () = sleep_until(next) => Ok(WakeReason::Again),
        }
    }

    /// Returns the ending of a client that has reached the end of its wait, or does not wait.
    pub(super) fn pending(&self, request: &RequestId, waited: Duration) -> Ending {
        Ending::ApprovalPending {
            request: request.clone(),
            approvers: self.approvers.names.clone(),
            nobody: self.approvers.nobody,
            waited,
        }
    }

    pub(super) fn notice(&self, out: &mut BytesMut, request: &Request, what: &str) {
        out.extend(error_response::notice(&waits(request, what, &self.approvers)));
    }
}

/// The words for a client that waits.
pub(crate) fn waits(request: &Request, what: &str, approvers: &Approvers) -> EndingText {
    let id = &request.id;
    let message = match (request.approvals.len(), request.approvals_needed) {
        (0, 0 | 1) => format!("{what}: {id}"),
        (have, needed) => format!("{what}: {id} ({have} of {needed} approvals)"),
    };
    let hint = match approvers.names.as_slice() {
        [] if approvers.nobody => "no enabled user of this gate may approve it: tell its operator".to_owned(),
        [] => format!("somebody the policies let approve it can: tidegate approve {id}"),
        names => {
            let names: Vec<_> = names.iter().take(10).map(ToString::to_string).collect();
            format!("{} can approve it: tidegate approve {id}", names.join(", "))
        }
    };
    EndingText {
        code: "01000",
        message,
        detail: None,
        hint: Some(hint),
    }
}

/// Returns the result of the request if it is settled.
pub(super) fn answer(request: &Request) -> Option<Result<GrantId, Ending>> {
    let id = request.id.clone();
    Some(match request.outcome.as_ref()? {
        RequestOutcome::Approved { grant, .. } => Ok(grant.clone()),
        RequestOutcome::Denied { why, .. } => Err(Ending::AccessDenied {
            why: why.clone(),
            policies: Vec::new(),
        }),
        RequestOutcome::Rejected { by, comment, .. } => Err(Ending::RequestRejected {
            request: id,
            by: by.clone(),
            comment: comment.clone(),
        }),
        RequestOutcome::Withdrawn { .. } => Err(Ending::RequestWithdrawn { request: id }),
    })
}

/// The words for a request that was approved for less than it asked for.
pub(crate) fn narrowed(request: &Request) -> Option<EndingText> {
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
    Some(EndingText {
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

/// Sends a waiting client what is to be sent.
pub(super) async fn tell(client: &mut (impl AsyncWrite + Unpin), out: &mut BytesMut) -> Result<(), Ending> {
    if out.is_empty() {
        return Ok(());
    }
    let telling = timeout(NOTICE_TIMEOUT, async {
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

/// Waits until the client disconnects or sends anything: before ReadyForQuery it may only send Terminate.
pub(super) async fn left(client: &mut (impl AsyncRead + Unpin)) -> Ending {
    let mut byte = [0];
    match client.read(&mut byte).await {
        Ok(0) | Err(_) => Ending::Disconnected,
        Ok(_) if byte == [TERMINATE_TAG] => Ending::Quit,
        Ok(_) => Ending::Malformed {
            what: "a message while the login waits",
        },
    }
}

#[cfg(test)]
mod tests;
