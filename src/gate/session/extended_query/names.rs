//! Names of prepared statements or portals in one session, with their values.
//!
//! This module does not know when a name counts: [`Book`](super::ExtendedQueryState) does.

use std::collections::HashMap;
use std::sync::Arc;

/// Map from names to values. The unnamed one is by far the most used, and needs no hashing.
#[derive(Debug)]
pub(super) struct StatementNames<T> {
    unnamed: Option<Arc<T>>,
    named: HashMap<Box<[u8]>, Arc<T>>,
}

impl<T> Default for StatementNames<T> {
    fn default() -> Self {
        Self {
            unnamed: None,
            named: HashMap::new(),
        }
    }
}

impl<T> StatementNames<T> {
    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<T>> {
        if name.is_empty() {
            self.unnamed.as_ref()
        } else {
            self.named.get(name)
        }
    }

    pub(super) fn insert(&mut self, name: Box<[u8]>, value: Arc<T>) {
        if name.is_empty() {
            self.unnamed = Some(value);
        } else {
            self.named.insert(name, value);
        }
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        if name.is_empty() {
            self.unnamed = None;
        } else {
            self.named.remove(name);
        }
    }

    pub(super) fn clear(&mut self) {
        self.unnamed = None;
        if !self.named.is_empty() {
            self.named.clear();
        }
    }

    pub(super) fn clear_named(&mut self) {
        // This frees the capacity too: a session that had thousands once may live for hours.
        self.named = HashMap::new();
    }

    /// Returns the values that have a name.
    pub(super) fn named(&self) -> impl Iterator<Item = &Arc<T>> {
        self.named.values()
    }

    pub(super) fn len(&self) -> usize {
        self.named.len() + usize::from(self.unnamed.is_some())
    }
}
