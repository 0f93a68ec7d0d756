//! Proves that a log is whole, from its files alone, or names the first thing that is wrong.
//!
//! It changes nothing, needs no gate and no network, and keeps only what frames the log (first lines, checkpoints, key changes,
//! removals) in memory, so it works on copies of any size.
//!
//! The law: when there is no flaw, every line up to [`Verdict::proven`] is one that the holder of a trusted key has signed, in its
//! place, byte by byte, and none between the first and that one is missing. Lines behind the last checkpoint fit the chain, but
//! nobody has signed them yet.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use jiff::Timestamp;

use super::chain::{Breach, Tip, number};
use super::checkpoint::Checkpoint;
use super::event::{Event, JournalHealed, KeyChanged, SegmentBegan, SegmentsRemoved};
use super::key::PublicKey;
use super::record::{Record, name_of};
use super::segment::{self, Segment};
use super::survey::CHECKPOINT;
use crate::ids::LogId;

mod flaw;
mod judge;

pub use flaw::Flaw;
pub use judge::Verdict;

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
    /// Whether to trust that checkpoint for the segments before it, and not to read them again.
    pub skip: bool,
    /// Whether the log must begin with its first segment, or say that those before were removed.
    pub from_start: bool,
}

impl Expected {
    /// All that the log must contain.
    fn checkpoints(&self) -> impl Iterator<Item = &Checkpoint> {
        self.kept.iter().chain(&self.beside).map(|kept| &kept.checkpoint)
    }
}

/// A checkpoint as it was printed, sent or put beside the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What was signed.
    pub checkpoint: Checkpoint,
    /// When.
    pub time: Timestamp,
    /// The line as it was written.
    pub line: String,
}

/// A text that is not a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a checkpoint: expected the line that `tidegate audit checkpoint` prints")]
pub struct NotACheckpoint;

impl Kept {
    /// Reads the line of a checkpoint, and checks that it was signed with the key it names.
    pub fn parse(text: &[u8]) -> Result<Self, NotACheckpoint> {
        let line = str::from_utf8(text.trim_ascii()).map_err(|_| NotACheckpoint)?;
        match Record::parse(line.as_bytes()).map_err(|_| NotACheckpoint)? {
            Record {
                time,
                event: Event::Checkpoint(checkpoint),
                ..
            } if checkpoint.is_genuine(time) => Ok(Self {
                checkpoint: checkpoint.into_owned(),
                time,
                line: line.to_owned(),
            }),
            _ => Err(NotACheckpoint),
        }
    }

    /// The one that the gate left beside the log in this folder, if there is one.
    pub fn beside(dir: &Path) -> Result<Option<Self>, NotACheckpoint> {
        match std::fs::read(dir.join(CHECKPOINT)) {
            Ok(text) => Self::parse(&text).map(Some),
            Err(_) => Ok(None),
        }
    }
}

/// What could not be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{} cannot be read: {source}", path.display())]
pub struct Unreadable {
    /// The folder or file.
    pub path: PathBuf,
    /// The operating system's reason.
    pub source: Arc<io::Error>,
}

impl Unreadable {
    fn new(path: &Path, error: io::Error) -> Self {
        Self {
            path: path.to_owned(),
            source: Arc::new(error),
        }
    }
}

/// What a segment has to say.
#[derive(Debug)]
struct Testimony {
    segment: Segment,
    began: Option<SegmentBegan>,
    /// The chain before its first line and after its last good one.
    start: Tip,
    end: Tip,
    lines: u64,
    bytes: u64,
    frames: Vec<Frame>,
    flaw: Option<Flaw>,
    /// Bytes behind the last whole line.
    unfinished: u64,
    /// Bytes that the segment after it says are no part of the log.
    void: u64,
}

/// A line that says something about the log itself.
#[derive(Debug)]
struct Frame {
    seq: u64,
    line: u64,
    time: Timestamp,
    what: What,
}

#[derive(Debug)]
enum What {
    Checkpoint(Checkpoint),
    KeyChanged(KeyChanged),
    Removed(SegmentsRemoved),
    Healed(JournalHealed),
}

/// Verifies the log in a folder, also against the checkpoint beside it. `progress` is told how many bytes more were read; it is
/// called from several threads. A gate may be writing there.
pub fn verify_folder(dir: &Path, expected: &Expected, progress: impl Fn(u64) + Sync) -> Result<Verdict, Unreadable> {
    // In this order: what a checkpoint covers is in the log before the checkpoint is beside it.
    let beside = Kept::beside(dir);
    let segments = segment::list(dir).map_err(|error| Unreadable::new(dir, error))?;
    let damaged = beside.is_err();
    let expected = Expected {
        beside: beside.ok().flatten(),
        ..expected.clone()
    };
    let mut verdict = verify(&segments, &expected, progress)?;
    if damaged {
        verdict.remarks.push(format!(
            "{} is not a checkpoint: what is missing at the end cannot be told from it",
            dir.join(CHECKPOINT).display()
        ));
    }
    Ok(verdict)
}

/// Verifies these segments, which must be in the order of their numbers.
pub fn verify(segments: &[Segment], expected: &Expected, progress: impl Fn(u64) + Sync) -> Result<Verdict, Unreadable> {
    let trusted = expected.kept.as_ref().filter(|_| expected.skip);
    let skip = trusted.map_or(Ok(0), |kept| covered(segments, kept))?;
    let segments = segments.get(skip..).unwrap_or_default();
    let testimonies = Mutex::new(Vec::new());
    let (next, failed) = (AtomicUsize::new(0), AtomicU64::new(0));
    // Each segment says where the chain stood before it, so they are followed side by side, and joined afterwards.
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(segment) = segments.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let testimony = hear(segment, u64::MAX, &progress);
                    failed.fetch_add(u64::from(testimony.is_err()), Ordering::Relaxed);
                    testimonies.lock().unwrap_or_else(PoisonError::into_inner).push(testimony);
                }
            });
        }
    });
    let testimonies = testimonies.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut testimonies = testimonies.into_iter().collect::<Result<Vec<_>, _>>()?;
    testimonies.sort_by_key(|testimony| testimony.segment.number);
    leave_out_void(&mut testimonies)?;
    Ok(judge::judge(&testimonies, expected))
}

/// How many segments end before the checkpoint's line: all but the last that begins before it.
fn covered(segments: &[Segment], kept: &Kept) -> Result<usize, Unreadable> {
    let mut covered = 0;
    for (index, segment) in segments.iter().enumerate() {
        let mut line = Vec::new();
        let mut lines = segment.open().map_err(|error| Unreadable::new(&segment.path, error))?;
        lines
            .read_until(b'\n', &mut line)
            .map_err(|error| Unreadable::new(&segment.path, error))?;
        if number(&line).is_none_or(|first| first > kept.checkpoint.covers) {
            break;
        }
        covered = index;
    }
    Ok(covered)
}

/// Hears those anew that have more in their files than the log: a segment after them says where it ends, in its first line, which is
/// in the chain. Nobody without the key can make a segment say so.
fn leave_out_void(heard: &mut [Testimony]) -> Result<(), Unreadable> {
    for next in (1..heard.len()).rev() {
        let (before, from) = heard.split_at_mut(next);
        let Some(last) = from.first().and_then(Testimony::voids_behind) else {
            continue;
        };
        // Where the first line of a segment could not be written, all of it is void, and more in the one before.
        for segment in before.iter_mut().rev() {
            *segment = hear(&segment.segment, last, &|_| ())?;
            if segment.lines > 0 {
                break;
            }
        }
    }
    Ok(())
}

/// Follows the chain through one segment, up to its first flaw, or to the last line that it has of the log.
fn hear(segment: &Segment, last: u64, progress: &impl Fn(u64)) -> Result<Testimony, Unreadable> {
    let unreadable = |error| Unreadable::new(&segment.path, error);
    let mut heard = Testimony {
        segment: segment.clone(),
        began: None,
        start: Tip::START,
        end: Tip::START,
        lines: 0,
        bytes: 0,
        frames: Vec::new(),
        flaw: None,
        unfinished: 0,
        void: 0,
    };
    let mut lines = segment.open().map_err(unreadable)?;
    let mut line = Vec::new();
    let mut told = 0;
    loop {
        line.clear();
        let read = match lines.read_until(b'\n', &mut line) {
            // A packed segment that is damaged or cut is a flaw of the log, not of reading.
            Err(_) if segment.packed => {
                heard.flaw = Some(Flaw::Damaged {
                    file: segment.path.clone(),
                    after: heard.lines,
                });
                break;
            }
            answer => answer.map_err(unreadable)? as u64,
        };
        if heard.is_void_behind(last, &line) {
            // What cannot be read of it does not matter.
            heard.void = read + io::copy(&mut lines, &mut io::sink()).unwrap_or(0);
            break;
        }
        if line.pop_if(|byte| *byte == b'\n').is_none() {
            heard.unfinished = read;
            break;
        }
        heard.lines += 1;
        heard.bytes += read;
        if heard.bytes - told >= 1 << 22 {
            progress(heard.bytes - told);
            told = heard.bytes;
        }
        if !heard.take(&line) {
            break;
        }
    }
    progress(heard.bytes - told);
    Ok(heard)
}

impl Testimony {
    /// The last line of the log in the segments before it, where it says that there may be more in their files.
    fn voids_behind(&self) -> Option<u64> {
        let began = self.began.as_ref()?;
        began.rest_void.then_some(self.start.seq)
    }

    /// Whether what comes next (there is something, if only a part of a line) is behind the last line that it has of the log.
    fn is_void_behind(&self, last: u64, next: &[u8]) -> bool {
        let done = match &self.began {
            Some(_) => self.end.seq >= last,
            None => self.lines == 0 && last < u64::MAX && number(next).is_none_or(|first| first > last),
        };
        done && !next.is_empty()
    }

    /// Takes the next line; `false` at a flaw.
    fn take(&mut self, line: &[u8]) -> bool {
        if self.lines == 1
            && let Ok(Event::SegmentBegan(began)) = Record::parse(line).map(|record| record.event)
        {
            self.start = Tip {
                seq: number(line).unwrap_or(1).saturating_sub(1),
                link: began.previous,
            };
            self.end = self.start;
            self.began = Some(began.into_owned());
        }
        let before = self.end;
        match self.end.follow(line) {
            // Without its first line nothing in a segment can be followed.
            Ok(tip) if self.began.is_some() => self.end = tip,
            Ok(_) => self.breach(Breach::Foreign),
            Err(breach) => self.breach(breach),
        }
        if self.flaw.is_none() {
            self.frame(line, before);
        }
        self.flaw.is_none()
    }

    fn breach(&mut self, breach: Breach) {
        self.flaw = Some(Flaw::Line {
            file: self.segment.path.clone(),
            line: self.lines,
            seq: self.end.seq + 1,
            breach,
        });
    }

    /// Keeps a line that frames the log.
    fn frame(&mut self, line: &[u8], before: Tip) {
        if !matches!(
            name_of(line),
            Some("checkpoint" | "key_changed" | "segments_removed" | "journal_healed")
        ) {
            return;
        }
        let Ok(record) = Record::parse(line) else {
            return self.breach(Breach::Foreign);
        };
        let what = match record.event {
            Event::Checkpoint(checkpoint) if checkpoint.tip() == before => What::Checkpoint(checkpoint.into_owned()),
            Event::KeyChanged(changed) => What::KeyChanged(changed),
            Event::SegmentsRemoved(removed) => What::Removed(removed),
            Event::JournalHealed(healed) => What::Healed(healed),
            _ => return self.breach(Breach::Changed),
        };
        self.frames.push(Frame {
            seq: self.end.seq,
            line: self.lines,
            time: record.time,
            what,
        });
    }
}

#[cfg(test)]
mod tests;
