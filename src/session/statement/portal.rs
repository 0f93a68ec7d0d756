//! Portal as the gate knows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{EntryWeight, PreparedStatement};
use crate::audit::event::ParameterValue;

/// Portal: a statement with its parameters.
#[derive(Debug)]
pub(in crate::session) struct Portal {
    /// Name of the statement, cut as the server does.
    pub(in crate::session) name: Box<[u8]>,
    pub(in crate::session) prepared: Option<Arc<PreparedStatement>>,
    pub(in crate::session) uncertain: AtomicBool,
    pub(in crate::session) parameters: Vec<ParameterValue<'static>>,
    /// Number of parameters, if not all are listed.
    pub(in crate::session) parameter_count: Option<u32>,
    /// True if it was executed in part, and more rows are available.
    pub(in crate::session) executed: AtomicBool,
    /// Number of rows that were sent from it.
    pub(in crate::session) rows_sent: AtomicU64,
    /// Share of the counted memory, returned on drop.
    pub(in crate::session) _weight: EntryWeight,
}

impl Portal {
    /// Counts rows that one of its Executes sent. Returns the total over all of them, if there is more than one or will be.
    pub(in crate::session) fn sent(&self, rows: u64, suspended: bool) -> Option<u64> {
        let before = self.rows_sent.fetch_add(rows, Ordering::Relaxed);
        (before > 0 || suspended).then(|| before.saturating_add(rows))
    }
}
