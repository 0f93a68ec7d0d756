//! Count of the restrictions of one object, by which a concurrent change that gives rights notices them.
//!
//! It restricts nothing: [`mod@super::restrict`] does.

use std::sync::atomic::{AtomicU64, Ordering};

/// Number of restrictions of one object, so that a concurrent change notices them.
#[derive(Debug, Default)]
pub(super) struct RestrictionCount(AtomicU64);

impl RestrictionCount {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}
