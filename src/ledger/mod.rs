//! Ledger of grants, requests, users and sign-ins: the only place where they change. Each change is checked, audited, stored and
//! published to its watchers.
//!
//! This module does not decide about the rights of the caller, and ends no session: sessions watch their grant.
//!
//! INVARIANT: a change that gives rights is on record durably before it is stored, and stored before it takes effect. If it
//! cannot be put on record, nothing changes; if the store cannot be read, no client is let in. A change that takes rights away
//! works the other way round: it takes effect first, in memory, and waits for nothing; then it is stored and put on record,
//! each retried until it is done. After any crash, no identity has more rights than both the store and the log allow.

mod admit;
mod cache;
mod commit;
mod grants;
mod log_tip;
mod migrations;
mod pending;
mod record;
mod replay;
mod requests;
mod restrict;
mod row;
mod set_clock;
mod sign_in_cache;
mod sign_ins;
mod sqlite;
mod store;
mod turns;
mod upkeep;
mod users;
mod views;

pub use admit::{AdmittedSession, SessionPermit};
pub use grants::ENDED_GRANT_RETENTION;
pub use log_tip::read_log_tip;
pub use requests::{NewRequest, SubmitResult};
pub use set_clock::ClockView;
pub use sign_ins::{NewSignIn, SIGN_IN_PREFIX, SignedIn};
pub use sqlite::StoreError;
pub use upkeep::highest_time;
pub use users::{RotatedToken, UserTokenError, groups_of_users};
pub use views::{
    ChangeEffect, ChangedSubject, DecisionReasons, GrantFilter, GrantLogin, GrantView, RequestFilter, RequestView, SignInView,
    UserFilter, UserView,
};

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

use crate::audit::{AuditError, Journal};
use crate::base::clock::Clock;
use crate::base::supervision::ThreadEnd;
use crate::model::grant::{ChangeError, TermsError};
use crate::model::ids::{GrantId, RequestId, SessionId};
use crate::model::names::{IdentityName, TargetName};
use cache::{GrantCache, RequestCache};
use pending::PendingChanges;
use record::ChangeRecorder;
use sign_in_cache::SignInCache;
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
    grants: Mutex<GrantCache>,
    requests: Mutex<RequestCache>,
    /// Serialises submissions with the same key.
    key_turns: TurnQueues,
    users: Mutex<UserCache>,
    /// Serialises changes of users, and keeps grants and requests from being made meanwhile: see [`LedgerInner::let_in`].
    users_turn: tokio::sync::RwLock<()>,
    /// Counter of changes of users, and of ends of sign-ins.
    users_changed: watch::Sender<u64>,
    sign_ins: Mutex<SignInCache>,
    /// Restrictions that are not stored or not on record yet.
    pending: PendingChanges,
    news: broadcast::Sender<ChangedSubject>,
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
        let since = clock.moment().instant;
        let inner = Arc::new(LedgerInner {
            clock,
            recorder,
            store,
            mock_key: loaded.mock_key,
            grants: Mutex::new(GrantCache::new(loaded.grants, now)),
            requests: Mutex::new(RequestCache::new(loaded.requests, now)),
            key_turns: TurnQueues::default(),
            users: Mutex::new(UserCache::new(loaded.users)),
            users_turn: tokio::sync::RwLock::new(()),
            users_changed: watch::Sender::new(0),
            sign_ins: Mutex::new(SignInCache::new(loaded.sign_ins)),
            pending: PendingChanges::default(),
            news: broadcast::Sender::new(NEWS_CAPACITY),
        });
        for (row, event) in loaded.unrecorded {
            inner.queue_unrecorded(row, event, since);
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
}

impl LedgerInner {
    /// Sends a change to all subscribers, if there are any.
    fn tell(&self, news: impl FnOnce() -> ChangedSubject) {
        if self.news.receiver_count() > 0 {
            let _ = self.news.send(news());
        }
    }
}

#[cfg(test)]
mod tests;
