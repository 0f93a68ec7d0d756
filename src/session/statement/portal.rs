//! A portal as the gate knows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Prepared, Weight};
use crate::audit::event::Parameter;

/// A portal: a statement with its parameters.
#[derive(Debug)]
pub(in crate::session) struct Portal {
    /// The name of the statement, as far as the server tells names apart; its text where the gate has seen it.
    pub(in crate::session) name: Box<[u8]>,
    pub(in crate::session) prepared: Option<Arc<Prepared>>,
    pub(in crate::session) uncertain: AtomicBool,
    pub(in crate::session) parameters: Vec<Parameter<'static>>,
    /// Set when not all parameters are listed.
    pub(in crate::session) parameter_count: Option<u32>,
    /// Executed in part: more rows are to be had.
    pub(in crate::session) executed: AtomicBool,
    /// Rows that were sent of it.
    pub(in crate::session) rows_sent: AtomicU64,
    /// Held for its count alone.
    pub(in crate::session) _weight: Weight,
}

impl Portal {
    /// Counts rows that an Execute of it sent; returns how many all of them sent, where there is more than one or will be.
    pub(in crate::session) fn sent(&self, rows: u64, suspended: bool) -> Option<u64> {
        let before = self.rows_sent.fetch_add(rows, Ordering::Relaxed);
        (before > 0 || suspended).then(|| before.saturating_add(rows))
    }
}
