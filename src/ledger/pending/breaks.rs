//! Panics on the way of a change to store and log, where a test wants them.

use std::sync::atomic::{AtomicBool, Ordering};

/// The panics that a test wants.
#[derive(Default)]
pub(in crate::ledger) struct TestPanics {
    pub(in crate::ledger) store: AtomicBool,
    pub(in crate::ledger) log: AtomicBool,
}

impl TestPanics {
    pub(super) fn break_store(&self) {
        assert!(!self.store.swap(false, Ordering::SeqCst), "as a test wants it");
    }

    pub(super) fn break_log(&self) {
        assert!(!self.log.swap(false, Ordering::SeqCst), "as a test wants it");
    }
}
