//! Portal as the gate knows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{EntryWeight, PreparedStatement};
use crate::audit::event::ParameterValue;

/// Portal: a statement with its parameters.
#[derive(Debug)]
pub(in crate::gate::session) struct Portal {
    /// Name of the statement, cut as the server does.
    pub(in crate::gate::session) name: Box<[u8]>,
    pub(in crate::gate::session) prepared: Option<Arc<PreparedStatement>>,
    pub(in crate::gate::session) uncertain: AtomicBool,
    pub(in crate::gate::session) parameters: Vec<ParameterValue<'static>>,
    /// Number of parameters, if not all are listed.
    pub(in crate::gate::session) parameter_count: Option<u32>,
    /// True if it was executed in part, and more rows are available.
    pub(in crate::gate::session) executed: AtomicBool,
    /// Number of rows that were sent from it.
    pub(in crate::gate::session) rows_sent: AtomicU64,
    /// Share of the counted memory, returned on drop.
    pub(in crate::gate::session) _weight: EntryWeight,
}

impl Portal {
    /// Counts rows that one of its Executes sent. Returns the total over all of them, if there is more than one or will be.
    pub(in crate::gate::session) fn sent(&self, rows: u64, suspended: bool) -> Option<u64> {
        let before = self.rows_sent.fetch_add(rows, Ordering::Relaxed);
        (before > 0 || suspended).then(|| before.saturating_add(rows))
    }
}
