//! Provisioning connections: they end backends of a target and confirm their end, including backends that a crashed gate left.
//!
//! It does not decide that a session ends and tells no client. Roles of grants are in [`GrantRoles`].
//!
//! INVARIANT: a backend is reported as gone only when the target confirms it: the backend is not in `pg_stat_activity` any more.
//! Its entry there is removed after its transaction was rolled back (`ShutdownPostgres` is a `before_shmem_exit` callback,
//! src/backend/utils/init/postinit.c).

mod capture;
mod connection;
mod guard;
pub mod profiles;
mod roles;
mod terminator;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::base::clock::Clock;
use crate::database::rights;
use crate::database::upstream::Target;
use crate::ledger::OpenSession;
use crate::model::ids::SessionId;
pub use capture::{CaptureCounts, CaptureSettings, ChangeDrain, DrainContext, SessionBackend};
pub use roles::{
    CopyCounts, CopyProgress, FoundCopy, FoundRole, GrantRoles, ReconcileResult, RoleCounts, RoleError, RoleFault, RoleProfile,
    TargetFinding, inspect_roles, inspect_shared, inspect_templates,
};
use terminator::{BackendKind, CROWD_ORDERS, TerminateOrder, TerminatorTask, UnansweredOrder};

/// Time within which a signalled backend has to be gone. After that it is reported as not confirmed.
pub const TERMINATE_TIMEOUT: Duration = Duration::from_secs(5);

/// Backend of a session of this gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Process id from the target's BackendKeyData.
    pub pid: i32,
    /// Time the gate had connected to it; the process is older than that.
    pub opened: Instant,
    /// Role it is logged in as; `None`: the target's own account.
    pub role: Option<Arc<str>>,
}

/// Result of ending a backend.
#[derive(Debug)]
pub struct BackendGoneness {
    /// True if the target confirmed that the backend is gone.
    pub confirmed: bool,
    /// Time of the confirmation, or of the end of the wait without one.
    pub at: Instant,
    /// Later confirmation of a backend that was not confirmed, but is still asked for.
    pub later: Option<GoneLater>,
}

/// Pending confirmation of a backend that did not go in time.
#[derive(Debug)]
pub struct GoneLater(oneshot::Receiver<Instant>);

impl GoneLater {
    /// Waits until it is gone, and returns the time of the confirmation; `None` if it is not asked for any more.
    pub async fn wait(self) -> Option<Instant> {
        self.0.await.ok()
    }
}

/// Order to end a backend; it is carried out even if this handle is dropped.
#[derive(Debug)]
pub struct Termination {
    signalled: oneshot::Receiver<()>,
    gone: oneshot::Receiver<BackendGoneness>,
    clock: Clock,
}

impl Termination {
    /// Waits until the target has signalled the backend, so that the server completes its end, or until the order is settled
    /// without that.
    pub async fn signalled(&mut self) {
        let _ = (&mut self.signalled).await;
    }

    /// Waits until the target confirms that the backend is gone, for at most about [`TERMINATE_TIMEOUT`].
    pub async fn gone(self) -> BackendGoneness {
        if let Ok(gone) = self.gone.await {
            return gone;
        }
        // The task has ended with the runtime, so the state is unknown.
        BackendGoneness {
            confirmed: false,
            at: self.clock.moment().instant,
            later: None,
        }
    }
}

/// Result for a session that a former run of the gate left open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReapedSession {
    /// Id of the session.
    pub session: SessionId,
    /// True if its backend is confirmed gone; if not, try again later.
    pub confirmed: bool,
}

/// Handle that ends backends of one target over one open connection. Cheap to clone; the connection is closed when the last clone
/// is dropped.
#[derive(Debug, Clone)]
pub struct Terminator {
    orders: mpsc::UnboundedSender<TerminateOrder>,
    target: Arc<watch::Sender<Arc<Target>>>,
    /// True while the connection is open.
    connected: watch::Receiver<bool>,
    /// Number of orders without an answer.
    unanswered: Arc<AtomicUsize>,
    clock: Clock,
    task: AbortHandle,
}

impl Terminator {
    /// Leaves it without a task, as a panic does.
    #[cfg(test)]
    pub(crate) fn break_task(&self) {
        self.task.abort();
    }

    /// Starts the task that holds the connection. It connects at once, so that the first order does not wait for it. Must be
    /// called within a tokio runtime.
    #[must_use]
    pub fn spawn(target: Arc<Target>, clock: Clock) -> Self {
        let (orders, queue) = mpsc::unbounded_channel();
        let (target, changes) = watch::channel(target);
        let (connection, connected) = watch::channel(false);
        let task = tokio::spawn(TerminatorTask::new(changes, clock.clone(), queue, connection).run());
        Self {
            orders,
            target: Arc::new(target),
            connected,
            unanswered: Arc::default(),
            clock,
            task: task.abort_handle(),
        }
    }

    /// Returns true if its task has ended, so that it can end no more backends.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.task.is_finished()
    }

    /// Returns true if so many backends are being ended that each waits for the processor. Messages of one of them are then not
    /// worth waiting for.
    #[must_use]
    pub fn crowded(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed) > CROWD_ORDERS
    }

    /// Waits until there is no connection to end a backend on, which may be now. The task keeps reconnecting.
    pub async fn cut_off(&self) {
        // An error means that the task has ended with the runtime: there is no connection then.
        let _ = self.connected.clone().wait_for(|connected| !connected).await;
    }

    /// Switches to a target with changed settings if it is on the same server, and returns true then. The connection is replaced;
    /// there is never a second one.
    #[must_use]
    pub fn renew(&self, target: &Arc<Target>) -> bool {
        let same = self.target.borrow().same_server(target);
        if same {
            self.target.send_replace(Arc::clone(target));
        }
        same
    }

    /// Terminates the backend and waits until the target confirms that it is gone, for at most about [`TERMINATE_TIMEOUT`]. The order is
    /// given by the call itself, not by the first poll, and is carried out even if the future is dropped. Concurrent orders are
    /// carried out together.
    ///
    /// A backend without confirmation by then is signalled again every few seconds until it is gone, for as long as the gate
    /// runs: [`BackendGoneness::later`] waits for that. Leave such a session open in the store until then; the next start will confirm it if
    /// this run does not.
    pub fn end(&self, backend: Backend) -> impl Future<Output = BackendGoneness> + Send + use<> {
        self.order(backend, Duration::ZERO, BackendKind::Session).gone()
    }

    /// Ends a backend as [`Terminator::end`] does, and also reports the signal. Pass `urgent` if the session could do more until
    /// it is stopped, or if its next message is waited for: an urgent order is not held back to be batched.
    #[must_use]
    pub fn end_watched(&self, backend: Backend, urgent: bool) -> Termination {
        let sort = if urgent { BackendKind::Urgent } else { BackendKind::Session };
        self.order(backend, Duration::ZERO, sort)
    }

    /// Ends the backends of sessions that a former run left open on this target. If a process id belongs to a younger process
    /// now, the session's own is gone.
    pub async fn reap(&self, leftovers: &[OpenSession]) -> Vec<ReapedSession> {
        let now = self.clock.moment();
        let orders = leftovers.iter().map(|session| {
            // If its target had no roles then, the backend is found under the account itself.
            let role = rights::grant_role(&session.identity, &session.grant);
            let backend = Backend {
                pid: session.backend_pid,
                opened: now.instant,
                role: Some(role.as_str().into()),
            };
            let age = Duration::try_from(now.time.duration_since(session.opened_at)).unwrap_or(Duration::ZERO);
            let gone = self.order(backend, age, BackendKind::Leftover).gone();
            async move {
                ReapedSession {
                    session: session.session.clone(),
                    confirmed: gone.await.confirmed,
                }
            }
        });
        futures_util::future::join_all(orders).await
    }

    /// Gives an order. `age` is the session's age at `backend.opened`, for sessions that began before this clock did.
    fn order(&self, backend: Backend, age: Duration, sort: BackendKind) -> Termination {
        let (signal, signalled) = oneshot::channel();
        let (reply, gone) = oneshot::channel();
        let order = TerminateOrder {
            backend,
            older: age,
            sort,
            given: self.clock.moment().instant,
            signalled: Some(signal),
            reply,
            _unanswered: UnansweredOrder::count(&self.unanswered),
        };
        // If the task is gone, the order is dropped here, which notifies its waiters.
        let _ = self.orders.send(order);
        Termination {
            signalled,
            gone,
            clock: self.clock.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
