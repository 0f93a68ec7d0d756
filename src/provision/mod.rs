//! The provisioning connections: end backends of a target and confirm that they are gone, reap what a dead gate left behind.
//!
//! It does not decide that a session ends and tells no client. Roles of grants are in [`Roles`].
//!
//! INVARIANT: a backend is reported as gone only when the target has said so: it is not in `pg_stat_activity` any more. There
//! its entry goes after its transaction was rolled back (`ShutdownPostgres` is a `before_shmem_exit` callback,
//! src/backend/utils/init/postinit.c).

mod guard;
mod link;
mod order;
mod owned;
pub mod profiles;
mod roles;
mod terminator;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::ids::SessionId;
use crate::ledger::OpenSession;
use crate::rights;
use crate::upstream::Target;
use order::{Order, Sort, Unanswered};
pub use roles::{Counted, Fault, Finding, Found, Profile, ReapedRoles, RoleError, Roles, inspect_roles, inspect_shared};
use terminator::{CROWD, Work};

/// How long a backend has to go away once it was told to. After that it is reported as not confirmed.
pub const LIMIT: Duration = Duration::from_secs(5);

/// A backend of a session of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its process id, as the target's BackendKeyData said.
    pub pid: i32,
    /// When we were connected to it; the process is older than that.
    pub opened: Instant,
    /// As which role it was logged in; `None`: as the target's own account.
    pub role: Option<Arc<str>>,
}

/// What became of a backend that was to be ended.
#[derive(Debug)]
pub struct Gone {
    /// The target says that it is not there any more.
    pub confirmed: bool,
    /// When that was known; when it was given up, if it is not confirmed.
    pub at: Instant,
    /// Where it is not confirmed, but asked for on: tells when it is.
    pub later: Option<GoneLater>,
}

/// The end of a backend that did not go in time.
#[derive(Debug)]
pub struct GoneLater(oneshot::Receiver<Instant>);

impl GoneLater {
    /// Waits until it is gone. Returns when that was known; `None` where it is not asked for any more.
    pub async fn wait(self) -> Option<Instant> {
        self.0.await.ok()
    }
}

/// An order to end a backend, which is carried out even if this is dropped.
#[derive(Debug)]
pub struct Termination {
    signalled: oneshot::Receiver<()>,
    gone: oneshot::Receiver<Gone>,
    clock: Clock,
}

impl Termination {
    /// Waits until the target has signalled the backend, so that its end is the server's work, or until the order is settled without.
    pub async fn signalled(&mut self) {
        let _ = (&mut self.signalled).await;
    }

    /// Waits until the target confirms that the backend is gone, for at most about [`LIMIT`].
    pub async fn gone(self) -> Gone {
        if let Ok(gone) = self.gone.await {
            return gone;
        }
        // The task has ended with the runtime: nothing is known.
        Gone {
            confirmed: false,
            at: self.clock.moment().instant,
            later: None,
        }
    }
}

/// What became of a session that a former run of the gate left open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaped {
    /// The session.
    pub session: SessionId,
    /// Whether its backend is confirmed gone; if not, try again later.
    pub confirmed: bool,
}

/// Ends backends of one target, over one connection that is kept open. Cheap to clone; the connection is closed when the last
/// clone is dropped.
#[derive(Debug, Clone)]
pub struct Terminator {
    orders: mpsc::UnboundedSender<Order>,
    target: Arc<watch::Sender<Arc<Target>>>,
    /// Whether the connection is there.
    connected: watch::Receiver<bool>,
    /// Orders that have not been answered.
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

    /// Starts the task that holds the connection; it connects at once, so that the first end does not wait for it.
    /// To be called within a tokio runtime.
    #[must_use]
    pub fn spawn(target: Arc<Target>, clock: Clock) -> Self {
        let (orders, queue) = mpsc::unbounded_channel();
        let (target, changes) = watch::channel(target);
        let (connection, connected) = watch::channel(false);
        let task = tokio::spawn(Work::new(changes, clock.clone(), queue, connection).run());
        Self {
            orders,
            target: Arc::new(target),
            connected,
            unanswered: Arc::default(),
            clock,
            task: task.abort_handle(),
        }
    }

    /// Returns true when its task is gone, so that it can end nothing any more.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.task.is_finished()
    }

    /// Whether so many are being ended that each has to wait for the processor: nobody need wait for what one of them says.
    #[must_use]
    pub fn crowded(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed) > CROWD
    }

    /// Waits until there is no connection to end a backend on, which may be so now. It is made anew all the time.
    pub async fn cut_off(&self) {
        // An error says that the task has ended with the runtime: there is no connection then.
        let _ = self.connected.clone().wait_for(|connected| !connected).await;
    }

    /// Takes a target whose settings were changed, if it is at the same server still: the connection is made anew with them, and
    /// there is no second one.
    #[must_use]
    pub fn renew(&self, target: &Arc<Target>) -> bool {
        let same = self.target.borrow().same_server(target);
        if same {
            self.target.send_replace(Arc::clone(target));
        }
        same
    }

    /// Terminates the backend and waits until the target confirms that it is gone, for at most about
    /// [`LIMIT`]. The order is given by the call itself, not by the first poll, and is carried out even if the future is
    /// dropped. Many orders given at once are carried out at once.
    ///
    /// A backend that is not confirmed gone by then is told again every few seconds until it is gone, for as long as the gate
    /// runs: [`Gone::later`] waits for that. Leave such a session open in the store until then, and the next start will confirm it
    /// if this run does not.
    pub fn end(&self, backend: Backend) -> impl Future<Output = Gone> + Send + use<> {
        self.order(backend, Duration::ZERO, Sort::Session).gone()
    }

    /// As [`Terminator::end`], and tells when the backend has been signalled. An `urgent` one goes on to more if it is not stopped at
    /// once, or its next words are waited for: a crowd does not hold it up.
    #[must_use]
    pub fn end_watched(&self, backend: Backend, urgent: bool) -> Termination {
        let sort = if urgent { Sort::Urgent } else { Sort::Session };
        self.order(backend, Duration::ZERO, sort)
    }

    /// Ends the backends of sessions that a former run left open on this target. A process id that has been given to a
    /// younger process since means that the session's own is gone.
    pub async fn reap(&self, leftovers: &[OpenSession]) -> Vec<Reaped> {
        let now = self.clock.moment();
        let orders = leftovers.iter().map(|session| {
            // Had its target no roles then, it is found under the account itself.
            let role = rights::grant_role(&session.identity, &session.grant);
            let backend = Backend {
                pid: session.backend_pid,
                opened: now.instant,
                role: Some(role.as_str().into()),
            };
            let age = Duration::try_from(now.time.duration_since(session.opened_at)).unwrap_or(Duration::ZERO);
            let gone = self.order(backend, age, Sort::Leftover).gone();
            async move {
                Reaped {
                    session: session.session.clone(),
                    confirmed: gone.await.confirmed,
                }
            }
        });
        futures_util::future::join_all(orders).await
    }

    /// `age` is the session's age at `backend.opened`, for sessions that began before our clock did.
    fn order(&self, backend: Backend, age: Duration, sort: Sort) -> Termination {
        let (signal, signalled) = oneshot::channel();
        let (reply, gone) = oneshot::channel();
        let order = Order {
            backend,
            older: age,
            sort,
            given: self.clock.moment().instant,
            signalled: Some(signal),
            reply,
            _unanswered: Unanswered::count(&self.unanswered),
        };
        // Without a task the order is dropped here, and what waits for it is told so.
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
