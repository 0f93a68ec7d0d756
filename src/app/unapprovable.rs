//! Warns about requests without a possible approver: no identity that may approve them is enabled.
//!
//! The desk determines the possible approvers.

use std::sync::Arc;

use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::access::Desk;
use crate::ledger::{Changed, Ledger};
use crate::notify::{EventKind, Notice, Notifier};

/// Checks every new request, until the ledger is gone. The requester of a request missed here is told all the same.
pub(super) async fn watch(mut changes: Receiver<Changed>, ledger: Ledger, desk: Desk, notifier: Notifier) {
    loop {
        let request = match changes.recv().await {
            Ok(Changed::Request(request)) if request.outcome.is_none() && request.approvals.is_empty() => request,
            Ok(_) | Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let Ok(view) = ledger.request(&request.id).await else {
            continue;
        };
        if !desk.waits_for_nobody(&view).await {
            continue;
        }
        tracing::warn!(
            request = %request.id, identity = %request.wish.identity, target_name = %request.wish.target,
            "a request waits, but no enabled user may approve it; enable an approver or change the policies"
        );
        let notice = Notice {
            event: EventKind::RequestWithoutApprover,
            at: request.submitted_at,
            request: Arc::clone(&request),
        };
        notifier.enqueue(&notice).await;
    }
}
