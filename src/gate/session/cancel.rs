//! CancelRequest: finds the session of its key and asks the target to stop that session's statement.
//!
//! It never sends an answer: the client's connection is closed once the target has the request.

use super::SharedState;
use crate::audit::event::{CancelRequested, Event, RefusalKind, Who};
use crate::database::upstream;
use crate::gate::frontend::{self, PendingCancel};

/// Handles one request, then closes.
pub(super) async fn run(cancel: PendingCancel, shared: &SharedState) {
    shared.metrics.cancel();
    let live = shared.registry.by_key(cancel.request.pid, &cancel.request.key);
    let mut forwarded = false;
    if let Some(live) = &live {
        // An idle session has nothing to cancel, and its next statement must not be affected.
        if live.busy() {
            let sent = upstream::cancel(&live.target_state.target, &live.backend_key).await;
            forwarded = sent.is_ok();
        }
    }
    let who = live.as_ref().map(|live| Who::clone(&live.who));
    let affords = who.as_ref().is_some_and(|who| shared.affords_record(&who.identity));
    let event = Event::CancelRequested(CancelRequested {
        client: cancel.client.ip(),
        who,
        forwarded,
    });
    if affords {
        shared.record(&event).await;
    } else {
        let kind = RefusalKind::CancelRequested;
        shared.refusals.record(Some(cancel.client.ip()), kind, &event).await;
    }
    if live.is_none() {
        // A wrong key is delayed like a wrong secret, to slow down guessing.
        tokio::time::sleep(cancel.permit.proof().failed(None).time).await;
    }
    frontend::close(cancel.transport).await;
}
