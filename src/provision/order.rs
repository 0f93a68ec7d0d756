//! Orders to end backends: their state while they wait for the backend, and after an answer without confirmation.
//!
//! It signals nothing: the terminator does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::link::Asked;
use super::{Backend, Gone};

/// Retry interval of the signal; the first one may have arrived while the backend was starting something.
const AGAIN: Duration = Duration::from_secs(1);

/// Order to end one backend.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) backend: Backend,
    /// Age of the session at `backend.opened`.
    pub(super) older: Duration,
    pub(super) sort: Sort,
    pub(super) given: Instant,
    /// Notification that the backend was signalled, sent once.
    pub(super) signalled: Option<oneshot::Sender<()>>,
    pub(super) reply: oneshot::Sender<Gone>,
    pub(super) _unanswered: Unanswered,
}

/// Origin and urgency of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// Session of this run.
    Session,
    /// Session of this run whose order is not held back to be batched.
    Urgent,
    /// Session of a former run. For it, a process of that id that is too young to be the session's proves that the session's is
    /// gone; for others it proves nothing, because the server's clock may have been set back. Callers ask again for leftovers, so
    /// these are not kept beyond [`LIMIT`](super::LIMIT).
    Leftover,
}

/// Guard that counts an order until it is dropped.
#[derive(Debug)]
pub(super) struct Unanswered(Arc<AtomicUsize>);

impl Unanswered {
    pub(super) fn count(orders: &Arc<AtomicUsize>) -> Self {
        orders.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(orders))
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) struct Pending {
    pub(super) order: Order,
    /// Time of the last signal, if there was one.
    pub(super) told: Option<Instant>,
}

/// Backend whose order was answered without confirmation.
pub(super) struct Late {
    pub(super) backend: Backend,
    pub(super) older: Duration,
    pub(super) gone: oneshot::Sender<Instant>,
}

impl Pending {
    /// Returns the question about it. It includes a signal unless the last one was sent less than [`AGAIN`] ago.
    pub(super) fn asked(&mut self, now: Instant) -> Asked {
        let end = self.told.is_none_or(|at| now.duration_since(at) >= AGAIN);
        if end {
            self.told = Some(now);
        }
        Asked {
            pid: self.order.backend.pid,
            age: self.order.older + now.duration_since(self.order.backend.opened),
            end,
            role: self.order.backend.role.clone(),
        }
    }
}

impl Late {
    /// Returns the question about it, with a signal.
    pub(super) fn asked(&self, now: Instant) -> Asked {
        Asked {
            pid: self.backend.pid,
            age: self.older + now.duration_since(self.backend.opened),
            end: true,
            role: self.backend.role.clone(),
        }
    }
}
