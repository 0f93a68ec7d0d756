//! Orders to end backends: as they are given, while they wait for their backend, and after they were answered without it.
//!
//! It signals nothing: the terminator does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::link::Asked;
use super::{Backend, Gone};

/// A backend that does not go is signalled again; the first signal may have come while it was starting something.
const AGAIN: Duration = Duration::from_secs(1);

/// An order to end one backend.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) backend: Backend,
    /// The session's age at `backend.opened`.
    pub(super) older: Duration,
    pub(super) sort: Sort,
    pub(super) given: Instant,
    /// Tells that the backend was signalled, once.
    pub(super) signalled: Option<oneshot::Sender<()>>,
    pub(super) reply: oneshot::Sender<Gone>,
    pub(super) _unanswered: Unanswered,
}

/// Whose backend it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// Of a session of this run.
    Session,
    /// The same, and it does not wait for a crowd to gather.
    Urgent,
    /// Of a former run. A process of that id that is too young to be the session's then says that the session's is gone; else
    /// it says nothing that an answer can rely on (the server's clock may have been set back). And whoever asks for leftovers
    /// asks again, so they are not kept beyond [`LIMIT`](super::LIMIT).
    Leftover,
}

/// Counts an order until it is dropped.
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
    /// When it was last signalled, if it was.
    pub(super) told: Option<Instant>,
}

/// A backend whose order has been answered.
pub(super) struct Late {
    pub(super) backend: Backend,
    pub(super) older: Duration,
    pub(super) gone: oneshot::Sender<Instant>,
}

impl Pending {
    /// The question about it, which signals it where that was not done lately.
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
    /// The question about it, which signals it.
    pub(super) fn asked(&self, now: Instant) -> Asked {
        Asked {
            pid: self.backend.pid,
            age: self.older + now.duration_since(self.backend.opened),
            end: true,
            role: self.backend.role.clone(),
        }
    }
}
