//! Local users: their groups, their tokens (as hashes only), and which identities are shut out.
//!
//! It does not know what a user may do. A change of a user is on record before it is stored, as a grant's is.
//!
//! INVARIANT: a token is in here as its SHA-256 only, and good for nobody who is shut out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::{RwLockReadGuard, watch};

use super::commit::{random_letters, to_the_end};
use super::record::{NOT_STORED, user_event};
use super::requests::Reasons;
use super::row::users::StoredUser;
use super::{Inner, Ledger, LedgerError, row};
use crate::audit::hex;
use crate::identity::{Identity, Source};
use crate::names::{GroupName, IdentityName};
use crate::request::{IllegalStep, Next};
use crate::secret::Secret;

/// A local user, or an identity of an issuer that was disabled here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserView {
    /// Its name.
    pub name: IdentityName,
    /// Its groups.
    pub groups: BTreeSet<GroupName>,
    /// Whether it may come in.
    pub disabled: bool,
    /// Whether it has a token here.
    pub local: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a token of a local user begins with.
const TOKEN_PREFIX: &str = "tg_";
/// Why the grants and requests of an identity that is shut out end.
pub(super) const DISABLED: &str = "the identity is disabled";
/// Who ends those that came up meanwhile.
pub(super) const DISABLED_BY: &str = "tidegate";
/// Who rejects requests when the operator's own name is none of an identity.
const OPERATOR: &str = "operator";

/// All users in memory.
pub(super) struct Users {
    by_name: BTreeMap<IdentityName, StoredUser>,
    /// By the SHA-256 of their token.
    by_hash: HashMap<String, IdentityName>,
}

impl Ledger {
    /// Makes a local user; the token is returned here and nowhere else. An identity of an issuer that is known here because
    /// it was disabled becomes a local user, and stays disabled.
    pub async fn add_user(
        &self,
        name: &IdentityName,
        groups: BTreeSet<GroupName>,
        by: &str,
    ) -> Result<Secret<String>, LedgerError> {
        let (token, hash) = fresh_token()?;
        let wanted = name.clone();
        let add = move |known: Option<StoredUser>, now| match known {
            Some(user) if user.token_hash.is_some() => Err(LedgerError::UserExists(user.name)),
            known => Ok(Some(StoredUser {
                name: wanted,
                groups,
                token_hash: Some(hash),
                disabled: known.as_ref().is_some_and(|user| user.disabled),
                created_at: known.map_or(now, |user| user.created_at),
            })),
        };
        self.change_user(name, "added", by, add).await?;
        Ok(token)
    }

    /// A fresh token; the old one is good no more.
    pub async fn rotate_user(&self, name: &IdentityName, by: &str) -> Result<Secret<String>, LedgerError> {
        let (token, hash) = fresh_token()?;
        let wanted = name.clone();
        let rotate = move |known: Option<StoredUser>, _| {
            let user = local(known, wanted)?;
            Ok(Some(StoredUser {
                token_hash: Some(hash),
                ..user
            }))
        };
        self.change_user(name, "rotated", by, rotate).await?;
        Ok(token)
    }

    /// Other groups.
    pub async fn regroup_user(
        &self,
        name: &IdentityName,
        groups: BTreeSet<GroupName>,
        by: &str,
    ) -> Result<UserView, LedgerError> {
        let wanted = name.clone();
        let regroup = move |known: Option<StoredUser>, _| {
            let user = local(known, wanted)?;
            Ok(Some(StoredUser { groups, ..user }))
        };
        self.change_user(name, "regrouped", by, regroup).await
    }

    /// Shuts an identity out (a local one or an issuer's): its grants are revoked, so its sessions end at once; what it has pending
    /// is rejected. Where that fails it stays shut out, and asking again goes on with it.
    pub async fn disable_user(&self, name: &IdentityName, by: &str) -> Result<UserView, LedgerError> {
        let wanted = name.clone();
        let disable = move |known: Option<StoredUser>, now| match known {
            Some(user) if user.disabled => Ok(None),
            Some(user) => Ok(Some(StoredUser { disabled: true, ..user })),
            None => Ok(Some(StoredUser {
                name: wanted,
                groups: BTreeSet::new(),
                token_hash: None,
                disabled: true,
                created_at: now,
            })),
        };
        let view = self.change_user(name, "disabled", by, disable).await?;
        self.end_what_is_left(name, by).await?;
        Ok(view)
    }

    /// Lets it in again; what it had does not come back. What is still open (the gate died, or could not write, while it was shut
    /// out) is ended first; where that fails it stays shut out.
    pub async fn enable_user(&self, name: &IdentityName, by: &str) -> Result<UserView, LedgerError> {
        let wanted = name.clone();
        let enable = move |known: Option<StoredUser>, _| match known {
            None => Err(LedgerError::NoSuchUser(wanted)),
            Some(user) if !user.disabled => Ok(None),
            Some(user) => Ok(Some(StoredUser { disabled: false, ..user })),
        };
        if self.is_disabled(name) {
            self.end_what_is_left(name, by).await?;
        }
        self.change_user(name, "enabled", by, enable).await
    }

    /// All that are known, by name.
    #[must_use]
    pub fn users(&self) -> Vec<UserView> {
        self.0.users().by_name.values().map(UserView::of).collect()
    }

    /// One that is known.
    #[must_use]
    pub fn user(&self, name: &IdentityName) -> Option<UserView> {
        self.0.users().by_name.get(name).map(UserView::of)
    }

    /// Whose token it is; `None` for a token nobody has, and for a disabled user's. What is compared is a hash, which nobody
    /// can choose: how long it takes tells nothing of the token.
    #[must_use]
    pub fn user_by_token(&self, token: &Secret<String>) -> Option<Identity> {
        let hash = hash(token);
        let users = self.0.users();
        let user = users.by_name.get(users.by_hash.get(&hash)?)?;
        (!user.disabled).then(|| Identity {
            name: user.name.clone(),
            groups: user.groups.clone(),
            source: Source::Local,
            claims: BTreeMap::new(),
        })
    }

    /// Another number after every change of a user: whoever goes on by what a token proved, or remembers who may do what, asks again.
    #[must_use]
    pub fn users_changed(&self) -> watch::Receiver<u64> {
        self.0.users_changed.subscribe()
    }

    /// Whether an identity is shut out.
    #[must_use]
    pub fn is_disabled(&self, name: &IdentityName) -> bool {
        self.0.users().by_name.get(name).is_some_and(|user| user.disabled)
    }

    /// Changes one user in the ledger's order. `change` says what it becomes; `None`: it is that already.
    async fn change_user(
        &self,
        name: &IdentityName,
        what: &'static str,
        by: &str,
        change: impl FnOnce(Option<StoredUser>, Timestamp) -> Result<Option<StoredUser>, LedgerError> + Send + 'static,
    ) -> Result<UserView, LedgerError> {
        let (ledger, name, by) = (self.clone(), name.clone(), by.to_owned());
        to_the_end(async move {
            let inner = &ledger.0;
            let _turn = inner.users_turn.write().await;
            let known = inner.users().by_name.get(&name).cloned();
            let Some(next) = change(known.clone(), inner.clock.now())? else {
                return known.as_ref().map(UserView::of).ok_or(LedgerError::NoSuchUser(name));
            };
            inner
                .recorder
                .record(&user_event(&name, next.groups.iter(), what, &by))
                .await?;
            let stored = next.clone();
            let stored = inner.store.call(move |connection| row::users::put(connection, &stored)).await;
            if let Err(error) = stored {
                let groups = known.iter().flat_map(|user| &user.groups);
                inner.recorder.take_back(&user_event(&name, groups, NOT_STORED, &by)).await;
                return Err(error.into());
            }
            let view = UserView::of(&next);
            inner.users().put(next);
            inner.users_changed.send_modify(|changes| *changes += 1);
            Ok(view)
        })
        .await
    }

    async fn end_what_is_left(&self, name: &IdentityName, by: &str) -> Result<(), LedgerError> {
        let (ledger, name, by) = (self.clone(), name.clone(), by.to_owned());
        to_the_end(async move { ledger.end_all_of(&name, &by).await }).await
    }

    /// Revokes what an identity has and rejects what it has asked for. Goes on when one of them cannot be done: the others
    /// have to end all the same.
    async fn end_all_of(&self, name: &IdentityName, by: &str) -> Result<(), LedgerError> {
        let now = self.0.clock.now();
        let mut done = Ok(());
        for entry in self.0.live(name, now) {
            match self.revoke(entry.current().id(), by, Some(DISABLED)).await {
                Ok(_) | Err(LedgerError::Illegal(_)) => {}
                Err(error) => done = Err(error),
            }
        }
        let Ok(operator) = by.parse().or_else(|_| OPERATOR.parse::<IdentityName>()) else {
            return done;
        };
        for view in self.pending_of(name, now) {
            let by = operator.clone();
            let reject = move |request: &crate::request::Request, _, now| {
                let request = request.pending(now)?.reject(by, Some(DISABLED.to_owned()), now);
                Ok::<_, NotRejected>(Next { request, granted: false })
            };
            let outcome = self
                .step(&view.request.id, &operator, "rejected", Reasons::default(), reject)
                .await;
            if let Err(NotRejected::Failed(error)) = outcome {
                done = Err(error);
            }
        }
        done
    }
}

/// Why a request was not rejected: it did not wait any more, or it could not be done.
enum NotRejected {
    Settled,
    Failed(LedgerError),
}

impl From<IllegalStep> for NotRejected {
    fn from(_: IllegalStep) -> Self {
        Self::Settled
    }
}

impl From<LedgerError> for NotRejected {
    fn from(error: LedgerError) -> Self {
        Self::Failed(error)
    }
}

impl Inner {
    /// Whoever makes something for an identity holds this until it is in memory. So what is made before it is shut out is found by
    /// whoever shuts it out, and ended; and after that nothing is made.
    pub(super) async fn let_in(&self, who: &IdentityName) -> Result<RwLockReadGuard<'_, ()>, LedgerError> {
        let held = self.users_turn.read().await;
        if self.users().by_name.get(who).is_some_and(|user| user.disabled) {
            return Err(LedgerError::Disabled(who.clone()));
        }
        Ok(held)
    }

    /// Poisoned or not: see [`Inner::book`].
    fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users {
    pub(super) fn new(stored: Vec<StoredUser>) -> Self {
        let mut users = Self {
            by_name: BTreeMap::new(),
            by_hash: HashMap::new(),
        };
        for user in stored {
            users.put(user);
        }
        users
    }

    fn put(&mut self, user: StoredUser) {
        let name = user.name.clone();
        let hash = user.token_hash.clone();
        let replaced = self.by_name.insert(name.clone(), user);
        if let Some(old) = replaced.and_then(|user| user.token_hash) {
            self.by_hash.remove(&old);
        }
        if let Some(hash) = hash {
            self.by_hash.insert(hash, name);
        }
    }
}

impl UserView {
    fn of(user: &StoredUser) -> Self {
        Self {
            name: user.name.clone(),
            groups: user.groups.clone(),
            disabled: user.disabled,
            local: user.token_hash.is_some(),
            created_at: user.created_at,
        }
    }
}

/// Only a local user has a token and groups here.
fn local(known: Option<StoredUser>, name: IdentityName) -> Result<StoredUser, LedgerError> {
    known
        .filter(|user| user.token_hash.is_some())
        .ok_or(LedgerError::NoSuchUser(name))
}

fn fresh_token() -> Result<(Secret<String>, String), LedgerError> {
    let token = random_letters(TOKEN_PREFIX)?;
    let hash = hash(&token);
    Ok((token, hash))
}

fn hash(token: &Secret<String>) -> String {
    hex(&Sha256::digest(token.expose().as_bytes()))
}
