//! Sign-ins of people: made with a proof of the identity, used by their secret, ended by their owner, an operator or the gate.
//!
//! This module proves no identity and knows no policy. A sign-in is on record before it is stored, and stored before its secret is
//! given out; its end takes effect at once, and store and log follow ([`super::pending`]).
//!
//! INVARIANT: a secret is in here as its SHA-256 only. A sign-in of a local user is good for nothing once the user is disabled or
//! has another token, whatever becomes of the record of its end.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::time::timeout;

use super::commit::{random_text, to_the_end};
use super::pending::{ChangeSubject, PendingChange};
use super::record::sign_in_event;
use super::sign_in_cache::StoredSignIn;
use super::users::{DISABLED_BY, token_hash};
use super::views::SignInView;
use super::{Ledger, LedgerError, LedgerInner, StoreError, row};
use crate::audit::event::SignInChangeKind;
use crate::base::secret::Secret;
use crate::identity::{Identity, IdentitySource};
use crate::model::ids::SignInId;
use crate::model::names::IdentityName;
use crate::model::sign_in::{SignIn, SignInEnd, SignInLimits, SignInRefusal, SignInVia};

/// Prefix of the secrets of sign-ins.
pub const SIGN_IN_PREFIX: &str = "ts_";
/// Number of characters of a secret after the prefix: 52 × 5 = 260 random bits.
const SECRET_LETTERS: usize = 52;
/// Longest time that a call waits for the last use to be stored.
const USE_TIMEOUT: Duration = Duration::from_secs(1);

const SIGNED_OUT: &str = "signed out";
const ENDED: &str = "ended by an operator";
const TOO_MANY: &str = "the identity has signed in too often since";
const NOT_USED: &str = "not used for too long, or older than console.max_sign_in";
const CHANGED_MEANWHILE: &str = "the identity changed during the sign-in";

/// Sign-in to be made.
#[derive(Debug, Clone)]
pub struct NewSignIn {
    /// Proved identity.
    pub identity: Identity,
    /// Place of the sign-in.
    pub via: SignInVia,
    /// Address of the client.
    pub client: Option<IpAddr>,
    /// Time at which the person has proved who they are.
    pub proved_at: Timestamp,
    /// Latest end.
    pub expires_at: Timestamp,
}

/// Identity that a sign-in stands for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// Id of the sign-in.
    pub id: SignInId,
    /// Identity: a local user with its present groups, an issuer's as it was proved.
    pub identity: Identity,
    /// Place of the sign-in.
    pub via: SignInVia,
    /// Time of the sign-in.
    pub created_at: Timestamp,
    /// Latest end.
    pub until: Timestamp,
}

impl Ledger {
    /// Makes a sign-in; only this call returns the secret. `holds` tells whether the proof of the identity is still good once the
    /// sign-in is in effect; otherwise it is ended again.
    pub async fn sign_in(
        &self,
        new: NewSignIn,
        holds: impl Fn() -> bool + Send + 'static,
    ) -> Result<(SignInView, Secret<String>), LedgerError> {
        let ledger = self.clone();
        to_the_end(async move {
            let inner = &ledger.0;
            let name = new.identity.name.clone();
            let concerns = |subject: &ChangeSubject| matches!(subject, ChangeSubject::User(user) if user.name == name);
            inner.pending.is_settled(concerns).await?;
            let _let_in = inner.let_in(&name).await?;
            let secret = random_text::<SECRET_LETTERS>(SIGN_IN_PREFIX)?;
            let stored = inner.fresh_sign_in(new, &secret)?;
            let made = sign_in_event(&stored.sign_in, SignInChangeKind::SignedIn, name.as_str(), None);
            let undone = sign_in_event(&stored.sign_in, SignInChangeKind::NotStored, name.as_str(), None);
            let row = stored.clone();
            let store = move |connection: &Connection| row::sign_ins::insert(connection, &row);
            inner.commit(&[made], || vec![undone], store).await?;
            let view = SignInView::of(&stored.sign_in, None);
            let hash = stored.secret_hash.clone();
            let excess = inner.sign_ins.lock().add(stored);
            for hash in excess {
                inner.end_sign_in(&hash, SignInChangeKind::Ended, DISABLED_BY, TOO_MANY);
            }
            if !holds() {
                inner.end_sign_in(&hash, SignInChangeKind::Ended, DISABLED_BY, CHANGED_MEANWHILE);
                inner.pursue();
                return Err(StoreError::Overtaken.into());
            }
            inner.pursue();
            Ok((view, secret))
        })
        .await
    }

    /// Returns the identity that the bearer of a sign-in's secret stands for, and counts that as a use.
    pub async fn use_sign_in(
        &self,
        secret: &Secret<String>,
        client: Option<IpAddr>,
        limits: &SignInLimits,
    ) -> Result<SignedIn, SignInRefusal> {
        let found = self.signed_in(secret, client, limits)?;
        let now = self.0.clock.now();
        let to_store = self.0.sign_ins.lock().note_use(&token_hash(secret), now);
        if let Some(id) = to_store {
            let note = move |connection: &mut Connection| row::sign_ins::note_use(connection, &id, now);
            // A use that is not noted makes the sign-in idle earlier after a restart, no more.
            let _ = timeout(USE_TIMEOUT, self.0.store.write(note)).await;
        }
        Ok(found)
    }

    /// Returns the identity that the bearer of a sign-in's secret stands for, without counting that as a use.
    pub fn signed_in(
        &self,
        secret: &Secret<String>,
        client: Option<IpAddr>,
        limits: &SignInLimits,
    ) -> Result<SignedIn, SignInRefusal> {
        let hash = token_hash(secret);
        let stored = self.0.sign_ins.lock().by_hash.get(&hash).cloned();
        self.stands_for(stored.ok_or(SignInRefusal::Unknown)?, client, limits)
    }

    /// Returns the identity of the newest sign-in under a name that is good, from whatever address, without counting that as a use.
    #[must_use]
    pub fn newest_sign_in(&self, name: &IdentityName, limits: &SignInLimits) -> Option<SignedIn> {
        let found: Vec<StoredSignIn> = self.0.sign_ins.lock().of(name).cloned().collect();
        let good = found.into_iter().filter_map(|stored| {
            let client = stored.sign_in.client;
            self.stands_for(stored, client, limits).ok()
        });
        good.max_by_key(|signed_in| signed_in.created_at)
    }

    /// Returns the identity that a sign-in stands for, if it is good for a call from `client`.
    fn stands_for(&self, stored: StoredSignIn, client: Option<IpAddr>, limits: &SignInLimits) -> Result<SignedIn, SignInRefusal> {
        let StoredSignIn { sign_in, token_hash, .. } = stored;
        sign_in.check(self.0.clock.now(), client, limits)?;
        let user = self.0.users.lock().get(&sign_in.identity).cloned();
        let identity = match (&sign_in.issuer, user) {
            (None, Some(user)) if !user.disabled && user.token_hash.is_some() && user.token_hash == token_hash => {
                Identity::local(user.name, user.groups)
            }
            // A local user of that name would be another identity.
            (Some(issuer), user) if user.as_ref().is_none_or(|user| !user.disabled && user.token_hash.is_none()) => Identity {
                source: IdentitySource::Issuer(issuer.clone()),
                claims: sign_in.claims.clone(),
                ..Identity::local(sign_in.identity.clone(), sign_in.groups.clone())
            },
            _ => return Err(SignInRefusal::Identity),
        };
        Ok(SignedIn {
            identity,
            via: sign_in.via,
            created_at: sign_in.created_at,
            until: sign_in.until(limits),
            id: sign_in.id,
        })
    }

    /// Returns the sign-ins that have not ended, the newest first: those of one identity, or all.
    #[must_use]
    pub fn sign_ins(&self, of: Option<&IdentityName>, limits: &SignInLimits) -> Vec<SignInView> {
        let now = self.0.clock.now();
        let sign_ins = self.0.sign_ins.lock();
        let live = |stored: &&StoredSignIn| {
            let sign_in = &stored.sign_in;
            now < sign_in.until(limits) && now < sign_in.idle_until(limits)
        };
        let mut found: Vec<SignInView> = match of {
            Some(name) => sign_ins
                .of(name)
                .filter(live)
                .map(|stored| SignInView::of(&stored.sign_in, None))
                .collect(),
            None => sign_ins
                .by_hash
                .values()
                .filter(live)
                .map(|stored| SignInView::of(&stored.sign_in, None))
                .collect(),
        };
        drop(sign_ins);
        found.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        found
    }

    /// Returns the identity of a sign-in that has not ended.
    #[must_use]
    pub fn identity_of_sign_in(&self, id: &SignInId) -> Option<IdentityName> {
        let sign_ins = self.0.sign_ins.lock();
        let found = sign_ins.by_hash.values().find(|stored| stored.sign_in.id == *id);
        found.map(|stored| stored.sign_in.identity.clone())
    }

    /// Ends a sign-in at once, on behalf of its owner (`own`) or of an operator. Returns `None` if it has ended already.
    pub async fn end_sign_in(&self, id: &SignInId, by: &str, own: bool) -> Option<SignInView> {
        let found = {
            let sign_ins = self.0.sign_ins.lock();
            let found = sign_ins.by_hash.values().find(|stored| stored.sign_in.id == *id);
            found.map(|stored| (stored.secret_hash.clone(), stored.sign_in.clone()))
        };
        let (hash, sign_in) = found?;
        let (kind, reason) = if own {
            (SignInChangeKind::SignedOut, SIGNED_OUT)
        } else {
            (SignInChangeKind::Ended, ENDED)
        };
        let item = self.0.end_sign_in(&hash, kind, by, reason)?;
        let effect = self.0.answer(&[item]).await;
        Some(SignInView::of(&sign_in, Some(effect)))
    }

    /// Ends the sign-ins that were not used for too long, and forgets those that are over. The app calls it every few seconds.
    pub async fn forget_sign_ins(&self, limits: &SignInLimits) -> Result<(), LedgerError> {
        let now = self.0.clock.now();
        let (early, over) = {
            let sign_ins = self.0.sign_ins.lock();
            let of = |is: &dyn Fn(&SignIn) -> bool| {
                let found = sign_ins.by_hash.values().filter(|stored| is(&stored.sign_in));
                found.map(|stored| stored.secret_hash.clone()).collect::<Vec<_>>()
            };
            let is_over = |sign_in: &SignIn| now >= sign_in.expires_at;
            // By a setting, which may be another after a restart.
            let is_early = |sign_in: &SignIn| now >= sign_in.until(limits) || now >= sign_in.idle_until(limits);
            (of(&|sign_in: &SignIn| !is_over(sign_in) && is_early(sign_in)), of(&is_over))
        };
        for hash in &early {
            self.0.end_sign_in(hash, SignInChangeKind::Ended, DISABLED_BY, NOT_USED);
        }
        if early.is_empty() && over.is_empty() && !self.0.sign_ins_to_forget() {
            return Ok(());
        }
        {
            let mut sign_ins = self.0.sign_ins.lock();
            for hash in &over {
                sign_ins.remove(hash);
            }
        }
        self.0.pursue();
        self.0.users_changed.send_modify(|changes| *changes += 1);
        let forget = move |connection: &mut Connection| row::sign_ins::forget(connection, now);
        Ok(self.0.store.write(forget).await?)
    }
}

impl LedgerInner {
    fn fresh_sign_in(&self, new: NewSignIn, secret: &Secret<String>) -> Result<StoredSignIn, LedgerError> {
        let now = self.clock.now();
        let mut random = [0; 10];
        getrandom::fill(&mut random)?;
        let Identity {
            name,
            groups,
            source,
            claims,
        } = new.identity;
        let (issuer, of_token) = match source {
            IdentitySource::Local => {
                let user = self.users.lock().get(&name).cloned();
                let of_token = user.and_then(|user| user.token_hash);
                (None, Some(of_token.ok_or_else(|| LedgerError::NoSuchUser(name.clone()))?))
            }
            IdentitySource::Issuer(issuer) => (Some(issuer), None),
        };
        Ok(StoredSignIn {
            secret_hash: token_hash(secret),
            token_hash: of_token,
            stored_use: now,
            sign_in: SignIn {
                id: SignInId::from_random(random),
                identity: name,
                groups,
                claims,
                issuer,
                via: new.via,
                client: new.client,
                created_at: new.proved_at,
                last_used_at: now,
                expires_at: new.expires_at,
                ended: None,
            },
        })
    }

    /// Ends a sign-in in memory, and queues that for store and log. Returns `None` if it has ended already.
    fn end_sign_in(&self, hash: &str, kind: SignInChangeKind, by: &str, reason: &str) -> Option<Arc<PendingChange>> {
        let moment = self.clock.moment();
        let mut sign_ins = self.sign_ins.lock();
        let mut sign_in = sign_ins.remove(hash)?.sign_in;
        let event = sign_in_event(&sign_in, kind, by, Some(reason));
        sign_in.ended = Some(SignInEnd {
            at: moment.time,
            by: by.to_owned(),
            reason: reason.to_owned(),
        });
        let item = self.queue_pending(ChangeSubject::SignIn(Box::new(sign_in)), event, moment.instant);
        drop(sign_ins);
        self.users_changed.send_modify(|changes| *changes += 1);
        Some(item)
    }

    /// Ends the sign-ins of an identity.
    pub(super) fn end_sign_ins_of(&self, who: &IdentityName, by: &str, why: &str) -> Vec<Arc<PendingChange>> {
        let hashes: Vec<String> = self.sign_ins.lock().of.get(who).into_iter().flatten().cloned().collect();
        let ended = hashes.iter();
        ended
            .filter_map(|hash| self.end_sign_in(hash, SignInChangeKind::Ended, by, why))
            .collect()
    }

    /// Returns the identities that have signed in.
    pub(super) fn signed_in_identities(&self) -> BTreeSet<IdentityName> {
        self.sign_ins.lock().of.keys().cloned().collect()
    }

    /// Reports whether sign-ins have ended since the last time it was asked.
    fn sign_ins_to_forget(&self) -> bool {
        std::mem::take(&mut self.sign_ins.lock().ended)
    }
}
