//! Local users: their groups, their tokens (as hashes only), and which identities are shut out.
//!
//! It does not know what a user may do. What gives a user something is on record before it is stored, and stored before it counts;
//! what takes something away counts at once ([`super::restrict`]).
//!
//! INVARIANT: a token is in here as its SHA-256 only, and good for nobody who is shut out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::{RwLockReadGuard, watch};
use tokio::time::timeout;

use super::commit::{random_letters, to_the_end};
use super::pending::{Effect, Key};
use super::record::{NOT_STORED, user_event};
use super::row::users::StoredUser;
use super::{Inner, Ledger, LedgerError, StoreError, row};
use crate::audit::hex;
use crate::identity::{Identity, Source};
use crate::names::{GroupName, IdentityName};
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
    /// How far a change that took something from it has come, in the answer to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// A user's fresh token, as far as there is one.
#[derive(Debug)]
pub struct RotatedToken {
    /// The new token; `None` where it could not be made: the old one is good no more all the same.
    pub token: Option<Secret<String>>,
    /// How far the withdrawal of the old one has come.
    pub effect: Effect,
}

/// The longest that an answer waits for what is given along with what was taken.
const GIVE_WAIT: Duration = Duration::from_secs(3);
/// What a token of a local user begins with.
const TOKEN_PREFIX: &str = "tg_";
/// Who ends those that came up meanwhile.
pub(super) const DISABLED_BY: &str = "tidegate";
/// Who rejects requests when the operator's own name is none of an identity.
pub(super) const OPERATOR: &str = "operator";

/// All users in memory.
pub(super) struct Users {
    by_name: BTreeMap<IdentityName, StoredUser>,
    /// By the SHA-256 of their token.
    by_hash: HashMap<String, IdentityName>,
    /// What was taken from each, counted, so that a change on its way notices.
    restrictions: HashMap<IdentityName, u64>,
    /// Those of whom a change that gives something is on its way.
    changing: HashSet<IdentityName>,
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

    /// A fresh token; the old one is good no more, whatever becomes of the new one.
    pub async fn rotate_user(&self, name: &IdentityName, by: &str) -> Result<RotatedToken, LedgerError> {
        let (token, hash) = fresh_token()?;
        local(self.0.users().get(name).cloned(), name.clone())?;
        let item = self.0.take_token(name, by);
        self.0.users_changed.send_modify(|changes| *changes += 1);
        let effect = self.0.answer(item.as_slice()).await;
        let wanted = name.clone();
        let rotate = move |known: Option<StoredUser>, _| {
            let user = local(known, wanted)?;
            Ok(Some(StoredUser {
                token_hash: Some(hash),
                ..user
            }))
        };
        let given = timeout(GIVE_WAIT, self.change_user(name, "rotated", by, rotate)).await;
        let token = matches!(given, Ok(Ok(_))).then_some(token);
        Ok(RotatedToken { token, effect })
    }

    /// Other groups. Those it loses are gone at once; those it gets, once that is on record.
    pub async fn regroup_user(
        &self,
        name: &IdentityName,
        groups: BTreeSet<GroupName>,
        by: &str,
    ) -> Result<UserView, LedgerError> {
        let known = local(self.0.users().get(name).cloned(), name.clone())?;
        let item = self.0.take_groups(name, &groups, by);
        if item.is_some() {
            self.0.users_changed.send_modify(|changes| *changes += 1);
        }
        let effect = item.is_some().then_some(self.0.answer(item.as_slice()).await);
        let now = local(self.0.users().get(name).cloned(), name.clone())?;
        if effect.is_some() && now.groups == groups {
            return Ok(UserView {
                effect,
                ..UserView::of(&now)
            });
        }
        let wanted = name.clone();
        let regroup = move |known: Option<StoredUser>, _| {
            let user = local(known, wanted)?;
            Ok(Some(StoredUser { groups, ..user }))
        };
        let given = timeout(GIVE_WAIT, self.change_user(name, "regrouped", by, regroup)).await;
        let failed = match given {
            Ok(Ok(view)) => return Ok(UserView { effect, ..view }),
            Ok(Err(error)) => error,
            Err(_) => LedgerError::Unsettled,
        };
        if effect.is_none() {
            return Err(failed);
        }
        tracing::error!(error = %failed, user = %known.name, "removed a user from groups, but could not add it to the new ones; set its groups again");
        let now = local(self.0.users().get(name).cloned(), name.clone())?;
        Ok(UserView {
            effect: effect.map(|effect| Effect {
                recorded: false,
                ..effect
            }),
            ..UserView::of(&now)
        })
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
        self.0.is_disabled(name)
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
            if !inner.pending.is_settled(&Key::User(name.clone())).await {
                return Err(LedgerError::Unsettled);
            }
            let _turn = inner.users_turn.write().await;
            let (known, seen) = {
                let users = inner.users();
                (users.get(&name).cloned(), users.restrictions_of(&name))
            };
            let Some(next) = change(known.clone(), inner.clock.now())? else {
                return known.as_ref().map(UserView::of).ok_or(LedgerError::NoSuchUser(name));
            };
            let given = inner.give_user(&next, what, &by, seen).await;
            inner.users().changing.remove(&name);
            if let Err(error) = given {
                let groups = known.iter().flat_map(|user| &user.groups);
                inner.recorder.take_back(&user_event(&name, groups, NOT_STORED, &by)).await;
                return Err(error);
            }
            inner.users_changed.send_modify(|changes| *changes += 1);
            Ok(UserView::of(&next))
        })
        .await
    }
}

impl Inner {
    /// Record, store, memory, unless something was taken from the user since `seen`. The caller has the turn.
    async fn give_user(self: &Arc<Self>, next: &StoredUser, what: &'static str, by: &str, seen: u64) -> Result<(), LedgerError> {
        self.users().changing.insert(next.name.clone());
        self.recorder
            .record(&user_event(&next.name, next.groups.iter(), what, by))
            .await?;
        let (inner, row) = (Arc::clone(self), next.clone());
        let store = move |connection: &mut rusqlite::Connection| {
            if inner.users().restrictions_of(&row.name) != seen {
                return Err(StoreError::Overtaken);
            }
            row::users::put(connection, &row)
        };
        self.store.call(store).await?;
        let mut users = self.users();
        if users.restrictions_of(&next.name) != seen {
            return Err(StoreError::Overtaken.into());
        }
        users.put(next.clone());
        Ok(())
    }

    pub(super) fn is_disabled(&self, name: &IdentityName) -> bool {
        self.users().get(name).is_some_and(|user| user.disabled)
    }

    /// Whoever makes something for an identity holds this until it is in memory. So what is made before it is shut out is found by
    /// whoever shuts it out, and ended; and after that nothing is made.
    pub(super) async fn let_in(&self, who: &IdentityName) -> Result<RwLockReadGuard<'_, ()>, LedgerError> {
        let held = self.users_turn.read().await;
        if self.is_disabled(who) {
            return Err(LedgerError::Disabled(who.clone()));
        }
        Ok(held)
    }

    /// Poisoned or not: see [`Inner::book`].
    pub(super) fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users {
    pub(super) fn new(stored: Vec<StoredUser>) -> Self {
        let mut users = Self {
            by_name: BTreeMap::new(),
            by_hash: HashMap::new(),
            restrictions: HashMap::new(),
            changing: HashSet::new(),
        };
        for user in stored {
            users.put(user);
        }
        users
    }

    pub(super) fn get(&self, name: &IdentityName) -> Option<&StoredUser> {
        self.by_name.get(name)
    }

    pub(super) fn restrictions_of(&self, name: &IdentityName) -> u64 {
        self.restrictions.get(name).copied().unwrap_or(0)
    }

    pub(super) fn restrict(&mut self, name: &IdentityName) {
        *self.restrictions.entry(name.clone()).or_default() += 1;
    }

    pub(super) fn is_changing(&self, name: &IdentityName) -> bool {
        self.changing.contains(name)
    }

    pub(super) fn put(&mut self, user: StoredUser) {
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
    pub(super) fn of(user: &StoredUser) -> Self {
        Self {
            name: user.name.clone(),
            groups: user.groups.clone(),
            disabled: user.disabled,
            local: user.token_hash.is_some(),
            created_at: user.created_at,
            effect: None,
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
