//! Task that ends backends: it takes all waiting orders, signals the backends, and asks until they are gone.
//!
//! It knows nothing of sessions and grants. INVARIANT: an order is answered within about [`TERMINATE_TIMEOUT`], but the backend of a session
//! of this run is not forgotten before it is seen gone, whatever becomes of the connection meanwhile.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::connection::{ProvisionConnectError, ProvisionConnection, within};
use super::{Backend, BackendGoneness, GoneLater, TERMINATE_TIMEOUT};
use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;
use crate::database::upstream::Target;
use crate::model::names::TargetName;

/// Maximum number of orders that are signalled at once without batching. The end of a backend costs a millisecond of processor
/// time and more, so with hundreds of them all other work waits for the processor.
pub(super) const CROWD_ORDERS: usize = 16;
/// Batching interval: a larger batch is signalled when no further order has come for this long. Until then the gate has the
/// processor, to tell the clients of those sessions.
const GATHER_INTERVAL: Duration = Duration::from_millis(2);
/// Maximum time an order is held back for batching.
const MAX_GATHER_INTERVAL: Duration = Duration::from_millis(20);
/// Interval to the next question, after one that saw some backends go.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(3);
/// Minimum interval, as a multiple of the duration of the last question: with a thousand backends a question takes much processor
/// time from those that are to end.
const POLL_INTERVAL_FACTOR: u32 = 4;
/// Maximum interval. The interval is doubled after each question that saw no backend go.
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Retry interval for backends that did not go within [`TERMINATE_TIMEOUT`].
const LATE_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum number of such backends; it is reached only if a target is unreachable while thousands of its sessions end.
const MAX_LATE_BACKENDS: usize = 4096;
/// Interval of checks of an idle connection.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of queries on an idle connection: they keep it from being cut as idle, and detect a dead one before it is needed.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// Retry interval of the signal; the first one may have arrived while the backend was starting something.
const RESIGNAL_INTERVAL: Duration = Duration::from_secs(1);
/// Time limit of connecting and of an answer, which is a scan of shared memory.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const OPTIONS: &str = "-c search_path=pg_catalog -c statement_timeout=0 -c lock_timeout=0";

/// Query that looks at backends and ends them. A backend's age is compared with the session's age: each side measures with its
/// own clock, so the clocks need not agree, and 5 seconds of drift or of a step of the server's clock are tolerated. A younger
/// process has the process id of one that is gone. Only processes of the session's role or of the target's own account are
/// considered; others are not the gate's to end. (If the account may not see the start of a process, which takes
/// `pg_read_all_stats`, the process counts as the session's.)
const BACKEND_QUERY: &str = "
    SELECT w.pid, ours, CASE WHEN ours AND w.stop THEN pg_terminate_backend(w.pid) END
    FROM unnest($1::int4[], $2::float8[], $3::bool[], $4::text[]) AS w (pid, age, stop, role)
    JOIN pg_stat_activity AS a ON a.pid = w.pid AND a.usename IN ($5, w.role)
    CROSS JOIN LATERAL (
        SELECT coalesce(extract(epoch FROM clock_timestamp() - a.backend_start)::float8 + 5 >= w.age, true) AS ours
    ) AS o";

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
    /// gone; for others it proves nothing, because the server's clock may have been set back. Callers ask again for leftovers,
    /// so these are not kept beyond [`LIMIT`](super::TERMINATE_TIMEOUT).
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

struct PendingOrder {
    order: TerminateOrder,
    /// Time of the last signal, if there was one.
    told: Option<Instant>,
}

/// Backend whose order was answered without confirmation.
struct LateBackend {
    backend: Backend,
    /// Age of the session at `backend.opened`.
    older: Duration,
    gone: oneshot::Sender<Instant>,
}

impl PendingOrder {
    /// Returns the question about it. It includes a signal unless the last one was sent less than [`RESIGNAL_INTERVAL`] ago.
    fn asked(&mut self, now: Instant) -> BackendQuery {
        let end = self.told.is_none_or(|at| now.duration_since(at) >= RESIGNAL_INTERVAL);
        if end {
            self.told = Some(now);
        }
        BackendQuery::new(&self.order.backend, self.order.older, end, now)
    }
}

/// Question about one backend.
struct BackendQuery {
    pid: i32,
    /// Age of the session; its backend is older.
    age: Duration,
    /// True to end the backend, false to look only. (`pg_terminate_backend` stops its statement too: wherever a statement can
    /// be stopped, SIGTERM is checked before SIGINT, `ProcessInterrupts` in tcop/postgres.c. An additional cancel would only
    /// make the backend clean up twice.)
    end: bool,
    /// Role it is logged in as; `None`: the target's own account.
    role: Option<Arc<str>>,
}

impl BackendQuery {
    /// Creates the question about a backend whose session had the age `older` when it was opened.
    fn new(backend: &Backend, older: Duration, end: bool, now: Instant) -> Self {
        Self {
            pid: backend.pid,
            age: older + now.duration_since(backend.opened),
            end,
            role: backend.role.clone(),
        }
    }
}

/// Connection with the query prepared and its catalogue caches warm.
struct BackendConnection {
    connection: ProvisionConnection,
    statement: Statement,
    /// User name of the target's own account.
    account: String,
}

impl BackendConnection {
    /// Connects as the target's sessions do, with the provisioning account.
    async fn open(target: &Arc<Target>) -> Result<Self, ProvisionConnectError> {
        let connect = async {
            let connection = ProvisionConnection::open_kept(target, "tidegate (ends sessions)", OPTIONS).await?;
            let statement = connection.client.prepare(BACKEND_QUERY).await?;
            let account = target.account.user.clone();
            let link = Self {
                connection,
                statement,
                account,
            };
            link.query(&[]).await?;
            Ok(link)
        };
        within(ANSWER_TIMEOUT, connect).await
    }

    /// Ends the backends that are to be ended. Returns the process ids of those that exist and are logged in as one of the
    /// gate's roles, each with true if it is old enough to be the session's backend.
    async fn query(&self, asked: &[BackendQuery]) -> Result<HashMap<i32, bool>, ProvisionConnectError> {
        let pids: Vec<i32> = asked.iter().map(|asked| asked.pid).collect();
        let ages: Vec<f64> = asked.iter().map(|asked| asked.age.as_secs_f64()).collect();
        let ends: Vec<bool> = asked.iter().map(|asked| asked.end).collect();
        let roles: Vec<Option<&str>> = asked.iter().map(|asked| asked.role.as_deref()).collect();
        let parameters: [&(dyn ToSql + Sync); 5] = [&pids, &ages, &ends, &roles, &self.account];
        let rows = self.connection.client.query(&self.statement, &parameters).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

pub(super) struct TerminatorTask {
    /// Target to connect to; a reload may change it.
    target: watch::Receiver<Arc<Target>>,
    clock: Clock,
    orders: mpsc::UnboundedReceiver<TerminateOrder>,
    link: Option<BackendConnection>,
    /// True while there is a connection, for observers.
    connected: watch::Sender<bool>,
    /// True if the last attempt to connect failed, so that the failure is logged once.
    failing: bool,
    pending: Vec<PendingOrder>,
    /// Time of the last order.
    newest: Instant,
    /// Interval until the next question about backends that have been signalled.
    pause: Duration,
    /// Time of that question.
    next_look: Instant,
    /// Backends that were answered as not confirmed at [`TERMINATE_TIMEOUT`] and are not seen gone yet; signalled again every
    /// [`LATE_INTERVAL`]. The oldest first.
    late: VecDeque<LateBackend>,
    /// Time of the last attempt to signal them.
    late_told: Option<Instant>,
}

impl TerminatorTask {
    pub(super) fn new(
        target: watch::Receiver<Arc<Target>>,
        clock: Clock,
        orders: mpsc::UnboundedReceiver<TerminateOrder>,
        connected: watch::Sender<bool>,
    ) -> Self {
        let now = clock.moment().instant;
        Self {
            target,
            clock,
            orders,
            newest: now,
            next_look: now,
            link: None,
            connected,
            failing: false,
            pending: Vec::new(),
            pause: MIN_POLL_INTERVAL,
            late: VecDeque::new(),
            late_told: None,
        }
    }

    /// Runs until no handle can give orders any more and all orders are settled.
    pub(super) async fn run(mut self) {
        let mut used = self.now();
        self.keep_link().await;
        let mut open = true;
        while open || !self.pending.is_empty() || !self.late.is_empty() {
            let wait = self.wait(self.now());
            tokio::select! {
                biased;
                order = self.orders.recv(), if open => match order {
                    Some(order) => self.accept(order),
                    None => open = false,
                },
                () = tokio::time::sleep(wait) => {}
            }
            while let Ok(order) = self.orders.try_recv() {
                self.accept(order);
            }
            if !self.pending.is_empty() || self.late_due(self.now()) {
                self.round().await;
                used = self.now();
            } else if self.keep_link().await && self.now().duration_since(used) >= PING_INTERVAL {
                self.ask(&[]).await;
                used = self.now();
            }
        }
    }

    fn accept(&mut self, order: TerminateOrder) {
        self.pause = MIN_POLL_INTERVAL;
        self.newest = self.now();
        self.pending.push(PendingOrder { order, told: None });
    }

    /// Returns the time until something is to be done, unless an order comes.
    fn wait(&self, now: Instant) -> Duration {
        if self.pending.is_empty() {
            IDLE_CHECK_INTERVAL
        } else if self.gathering(now) {
            GATHER_INTERVAL
        } else {
            self.next_look.duration_since(now)
        }
    }

    /// Returns true while orders without a signal are held back for batching.
    fn gathering(&self, now: Instant) -> bool {
        let untold = || self.pending.iter().filter(|pending| pending.told.is_none());
        let waited_long = || untold().any(|pending| now.duration_since(pending.order.given) >= MAX_GATHER_INTERVAL);
        now.duration_since(self.newest) < GATHER_INTERVAL && untold().count() > CROWD_ORDERS && !waited_long()
    }

    /// Returns the questions that are due. New orders go first and alone, so that they do not wait for an answer about others.
    fn due(&mut self, now: Instant) -> Vec<BackendQuery> {
        let gathering = self.gathering(now);
        let is_due =
            |pending: &&mut PendingOrder| pending.told.is_none() && (!gathering || pending.order.sort == BackendKind::Urgent);
        let new: Vec<_> = self
            .pending
            .iter_mut()
            .filter(is_due)
            .map(|pending| pending.asked(now))
            .collect();
        if !new.is_empty() || now < self.next_look {
            return new;
        }
        let told = self.pending.iter_mut().filter(|pending| pending.told.is_some());
        told.map(|pending| pending.asked(now)).collect()
    }

    /// Signals the backends that are due, and settles those that are gone.
    async fn round(&mut self) {
        let now = self.now();
        let mut asked = self.due(now);
        let late = self.late_due(now);
        if late {
            self.late_told = Some(now);
            let late = self.late.iter();
            asked.extend(late.map(|late| BackendQuery::new(&late.backend, late.older, true, now)));
        }
        if asked.is_empty() {
            return;
        }
        let seen = if self.keep_link().await {
            self.ask(&asked).await
        } else {
            None
        };
        let at = self.now();
        let Some(seen) = seen else {
            // It is unknown if the signals arrived, so they are sent again.
            self.pending.iter_mut().for_each(|pending| pending.told = None);
            self.next_look = at + MAX_POLL_INTERVAL;
            self.settle(at, |_| false);
            return;
        };
        self.tell_signalled();
        if late {
            self.late_gone(&seen, at);
        }
        let before = self.pending.len();
        let asked: HashSet<i32> = asked.iter().map(|asked| asked.pid).collect();
        self.settle(at, |order| {
            let process = seen.get(&order.backend.pid);
            asked.contains(&order.backend.pid) && process.is_none_or(|ours| !ours && order.sort == BackendKind::Leftover)
        });
        let pause = if self.pending.len() < before {
            MIN_POLL_INTERVAL
        } else {
            self.pause * 2
        };
        let question = at.duration_since(now) * POLL_INTERVAL_FACTOR;
        self.pause = pause.max(question).min(MAX_POLL_INTERVAL);
        self.next_look = at + self.pause;
    }

    /// Notifies the orders that wait for the signal: every question so far has an answer.
    fn tell_signalled(&mut self) {
        for pending in self.pending.iter_mut().filter(|pending| pending.told.is_some()) {
            if let Some(signalled) = pending.order.signalled.take() {
                // The receiver may have stopped waiting.
                let _ = signalled.send(());
            }
        }
    }

    /// Answers and removes the orders whose backend is gone, and those that have waited for [`TERMINATE_TIMEOUT`].
    fn settle(&mut self, at: Instant, gone: impl Fn(&TerminateOrder) -> bool) {
        for pending in std::mem::take(&mut self.pending) {
            let confirmed = gone(&pending.order);
            if !confirmed && at.duration_since(pending.order.given) < TERMINATE_TIMEOUT {
                self.pending.push(pending);
                continue;
            }
            let order = pending.order;
            let later = if confirmed {
                None
            } else {
                tracing::error!(pid = order.backend.pid, limit = ?TERMINATE_TIMEOUT, "cannot confirm that a backend is gone; will keep terminating it");
                self.keep(&order)
            };
            // The receiver may have stopped waiting.
            let _ = order.reply.send(BackendGoneness { confirmed, at, later });
        }
    }

    /// Keeps an order that has been answered without confirmation.
    fn keep(&mut self, order: &TerminateOrder) -> Option<GoneLater> {
        if order.sort == BackendKind::Leftover {
            return None;
        }
        if self.late.len() >= MAX_LATE_BACKENDS
            && let Some(given_up) = self.late.pop_front()
        {
            tracing::error!(target_name = %self.name(), pid = given_up.backend.pid, "too many backends do not end; giving up on one until the next start");
        }
        let (gone, later) = oneshot::channel();
        self.late.push_back(LateBackend {
            backend: order.backend.clone(),
            older: order.older,
            gone,
        });
        // The order has just been tried.
        self.late_told.get_or_insert(order.given + TERMINATE_TIMEOUT);
        Some(GoneLater(later))
    }

    /// Reports the backends that are gone by now. A younger process with the same id is proof enough here: it must not be
    /// signalled, and nothing is reported about it.
    fn late_gone(&mut self, seen: &HashMap<i32, bool>, at: Instant) {
        for late in std::mem::take(&mut self.late) {
            if seen.get(&late.backend.pid) == Some(&true) {
                self.late.push_back(late);
                continue;
            }
            tracing::warn!(pid = late.backend.pid, "a backend that outlived its limit is gone");
            // The receiver may have stopped waiting.
            let _ = late.gone.send(at);
        }
    }

    fn late_due(&self, now: Instant) -> bool {
        !self.late.is_empty() && self.late_told.is_none_or(|at| now.duration_since(at) >= LATE_INTERVAL)
    }

    /// Asks over the connection; a failed one is dropped.
    async fn ask(&mut self, asked: &[BackendQuery]) -> Option<HashMap<i32, bool>> {
        let answer = within(ANSWER_TIMEOUT, self.link.as_ref()?.query(asked)).await;
        answer.map_err(|error| self.lost(&error)).ok()
    }

    /// Returns true if there is a connection, after replacing one that broke or whose target's settings changed. A working
    /// connection is kept until its replacement is open.
    async fn keep_link(&mut self) -> bool {
        let changed = self.target.has_changed().unwrap_or(false);
        let serves = self.link.as_ref().is_some_and(|link| !link.connection.closed());
        if serves && !changed {
            return true;
        }
        self.connected.send_replace(serves);
        let target = Arc::clone(&self.target.borrow_and_update());
        match BackendConnection::open(&target).await {
            Ok(link) => {
                self.link = Some(link);
                if std::mem::take(&mut self.failing) {
                    tracing::info!(target_name = %target.name, "the provisioning connection is open again");
                }
                self.connected.send_replace(true);
                true
            }
            Err(error) if serves => {
                tracing::warn!(
                    target_name = %target.name, error = %display_chain(&error),
                    "cannot open a provisioning connection with the changed settings; still using the old one to end sessions"
                );
                true
            }
            Err(error) => {
                self.lost(&error);
                false
            }
        }
    }

    fn name(&self) -> TargetName {
        self.target.borrow().name.clone()
    }

    fn lost(&mut self, error: &ProvisionConnectError) {
        self.link = None;
        self.connected.send_replace(false);
        if !self.failing {
            tracing::warn!(target_name = %self.name(), error = %display_chain(error), "cannot open the provisioning connection; sessions end only by closing their own connections");
        }
        self.failing = true;
    }

    fn now(&self) -> Instant {
        self.clock.moment().instant
    }
}
