//! Index of the things an identity has that are not over, whatever the size of its past.
//!
//! This module does not know when a thing is over: the caller's predicate decides, and a thing that is over never becomes alive
//! again.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use crate::model::names::IdentityName;

/// Things by identity that were alive at the last look.
pub(super) struct LiveIndex<T>(HashMap<IdentityName, Vec<Arc<T>>>);

impl<T> Default for LiveIndex<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> LiveIndex<T> {
    pub(super) fn add(&mut self, who: IdentityName, thing: Arc<T>) {
        self.0.entry(who).or_default().push(thing);
    }

    /// Returns the things of `who` that are alive, and forgets the others.
    pub(super) fn of(&mut self, who: &IdentityName, alive: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let Some(things) = self.0.get_mut(who) else {
            return Vec::new();
        };
        things.retain(|thing| alive(thing));
        let found = things.clone();
        if found.is_empty() {
            self.0.remove(who);
        }
        found
    }

    /// Returns the things of all identities; some may be over since.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.values().flatten()
    }

    /// Forgets things that are over, here and in `entries`. An entry stays there while it is referenced or watched
    /// (`is_watched`): a second entry of the same thing would have a second turn.
    pub(super) fn sweep<K: Eq + Hash>(
        &mut self,
        entries: &mut HashMap<K, Arc<T>>,
        alive: impl Fn(&T) -> bool,
        is_watched: impl Fn(&T) -> bool,
    ) {
        self.0.retain(|_, things| {
            things.retain(|thing| alive(thing));
            !things.is_empty()
        });
        entries.retain(|_, entry| alive(entry) || Arc::strong_count(entry) > 1 || is_watched(entry));
    }
}
