//! Counters of the journal, for monitoring.
//!
//! This module decides nothing; the writer counts.

use jiff::Timestamp;

use super::chain::ChainLink;
use crate::model::ids::LogId;

/// Counters of a run and its newest checkpoint, with one writer and many readers.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) counts: StatsSnapshot,
    pub(super) signed_tip: Option<SignedTip>,
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

/// Counters since the start, at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
