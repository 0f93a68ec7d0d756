//! Grants and requests in memory: those that are live, and those that are still referenced. The others are in the store, so that
//! neither the start nor memory grows with the past.
//!
//! This module changes no grant or request.
//!
//! INVARIANT: an object has at most one entry, hence one turn. A grant has at most [`MAX_LOGINS`] logins; a further one replaces
//! the oldest.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::sqlite::StoreError;
use crate::model::grant::Grant;
use crate::model::ids::{GrantId, RequestId};
use crate::model::names::{GroupName, IdentityName};
use crate::model::request::{Request, RequestState};
use crate::protocol::scram::Verifier;

/// Time between two sweeps, which drop from memory what is over.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Number of logins of one grant that are valid at once.
pub(super) const MAX_LOGINS: usize = 32;

/// Grant or request: a thing of one identity. Once it is not live any more, it never is again.
pub(super) trait LedgerItem {
    type Id: Clone + Eq + Hash;
    /// Data in memory beside the object itself.
    type Extra;

    fn key(&self) -> &Self::Id;
    fn owner(&self) -> &IdentityName;
    fn is_live(&self, now: Timestamp) -> bool;
}

/// Object in memory.
pub(super) struct Entry<T: LedgerItem> {
    /// State of the object, with its watchers.
    pub(super) state: watch::Sender<Arc<T>>,
    /// Turn of changes that give rights, held over check, audit, store and publication. Restrictions do not take it.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// Number of restrictions, so that a concurrent change that gives rights notices them.
    restrictions: AtomicU64,
    pub(super) extra: T::Extra,
}

/// Objects in memory, and those of them that were live at the last look, by identity.
pub(super) struct Cache<T: LedgerItem> {
    pub(super) entries: HashMap<T::Id, Arc<Entry<T>>>,
    live: HashMap<IdentityName, Vec<Arc<Entry<T>>>>,
    swept_at: Timestamp,
}

pub(super) type GrantEntry = Entry<Grant>;
pub(super) type RequestEntry = Entry<Request>;
pub(super) type GrantCache = Cache<Grant>;
pub(super) type RequestCache = Cache<Request>;

/// Data of a grant in memory.
pub(super) struct GrantExtra {
    /// Verifier of the secret that was made with the grant; a grant that came of a request has logins only.
    pub(super) verifier: Option<Verifier>,
    pub(super) logins: Mutex<GrantLogins>,
    /// Number of sessions that hold a [`super::SessionPermit`].
    pub(super) sessions: Mutex<u32>,
}

/// Data of a request in memory.
pub(super) struct RequestExtra {
    /// Number in the order of arrival.
    pub(super) number: i64,
    /// Time that its grant waits for the first connect.
    pub(super) activate_within: Duration,
}

/// User, or an identity of an issuer that was disabled here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredUser {
    pub(super) name: IdentityName,
    pub(super) groups: BTreeSet<GroupName>,
    /// SHA-256 of the token in hexadecimal; `None`: an identity of an issuer.
    pub(super) token_hash: Option<String>,
    /// Time at which the token expires; `None`: it does not.
    pub(super) token_until: Option<Timestamp>,
    pub(super) disabled: bool,
    pub(super) created_at: Timestamp,
}

/// Logins of one grant, the oldest first: user names with the verifiers of their passwords. Several are valid at once, so that a
/// login of one client does not end another's.
#[derive(Default)]
pub(super) struct GrantLogins(VecDeque<(String, Verifier)>);

impl LedgerItem for Grant {
    type Id = GrantId;
    type Extra = GrantExtra;

    fn key(&self) -> &GrantId {
        self.id()
    }

    fn owner(&self) -> &IdentityName {
        self.identity()
    }

    fn is_live(&self, now: Timestamp) -> bool {
        !self.status(now).ended()
    }
}

impl LedgerItem for Request {
    type Id = RequestId;
    type Extra = RequestExtra;

    fn key(&self) -> &RequestId {
        &self.id
    }

    fn owner(&self) -> &IdentityName {
        &self.wish.identity
    }

    fn is_live(&self, now: Timestamp) -> bool {
        self.status(now) == RequestState::Pending
    }
}

impl<T: LedgerItem> Entry<T> {
    pub(super) fn with(object: T, extra: T::Extra) -> Self {
        Self {
            state: watch::Sender::new(Arc::new(object)),
            turn: tokio::sync::Mutex::default(),
            restrictions: AtomicU64::default(),
            extra,
        }
    }

    pub(super) fn current(&self) -> Arc<T> {
        self.state.borrow().clone()
    }

    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.state.borrow().is_live(now)
    }

    pub(super) fn restrictions(&self) -> u64 {
        self.restrictions.load(Ordering::Acquire)
    }

    pub(super) fn add_restriction(&self) {
        self.restrictions.fetch_add(1, Ordering::AcqRel);
    }

    /// Fails if the object was restricted since it had `seen` restrictions.
    pub(super) fn unrestricted_since(&self, seen: u64) -> Result<(), StoreError> {
        (self.restrictions() == seen).then_some(()).ok_or(StoreError::Overtaken)
    }
}

impl GrantEntry {
    pub(super) fn new(grant: Grant, verifier: Option<Verifier>, logins: GrantLogins) -> Self {
        let extra = GrantExtra {
            verifier,
            logins: Mutex::new(logins),
            sessions: Mutex::default(),
        };
        Self::with(grant, extra)
    }

    /// Returns the verifier for a login by `user`, if that is a login of this grant.
    pub(super) fn verifier(&self, user: &str) -> Option<Verifier> {
        if user == self.current().id().as_str() {
            return self.extra.verifier.clone();
        }
        self.extra.logins.lock().get(user).cloned()
    }

    pub(super) fn fresh_name(&self) -> Result<String, getrandom::Error> {
        loop {
            let mut random = [0; 4];
            getrandom::fill(&mut random)?;
            let name = self.current().id().login(random);
            if self.extra.logins.lock().get(&name).is_none() {
                return Ok(name);
            }
        }
    }
}

impl GrantLogins {
    pub(super) fn add(&mut self, name: String, verifier: Verifier) {
        while self.0.len() >= MAX_LOGINS {
            self.0.pop_front();
        }
        self.0.push_back((name, verifier));
    }

    fn get(&self, name: &str) -> Option<&Verifier> {
        let mut logins = self.0.iter();
        logins.find_map(|(known, verifier)| (known == name).then_some(verifier))
    }

    /// Returns the login that a further one would replace.
    pub(super) fn next_out(&self) -> Option<&str> {
        let oldest = self.0.front().filter(|_| self.0.len() >= MAX_LOGINS);
        oldest.map(|(name, _)| name.as_str())
    }
}

impl StoredUser {
    /// Returns an identity of an issuer, of which the ledger knows nothing but its name.
    pub(super) fn unknown(name: IdentityName, at: Timestamp) -> Self {
        Self {
            name,
            groups: BTreeSet::new(),
            token_hash: None,
            token_until: None,
            disabled: false,
            created_at: at,
        }
    }

    /// Replaces the token, if there is one, by a placeholder: it is the hash of no token, and different for each user.
    pub(super) fn withdraw_token(&mut self) {
        if let Some(hash) = &mut self.token_hash {
            *hash = format!("none:{}", self.name);
        }
    }
}

impl<T: LedgerItem> Cache<T> {
    pub(super) fn new(loaded: Vec<Entry<T>>, now: Timestamp) -> Self {
        let mut cache = Self {
            entries: HashMap::new(),
            live: HashMap::new(),
            swept_at: now,
        };
        for entry in loaded {
            cache.add(Arc::new(entry), now);
        }
        cache
    }

    pub(super) fn get(&self, id: &T::Id) -> Option<Arc<Entry<T>>> {
        self.entries.get(id).cloned()
    }

    /// Returns the live objects of `who`, whatever the size of its past, and forgets that its others were live.
    pub(super) fn live_of(&mut self, who: &IdentityName, now: Timestamp) -> Vec<Arc<Entry<T>>> {
        let Some(things) = self.live.get_mut(who) else {
            return Vec::new();
        };
        things.retain(|entry| entry.is_live(now));
        let found = things.clone();
        if found.is_empty() {
            self.live.remove(who);
        }
        found
    }

    /// Returns the live objects of all identities.
    pub(super) fn live(&self, now: Timestamp) -> impl Iterator<Item = &Arc<Entry<T>>> {
        self.live.values().flatten().filter(move |entry| entry.is_live(now))
    }

    /// Adds an entry; returns the one that is there already, if there is one, because its turn may be taken.
    pub(super) fn add(&mut self, entry: Arc<Entry<T>>, now: Timestamp) -> Arc<Entry<T>> {
        self.sweep(now);
        let object = entry.current();
        if let Some(known) = self.get(object.key()) {
            return known;
        }
        if object.is_live(now) {
            self.live.entry(object.owner().clone()).or_default().push(entry.clone());
        }
        self.entries.insert(object.key().clone(), entry.clone());
        entry
    }

    /// Drops all that is not `final`, because it would be live again after the time has gone back.
    pub(super) fn forget_the_future(&mut self, now: Timestamp, is_final: impl Fn(&T) -> bool) {
        self.swept_at = now;
        self.live.clear();
        self.entries.retain(|_, entry| is_final(&entry.current()));
    }

    /// Drops what is over, from time to time, unless it is referenced or watched.
    fn sweep(&mut self, now: Timestamp) {
        if self.swept_at >= before(now, SWEEP_INTERVAL) {
            return;
        }
        self.swept_at = now;
        self.live.retain(|_, things| {
            things.retain(|entry| entry.is_live(now));
            !things.is_empty()
        });
        self.entries
            .retain(|_, entry| entry.is_live(now) || Arc::strong_count(entry) > 1 || entry.state.receiver_count() > 0);
    }
}

pub(super) fn before(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_sub(by).unwrap_or(Timestamp::MIN)
}
