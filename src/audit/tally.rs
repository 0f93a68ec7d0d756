//! What writing the log has cost so far: counts for whoever watches the gate.
//!
//! It decides nothing; a count that is read while another is added may be one write behind.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::chain::{Link, Tip};
use crate::ids::LogId;

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
    /// The number of the last line, counted over all runs.
    last_seq: AtomicU64,
    signed_tip: Mutex<Option<SignedTip>>,
}

/// The place in the log that the newest checkpoint of this run signs.
///
/// The ledger keeps it beside the log (`ledger::read_log_tip` reads it without a gate), so that a log that ends before it is noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedTip {
    /// The log.
    pub log: LogId,
    /// The number of the segment with the checkpoint's line.
    pub segment: u32,
    /// The number of the checkpoint's line.
    pub seq: u64,
    /// The chain after that line.
    pub link: Link,
    /// The checkpoint as its line, which proves itself by its signature.
    pub line: String,
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
    /// The number of the last line, counted over all runs.
    pub last_seq: u64,
}

impl SignedTip {
    pub(super) fn new(log: LogId, segment: u32, tip: Tip, line: String) -> Self {
        let Tip { seq, link } = tip;
        Self {
            log,
            segment,
            seq,
            link,
            line,
        }
    }
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

    /// The log reaches to this line.
    pub(super) fn reached(&self, seq: u64) {
        self.last_seq.store(seq, Ordering::Release);
    }

    /// A checkpoint was signed.
    pub(super) fn signed(&self, now: Timestamp, tip: SignedTip) {
        self.signed.store(now.as_microsecond(), Ordering::Relaxed);
        *self.signed_tip.lock().unwrap_or_else(PoisonError::into_inner) = Some(tip);
    }

    pub(super) fn signed_tip(&self) -> Option<SignedTip> {
        self.signed_tip.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn now(&self) -> Written {
        let signed = self.signed.load(Ordering::Relaxed);
        Written {
            lines: self.lines.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
            syncs: self.syncs.load(Ordering::Relaxed),
            segment: self.segment.load(Ordering::Relaxed),
            last_seq: self.last_seq.load(Ordering::Acquire),
            signed: (signed != 0).then(|| Timestamp::from_microsecond(signed).unwrap_or_default()),
        }
    }
}
