//! Metrics of the audit log.

use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::registry::Registry;

use super::{Counters, Metrics};
use crate::audit::StatsSnapshot;

impl Metrics {
    /// Sets the counters of the audit log, and whether a part of it is missing. `since_checkpoint` is the time since the last
    /// checkpoint was signed; none is due while nothing is written.
    pub fn log(&self, log: StatsSnapshot, gap: bool, since_checkpoint: Duration) {
        let counts = [
            (&self.0.audit_lines, log.lines),
            (&self.0.audit_bytes, log.bytes),
            (&self.0.audit_writes, log.writes),
            (&self.0.audit_syncs, log.syncs),
        ];
        for (counter, count) in counts {
            counter.inner().store(count, Ordering::Relaxed);
        }
        self.0.audit_segment.set(i64::try_from(log.segment).unwrap_or(i64::MAX));
        self.0.audit_gap.set(i64::from(gap));
        self.0.audit_unsigned.set(since_checkpoint.as_secs_f64());
    }
}

impl Counters {
    pub(super) fn register_log(&self, registry: &mut Registry) {
        registry.register(
            "audit_writable",
            "1 while the audit log can be written",
            self.audit_good.clone(),
        );
        registry.register("audit_lines", "Lines written to the audit log", self.audit_lines.clone());
        registry.register("audit_bytes", "Bytes written to the audit log", self.audit_bytes.clone());
        registry.register("audit_writes", "Writes of the audit log", self.audit_writes.clone());
        registry.register(
            "audit_syncs",
            "Writes of the audit log that were synced",
            self.audit_syncs.clone(),
        );
        registry.register(
            "audit_segment",
            "The number of the segment being written",
            self.audit_segment.clone(),
        );
        registry.register(
            "audit_gap",
            "1 where this start found that the audit log is shorter than, or another than, the ledger knows it",
            self.audit_gap.clone(),
        );
        registry.register(
            "audit_checkpoint_age_seconds",
            "Since the last checkpoint was signed; none is due while nothing is written",
            self.audit_unsigned.clone(),
        );
    }
}
