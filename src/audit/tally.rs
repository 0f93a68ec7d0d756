//! What writing the log has cost so far: counts for whoever watches the gate.
//!
//! It decides nothing; a count that is read while another is added may be one write behind.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use jiff::Timestamp;

/// Counts since the start. One writes, many read.
#[derive(Debug, Default)]
pub(super) struct Tally {
    lines: AtomicU64,
    bytes: AtomicU64,
    writes: AtomicU64,
    syncs: AtomicU64,
    segment: AtomicU64,
    /// Microseconds of gate time; 0 before the first.
    signed: AtomicI64,
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Lines, with those that frame the log.
    pub lines: u64,
    /// Their bytes.
    pub bytes: u64,
    /// System calls that wrote them.
    pub writes: u64,
    /// How many of these were synced to the disk.
    pub syncs: u64,
    /// The number of the segment being written.
    pub segment: u64,
    /// When the last checkpoint was signed, in gate time.
    pub signed: Option<Timestamp>,
}

impl Tally {
    /// A write that succeeded.
    pub(super) fn written(&self, lines: u64, bytes: u64, synced: bool) {
        let counts = [
            (&self.lines, lines),
            (&self.bytes, bytes),
            (&self.writes, 1),
            (&self.syncs, u64::from(synced)),
        ];
        for (count, more) in counts {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// A segment was begun, or gone on with.
    pub(super) fn begun(&self, segment: u32) {
        self.segment.store(segment.into(), Ordering::Relaxed);
    }

    /// A checkpoint was signed.
    pub(super) fn signed(&self, now: Timestamp) {
        self.signed.store(now.as_microsecond(), Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> Written {
        let signed = self.signed.load(Ordering::Relaxed);
        Written {
            lines: self.lines.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            syncs: self.syncs.load(Ordering::Relaxed),
            segment: self.segment.load(Ordering::Relaxed),
            signed: (signed != 0).then(|| Timestamp::from_microsecond(signed).unwrap_or_default()),
        }
    }
}
