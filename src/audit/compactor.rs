//! Compaction of closed segments: packs and summarises them, and removes those that are older than is to be kept (retention).
//!
//! It never touches the segment that is written, and nothing waits for it: a disk that is full or slow only makes it late.
//!
//! The law: a segment is removed only when its packed copy was read back and is the same, or for its age. The latter only after the
//! log says so, on record, signed and on the disk; and oldest first, so that what is left is always one piece.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::AuditError;
use super::event::{Event, SegmentsRemoved};
use super::journal::Journal;
use super::record::LogRecord;
use super::segment::{self, Segment};
use super::summary::{self, Handover, SegmentSummary, SummaryBuilder};
use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;
use crate::base::supervision::{self, ThreadEnd};

/// Time between two passes.
const PASS_INTERVAL: Duration = Duration::from_secs(1);
/// Segments whose summaries are checked in one pass: packing must not wait for all of a log that has none.
const MAX_CHECKED_IN_A_PASS: usize = 16;
/// Lines are packed in blocks of at least this many bytes, each a zstd frame of its own with a checksum: a damage ends there.
const BLOCK_BYTES: usize = 1 << 20;
/// Half the time of zstd's default level, and smaller on this log.
const ZSTD_LEVEL: i32 = 1;
/// Below the sessions' threads.
const NICE: i32 = 10;

/// Reason for which a pass was not finished. What is left is done by the next.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// A file could not be read, written or removed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The packed copy is not the same: the original stays.
    #[error("{}: the packed copy differs from the original", path.display())]
    Differs {
        /// The segment.
        path: PathBuf,
    },
    /// The removal of segments could not be put on record: they stay.
    #[error(transparent)]
    Record(#[from] AuditError),
}

/// Handle of the compactor's thread, which ends when this is dropped.
#[derive(Debug)]
pub struct SegmentCompactor {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    thread_end: ThreadEnd,
}

impl SegmentCompactor {
    /// Starts the thread for the journal's segments.
    pub fn spawn(journal: Journal, clock: Clock) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let (thread, thread_end) = supervision::thread("audit-compactor", move || run(&journal, &clock, &stopped))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
            thread_end,
        })
    }

    /// Returns the end of its thread: it comes when this is dropped, and earlier only by a panic.
    #[must_use]
    pub fn thread_end(&self) -> ThreadEnd {
        self.thread_end.clone()
    }
}

impl Drop for SegmentCompactor {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its result would only say whether it panicked, which the panic hook has told.
            let _ = thread.join();
        }
    }
}

fn run(journal: &Journal, clock: &Clock, stopped: &mpsc::Receiver<()>) {
    // Linux counts niceness by thread. Without it the compactor works all the same.
    let _ = rustix::process::setpriority_process(None, NICE);
    let go_on = || matches!(stopped.try_recv(), Err(TryRecvError::Empty));
    let (mut told, mut checked, mut packer) = (false, HashSet::new(), SegmentPacker::default());
    loop {
        let passed = compact(journal, &mut packer, clock.now(), go_on);
        let mut pause = PASS_INTERVAL;
        match passed.and_then(|()| check_summaries(&journal.settings().dir, &mut checked, go_on)) {
            Ok(true) if std::mem::take(&mut told) => {
                tracing::info!("packing, summarising and removing closed audit segments works again");
            }
            Ok(false) => pause = Duration::ZERO,
            Err(error) if !std::mem::replace(&mut told, true) => {
                tracing::warn!(error = %display_chain(&error), "cannot pack, summarise or remove closed audit segments; the next pass tries again");
            }
            Ok(true) | Err(_) => {}
        }
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
}

/// Makes one pass over the closed segments: packs those that are not, and removes those that are old. It is given up between two
/// segments when it may not go on.
fn compact(
    journal: &Journal,
    packer: &mut SegmentPacker,
    now: Timestamp,
    go_on: impl Fn() -> bool,
) -> Result<(), CompactionError> {
    let settings = journal.settings();
    // Whatever else is in the folder, this one is written: its number is the journal's to say.
    let written = journal.written().segment;
    let closed = |segment: &&Segment| !segment.packed && u64::from(segment.number) < written;
    for segment in list(&settings.dir)?.iter().filter(closed) {
        if !go_on() {
            return Ok(());
        }
        packer.pack(segment)?;
    }
    match settings.keep {
        Some(age) => remove_older(journal, now, age),
        None => Ok(()),
    }
}

/// Makes the summaries of packed segments that have none to be used, and removes the search indexes of version 0.1.0; `false` when
/// there may be more of them. A summary that is damaged later is not used, and made again at the next start.
fn check_summaries(dir: &Path, checked: &mut HashSet<u32>, go_on: impl Fn() -> bool) -> Result<bool, CompactionError> {
    let segments = list(dir)?;
    let mut left = segments
        .iter()
        .filter(|segment| segment.packed && !checked.contains(&segment.number));
    let now: Vec<_> = left.by_ref().take(MAX_CHECKED_IN_A_PASS).collect();
    let all = left.next().is_none();
    for segment in now {
        if !go_on() {
            return Ok(false);
        }
        // Also one that cannot be read: it will not be read any better a second later.
        checked.insert(segment.number);
        summary::remove_index(segment)
            .and_then(|()| summary::ensure(segment))
            .map_err(|error| io_error(&segment.path, error))?;
    }
    Ok(all)
}

/// Removes packed segments whose last line is older than `age`, oldest first, after that is on record.
fn remove_older(journal: &Journal, now: Timestamp, age: Duration) -> Result<(), CompactionError> {
    let limit = SignedDuration::try_from(age).ok().and_then(|age| now.checked_sub(age).ok());
    let segments = list(&journal.settings().dir)?;
    let mut old = Vec::new();
    let mut removed = None;
    for pair in segments.windows(2) {
        let [segment, next] = pair else { continue };
        // Its last line is not younger than the first of the next.
        let line = next.first_line().map_err(|error| io_error(&next.path, error))?;
        let Some(record) = line.and_then(|line| LogRecord::parse(&line).ok()) else {
            break;
        };
        let Event::SegmentBegan(began) = &record.event else { break };
        if !segment.packed || limit.is_none_or(|limit| record.time > limit) {
            break;
        }
        old.push(segment);
        removed = Some(SegmentsRemoved {
            first: old.first().map_or(0, |first| first.number),
            last: segment.number,
            last_seq: record.seq.saturating_sub(1),
            link: began.previous,
        });
    }
    let Some(removed) = removed else { return Ok(()) };
    journal.record_blocking(&Event::SegmentsRemoved(removed))?;
    // Signed and on the disk before anything is gone: else a gate or a machine that dies now would leave a log of which segments are
    // missing, and nothing that proves why.
    journal.checkpoint_blocking()?;
    sync_written(&journal.settings().dir)?;
    for segment in old {
        std::fs::remove_file(&segment.path)
            .and_then(|()| summary::remove(segment))
            .map_err(|error| io_error(&segment.path, error))?;
    }
    Ok(())
}

/// Puts on the disk what is not packed yet, names and contents.
fn sync_written(dir: &Path) -> Result<(), CompactionError> {
    let sync = |path: &Path| {
        File::open(path)
            .and_then(|file| file.sync_all())
            .map_err(|error| io_error(path, error))
    };
    for segment in list(dir)?.iter().filter(|segment| !segment.packed) {
        sync(&segment.path)?;
    }
    sync(dir)
}

/// Replaces a closed segment by its packed copy, and summarises it by itself.
pub fn pack(segment: &Segment) -> Result<(), CompactionError> {
    SegmentPacker::default().pack(segment)
}

/// Packs segments one after the other. What is known of one helps with the summary of the next.
#[derive(Debug, Default)]
pub(super) struct SegmentPacker {
    /// Number of the last segment, and what its summary's builder handed on.
    last: Option<(u32, Handover)>,
}

impl SegmentPacker {
    /// Replaces a closed segment by its packed copy, and summarises it.
    pub(super) fn pack(&mut self, segment: &Segment) -> Result<(), CompactionError> {
        let packed = segment.as_packed();
        let next = segment.path.with_extension("jsonl.zst.new");
        let failed = |error| {
            // An incomplete copy would only take space from the log.
            let _ = std::fs::remove_file(&next);
            io_error(&next, error)
        };
        let last = self.last.take().filter(|(number, _)| number + 1 == segment.number);
        let builder = SummaryBuilder::behind(last.map(|(_, handover)| handover).unwrap_or_default());
        let Some((summary, handover)) = compress(segment, &next, builder).map_err(failed)? else {
            return Err(CompactionError::Differs {
                path: segment.path.clone(),
            });
        };
        self.last = Some((segment.number, handover));
        let folder = segment.path.parent().unwrap_or(Path::new("."));
        std::fs::rename(&next, &packed.path)
            .and_then(|()| File::open(folder)?.sync_all())
            .and_then(|()| std::fs::remove_file(&segment.path))
            .and_then(|()| summary.save(&packed))
            .map_err(|error| io_error(&packed.path, error))
    }
}

/// Writes the packed copy, in blocks of whole lines, reads it back, and summarises the lines on the way; `None` if what was read back
/// is not the same.
fn compress(segment: &Segment, to: &Path, mut summary: SummaryBuilder) -> io::Result<Option<(SegmentSummary, Handover)>> {
    let mut lines = segment.open()?;
    let mut copy = PackedCopy::create(to)?;
    let mut block = Vec::with_capacity(BLOCK_BYTES + 64 * 1024);
    loop {
        // A longer line is not one of ours: it is packed in parts, and not held whole.
        let start = block.len();
        let read = Read::take(&mut lines, segment::MAX_LINE_BYTES).read_until(b'\n', &mut block)?;
        if read > 0 {
            summary.add(block.get(start..).unwrap_or_default());
        }
        if block.len() >= BLOCK_BYTES || (read == 0 && !block.is_empty()) {
            if !copy.add(&block)? {
                return Ok(None);
            }
            block.clear();
        }
        if read == 0 {
            copy.file.sync_all()?;
            return Ok(Some(summary.finish()));
        }
    }
}

/// Packed copy that is being written, in frames with a checksum.
struct PackedCopy {
    file: File,
    compressor: zstd::bulk::Compressor<'static>,
    decompressor: zstd::bulk::Decompressor<'static>,
    /// A frame as it was read back, and its content.
    frame: Vec<u8>,
    content: Vec<u8>,
    length: u64,
}

impl PackedCopy {
    fn create(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
        compressor.include_checksum(true)?;
        Ok(Self {
            file: options.open(path)?,
            compressor,
            decompressor: zstd::bulk::Decompressor::new()?,
            frame: Vec::new(),
            content: Vec::new(),
            length: 0,
        })
    }

    /// Writes a block and returns whether it reads back as it is.
    fn add(&mut self, block: &[u8]) -> io::Result<bool> {
        let frame = self.compressor.compress(block)?;
        self.file.write_all(&frame)?;
        self.frame.resize(frame.len(), 0);
        self.file.read_exact_at(&mut self.frame, self.length)?;
        self.length += frame.len() as u64;
        self.content.clear();
        self.content.reserve(block.len());
        self.decompressor.decompress_to_buffer(&self.frame, &mut self.content)?;
        Ok(self.content == block)
    }
}

fn list(dir: &Path) -> Result<Vec<Segment>, CompactionError> {
    segment::list(dir).map_err(|error| io_error(dir, error))
}

fn io_error(path: &Path, source: io::Error) -> CompactionError {
    CompactionError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
