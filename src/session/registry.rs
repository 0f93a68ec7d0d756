//! The sessions that are alive: to list them, to give them orders, to find the one a cancel key belongs to.
//!
//! It holds handles only: a session ends itself when it is told to. A handle leaves with its session, and its cancel key is
//! dead from that moment.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

use super::admit::TargetRoom;
use crate::audit::event::Who;
use crate::ending::EndedBy;
use crate::grant::{Grant, Status};
use crate::ids::SessionId;
use crate::ledger::Effect;
use crate::names::TargetName;
use crate::provision::{Backend, Gone};
use crate::secret::Secret;
use crate::upstream::BackendKey;

/// What a session can be told. A later order replaces an earlier one that was not taken yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Go on.
    None,
    /// End now, for somebody wants it.
    Kill {
        /// The one who gave the order.
        by: EndedBy,
        /// The reason given.
        reason: Option<String>,
    },
    /// End as soon as nothing is at work.
    Drain,
    /// End now, for the gate stops.
    DrainNow,
}

/// What is known of a running session; shared between it and the registry.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) who: Arc<Who>,
    pub(crate) client: SocketAddr,
    pub(crate) application: Option<String>,
    pub(crate) since: Timestamp,
    pub(crate) room: Arc<TargetRoom>,
    pub(crate) backend: Backend,
    pub(crate) backend_key: BackendKey,
    pub(crate) grant: watch::Receiver<Arc<Grant>>,
    /// The key the client was given.
    pub(crate) key: Secret<Box<[u8]>>,
    pub(crate) orders: watch::Sender<Order>,
    pub(crate) progress: Progress,
}

/// How far a session has come; it notes it itself.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    statements: AtomicU64,
    busy: AtomicBool,
    /// Whether the log has its end.
    recorded: watch::Sender<bool>,
}

/// A running session as operators see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionView {
    /// Who, under which grant, where to.
    #[serde(flatten)]
    pub who: Who,
    /// The client's address and port.
    pub client: SocketAddr,
    /// The application name it gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// When it began.
    pub since: Timestamp,
    /// When its grant ends, as things stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// `active` while a statement runs, else `idle`; `ended` in the news of its end.
    pub state: String,
    /// Executed statements.
    pub statements: u64,
    /// The process id of the target's backend.
    pub backend_pid: i32,
    /// In the answer to an order to end it: how far that has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// The longest that the answer to an order waits to be able to say that the end is on record.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// How many changes a listener can be behind before it misses some.
const NEWS: usize = 256;

/// The running sessions of a gate.
#[derive(Debug)]
pub struct Registry {
    sessions: Mutex<HashMap<SessionId, Arc<Live>>>,
    /// Sessions that run, and those whose end is under way: what a shutdown waits for.
    unfinished: AtomicUsize,
    /// Begins and ends, for whoever listens.
    news: broadcast::Sender<SessionView>,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            sessions: Mutex::default(),
            unfinished: AtomicUsize::new(0),
            news: broadcast::Sender::new(NEWS),
        }
    }
}

/// A login that is counted.
#[derive(Debug)]
pub(crate) struct Arriving(Arc<Registry>);

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.unfinished.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Keeps a session registered until [`Entry::leave`], and counted as long as it is held.
#[derive(Debug)]
pub(crate) struct Entry {
    registry: Arc<Registry>,
    live: Arc<Live>,
}

impl Live {
    /// Notes what the session is at.
    pub(super) fn note(&self, statements: u64, busy: bool) {
        self.progress.statements.store(statements, Ordering::Relaxed);
        self.progress.busy.store(busy, Ordering::Relaxed);
    }

    /// Whether a statement runs: only then a cancel has anything to cancel.
    pub(super) fn busy(&self) -> bool {
        self.progress.busy.load(Ordering::Relaxed)
    }

    /// Its id.
    pub(crate) fn session(&self) -> &SessionId {
        &self.who.session
    }

    /// Ends its backend; the order is given by the call itself.
    pub(crate) fn end_backend(&self) -> impl Future<Output = Gone> + Send + use<> {
        self.room.terminator.end(self.backend.clone())
    }

    fn view(&self) -> SessionView {
        SessionView {
            who: Who::clone(&self.who),
            client: self.client,
            application: self.application.clone(),
            since: self.since,
            until: self.grant.borrow().until(),
            state: if self.busy() { "active" } else { "idle" }.to_owned(),
            statements: self.progress.statements.load(Ordering::Relaxed),
            backend_pid: self.backend.pid,
            effect: None,
        }
    }

    /// Notes that the log has its end.
    pub(super) fn note_recorded(&self) {
        self.progress.recorded.send_replace(true);
    }

    /// Waits until the log has its end.
    async fn recorded(&self) {
        let mut recorded = self.progress.recorded.subscribe();
        // Its sender lives as long as this.
        let _ = recorded.wait_for(|recorded| *recorded).await;
    }
}

impl Registry {
    /// Registers a session; it leaves when the entry says so or is dropped.
    pub(crate) fn enter(self: &Arc<Self>, live: Live) -> Entry {
        let live = Arc::new(live);
        self.unfinished.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(live.who.session.clone(), Arc::clone(&live));
        self.tell(&live, None);
        Entry {
            registry: Arc::clone(self),
            live,
        }
    }

    /// Begins and ends of sessions from now on; the state of one that ended is `ended`. A listener that is too slow misses some.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<SessionView> {
        self.news.subscribe()
    }

    fn tell(&self, live: &Live, state: Option<&str>) {
        if self.news.receiver_count() == 0 {
            return;
        }
        let mut view = live.view();
        if let Some(state) = state {
            state.clone_into(&mut view.state);
        }
        let _ = self.news.send(view);
    }

    /// The running sessions, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<SessionView> {
        let mut views: Vec<_> = self.lock().values().map(|live| live.view()).collect();
        views.sort_by(|a, b| (a.since, &a.who.session).cmp(&(b.since, &b.who.session)));
        views
    }

    /// Returns all running sessions.
    pub(crate) fn live(&self) -> Vec<Arc<Live>> {
        self.lock().values().cloned().collect()
    }

    /// Statements so far of the live sessions, by target.
    pub(crate) fn statements(&self) -> HashMap<TargetName, u64> {
        let mut statements = HashMap::new();
        for live in self.live() {
            let so_far = live.progress.statements.load(Ordering::Relaxed);
            *statements.entry(live.who.target.clone()).or_default() += so_far;
        }
        statements
    }

    /// The running sessions whose grant is over; in a moment they will have noticed themselves.
    pub(crate) fn overdue(&self, now: Timestamp) -> Vec<Arc<Live>> {
        let over = |live: &&Arc<Live>| {
            matches!(
                live.grant.borrow().status(now),
                Status::Expired { .. } | Status::Revoked { .. }
            )
        };
        self.lock().values().filter(over).cloned().collect()
    }

    /// Tells a session to end, and waits a little to be able to say more of it. `None` when there is none of that id.
    pub async fn kill(&self, session: &SessionId, by: EndedBy, reason: Option<String>) -> Option<SessionView> {
        let live = self.lock().get(session).cloned()?;
        let view = live.view();
        let before = live.orders.send_replace(Order::Kill { by, reason });
        if before == Order::DrainNow {
            return None;
        }
        let recorded = timeout(ANSWER_WAIT, live.recorded()).await.is_ok();
        Some(SessionView {
            // There is nothing to store: no restart brings a session back.
            effect: Some(Effect {
                in_effect: true,
                stored: true,
                recorded,
            }),
            ..view
        })
    }

    /// Counts a login on its way to a session, so that a shutdown waits for it; until what it returns is dropped.
    pub(crate) fn arriving(self: &Arc<Self>) -> Arriving {
        self.unfinished.fetch_add(1, Ordering::Relaxed);
        Arriving(Arc::clone(self))
    }

    /// How many sessions run or are being ended: their backend, their record, their client's last word.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.unfinished.load(Ordering::Relaxed)
    }

    /// Tells every session to end: at its next idle moment, or at once.
    pub(crate) fn drain(&self, now: bool) {
        let order = if now { Order::DrainNow } else { Order::Drain };
        for live in self.lock().values() {
            live.orders.send_if_modified(|given| {
                // Orders to end at once stand.
                let weaker = matches!(given, Order::None | Order::Drain);
                if weaker {
                    given.clone_from(&order);
                }
                weaker
            });
        }
    }

    /// The session a cancel key belongs to. Every key is compared in constant time.
    pub(crate) fn by_key(&self, pid: i32, key: &[u8]) -> Option<Arc<Live>> {
        let sessions = self.lock();
        sessions
            .values()
            .find(|live| live.backend.pid == pid && bool::from(live.key.expose().ct_eq(key)))
            .cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Arc<Live>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// The registered session.
    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// The session is being ended: it takes no orders any more, and its cancel key is dead.
    pub(crate) fn leave(&self) {
        let left = self.registry.lock().remove(&self.live.who.session);
        if let Some(live) = left {
            self.registry.tell(&live, Some("ended"));
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.leave();
        self.registry.unfinished.fetch_sub(1, Ordering::Relaxed);
    }
}
