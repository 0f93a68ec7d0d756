//! The only place where a grant, a request or a user changes: check, audit, store, tell watchers.
//!
//! It does not decide who may ask for a change (its callers do), and it ends no session: sessions watch their grant.
//!
//! INVARIANT: what gives rights is on record durably before it is stored, and stored before anybody acts on it. If it cannot be put
//! on record, nothing changes; if the store cannot be read, nobody is let in. What takes rights away is the other way round: it is in
//! effect first, in memory, and waits for nothing; then it is stored, then put on record, each tried until it is done. After any crash
//! nobody has more than both the store and the log allow.

mod admit;
mod commit;
mod grants;
mod known;
mod live;
mod log_tip;
mod logins;
mod migrations;
mod pending;
mod record;
mod replay;
mod requests;
mod restrict;
mod row;
mod set_clock;
mod store;
mod turns;
mod upkeep;
mod users;
mod workflow;

pub use admit::{Admission, Slot};
pub use grants::GrantFilter;
pub use known::groups_of_users;
pub use log_tip::read_log_tip;
pub use pending::Effect;
pub use requests::{Changed, GrantLogin, NewRequest, Reasons, RequestFilter, RequestView, Submitted};
pub use set_clock::ClockView;
pub use store::{StoreError, highest_time};
pub use users::{RotatedToken, UserView};

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

use crate::audit::{AuditError, Journal};
use crate::causes::in_one_line;
use crate::clock::Clock;
use crate::grant::{Grant, IllegalChange, InvalidTerms};
use crate::ids::{GrantId, RequestId, SessionId};
use crate::names::{IdentityName, TargetName};
use crate::scram::Verifier;
use crate::supervision::ThreadEnd;
use live::Live;
use logins::Logins;
use pending::{Item, Pending};
use record::Recorder;
use requests::Requests;
use restrict::Restrictions;
use store::Store;
use users::Users;

pub(crate) use turns::Turns;

/// All grants, and the sessions that may have to be reaped. Cheap to clone; clones are one ledger.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    clock: Clock,
    recorder: Recorder,
    store: Store,
    /// Makes the salts of grants that do not exist; kept for good, so that asking again after a restart tells nothing.
    mock_key: [u8; 32],
    book: Mutex<Book>,
    requests: Mutex<Requests>,
    /// Submissions under one key follow each other.
    key_turns: Turns,
    users: Mutex<Users>,
    /// Changes of users follow each other, and nothing is made for anybody meanwhile: see [`Inner::let_in`].
    users_turn: tokio::sync::RwLock<()>,
    users_changed: watch::Sender<u64>,
    /// What was taken away and is not stored, or not on record, yet.
    pending: Pending,
    news: broadcast::Sender<Changed>,
}

/// What is held in memory: every grant that has not ended, and those that somebody still holds. The others are in the store
/// ([`Ledger::recall`]), so that neither a start nor the memory grows with the past.
struct Book {
    entries: HashMap<GrantId, Arc<Entry>>,
    /// Those that have not ended.
    live: Live<Entry>,
    swept_at: Timestamp,
}

struct Entry {
    /// Of the secret that was made with the grant; a grant that came of a request has logins only.
    verifier: Option<Verifier>,
    logins: Mutex<Logins>,
    grant: watch::Sender<Arc<Grant>>,
    /// Sessions that hold a [`Slot`].
    live: Mutex<u32>,
    /// Held over check, audit, store and publication: changes that give follow each other. What takes away does not ask for it.
    committing: tokio::sync::Mutex<()>,
    restrictions: Restrictions,
}

/// Why the ledger did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// No such grant (the caller's fault).
    #[error("no grant {0}")]
    NoSuchGrant(GrantId),
    /// No such request (the caller's fault).
    #[error("no request {0}")]
    NoSuchRequest(RequestId),
    /// No such user (the caller's fault).
    #[error("no user {0}")]
    NoSuchUser(IdentityName),
    /// There is a user of that name (the caller's fault).
    #[error("the user {0} already exists")]
    UserExists(IdentityName),
    /// The identity is shut out, so nothing is made for it (the caller's fault).
    #[error("{0} is disabled")]
    Disabled(IdentityName),
    /// The change may not follow what the grant is (the caller's fault).
    #[error(transparent)]
    Illegal(#[from] IllegalChange),
    /// The terms make no grant (the caller's fault).
    #[error(transparent)]
    Terms(#[from] InvalidTerms),
    /// It could not be put on record, so it was not done.
    #[error("cannot write the change to the audit log, so it was not made")]
    Audit(#[from] AuditError),
    /// Something was taken away there and is not stored and on record yet, so nothing is given.
    #[error("a revocation is not yet stored and recorded, so no rights are granted meanwhile")]
    Unsettled,
    /// The store failed.
    #[error("the grant store failed")]
    Store(#[from] StoreError),
    /// The operating system gives no random numbers.
    #[error("the operating system's random generator failed")]
    Random(#[from] getrandom::Error),
}

/// A grant as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantView {
    /// The grant.
    #[serde(flatten)]
    pub grant: Grant,
    /// [`crate::grant::Status::name`] at the time of asking.
    pub status: String,
    /// Sessions that live under it now.
    pub live_sessions: u32,
    /// How far a change that took something away has come, in the answer to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// A session as the store remembers it, so that the next start can reap what this one left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSession {
    /// The session.
    pub session: SessionId,
    /// Its grant.
    pub grant: GrantId,
    /// Under whose name.
    pub identity: IdentityName,
    /// On which target.
    pub target: TargetName,
    /// The process id of the target's backend.
    pub backend_pid: i32,
    /// When it was opened (gate time).
    pub opened_at: Timestamp,
}

/// How long a client with the secret of an ended grant is told that and when it ended. Afterwards it is as if it had never
/// been, to a client; the store and the log still have it.
pub const REMEMBERED: Duration = Duration::from_hours(7 * 24);

/// The time between two sweeps, which drop from memory what is over.
const SWEEP: Duration = Duration::from_mins(1);

/// Whoever listens to news and falls further behind than this reads again.
const NEWS: usize = 1024;

impl Ledger {
    /// Opens the store at `path` (made with mode 0600 if it is not there) and reads the grants that have not ended into memory.
    /// Blocks: to be called at start. Fails when the store is damaged, or of a later version than this program.
    pub fn open(path: &Path, journal: Journal, clock: Clock) -> Result<Self, LedgerError> {
        Self::open_with(path, Recorder::Journal(journal), clock)
    }

    fn open_with(path: &Path, recorder: Recorder, clock: Clock) -> Result<Self, LedgerError> {
        let now = clock.now();
        let mut fresh_key = [0; 32];
        getrandom::fill(&mut fresh_key)?;
        let past = recorder.past();
        let (store, loaded) = Store::open(path, now, fresh_key, past.as_ref())?;
        let mut book = Book {
            entries: HashMap::new(),
            live: Live::default(),
            swept_at: now,
        };
        for (grant, verifier, logins) in loaded.grants {
            book.insert(Entry::new(grant, verifier, logins), now);
        }
        let since = clock.moment().instant;
        let inner = Arc::new(Inner {
            clock,
            recorder,
            store,
            mock_key: loaded.mock_key,
            book: Mutex::new(book),
            requests: Mutex::new(Requests::new(loaded.requests, now)),
            key_turns: Turns::default(),
            users: Mutex::new(Users::new(loaded.users)),
            users_turn: tokio::sync::RwLock::new(()),
            users_changed: watch::Sender::new(0),
            pending: Pending::default(),
            news: broadcast::Sender::new(NEWS),
        });
        for (row, event) in loaded.unrecorded {
            inner.queue_pending(Item::unrecorded(row, event, since));
        }
        if !inner.pending.is_empty() {
            inner.pursue();
        }
        Ok(Self(inner))
    }

    /// Returns the end of the store's thread. It comes with the ledger's own; earlier, nothing is stored any more.
    #[must_use]
    pub fn thread_end(&self) -> ThreadEnd {
        self.0.store.thread_end.clone()
    }

    /// Makes the store's thread panic.
    #[cfg(test)]
    pub(crate) fn break_thread(&self) {
        self.0.store.break_thread();
    }

    /// What to check a login by `user` against. For a user that is no grant: a verifier that nothing fits, made with the
    /// same work and always the same.
    pub async fn verifier(&self, user: &str) -> Verifier {
        let mock = Verifier::mock(user, &self.0.mock_key);
        let Some(id) = self.grant_of_login(user) else {
            return mock;
        };
        match self.recall(&id).await {
            Ok(entry) => entry.and_then(|entry| entry.verifier(user)).unwrap_or(mock),
            // Nobody is let in by what cannot be read.
            Err(error) => {
                tracing::error!(grant = %id, error = %in_one_line(&error), "cannot look up a grant; refusing the login");
                mock
            }
        }
    }

    /// A grant that is in memory, or one that ended within [`REMEMBERED`]. From the store comes only what has ended, so nothing
    /// can be had of it but that: what lives is in memory, once.
    async fn recall(&self, id: &GrantId) -> Result<Option<Arc<Entry>>, LedgerError> {
        if let Some(entry) = self.0.entry(id) {
            return Ok(Some(entry));
        }
        let now = self.0.clock.now();
        let wanted = id.clone();
        let found = self.0.store.call(move |connection| row::recall(connection, &wanted)).await?;
        let entry = found.map(|(grant, verifier, logins)| Entry::new(grant, verifier, logins));
        let told = entry.filter(|entry| !entry.lives(now) && entry.ended_after(before(now, REMEMBERED)));
        Ok(told.map(Arc::new))
    }

    /// One grant; also an ended one that is only in the store.
    pub async fn grant(&self, id: &GrantId) -> Result<GrantView, LedgerError> {
        let now = self.0.clock.now();
        if let Some(entry) = self.0.entry(id) {
            return Ok(entry.view(now));
        }
        let wanted = id.clone();
        let found = self.0.store.call(move |connection| row::find(connection, &wanted)).await?;
        match found {
            Some(grant) => Ok(GrantView::of(&grant, now, 0)),
            None => Err(LedgerError::NoSuchGrant(id.clone())),
        }
    }
}

impl Inner {
    /// A poisoned lock only means that a thread died while reading or writing one field: each is whole at any time.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, id: &GrantId) -> Option<Arc<Entry>> {
        self.book().entries.get(id).cloned()
    }

    /// The grants of an identity that have not ended.
    fn live(&self, who: &IdentityName, now: Timestamp) -> Vec<Arc<Entry>> {
        self.book().live.of(who, |entry| entry.lives(now))
    }

    /// Tells whoever listens; nobody has to.
    fn tell(&self, news: impl FnOnce() -> Changed) {
        if self.news.receiver_count() > 0 {
            let _ = self.news.send(news());
        }
    }
}

impl Book {
    fn add(&mut self, grant: Grant, verifier: Option<Verifier>, now: Timestamp) {
        if self.swept_at < before(now, SWEEP) {
            self.swept_at = now;
            let is_watched = |entry: &Entry| entry.grant.receiver_count() > 0;
            self.live.sweep(&mut self.entries, |entry| entry.lives(now), is_watched);
        }
        self.insert(Entry::new(grant, verifier, Logins::default()), now);
    }

    fn insert(&mut self, entry: Entry, now: Timestamp) {
        let entry = Arc::new(entry);
        let grant = entry.current();
        if entry.lives(now) {
            self.live.add(grant.identity().clone(), entry.clone());
        }
        self.entries.insert(grant.id().clone(), entry);
    }
}

impl Entry {
    fn new(grant: Grant, verifier: Option<Verifier>, logins: Logins) -> Self {
        Self {
            verifier,
            logins: Mutex::new(logins),
            grant: watch::Sender::new(Arc::new(grant)),
            live: Mutex::new(0),
            committing: tokio::sync::Mutex::new(()),
            restrictions: Restrictions::default(),
        }
    }

    fn current(&self) -> Arc<Grant> {
        self.grant.borrow().clone()
    }

    fn live(&self) -> MutexGuard<'_, u32> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self, now: Timestamp) -> GrantView {
        let live = *self.live();
        GrantView::of(&self.current(), now, live)
    }

    fn lives(&self, now: Timestamp) -> bool {
        !self.grant.borrow().status(now).ended()
    }

    /// Whether it has not ended, or did so after `time`; where it was revoked, whether it would have.
    fn ended_after(&self, time: Timestamp) -> bool {
        let grant = self.current();
        grant.until().unwrap_or(grant.activate_by()) > time
    }
}

impl GrantView {
    fn of(grant: &Grant, now: Timestamp, live_sessions: u32) -> Self {
        Self {
            grant: grant.clone(),
            status: grant.standing(now).to_owned(),
            live_sessions,
            effect: None,
        }
    }
}

fn before(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests;
