//! Registry of the running sessions: to list them, to send them orders, to find the session of a cancel key.
//!
//! It holds handles only: a session ends itself on an order. A handle is removed with its session, and its cancel key is invalid
//! from then on.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use subtle::ConstantTimeEq as _;
use tokio::sync::{Notify, SetOnce, broadcast, watch};
use tokio::time::timeout;
use utoipa::ToSchema;

use super::target_state::TargetState;
use crate::audit::event::Who;
use crate::base::secret::Secret;
use crate::base::visible;
use crate::database::provision::{Backend, BackendGoneness, SessionBackend};
use crate::database::upstream::BackendKey;
use crate::ledger::ChangeEffect;
use crate::model::ending::EndedBy;
use crate::model::grant::{Grant, GrantState};
use crate::model::ids::SessionId;
use crate::model::names::TargetName;

/// Order to a session. A later order replaces an earlier one that was not taken yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum SessionCommand {
    /// Continue.
    #[default]
    None,
    /// End now, for somebody wants it.
    Kill {
        /// The one who gave the order.
        by: EndedBy,
        /// The reason given.
        reason: Option<String>,
    },
    /// End as soon as nothing is running.
    Drain,
    /// End now, because the gate stops.
    DrainNow,
}

/// Orders to one session, which takes the last one. Smaller than a channel, because each idle session has one.
#[derive(Debug, Default)]
pub(crate) struct SessionOrders {
    given: Mutex<SessionCommand>,
    changed: Notify,
}

impl SessionOrders {
    /// Gives an order, and returns the one that it replaces.
    pub(crate) fn give(&self, order: SessionCommand) -> SessionCommand {
        let before = std::mem::replace(&mut *self.given.lock(), order);
        self.changed.notify_one();
        before
    }

    /// Gives an order to end with the gate, unless the session has one to end at once.
    fn drain(&self, order: SessionCommand) {
        let mut given = self.given.lock();
        if matches!(*given, SessionCommand::None | SessionCommand::Drain) {
            *given = order;
            self.changed.notify_one();
        }
    }

    /// Waits until an order was given since this last returned; only the session itself waits.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns the last order.
    pub(super) fn last(&self) -> SessionCommand {
        self.given.lock().clone()
    }
}

/// Data of a running session, shared between it and the registry.
#[derive(Debug)]
pub(crate) struct SessionHandle {
    pub(crate) who: Arc<Who>,
    pub(crate) client: SocketAddr,
    pub(crate) application: Option<String>,
    pub(crate) since: Timestamp,
    pub(crate) target_state: Arc<TargetState>,
    pub(crate) backend: Backend,
    pub(crate) backend_key: BackendKey,
    pub(crate) grant: watch::Receiver<Arc<Grant>>,
    /// Cancel key that the client got.
    pub(crate) key: Secret<Box<[u8]>>,
    pub(crate) orders: SessionOrders,
    pub(crate) progress: SessionProgress,
}

/// Progress of a session, which the session itself updates.
#[derive(Debug, Default)]
pub(crate) struct SessionProgress {
    statements: AtomicU64,
    busy: AtomicBool,
    pub(super) sent: SentStatement,
    /// True once the log has its end.
    recorded: SetOnce<()>,
}

/// Beginning of the text of the statement that was sent last, with secrets blanked as in the log. The session writes it, at the
/// price of copying it; it is read only when somebody looks.
#[derive(Debug, Clone, Default)]
pub(super) struct SentStatement(Arc<Mutex<String>>);

impl SentStatement {
    /// Notes a statement; a call without a text is an empty one.
    pub(super) fn note(&self, text: &str) {
        let mut kept = self.0.lock();
        kept.clear();
        kept.push_str(text.get(..text.floor_char_boundary(MAX_SENT_BYTES)).unwrap_or_default());
    }

    /// Frees the memory.
    pub(super) fn release(&self) {
        *self.0.lock() = String::new();
    }

    fn text(&self) -> Option<String> {
        Some(self.0.lock().clone()).filter(|text| !text.is_empty())
    }
}

/// Running session as operators see it.
#[skip_serializing_none]
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Session)]
pub struct SessionView {
    /// Identity, grant and target.
    #[serde(flatten)]
    #[schema(inline)]
    pub who: Who,
    /// Address and port of the client.
    #[schema(value_type = String)]
    pub client: SocketAddr,
    /// Application name that the client gave.
    #[schema(nullable = false)]
    pub application: Option<String>,
    /// Time of its start.
    pub since: Timestamp,
    /// Current end of its grant.
    #[schema(nullable = false)]
    pub until: Option<Timestamp>,
    /// `active` while a statement runs, else `idle`; `ended` in the notification of its end.
    pub state: String,
    /// Number of executed statements.
    pub statements: u64,
    /// Beginning of the text of the statement that runs, as in the log: with secrets blanked. Only for the session's identity, those
    /// that approved its grant or may revoke it, and with `administer`. Of statements sent together the last one.
    #[schema(nullable = false)]
    pub running: Option<String>,
    /// Process id of the target's backend.
    pub backend_pid: i32,
    /// Progress of the end, in the answer to an order to end the session.
    #[schema(nullable = false)]
    pub effect: Option<ChangeEffect>,
}

impl SessionView {
    /// Number of characters of a running statement in a list.
    const MAX_LISTED_CHARS: usize = 120;

    /// Returns the beginning of the statement that runs, for a list: on one line, with nothing invisible in it.
    #[must_use]
    pub fn runs(&self) -> Option<String> {
        self.running.as_deref().map(|sql| visible::start(sql, Self::MAX_LISTED_CHARS))
    }
}

/// Number of bytes that are kept of the text of the statement that was sent last.
const MAX_SENT_BYTES: usize = 300;
/// Maximum time that the answer to an order waits for the end to be on record.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Number of changes that a listener may fall behind before it misses some.
const NEWS_CAPACITY: usize = 256;

/// Running sessions of a gate.
#[derive(Debug)]
pub struct SessionRegistry {
    sessions: DashMap<SessionId, Arc<SessionHandle>>,
    /// Number of sessions that run or are ending, for which a shutdown waits.
    unfinished: AtomicUsize,
    /// Notifications of begins and ends.
    news: broadcast::Sender<SessionView>,
}

impl Default for SessionRegistry {
    fn default() -> Self {
        Self {
            sessions: DashMap::default(),
            unfinished: AtomicUsize::new(0),
            news: broadcast::Sender::new(NEWS_CAPACITY),
        }
    }
}

/// Login that counts as unfinished until this is dropped.
#[derive(Debug)]
pub(crate) struct ArrivingLogin(Arc<SessionRegistry>);

impl Drop for ArrivingLogin {
    fn drop(&mut self) {
        self.0.unfinished.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Registration of a session until [`RegistryEntry::leave`]; the session counts as unfinished as long as it is held.
#[derive(Debug)]
pub(crate) struct RegistryEntry {
    live: Arc<SessionHandle>,
    unfinished: ArrivingLogin,
}

impl SessionHandle {
    /// Updates the number of statements and whether one is running.
    pub(super) fn note(&self, statements: u64, busy: bool) {
        self.progress.statements.store(statements, Ordering::Relaxed);
        self.progress.busy.store(busy, Ordering::Relaxed);
    }

    /// Returns true if a statement is running: only then a cancel has an effect.
    pub(super) fn busy(&self) -> bool {
        self.progress.busy.load(Ordering::Relaxed)
    }

    /// Returns the backend by which captured changes are known to be the session's.
    pub(super) fn session_backend(&self) -> SessionBackend<'_> {
        SessionBackend {
            session: &self.who.session,
            grant: &self.who.grant,
            pid: self.backend.pid,
        }
    }

    /// Returns the session's id.
    pub(crate) fn session(&self) -> &SessionId {
        &self.who.session
    }

    /// Ends the session's backend; the call itself orders that, not the future's first poll.
    pub(crate) fn end_backend(&self) -> impl Future<Output = BackendGoneness> + Send + use<> {
        self.target_state.terminator.end(self.backend.clone())
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
            running: None,
            backend_pid: self.backend.pid,
            effect: None,
        }
    }

    /// Notes that the log has the session's end.
    pub(super) fn note_recorded(&self) {
        // It is set already if this is the record of a backend that was late.
        let _ = self.progress.recorded.set(());
    }

    /// Waits until the log has the session's end.
    async fn recorded(&self) {
        self.progress.recorded.wait().await;
    }
}

impl SessionRegistry {
    /// Registers a session until its entry leaves or is dropped.
    pub(crate) fn enter(self: &Arc<Self>, live: SessionHandle) -> RegistryEntry {
        let live = Arc::new(live);
        let unfinished = self.arriving();
        self.sessions.insert(live.who.session.clone(), Arc::clone(&live));
        self.tell(&live, None);
        RegistryEntry { live, unfinished }
    }

    /// Returns the begins and ends of sessions from now on; the state of an ended session is `ended`. A listener that is too slow
    /// misses some.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<SessionView> {
        self.news.subscribe()
    }

    fn tell(&self, live: &SessionHandle, state: Option<&str>) {
        if self.news.receiver_count() == 0 {
            return;
        }
        let mut view = live.view();
        if let Some(state) = state {
            state.clone_into(&mut view.state);
        }
        let _ = self.news.send(view);
    }

    /// Returns the running sessions, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<SessionView> {
        let mut views: Vec<_> = self.sessions.iter().map(|live| live.view()).collect();
        views.sort_by(|a, b| (a.since, &a.who.session).cmp(&(b.since, &b.who.session)));
        views
    }

    /// Adds to a session the beginning of the statement that it runs, for a reader who may watch it.
    pub fn show_statement(&self, view: &mut SessionView) {
        let live = self.sessions.get(&view.who.session);
        view.running = live.filter(|live| live.busy()).and_then(|live| live.progress.sent.text());
    }

    /// Returns all running sessions.
    pub(crate) fn live(&self) -> Vec<Arc<SessionHandle>> {
        self.filtered(|_| true)
    }

    /// Returns the number of statements so far of the running sessions, by target.
    pub(crate) fn statements(&self) -> HashMap<TargetName, u64> {
        let mut statements = HashMap::new();
        for live in self.live() {
            let so_far = live.progress.statements.load(Ordering::Relaxed);
            *statements.entry(live.who.target.clone()).or_default() += so_far;
        }
        statements
    }

    /// Returns the running sessions whose grant is over; they will notice it themselves in a moment.
    pub(crate) fn overdue(&self, now: Timestamp) -> Vec<Arc<SessionHandle>> {
        self.filtered(|live| {
            matches!(
                live.grant.borrow().status(now),
                GrantState::Expired { .. } | GrantState::Revoked { .. }
            )
        })
    }

    /// Orders a session to end, and waits briefly to be able to report the result. `None` if there is no session with that id, or
    /// if it is already ending because the gate stops.
    pub async fn kill(&self, session: &SessionId, by: EndedBy, reason: Option<String>) -> Option<SessionView> {
        let live = Arc::clone(&*self.sessions.get(session)?);
        let view = live.view();
        let before = live.orders.give(SessionCommand::Kill { by, reason });
        if before == SessionCommand::DrainNow {
            return None;
        }
        let recorded = timeout(ANSWER_TIMEOUT, live.recorded()).await.is_ok();
        Some(SessionView {
            // Nothing needs to be stored: a session does not survive a restart.
            effect: Some(ChangeEffect {
                in_effect: true,
                stored: true,
                recorded,
            }),
            ..view
        })
    }

    /// Counts a login as unfinished, so that a shutdown waits for it, until the result is dropped.
    pub(crate) fn arriving(self: &Arc<Self>) -> ArrivingLogin {
        self.unfinished.fetch_add(1, Ordering::Relaxed);
        ArrivingLogin(Arc::clone(self))
    }

    /// Returns the number of sessions that run or are ending (their backend, their record, the last message to their client).
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.unfinished.load(Ordering::Relaxed)
    }

    /// Orders every session to end: at its next idle moment, or at once.
    pub(crate) fn drain(&self, now: bool) {
        let order = if now {
            SessionCommand::DrainNow
        } else {
            SessionCommand::Drain
        };
        for live in &self.sessions {
            live.orders.drain(order.clone());
        }
    }

    /// Returns the session of a cancel key. Every key is compared in constant time.
    pub(crate) fn by_key(&self, pid: i32, key: &[u8]) -> Option<Arc<SessionHandle>> {
        let is_meant = |live: &SessionHandle| live.backend.pid == pid && bool::from(live.key.expose().ct_eq(key));
        let found = self.sessions.iter().find(|live| is_meant(live))?;
        Some(Arc::clone(&found))
    }

    fn filtered(&self, is_meant: impl Fn(&SessionHandle) -> bool) -> Vec<Arc<SessionHandle>> {
        let meant = self.sessions.iter().filter(|live| is_meant(live));
        meant.map(|live| Arc::clone(&live)).collect()
    }
}

impl RegistryEntry {
    /// Returns the registered session.
    pub(crate) fn live(&self) -> &Arc<SessionHandle> {
        &self.live
    }

    /// Removes the session, which is being ended: it takes no more orders, and its cancel key is invalid.
    pub(crate) fn leave(&self) {
        let ArrivingLogin(registry) = &self.unfinished;
        if let Some((_, live)) = registry.sessions.remove(&self.live.who.session) {
            registry.tell(&live, Some("ended"));
        }
    }
}

impl Drop for RegistryEntry {
    fn drop(&mut self) {
        self.leave();
    }
}
