//! Finds what an identity has that is not over yet, however much of its past is kept.
//!
//! It does not know when something is over: whoever asks says so, and what is over never comes back.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use crate::names::IdentityName;

/// What each identity has that was not over when it was last asked for.
pub(super) struct Live<T>(HashMap<IdentityName, Vec<Arc<T>>>);

impl<T> Default for Live<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Live<T> {
    pub(super) fn add(&mut self, who: IdentityName, thing: Arc<T>) {
        self.0.entry(who).or_default().push(thing);
    }

    /// What `who` has that is alive; what is not is forgotten.
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

    /// What everybody has; some of it may be over meanwhile.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.values().flatten()
    }

    /// Forgets what is over, here and among `entries`. There it stays while somebody holds it, or watches it (`is_watched`): a second entry of it
    /// would be a second turn.
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
