//! Orders to end backends: their state while they wait for the backend, and after an answer without confirmation.
//!
//! It signals nothing: the terminator does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::connection::BackendQuery;
use super::{Backend, BackendGoneness};

/// Retry interval of the signal; the first one may have arrived while the backend was starting something.
const RESIGNAL_INTERVAL: Duration = Duration::from_secs(1);

/// Order to end one backend.
#[derive(Debug)]
pub(super) struct TerminateOrder {
    pub(super) backend: Backend,
    /// Age of the session at `backend.opened`.
    pub(super) older: Duration,
    pub(super) sort: BackendKind,
    pub(super) given: Instant,
    /// Notification that the backend was signalled, sent once.
    pub(super) signalled: Option<oneshot::Sender<()>>,
    pub(super) reply: oneshot::Sender<BackendGoneness>,
    pub(super) _unanswered: UnansweredOrder,
}

/// Origin and urgency of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BackendKind {
    /// Session of this run.
    Session,
    /// Session of this run whose order is not held back to be batched.
    Urgent,
    /// Session of a former run. For it, a process of that id that is too young to be the session's proves that the session's is
    /// gone; for others it proves nothing, because the server's clock may have been set back. Callers ask again for leftovers, so
    /// these are not kept beyond [`LIMIT`](super::TERMINATE_TIMEOUT).
    Leftover,
}

/// Guard that counts an order until it is dropped.
#[derive(Debug)]
pub(super) struct UnansweredOrder(Arc<AtomicUsize>);

impl UnansweredOrder {
    pub(super) fn count(orders: &Arc<AtomicUsize>) -> Self {
        orders.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(orders))
    }
}

impl Drop for UnansweredOrder {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) struct PendingOrder {
    pub(super) order: TerminateOrder,
    /// Time of the last signal, if there was one.
    pub(super) told: Option<Instant>,
}

/// Backend whose order was answered without confirmation.
pub(super) struct LateBackend {
    pub(super) backend: Backend,
    pub(super) older: Duration,
    pub(super) gone: oneshot::Sender<Instant>,
}

impl PendingOrder {
    /// Returns the question about it. It includes a signal unless the last one was sent less than [`RESIGNAL_INTERVAL`] ago.
    pub(super) fn asked(&mut self, now: Instant) -> BackendQuery {
        let end = self.told.is_none_or(|at| now.duration_since(at) >= RESIGNAL_INTERVAL);
        if end {
            self.told = Some(now);
        }
        BackendQuery {
            pid: self.order.backend.pid,
            age: self.order.older + now.duration_since(self.order.backend.opened),
            end,
            role: self.order.backend.role.clone(),
        }
    }
}

impl LateBackend {
    /// Returns the question about it, with a signal.
    pub(super) fn asked(&self, now: Instant) -> BackendQuery {
        BackendQuery {
            pid: self.backend.pid,
            age: self.older + now.duration_since(self.backend.opened),
            end: true,
            role: self.backend.role.clone(),
        }
    }
}
