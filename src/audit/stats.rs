//! Counters of the journal, for monitoring.
//!
//! This module decides nothing; a counter that is read during an update may be one write behind.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::chain::{ChainLink, ChainTip};
use crate::model::ids::LogId;

/// Counters since the start, with one writer and many readers.
#[derive(Debug, Default)]
pub(super) struct Stats {
    lines: AtomicU64,
    bytes: AtomicU64,
    writes: AtomicU64,
    syncs: AtomicU64,
    segment: AtomicU64,
    /// Time of the last signature, in microseconds of gate time; 0 before the first.
    signed: AtomicI64,
    /// Number of the last line, counted over all runs.
    last_seq: AtomicU64,
    signed_tip: Mutex<Option<SignedTip>>,
}

/// Position of the newest checkpoint of this run in the log.
///
/// The ledger keeps it, apart from the log (`ledger::read_log_tip` reads it without a gate), so that a log that ends before it
/// is noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedTip {
    /// Id of the log.
    pub log: LogId,
    /// Number of the segment with the checkpoint's line.
    pub segment: u32,
    /// Number of the checkpoint's line.
    pub seq: u64,
    /// Link after that line.
    pub link: ChainLink,
    /// Line of the checkpoint, which its signature proves.
    pub line: String,
}

/// Values of the counters at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Number of lines, with those about the log itself.
    pub lines: u64,
    /// Number of bytes of these lines.
    pub bytes: u64,
    /// Number of system calls that wrote them.
    pub writes: u64,
    /// Number of those that were synced to the disk.
    pub syncs: u64,
    /// Number of the segment that is being written.
    pub segment: u64,
    /// Time of the last checkpoint, in gate time.
    pub signed: Option<Timestamp>,
    /// Number of the last line, counted over all runs.
    pub last_seq: u64,
}

impl SignedTip {
    pub(super) fn new(log: LogId, segment: u32, tip: ChainTip, line: String) -> Self {
        let ChainTip { seq, link } = tip;
        Self {
            log,
            segment,
            seq,
            link,
            line,
        }
    }
}

impl Stats {
    /// Counts a write that succeeded.
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

    /// Notes the segment that is begun or continued.
    pub(super) fn begun(&self, segment: u32) {
        self.segment.store(segment.into(), Ordering::Relaxed);
    }

    /// Notes the last line of the log.
    pub(super) fn reached(&self, seq: u64) {
        self.last_seq.store(seq, Ordering::Release);
    }

    /// Notes a checkpoint.
    pub(super) fn signed(&self, now: Timestamp, tip: SignedTip) {
        self.signed.store(now.as_microsecond(), Ordering::Relaxed);
        *self.signed_tip.lock() = Some(tip);
    }

    pub(super) fn signed_tip(&self) -> Option<SignedTip> {
        self.signed_tip.lock().clone()
    }

    pub(super) fn now(&self) -> StatsSnapshot {
        let signed = self.signed.load(Ordering::Relaxed);
        StatsSnapshot {
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
