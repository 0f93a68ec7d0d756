//! Sign-ins in memory: those that have not ended, by the hash of their secret.
//!
//! This module judges and changes none. INVARIANT: one identity has at most [`MAX_SIGN_INS`], once its excess is ended.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::model::ids::SignInId;
use crate::model::names::IdentityName;
use crate::model::sign_in::SignIn;

/// Number of sign-ins of one identity; a further one ends the oldest.
const MAX_SIGN_INS: usize = 20;
/// Shortest time between two writes of the last use.
const USE_INTERVAL: SignedDuration = SignedDuration::from_secs(60);

/// Sign-in in memory, and as the store has it.
#[derive(Debug, Clone)]
pub(super) struct StoredSignIn {
    pub(super) sign_in: SignIn,
    /// SHA-256 of the secret, in hexadecimal.
    pub(super) secret_hash: String,
    /// SHA-256 of the token of a local user when the sign-in was made.
    pub(super) token_hash: Option<String>,
    /// Last use as the store has it.
    pub(super) stored_use: Timestamp,
}

/// Sign-ins that have not ended.
#[derive(Default)]
pub(super) struct SignInCache {
    pub(super) by_hash: HashMap<String, StoredSignIn>,
    /// Hashes of the secrets of one identity, the oldest sign-in first.
    pub(super) of: BTreeMap<IdentityName, VecDeque<String>>,
    /// True if sign-ins have ended that the store may still have.
    pub(super) ended: bool,
}

impl SignInCache {
    pub(super) fn new(stored: Vec<StoredSignIn>) -> Self {
        let mut cache = Self::default();
        for stored in stored {
            // There are never more in the store than were in memory.
            let _ = cache.add(stored);
        }
        // Those of the last run.
        cache.ended = true;
        cache
    }

    /// Adds a sign-in; returns the hashes of those that are now too many.
    pub(super) fn add(&mut self, stored: StoredSignIn) -> Vec<String> {
        let of = self.of.entry(stored.sign_in.identity.clone()).or_default();
        of.push_back(stored.secret_hash.clone());
        let excess = of.len().saturating_sub(MAX_SIGN_INS);
        let excess = of.iter().take(excess).cloned().collect();
        self.by_hash.insert(stored.secret_hash.clone(), stored);
        excess
    }

    pub(super) fn remove(&mut self, hash: &str) -> Option<StoredSignIn> {
        let stored = self.by_hash.remove(hash)?;
        if let Some(of) = self.of.get_mut(&stored.sign_in.identity) {
            of.retain(|known| known != hash);
            if of.is_empty() {
                self.of.remove(&stored.sign_in.identity);
            }
        }
        self.ended = true;
        Some(stored)
    }

    pub(super) fn of(&self, name: &IdentityName) -> impl Iterator<Item = &StoredSignIn> {
        let hashes = self.of.get(name).into_iter().flatten();
        hashes.filter_map(|hash| self.by_hash.get(hash))
    }

    /// Notes a use; returns the sign-in if the store is to know of it.
    pub(super) fn note_use(&mut self, hash: &str, now: Timestamp) -> Option<SignInId> {
        let stored = self.by_hash.get_mut(hash)?;
        stored.sign_in.last_used_at = stored.sign_in.last_used_at.max(now);
        if now.duration_since(stored.stored_use) < USE_INTERVAL {
            return None;
        }
        stored.stored_use = now;
        Some(stored.sign_in.id.clone())
    }
}
