//! Verifies that a log is whole, from its files alone, or reports the first flaw.
//!
//! Verification changes nothing, needs no gate and no network, and keeps only the decisive lines in memory (first lines, the
//! last checkpoints, key changes, removals), so it works on copies of any size.
//!
//! INVARIANT: if there is no flaw, the holder of a trusted key has signed every line up to [`VerifyReport::proven`], in its place,
//! byte by byte, and no line between the first and that one is missing. Lines after the last checkpoint fit the chain, but are
//! not signed yet: they are no more than a gate leaves when it crashes.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::chain::{ChainTip, number};
use super::checkpoint::Checkpoint;
use super::key::PublicKey;
use super::saved_checkpoint::{CHECKPOINT_FILE, CheckpointSource};
use super::segment::{self, Segment, next_line};
use parking_lot::Mutex;
use scan::{ScanOptions, SegmentScan};

mod check;
mod flaw;
mod scan;

pub use super::saved_checkpoint::{CheckpointError, NoCheckpointError, SavedCheckpoint, UnreadableError};
pub use check::{CheckedCheckpoint, VerifyReport};
pub use flaw::LogFlaw;

/// Keys and checkpoints with which the log is compared.
#[derive(Debug, Clone, Default)]
pub struct VerifyExpectation {
    /// Key that must have signed the log; without one, the log's own key is used, which proves nothing against an attacker who
    /// could rewrite the whole log.
    pub key: Option<PublicKey>,
    /// Checkpoint that was kept elsewhere and that the log must contain.
    pub kept: Option<SavedCheckpoint>,
    /// Checkpoint beside the log, which the log must contain, too; [`verify_folder`] finds it itself.
    pub beside: Option<SavedCheckpoint>,
    /// Last checkpoint that the gate's ledger knows, which the log must contain, too.
    pub ledger: Option<SavedCheckpoint>,
    /// True to trust `kept` for the segments before it, and not to read them again.
    pub skip: bool,
    /// True to accept the gaps on record up to `kept`, which whoever has kept it knows.
    pub gaps_known: bool,
    /// True if the log must begin with its first segment, or have a record of the removal of those before.
    pub from_start: bool,
}

impl VerifyExpectation {
    /// Returns all checkpoints that the log must contain, with their origins.
    fn checkpoints(&self) -> impl Iterator<Item = (CheckpointSource, &Checkpoint)> {
        let sources = [
            (CheckpointSource::Given, &self.kept),
            (CheckpointSource::Ledger, &self.ledger),
            (CheckpointSource::Beside, &self.beside),
        ];
        sources
            .into_iter()
            .filter_map(|(source, kept)| kept.as_ref().map(|kept| (source, &kept.checkpoint)))
    }

    /// Returns the line up to which gaps on record are accepted.
    fn accepted(&self) -> u64 {
        let since = self.kept.as_ref().filter(|_| self.gaps_known);
        since.map_or(0, |kept| kept.checkpoint.covers)
    }
}

/// Verifies the log in a folder, also against the checkpoint beside it. `progress` gets the number of further bytes read; it is
/// called from several threads. A gate may be writing to the folder.
pub fn verify_folder(
    dir: &Path,
    expected: &VerifyExpectation,
    progress: impl Fn(u64) + Sync,
) -> Result<VerifyReport, UnreadableError> {
    // The order matters: a line that a checkpoint covers is in the log before the checkpoint is beside it.
    let (beside, damaged) = match SavedCheckpoint::beside(dir) {
        Ok(beside) => (beside, false),
        Err(NoCheckpointError::NotACheckpoint(_)) => (None, true),
        Err(NoCheckpointError::Unreadable(error)) => return Err(error),
    };
    let segments = segment::list(dir).map_err(|error| UnreadableError::new(dir, error))?;
    let strays = segment::strays(dir).map_err(|error| UnreadableError::new(dir, error))?;
    let expected = VerifyExpectation {
        beside,
        ..expected.clone()
    };
    let mut verdict = verify(&segments, &expected, progress)?;
    if damaged {
        verdict.remarks.push(format!(
            "{} is not a checkpoint, so it shows no missing lines at the end",
            dir.join(CHECKPOINT_FILE).display()
        ));
    }
    verdict.remarks.extend(strays.iter().map(|stray| {
        format!(
            "{} is not a segment (a gate gives no file that name) and was not read",
            stray.display()
        )
    }));
    Ok(verdict)
}

/// Verifies these segments, which must be in the order of their numbers.
pub fn verify(
    segments: &[Segment],
    expected: &VerifyExpectation,
    progress: impl Fn(u64) + Sync,
) -> Result<VerifyReport, UnreadableError> {
    let trusted = expected.kept.as_ref().filter(|_| expected.skip);
    let skip = trusted.map_or(Ok(0), |kept| covered(segments, kept))?;
    let (skipped, segments) = segments.split_at_checked(skip).unwrap_or((&[], segments));
    let wanted: Vec<ChainTip> = expected.checkpoints().map(|(_, checkpoint)| checkpoint.tip()).collect();
    let options = ScanOptions::for_checkpoints(&wanted);
    let testimonies = Mutex::new((Vec::new(), 0));
    let next = AtomicUsize::new(0);
    // Each segment has the state of the chain before it, so segments are followed in parallel and joined afterwards.
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(segment) = segments.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut scan = options.scan(segment, &progress);
                    let mut all = testimonies.lock();
                    let (heard, kept) = &mut *all;
                    if let Ok(scan) = &mut scan {
                        scan.fit(kept);
                    }
                    heard.push(scan);
                }
            });
        }
    });
    let (testimonies, _) = testimonies.into_inner();
    let mut testimonies = testimonies.into_iter().collect::<Result<Vec<_>, _>>()?;
    testimonies.sort_by_key(|scan| scan.segment.number);
    leave_out_void(&mut testimonies, options)?;
    Ok(check::check(skipped, &testimonies, expected))
}

/// Returns the number of segments that end before the checkpoint's line: all before the last one that begins before it.
fn covered(segments: &[Segment], kept: &SavedCheckpoint) -> Result<usize, UnreadableError> {
    let mut covered = 0;
    for (index, segment) in segments.iter().enumerate() {
        let mut line = Vec::new();
        let read = segment.open().and_then(|mut lines| next_line(&mut lines, &mut line));
        read.map_err(|error| UnreadableError::new(&segment.path, error))?;
        if number(&line).is_none_or(|first| first > kept.checkpoint.covers) {
            break;
        }
        covered = index;
    }
    Ok(covered)
}

/// Scans those segments again whose files have more than the log: the first line of a later segment, which is in the chain,
/// says where they end. An attacker without the key cannot make a segment say so.
fn leave_out_void(heard: &mut [SegmentScan], options: ScanOptions<'_>) -> Result<(), UnreadableError> {
    for next in (1..heard.len()).rev() {
        let (before, from) = heard.split_at_mut(next);
        let Some(last) = from.first().and_then(SegmentScan::voids_behind) else {
            continue;
        };
        // If the first line of a segment could not be written, the whole segment is void, and so is the end of the one before.
        for segment in before.iter_mut().rev() {
            *segment = options.up_to(last).scan(&segment.segment, &|_| ())?;
            if segment.lines > 0 {
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
