//! Keeps closed segments: packs them, has them indexed, and removes those that are older than is to be kept.
//!
//! It never touches the segment that is written, and nothing waits for it: a disk that is full or slow only makes it late.
//!
//! The law: a segment is removed only when its packed copy was read back and is the same, or when the log says, on record, that it
//! is removed for its age; and then oldest first, so that what is left is always one piece.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::chain::Link;
use super::event::{Event, SegmentsRemoved};
use super::index::{self, Indexer};
use super::record::Record;
use super::segment::{self, Segment, next_line};
use super::survey::header;
use super::{AuditError, Journal};
use crate::causes::in_one_line;
use crate::supervision::{self, ThreadEnd};

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(1);
/// Lines are packed in blocks of at least this many bytes, each a zstd frame of its own: a reader can begin at any of them.
const BLOCK: usize = 1 << 20;
/// zstd's own default: half the time of the next step that makes a difference in size.
const LEVEL: i32 = 3;
/// Below the sessions' threads.
const NICE: i32 = 10;

/// Why a pass was not finished. What is left is done by the next.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
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
    /// That segments are removed could not be put on record: they stay.
    #[error(transparent)]
    Record(#[from] AuditError),
}

/// The keeper's thread; ends when dropped.
#[derive(Debug)]
pub struct Keeper {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    thread_end: ThreadEnd,
}

impl Keeper {
    /// Begins to keep the journal's segments.
    pub fn spawn(journal: Journal, clock: crate::clock::Clock) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let (thread, thread_end) = supervision::thread("audit-keeper", move || {
            // Linux counts niceness by thread. Without it the keeper works all the same.
            let _ = rustix::process::setpriority_process(None, NICE);
            let mut told = false;
            let go_on = || matches!(stopped.try_recv(), Err(TryRecvError::Empty));
            let mut indexer = Indexer::default();
            loop {
                let dir = &journal.settings().dir;
                let mut index = || indexer.pass(dir).map_err(|error| io_error(dir, error));
                let mut pause = PERIOD;
                match keep_while(&journal, clock.now(), go_on).and_then(|()| index()) {
                    Ok(true) => {
                        if std::mem::take(&mut told) {
                            tracing::info!("packing, indexing and removing closed audit segments works again");
                        }
                    }
                    Ok(false) => pause = Duration::ZERO,
                    Err(error) if !told => {
                        told = true;
                        tracing::warn!(error = %in_one_line(&error), "cannot pack, index or remove closed audit segments");
                    }
                    Err(_) => {}
                }
                if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
        })?;
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

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its result would only say whether it panicked, which the panic hook has told.
            let _ = thread.join();
        }
    }
}

/// One pass over the closed segments.
pub fn keep(journal: &Journal, now: Timestamp) -> Result<(), KeepError> {
    keep_while(journal, now, || true)
}

/// The same, given up between two segments when there is to be no more.
fn keep_while(journal: &Journal, now: Timestamp, go_on: impl Fn() -> bool) -> Result<(), KeepError> {
    let settings = journal.settings();
    // Whatever else is in the folder, this one is written: its number is the journal's to say.
    let written = journal.written().segment;
    let closed = |segment: &&Segment| !segment.packed && u64::from(segment.number) < written;
    for segment in list(&settings.dir)?.iter().filter(closed) {
        if !go_on() {
            return Ok(());
        }
        pack(segment)?;
    }
    match settings.keep {
        Some(age) => remove_older(journal, now, age),
        None => Ok(()),
    }
}

/// Replaces a closed segment by its packed copy.
pub fn pack(segment: &Segment) -> Result<(), KeepError> {
    let packed = segment.path.with_extension("jsonl.zst");
    let next = segment.path.with_extension("jsonl.zst.new");
    let failed = |error| {
        // What is there of it would only take space from the log.
        let _ = std::fs::remove_file(&next);
        io_error(&next, error)
    };
    let original = compress(segment, &next).map_err(failed)?;
    let copy = zstd::Decoder::new(File::open(&next).map_err(failed)?)
        .and_then(hash)
        .map_err(failed)?;
    if copy != original {
        return Err(KeepError::Differs {
            path: segment.path.clone(),
        });
    }
    let folder = segment.path.parent().unwrap_or(Path::new("."));
    std::fs::rename(&next, &packed)
        .and_then(|()| File::open(folder)?.sync_all())
        .and_then(|()| std::fs::remove_file(&segment.path))
        .map_err(|error| io_error(&packed, error))
}

/// Writes the packed copy, in blocks of whole lines; returns the hash of the original.
fn compress(segment: &Segment, to: &Path) -> io::Result<[u8; 32]> {
    let mut lines = segment.open()?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(to)?;
    let mut whole = Sha256::new();
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    let mut block = Vec::with_capacity(BLOCK + 64 * 1024);
    loop {
        // A longer line is not one of ours: it is packed in parts, and not held whole.
        let read = Read::take(&mut lines, segment::LONGEST).read_until(b'\n', &mut block)?;
        if block.len() >= BLOCK || (read == 0 && !block.is_empty()) {
            whole.update(&block);
            file.write_all(&compressor.compress(&block)?)?;
            block.clear();
        }
        if read == 0 {
            file.sync_all()?;
            return Ok(whole.finalize().into());
        }
    }
}

fn hash(mut from: impl Read) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(hash.finalize().into()),
            read => hash.update(chunk.get(..read).unwrap_or_default()),
        }
    }
}

/// Removes packed segments whose last line is older than `age`, oldest first, after that is on record.
fn remove_older(journal: &Journal, now: Timestamp, age: Duration) -> Result<(), KeepError> {
    let limit = SignedDuration::try_from(age).ok().and_then(|age| now.checked_sub(age).ok());
    let segments = list(&journal.settings().dir)?;
    let mut old = Vec::new();
    let mut removed = None;
    for pair in segments.windows(2) {
        let [segment, next] = pair else { continue };
        // Its last line is not younger than the first of the next.
        let Some((began, record)) = first_line(next)? else { break };
        if !segment.packed || limit.is_none_or(|limit| record.time > limit) {
            break;
        }
        old.push(segment);
        removed = Some(SegmentsRemoved {
            first: old.first().map_or(0, |first| first.number),
            last: segment.number,
            last_seq: record.seq.saturating_sub(1),
            link: began,
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
            .and_then(|()| index::remove(segment))
            .map_err(|error| io_error(&segment.path, error))?;
    }
    Ok(())
}

/// Puts on the disk what is not packed yet, names and contents.
fn sync_written(dir: &Path) -> Result<(), KeepError> {
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

/// What the first line of a segment says, and the line; `None` if it has none.
fn first_line(segment: &Segment) -> Result<Option<(Link, Record)>, KeepError> {
    let mut line = Vec::new();
    let read = segment.open().and_then(|mut lines| next_line(&mut lines, &mut line));
    read.map_err(|error| io_error(&segment.path, error))?;
    Ok(header(&line).map(|began| began.previous).zip(Record::parse(&line).ok()))
}

fn list(dir: &Path) -> Result<Vec<Segment>, KeepError> {
    segment::list(dir).map_err(|error| io_error(dir, error))
}

fn io_error(path: &Path, source: io::Error) -> KeepError {
    KeepError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
