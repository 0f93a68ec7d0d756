//! Proves that a log is whole, from its files alone, or names the first thing that is wrong.
//!
//! It changes nothing, needs no gate and no network, and keeps only what decides (first lines, the last checkpoints, key changes,
//! removals) in memory, so it works on copies of any size.
//!
//! The law: when there is no flaw, every line up to [`Verdict::proven`] is one that the holder of a trusted key has signed, in its
//! place, byte by byte, and none between the first and that one is missing. Lines behind the last checkpoint fit the chain, but
//! nobody has signed them yet: they are no more than a gate leaves that dies.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::chain::{Tip, number};
use super::checkpoint::Checkpoint;
use super::kept::{CHECKPOINT, CheckpointSource};
use super::key::PublicKey;
use super::segment::{self, Segment, next_line};
use hear::{Hearing, Testimony};

mod flaw;
mod hear;
mod judge;

pub use super::kept::{Kept, NoneBeside, NotACheckpoint, Unreadable};
pub use flaw::Flaw;
pub use judge::{Held, Verdict};

/// What the log is held against.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// The key that must have signed it; without one the log's own word is taken, which proves nothing against somebody who
    /// could write all of it anew.
    pub key: Option<PublicKey>,
    /// A checkpoint that was kept elsewhere: the log must contain it.
    pub kept: Option<Kept>,
    /// The one beside the log, which it must contain, too; [`verify_folder`] finds it itself.
    pub beside: Option<Kept>,
    /// The one that the gate's ledger was told last: the log must contain it, too.
    pub ledger: Option<Kept>,
    /// Whether to trust that checkpoint for the segments before it, and not to read them again.
    pub skip: bool,
    /// Whether the log must begin with its first segment, or say that those before were removed.
    pub from_start: bool,
}

impl Expected {
    /// All that the log must contain, and where that comes from.
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

    /// Faults that the gate noted up to this line are known to whoever names a checkpoint to go on from.
    fn accepted(&self) -> u64 {
        let since = self.kept.as_ref().filter(|_| self.skip);
        since.map_or(0, |kept| kept.checkpoint.covers)
    }
}

/// Verifies the log in a folder, also against the checkpoint beside it. `progress` is told how many bytes more were read; it is
/// called from several threads. A gate may be writing there.
pub fn verify_folder(dir: &Path, expected: &Expected, progress: impl Fn(u64) + Sync) -> Result<Verdict, Unreadable> {
    // In this order: what a checkpoint covers is in the log before the checkpoint is beside it.
    let (beside, damaged) = match Kept::beside(dir) {
        Ok(beside) => (beside, false),
        Err(NoneBeside::NotACheckpoint(_)) => (None, true),
        Err(NoneBeside::Unreadable(error)) => return Err(error),
    };
    let segments = segment::list(dir).map_err(|error| Unreadable::new(dir, error))?;
    let strays = segment::strays(dir).map_err(|error| Unreadable::new(dir, error))?;
    let expected = Expected {
        beside,
        ..expected.clone()
    };
    let mut verdict = verify(&segments, &expected, progress)?;
    if damaged {
        verdict.remarks.push(format!(
            "{} is not a checkpoint, so it shows no missing lines at the end",
            dir.join(CHECKPOINT).display()
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
pub fn verify(segments: &[Segment], expected: &Expected, progress: impl Fn(u64) + Sync) -> Result<Verdict, Unreadable> {
    let trusted = expected.kept.as_ref().filter(|_| expected.skip);
    let skip = trusted.map_or(Ok(0), |kept| covered(segments, kept))?;
    let (skipped, segments) = segments.split_at_checked(skip).unwrap_or((&[], segments));
    let wanted: Vec<Tip> = expected.checkpoints().map(|(_, checkpoint)| checkpoint.tip()).collect();
    let hearing = Hearing::for_checkpoints(&wanted);
    let testimonies = Mutex::new((Vec::new(), 0));
    let next = AtomicUsize::new(0);
    // Each segment says where the chain stood before it, so they are followed side by side, and joined afterwards.
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(segment) = segments.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut testimony = hearing.hear(segment, &progress);
                    let mut all = testimonies.lock().unwrap_or_else(PoisonError::into_inner);
                    let (heard, kept) = &mut *all;
                    if let Ok(testimony) = &mut testimony {
                        testimony.fit(kept);
                    }
                    heard.push(testimony);
                }
            });
        }
    });
    let (testimonies, _) = testimonies.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut testimonies = testimonies.into_iter().collect::<Result<Vec<_>, _>>()?;
    testimonies.sort_by_key(|testimony| testimony.segment.number);
    leave_out_void(&mut testimonies, hearing)?;
    Ok(judge::judge(skipped, &testimonies, expected))
}

/// How many segments end before the checkpoint's line: all but the last that begins before it.
fn covered(segments: &[Segment], kept: &Kept) -> Result<usize, Unreadable> {
    let mut covered = 0;
    for (index, segment) in segments.iter().enumerate() {
        let mut line = Vec::new();
        let read = segment.open().and_then(|mut lines| next_line(&mut lines, &mut line));
        read.map_err(|error| Unreadable::new(&segment.path, error))?;
        if number(&line).is_none_or(|first| first > kept.checkpoint.covers) {
            break;
        }
        covered = index;
    }
    Ok(covered)
}

/// Hears those anew that have more in their files than the log: a segment after them says where it ends, in its first line, which is
/// in the chain. Nobody without the key can make a segment say so.
fn leave_out_void(heard: &mut [Testimony], hearing: Hearing<'_>) -> Result<(), Unreadable> {
    for next in (1..heard.len()).rev() {
        let (before, from) = heard.split_at_mut(next);
        let Some(last) = from.first().and_then(Testimony::voids_behind) else {
            continue;
        };
        // Where the first line of a segment could not be written, all of it is void, and more in the one before.
        for segment in before.iter_mut().rev() {
            *segment = hearing.up_to(last).hear(&segment.segment, &|_| ())?;
            if segment.lines > 0 {
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
