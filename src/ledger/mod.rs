//! Ledger of grants, requests and users: the only place where they change. Each change is checked, audited, stored and
//! published to its watchers.
//!
//! This module does not decide about the rights of the caller, and ends no session: sessions watch their grant.
//!
//! INVARIANT: a change that gives rights is on record durably before it is stored, and stored before it takes effect. If it
//! cannot be put on record, nothing changes; if the store cannot be read, no client is let in. A change that takes rights away
//! works the other way round: it takes effect first, in memory, and waits for nothing; then it is stored and put on record,
//! each retried until it is done. After any crash, no identity has more rights than both the store and the log allow.

mod admit;
mod commit;
mod effect;
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
mod restrictions;
mod row;
mod set_clock;
mod sqlite;
mod store;
mod turns;
mod upkeep;
mod users;
mod workflow;

pub use admit::{AdmittedSession, SessionPermit};
pub use effect::ChangeEffect;
pub use grants::GrantFilter;
pub use known::groups_of_users;
pub use log_tip::read_log_tip;
pub use requests::{ChangedSubject, DecisionReasons, GrantLogin, NewRequest, RequestFilter, RequestView, SubmitResult};
pub use set_clock::ClockView;
pub use sqlite::StoreError;
pub use store::highest_time;
pub use users::{RotatedToken, UserView};

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};
use utoipa::ToSchema;

use crate::audit::{AuditError, Journal};
use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;
use crate::base::supervision::ThreadEnd;
use crate::model::grant::{ChangeError, Grant, TermsError};
use crate::model::ids::{GrantId, RequestId, SessionId};
use crate::model::names::{IdentityName, TargetName};
use crate::protocol::scram::Verifier;
use live::LiveIndex;
use logins::GrantLogins;
use pending::{PendingChange, PendingChanges};
use record::ChangeRecorder;
use requests::RequestCache;
use restrictions::RestrictionCount;
use store::Store;
use users::UserCache;

pub(crate) use turns::TurnQueues;

/// Handle of all grants, requests and users, and of the sessions that may have to be ended after a restart. Cheap to clone;
/// clones share one ledger.
#[derive(Clone)]
pub struct Ledger(Arc<LedgerInner>);

struct LedgerInner {
    clock: Clock,
    recorder: ChangeRecorder,
    store: Store,
    /// Key that generates the salts of grants that do not exist; kept forever, so that a probe after a restart gets the same
    /// salt.
    mock_key: [u8; 32],
    cache: Mutex<GrantCache>,
    requests: Mutex<RequestCache>,
    /// Serialises submissions with the same key.
    key_turns: TurnQueues,
    users: Mutex<UserCache>,
    /// Serialises changes of users, and keeps grants and requests from being made meanwhile: see [`LedgerInner::let_in`].
    users_turn: tokio::sync::RwLock<()>,
    users_changed: watch::Sender<u64>,
    /// Restrictions that are not stored or not on record yet.
    pending: PendingChanges,
    news: broadcast::Sender<ChangedSubject>,
}

/// Grants in memory: all that have not ended, and those that are still referenced. The others are in the store
/// ([`Ledger::recall`]), so that neither the start nor memory grows with the past.
struct GrantCache {
    entries: HashMap<GrantId, Arc<GrantEntry>>,
    /// Grants that have not ended.
    live: LiveIndex<GrantEntry>,
    swept_at: Timestamp,
}

struct GrantEntry {
    /// Verifier of the secret that was made with the grant; a grant that came of a request has logins only.
    verifier: Option<Verifier>,
    logins: Mutex<GrantLogins>,
    grant: watch::Sender<Arc<Grant>>,
    /// Number of sessions that hold a [`SessionPermit`].
    live: Mutex<u32>,
    /// Turn of changes that give rights, held over check, audit, store and publication. Restrictions do not take it.
    committing: tokio::sync::Mutex<()>,
    restrictions: RestrictionCount,
}

/// Error of the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// There is no such grant (the caller's fault).
    #[error("no grant {0}")]
    NoSuchGrant(GrantId),
    /// There is no such request (the caller's fault).
    #[error("no request {0}")]
    NoSuchRequest(RequestId),
    /// There is no such user (the caller's fault).
    #[error("no user {0}")]
    NoSuchUser(IdentityName),
    /// A user of that name exists (the caller's fault).
    #[error("the user {0} already exists")]
    UserExists(IdentityName),
    /// The identity is disabled, so it gets no grants and requests (the caller's fault).
    #[error("{0} is disabled")]
    Disabled(IdentityName),
    /// The grant's state does not allow the change (the caller's fault).
    #[error(transparent)]
    Illegal(#[from] ChangeError),
    /// The terms of a new grant are invalid (the caller's fault).
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// The change could not be put on record, so it was not made.
    #[error("cannot write the change to the audit log, so it was not made")]
    Audit(#[from] AuditError),
    /// An earlier restriction is not stored and on record yet, so no rights are given.
    #[error("a revocation is not yet stored and recorded, so no rights are granted meanwhile")]
    Unsettled,
    /// The store failed.
    #[error("the grant store failed")]
    Store(#[from] StoreError),
    /// The operating system returned no random numbers.
    #[error("the operating system's random generator failed")]
    Random(#[from] getrandom::Error),
}

/// Grant as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Grant)]
pub struct GrantView {
    /// Grant itself.
    #[serde(flatten)]
    #[schema(inline)]
    pub grant: Grant,
    /// `ready`, `active`, `lapsed`, `expired`, `revoked` or `released` (given back by its owner).
    pub status: String,
    /// Number of live sessions under it.
    pub live_sessions: u32,
    /// Progress of a restriction; only in the answer to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub effect: Option<ChangeEffect>,
}

/// Session as the store remembers it, so that the next start can end backends that this run left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSession {
    /// Id of the session.
    pub session: SessionId,
    /// Grant of the session.
    pub grant: GrantId,
    /// Identity of the session.
    pub identity: IdentityName,
    /// Target of the session.
    pub target: TargetName,
    /// Process id of the target's backend.
    pub backend_pid: i32,
    /// Time at which it was opened (gate time).
    pub opened_at: Timestamp,
}

/// Time for which a client with the secret of an ended grant gets an error that says when it ended. Afterwards the grant does
/// not exist for clients; the store and the log still have it.
pub const ENDED_GRANT_RETENTION: Duration = Duration::from_hours(7 * 24);

/// Time between two sweeps, which drop from memory what is over.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Number of changes that a subscriber may fall behind; after more, it has to read again.
const NEWS_CAPACITY: usize = 1024;

impl Ledger {
    /// Opens the store at `path` (created with mode 0600 if it does not exist) and reads the grants that have not ended into
    /// memory. Blocks, so it is called at start. Fails if the store is damaged, or of a later version than this program.
    pub fn open(path: &Path, journal: Journal, clock: Clock) -> Result<Self, LedgerError> {
        Self::open_with(path, ChangeRecorder::Journal(journal), clock)
    }

    fn open_with(path: &Path, recorder: ChangeRecorder, clock: Clock) -> Result<Self, LedgerError> {
        let now = clock.now();
        let mut fresh_key = [0; 32];
        getrandom::fill(&mut fresh_key)?;
        let past = recorder.past();
        let (store, loaded) = Store::open(path, now, fresh_key, past.as_ref())?;
        let mut cache = GrantCache {
            entries: HashMap::new(),
            live: LiveIndex::default(),
            swept_at: now,
        };
        for (grant, verifier, logins) in loaded.grants {
            cache.insert(GrantEntry::new(grant, verifier, logins), now);
        }
        let since = clock.moment().instant;
        let inner = Arc::new(LedgerInner {
            clock,
            recorder,
            store,
            mock_key: loaded.mock_key,
            cache: Mutex::new(cache),
            requests: Mutex::new(RequestCache::new(loaded.requests, now)),
            key_turns: TurnQueues::default(),
            users: Mutex::new(UserCache::new(loaded.users)),
            users_turn: tokio::sync::RwLock::new(()),
            users_changed: watch::Sender::new(0),
            pending: PendingChanges::default(),
            news: broadcast::Sender::new(NEWS_CAPACITY),
        });
        for (row, event) in loaded.unrecorded {
            inner.queue_pending(PendingChange::unrecorded(row, event, since));
        }
        if !inner.pending.is_empty() {
            inner.pursue();
        }
        Ok(Self(inner))
    }

    /// Returns a handle for the end of the store's thread. It ends with the ledger; if it ends earlier, nothing can be stored
    /// any more.
    #[must_use]
    pub fn thread_end(&self) -> ThreadEnd {
        self.0.store.thread_end.clone()
    }

    /// Makes the store's thread panic.
    #[cfg(test)]
    pub(crate) fn break_thread(&self) {
        self.0.store.break_thread();
    }

    /// Returns the verifier for a login by `user`. For a user that is no grant: a verifier that no password fits, computed with
    /// the same work and always the same.
    pub async fn verifier(&self, user: &str) -> Verifier {
        let mock = Verifier::mock(user, &self.0.mock_key);
        let Some(id) = GrantId::of_login(user) else {
            return mock;
        };
        match self.recall(&id).await {
            Ok(entry) => entry.and_then(|entry| entry.verifier(user)).unwrap_or(mock),
            // A grant that cannot be read lets no client in.
            Err(error) => {
                tracing::error!(grant = %id, error = %display_chain(&error), "cannot look up a grant; refusing the login");
                mock
            }
        }
    }

    /// Returns a grant that is in memory, or one that ended within [`ENDED_GRANT_RETENTION`]. Only grants that have ended come from the
    /// store, and they give no rights: a grant that lives has exactly one entry, in memory.
    async fn recall(&self, id: &GrantId) -> Result<Option<Arc<GrantEntry>>, LedgerError> {
        if let Some(entry) = self.0.entry(id) {
            return Ok(Some(entry));
        }
        let now = self.0.clock.now();
        let wanted = id.clone();
        let found = self.0.store.call(move |connection| row::recall(connection, &wanted)).await?;
        let entry = found.map(|(grant, verifier, logins)| GrantEntry::new(grant, verifier, logins));
        let told = entry.filter(|entry| !entry.lives(now) && entry.ended_after(before(now, ENDED_GRANT_RETENTION)));
        Ok(told.map(Arc::new))
    }

    /// Returns one grant, even if it has ended and is only in the store.
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

impl LedgerInner {
    fn entry(&self, id: &GrantId) -> Option<Arc<GrantEntry>> {
        self.cache.lock().entries.get(id).cloned()
    }

    /// Returns the grants of an identity that have not ended.
    fn live(&self, who: &IdentityName, now: Timestamp) -> Vec<Arc<GrantEntry>> {
        self.cache.lock().live.of(who, |entry| entry.lives(now))
    }

    /// Sends a change to all subscribers, if there are any.
    fn tell(&self, news: impl FnOnce() -> ChangedSubject) {
        if self.news.receiver_count() > 0 {
            let _ = self.news.send(news());
        }
    }
}

impl GrantCache {
    fn add(&mut self, grant: Grant, verifier: Option<Verifier>, now: Timestamp) {
        if self.swept_at < before(now, SWEEP_INTERVAL) {
            self.swept_at = now;
            let is_watched = |entry: &GrantEntry| entry.grant.receiver_count() > 0;
            self.live.sweep(&mut self.entries, |entry| entry.lives(now), is_watched);
        }
        self.insert(GrantEntry::new(grant, verifier, GrantLogins::default()), now);
    }

    fn insert(&mut self, entry: GrantEntry, now: Timestamp) {
        let entry = Arc::new(entry);
        let grant = entry.current();
        if entry.lives(now) {
            self.live.add(grant.identity().clone(), entry.clone());
        }
        self.entries.insert(grant.id().clone(), entry);
    }
}

impl GrantEntry {
    fn new(grant: Grant, verifier: Option<Verifier>, logins: GrantLogins) -> Self {
        Self {
            verifier,
            logins: Mutex::new(logins),
            grant: watch::Sender::new(Arc::new(grant)),
            live: Mutex::new(0),
            committing: tokio::sync::Mutex::new(()),
            restrictions: RestrictionCount::default(),
        }
    }

    fn current(&self) -> Arc<Grant> {
        self.grant.borrow().clone()
    }

    fn view(&self, now: Timestamp) -> GrantView {
        let live = *self.live.lock();
        GrantView::of(&self.current(), now, live)
    }

    fn lives(&self, now: Timestamp) -> bool {
        !self.grant.borrow().status(now).ended()
    }

    /// Returns true if the grant has not ended or ended after `time`; for a revoked one, the end without the revocation counts.
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
