//! Local users: their groups, their tokens (as hashes only), and the identities that are disabled.
//!
//! This module does not know a user's rights. A change that gives a user something is on record before it is stored, and stored
//! before it takes effect; one that takes something away takes effect at once ([`super::restrict`]).
//!
//! INVARIANT: a token is in here as its SHA-256 only, and is not valid for a disabled user.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use rusqlite::Connection;
use sha2::{Digest as _, Sha256};
use tokio::sync::{RwLockReadGuard, watch};
use tokio::time::timeout;

use super::cache::StoredUser;
use super::commit::{random_letters, to_the_end};
use super::pending::ChangeSubject;
use super::record::user_event;
use super::sqlite::{first, open_existing, together};
use super::views::{ChangeEffect, UserFilter, UserView};
use super::{Ledger, LedgerError, LedgerInner, StoreError, row};
use crate::audit::event::UserChangeKind;
use crate::base::secret::Secret;
use crate::identity::Identity;
use crate::model::names::{GroupName, IdentityName, nearest};

/// Result of a rotation of a user's token.
#[derive(Debug)]
pub struct RotatedToken {
    /// New token; `None` if it could not be stored: the old one is invalid all the same.
    pub token: Option<Secret<String>>,
    /// Progress of the withdrawal of the old token.
    pub effect: ChangeEffect,
    /// Number of sign-ins that ended with it.
    pub ended_sign_ins: usize,
}

/// Reason why a token proves no local user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserTokenError {
    /// No user has this token, or the user is disabled.
    #[error("the token is unknown, or its user is disabled")]
    NotAccepted,
    /// The token has expired.
    #[error("the token of {user} expired at {}; for a new one: tidegate user rotate", .at.strftime("%Y-%m-%d %H:%M:%S UTC"))]
    Expired {
        /// Owner of the token.
        user: IdentityName,
        /// Time at which it expired.
        at: Timestamp,
    },
}

/// Longest time that an answer waits for rights that are given together with a restriction.
const GIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for the store. A restriction does not wait for a store that is slow or failing.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);
/// Prefix of the tokens of local users.
const TOKEN_PREFIX: &str = "tg_";
/// Author of revocations that the gate makes itself.
pub(super) const DISABLED_BY: &str = "tidegate";
/// Reason of the end of sign-ins because the groups of the user have changed.
const REGROUPED: &str = "the groups of the user changed";
/// Reason of the end of sign-ins because the token that they were made with is no longer valid.
const TOKEN_REPLACED: &str = "the token of the user was replaced";
/// Author of rejections if the operator's own name is no identity name.
pub(super) const OPERATOR: &str = "operator";

/// Users in memory.
pub(super) struct UserCache {
    by_name: BTreeMap<IdentityName, StoredUser>,
    /// Names by the SHA-256 of the token.
    by_hash: HashMap<String, IdentityName>,
    /// Number of restrictions of each user, so that a concurrent change notices them.
    restrictions: HashMap<IdentityName, u64>,
    /// Users to whom a concurrent change gives something.
    changing: HashSet<IdentityName>,
}

impl Ledger {
    /// Creates a local user with a token that expires at `token_until`; only this call returns the token. An identity of an issuer
    /// that is known here because it was disabled becomes a local user and stays disabled.
    pub async fn add_user_until(
        &self,
        name: &IdentityName,
        groups: BTreeSet<GroupName>,
        token_until: Option<Timestamp>,
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
                token_until,
                disabled: known.as_ref().is_some_and(|user| user.disabled),
                created_at: known.map_or(now, |user| user.created_at),
            })),
        };
        self.change_user(name, UserChangeKind::Added, by, add).await?;
        Ok(token)
    }

    /// Issues a new token that expires at `token_until`; the old one is invalid at once, even if the new one cannot be stored, and the user's sign-ins end.
    pub async fn rotate_user_until(
        &self,
        name: &IdentityName,
        token_until: Option<Timestamp>,
        by: &str,
    ) -> Result<RotatedToken, LedgerError> {
        let (token, hash) = fresh_token()?;
        self.local_user(name)?;
        let withdraw = |mut user: StoredUser| {
            user.withdraw_token();
            user
        };
        let (_, item) = self.0.restrict_user(name, UserChangeKind::TokenWithdrawn, by, withdraw);
        self.0.users_changed.send_modify(|changes| *changes += 1);
        let mut items: Vec<_> = item.into_iter().collect();
        let of_sign_ins = self.0.end_sign_ins_of(name, by, TOKEN_REPLACED);
        let ended_sign_ins = of_sign_ins.len();
        items.extend(of_sign_ins);
        let effect = self.0.answer(&items).await;
        let wanted = name.clone();
        let rotate = move |known: Option<StoredUser>, _| {
            let user = local(known, wanted)?;
            Ok(Some(StoredUser {
                token_hash: Some(hash),
                token_until,
                ..user
            }))
        };
        let given = timeout(GIVE_TIMEOUT, self.change_user(name, UserChangeKind::Rotated, by, rotate)).await;
        let token = matches!(given, Ok(Ok(_))).then_some(token);
        Ok(RotatedToken {
            token,
            effect,
            ended_sign_ins,
        })
    }

    /// Replaces the groups of a user, and ends its sign-ins. Lost groups are gone at once; new ones take effect when that is on
    /// record.
    pub async fn regroup_user(
        &self,
        name: &IdentityName,
        groups: BTreeSet<GroupName>,
        by: &str,
    ) -> Result<UserView, LedgerError> {
        let known = self.local_user(name)?;
        let mut effect = None;
        let mut items = Vec::new();
        if known.groups != groups {
            items.extend(self.0.end_sign_ins_of(name, by, REGROUPED));
            self.0.pursue();
        }
        if !known.groups.is_subset(&groups) {
            let less = |mut user: StoredUser| {
                user.groups.retain(|group| groups.contains(group));
                user
            };
            let (now, item) = self.0.restrict_user(name, UserChangeKind::Regrouped, by, less);
            if let Some(item) = item {
                self.0.users_changed.send_modify(|changes| *changes += 1);
                items.push(item);
                effect = Some(self.0.answer(&items).await);
            }
            // Others may have changed the user while this waited.
            if effect.is_some() && now.groups == groups {
                return Ok(UserView::of(&self.local_user(name)?, effect));
            }
        }
        let wanted = name.clone();
        let regroup = move |known: Option<StoredUser>, _| {
            let user = local(known, wanted)?;
            Ok(Some(StoredUser { groups, ..user }))
        };
        let given = timeout(GIVE_TIMEOUT, self.change_user(name, UserChangeKind::Regrouped, by, regroup)).await;
        let failed = match given {
            Ok(Ok(view)) => {
                // Also where only groups were added: sign-ins have ended by that.
                if effect.is_none() && !items.is_empty() {
                    effect = Some(self.0.answer(&items).await);
                }
                return Ok(UserView { effect, ..view });
            }
            Ok(Err(error)) => error,
            Err(_) => LedgerError::Unsettled,
        };
        if effect.is_none() {
            return Err(failed);
        }
        tracing::error!(error = %failed, user = %known.name, "removed a user from groups, but could not add it to the new ones; set its groups again");
        let effect = effect.map(|effect| ChangeEffect {
            recorded: false,
            ..effect
        });
        Ok(UserView::of(&self.local_user(name)?, effect))
    }

    /// Returns a user that is a local one.
    fn local_user(&self, name: &IdentityName) -> Result<StoredUser, LedgerError> {
        local(self.0.users.lock().get(name).cloned(), name.clone())
    }

    /// Enables an identity again; its former grants do not come back. Grants that are still open (because the gate crashed or
    /// could not write while the identity was disabled) are ended first; if that fails, the identity stays disabled.
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
        self.change_user(name, UserChangeKind::Enabled, by, enable).await
    }

    /// Returns all known users, by name.
    #[must_use]
    pub fn users(&self) -> Vec<UserView> {
        self.users_page(&UserFilter::default())
    }

    /// Returns a page of the known users, by name.
    #[must_use]
    pub fn users_page(&self, filter: &UserFilter) -> Vec<UserView> {
        let part = filter.name.as_ref().map(|part| part.to_lowercase());
        let is_wanted = |name: &IdentityName| {
            part.as_ref().is_none_or(|part| name.as_str().to_lowercase().contains(part))
                && filter.identity.as_ref().is_none_or(|identity| identity == name)
        };
        let behind = filter.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let users = self.0.users.lock();
        let known = users.by_name.range::<IdentityName, _>((behind, Bound::Unbounded));
        let wanted = known
            .filter(|(name, _)| is_wanted(name))
            .take(filter.limit.unwrap_or(usize::MAX));
        wanted.map(|(_, user)| UserView::of(user, None)).collect()
    }

    /// Returns one user, if it is known.
    #[must_use]
    pub fn user(&self, name: &IdentityName) -> Option<UserView> {
        self.0.users.lock().by_name.get(name).map(|user| UserView::of(user, None))
    }

    /// Reports whether there is such a user, the identity is signed in, or it ever had a grant or a request. If the store does not
    /// answer in time, the result is true.
    pub async fn knows(&self, name: &IdentityName) -> bool {
        if self.user(name).is_some() || self.0.sign_ins.lock().of.contains_key(name) {
            return true;
        }
        let wanted = name.clone();
        let sql =
            "SELECT EXISTS (SELECT 1 FROM grants WHERE identity = ?1) OR EXISTS (SELECT 1 FROM requests WHERE identity = ?1)";
        let known =
            move |connection: &mut Connection| first(connection, sql, [wanted.as_str()], |row| Ok(row.get::<_, bool>(0)?));
        let known = timeout(STORE_TIMEOUT, self.0.store.call(known)).await;
        !matches!(known, Ok(Ok(Some(false))))
    }

    /// Returns the user whose name is most similar to an unknown one.
    #[must_use]
    pub fn nearest_user(&self, name: &IdentityName) -> Option<IdentityName> {
        let users = self.0.users.lock();
        let near = nearest(name.as_str(), users.by_name.keys().map(IdentityName::as_str))?;
        near.parse().ok()
    }

    /// Returns the identity of a token that is good; the lookup is that of [`Self::owner_of_token`].
    #[must_use]
    pub fn user_by_token(&self, token: &Secret<String>) -> Option<Identity> {
        self.owner_of_token(token).ok().map(|(identity, _)| identity)
    }

    /// Returns the identity of a token, and the time at which the token expires. The lookup compares a hash, which a caller cannot
    /// choose, so its duration reveals nothing about the token.
    pub fn owner_of_token(&self, token: &Secret<String>) -> Result<(Identity, Option<Timestamp>), UserTokenError> {
        let hash = token_hash(token);
        let now = self.0.clock.now();
        let users = self.0.users.lock();
        let user = users.by_hash.get(&hash).and_then(|name| users.by_name.get(name));
        let user = user.filter(|user| !user.disabled).ok_or(UserTokenError::NotAccepted)?;
        if let Some(at) = user.token_until.filter(|until| now >= *until) {
            let user = user.name.clone();
            return Err(UserTokenError::Expired { user, at });
        }
        Ok((Identity::local(user.name.clone(), user.groups.clone()), user.token_until))
    }

    /// Returns a counter that changes with every change of a user. A caller that caches a user's identity or rights has to
    /// check again then.
    #[must_use]
    pub fn users_changed(&self) -> watch::Receiver<u64> {
        self.0.users_changed.subscribe()
    }

    /// Reports whether an identity is disabled.
    #[must_use]
    pub fn is_disabled(&self, name: &IdentityName) -> bool {
        self.0.is_disabled(name)
    }

    /// Changes one user in the ledger's order. `change` returns the new user, or `None` if nothing changes.
    async fn change_user(
        &self,
        name: &IdentityName,
        what: UserChangeKind,
        by: &str,
        change: impl FnOnce(Option<StoredUser>, Timestamp) -> Result<Option<StoredUser>, LedgerError> + Send + 'static,
    ) -> Result<UserView, LedgerError> {
        let (ledger, name, by) = (self.clone(), name.clone(), by.to_owned());
        to_the_end(async move {
            let inner = &ledger.0;
            let concerns = |subject: &ChangeSubject| matches!(subject, ChangeSubject::User(user) if user.name == name);
            inner.pending.is_settled(concerns).await?;
            let _turn = inner.users_turn.write().await;
            let (known, seen) = {
                let users = inner.users.lock();
                (users.get(&name).cloned(), users.restrictions_of(&name))
            };
            let Some(next) = change(known.clone(), inner.clock.now())? else {
                let view = known.map(|user| UserView::of(&user, None));
                return view.ok_or(LedgerError::NoSuchUser(name));
            };
            let given = inner.give_user(&next, what, &by, seen).await;
            inner.users.lock().changing.remove(&name);
            if let Err(error) = given {
                let groups = known.iter().flat_map(|user| &user.groups);
                let undone = user_event(&name, groups, UserChangeKind::NotStored, &by);
                inner.recorder.take_back(&undone).await;
                return Err(error);
            }
            inner.users_changed.send_modify(|changes| *changes += 1);
            Ok(UserView::of(&next, None))
        })
        .await
    }
}

impl LedgerInner {
    /// Records, stores and publishes a user, unless it was restricted since `seen`. The caller has the turn.
    async fn give_user(
        self: &Arc<Self>,
        next: &StoredUser,
        what: UserChangeKind,
        by: &str,
        seen: u64,
    ) -> Result<(), LedgerError> {
        self.users.lock().changing.insert(next.name.clone());
        let event = user_event(&next.name, next.groups.iter(), what, by);
        self.recorder.record(&event).await?;
        let (inner, row) = (Arc::clone(self), next.clone());
        let store = move |connection: &mut Connection| {
            if inner.users.lock().restrictions_of(&row.name) != seen {
                return Err(StoreError::Overtaken);
            }
            together(connection, |connection| row::put_user(connection, &row))
        };
        self.store.call(store).await?;
        let mut users = self.users.lock();
        if users.restrictions_of(&next.name) != seen {
            return Err(StoreError::Overtaken.into());
        }
        users.put(next.clone());
        Ok(())
    }

    pub(super) fn is_disabled(&self, name: &IdentityName) -> bool {
        self.users.lock().get(name).is_some_and(|user| user.disabled)
    }

    /// Holds a right to create things for an identity until they are in memory. Everything made before the identity is disabled
    /// is thus found and ended when it is; after that nothing is made.
    pub(super) async fn let_in(&self, who: &IdentityName) -> Result<RwLockReadGuard<'_, ()>, LedgerError> {
        let held = self.users_turn.read().await;
        if self.is_disabled(who) {
            return Err(LedgerError::Disabled(who.clone()));
        }
        Ok(held)
    }
}

impl UserCache {
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

/// Returns the user if it is a local one: only these have a token and groups here.
fn local(known: Option<StoredUser>, name: IdentityName) -> Result<StoredUser, LedgerError> {
    known
        .filter(|user| user.token_hash.is_some())
        .ok_or(LedgerError::NoSuchUser(name))
}

fn fresh_token() -> Result<(Secret<String>, String), LedgerError> {
    let token = random_letters(TOKEN_PREFIX)?;
    let hash = token_hash(&token);
    Ok((token, hash))
}

/// Returns the SHA-256 of a token or of a sign-in's secret, in hexadecimal.
pub(super) fn token_hash(token: &Secret<String>) -> String {
    HEXLOWER.encode(&Sha256::digest(token.expose().as_bytes()))
}

/// Returns the local users of a store with their groups, for a reader other than the gate; empty if there is no store yet.
pub fn groups_of_users(path: &Path) -> Result<BTreeMap<IdentityName, BTreeSet<GroupName>>, StoreError> {
    let Some(connection) = open_existing(path, "users")? else {
        return Ok(BTreeMap::new());
    };
    let known = row::load_users(&connection)?.into_iter();
    let local = known.filter(|user| user.token_hash.is_some() && !user.disabled);
    Ok(local.map(|user| (user.name, user.groups)).collect())
}
