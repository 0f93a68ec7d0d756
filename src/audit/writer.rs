//! Writes the segment that is open: lines are numbered, chained and written whole, or not at all.
//!
//! This module does not queue, wait or know the callers of the journal; one thread at a time uses it. It begins segments, and
//! signs checkpoints on request; the compactor handles closed segments.
//!
//! INVARIANT: after each call the segment ends with a whole line, or the writer knows that it does not and repairs it before
//! anything else is written. Among the lines that were reported as written, no number is missing or used twice, and each line
//! follows the one before it in the chain.

use std::borrow::Cow;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use super::chain::ChainTip;
use super::checkpoint::{Checkpoint, SIGN_LAG};
use super::encode::LineBuffer;
use super::event::{Event, KeyChanged, SegmentBegan};
use super::key::{KeyError, PublicKey, SigningKey};
use super::recovery;
use super::saved_checkpoint::{CHECKPOINT_FILE, RememberedTip};
use super::segment::{self, replace_private};
use super::stats::{SignedTip, Stats};
use super::{AuditError, Durability, JournalSettings};
use crate::base::error_chain::display_chain;
use crate::base::folder_lock::{self, FolderLockError};
use crate::model::ids::LogId;

/// Number of bytes of capacity from which the output buffer is freed after use.
const MAX_KEPT_BYTES: usize = 256 * 1024;

/// Writer of the log's newest segment.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    settings: JournalSettings,
    /// Folder, locked as long as this is open.
    lock: File,
    file: File,
    path: PathBuf,
    segment: u32,
    /// Time at which the segment began, as far as this run knows.
    began: Timestamp,
    /// Length of the segment in bytes, up to and including its last whole line.
    length: u64,
    pub(super) log: LogId,
    key: SigningKey,
    /// Tip of the log after the last line written.
    tip: ChainTip,
    /// Number of the last line that is signed or a signature.
    signed: u64,
    /// Time at which the first line that no checkpoint covers was written.
    unsigned_since: Option<Timestamp>,
    /// Number of the last checkpoint in the output.
    signs: Option<u64>,
    pub(super) stats: Arc<Mutex<Stats>>,
    state: FileState,
    /// True if the segment before may have further bytes after its last line; the first line of the next segment says so.
    rest_void: bool,
    out: Vec<u8>,
    own: LineBuffer,
    /// Description of what the start found to be missing.
    pub(super) gap: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileState {
    /// The file ends at the expected offset.
    Whole,
    /// The file may have a part of a line that could not be cut off yet.
    Torn,
    /// The file must not be written any more: a sync of it failed, so the kernel may have dropped pages and will not report
    /// that again (the fsync behaviour found by the PostgreSQL project in 2018), or a reader would not find it under its name,
    /// or it has bytes that no gate has written.
    Abandoned,
}

impl SegmentWriter {
    /// Locks the folder and continues its log, or begins one. Faults, also those found by comparison with the ledger, are put
    /// into `notes`.
    pub(super) fn open(
        settings: &JournalSettings,
        remembered: &RememberedTip,
        now: Timestamp,
        notes: &mut LineBuffer,
    ) -> Result<Self, AuditError> {
        let dir = &settings.dir;
        let lock = lock_folder(dir, true)?;
        let found = recovery::recover(dir, remembered).map_err(|error| AuditError::open(dir, error))?;
        SigningKey::recover(&settings.key, found.key)?;
        let key = SigningKey::load_or_make(&settings.key)?;
        found.note(key.public(), now, notes).map_err(|_| AuditError::Encode)?;
        let (segment, length) = found
            .newest
            .as_ref()
            .map_or((1, 0), |(segment, length)| (segment.number, *length));
        let packed = found.newest.as_ref().is_some_and(|(segment, _)| segment.packed);
        let path = dir.join(segment::name(segment));
        let file = open_whole(&path, length, packed).map_err(|error| AuditError::open(&path, error))?;
        let gap = found.gap();
        let mut stats = Stats::default();
        (stats.counts.segment, stats.counts.last_seq) = (segment.into(), found.tip.seq);
        let log = match found.log {
            Some(log) => log,
            None => new_log()?,
        };
        let mut writer = Self {
            settings: settings.clone(),
            lock,
            file,
            path,
            segment,
            began: found.began.unwrap_or(now),
            length,
            log,
            key,
            tip: found.tip,
            signed: found.signed,
            // The time of writing is unknown, so the lines count as overdue.
            unsigned_since: (found.signed < found.tip.seq).then_some(Timestamp::MIN),
            signs: None,
            stats: Arc::new(Mutex::new(stats)),
            state: if found.broken || packed {
                FileState::Abandoned
            } else {
                FileState::Whole
            },
            rest_void: found.rest_void,
            out: Vec::new(),
            own: LineBuffer::default(),
            gap,
        };
        writer.sync_folder().map_err(|error| AuditError::open(dir, error))?;
        writer.make_ready(now)?;
        Ok(writer)
    }

    /// Writes lines with one system call (and one sync, if durability requires it), with a checkpoint after them if `sign` is
    /// set and there is anything to sign. Either all lines are written or none.
    pub(super) fn write(&mut self, parts: &[&LineBuffer], sign: bool, now: Timestamp) -> Result<(), AuditError> {
        let sign = sign && (self.unsigned() > 0 || parts.iter().any(|lines| !lines.is_empty()));
        if !sign && parts.iter().all(|lines| lines.is_empty()) {
            return Ok(());
        }
        self.make_ready(now)?;
        if self.is_full(now) {
            self.close_segment(now)?;
        }
        let told_late = |lines: &&LineBuffer| lines.oldest().is_some_and(|oldest| now.duration_since(oldest) > SIGN_LAG);
        let late = parts.iter().any(|lines| !lines.is_empty()) && self.is_overdue(now) || parts.iter().any(told_late);
        // A log is signed from its first write on: one without a signature proves nothing.
        let sign = sign || self.signed == 0;
        let mut tip = self.begin_out(late, now)?;
        for line in parts.iter().flat_map(|lines| lines.iter()) {
            tip = tip.seal(&mut self.out, line);
        }
        if !sign {
            return self.put(tip, false, now);
        }
        let tip = self.sign(tip, now)?;
        self.put(tip, false, now)?;
        self.publish(now);
        Ok(())
    }

    /// Signs the unsigned lines; returns the line of the last checkpoint of this run, if there is one.
    pub(super) fn checkpoint(&mut self, now: Timestamp) -> Result<Option<String>, AuditError> {
        self.write(&[], true, now)?;
        Ok(self.stats.lock().signed_tip.as_ref().map(|tip| tip.line.clone()))
    }

    /// Replaces the signing key, in this order: the new key is stored beside the old one; one write has the change and
    /// signatures with the old and the new key; the new key replaces the old one. A start in between finishes or discards the
    /// change.
    pub(super) fn rotate_key(&mut self, by: &str, now: Timestamp) -> Result<PublicKey, AuditError> {
        let old = self.key.public();
        // Handles the leftover of an earlier attempt.
        SigningKey::recover(&self.settings.key, Some(old))?;
        let next = SigningKey::prepare(&self.settings.key)?;
        self.make_ready(now)?;
        let change = Event::KeyChanged(KeyChanged {
            key: next.public(),
            previous: old,
            vouched: true,
            by: by.to_owned(),
        });
        let tip = self.begin_out(self.is_overdue(now), now)?;
        let tip = self.seal_own(tip, &change, now)?;
        let tip = self.sign(tip, now)?;
        let old = std::mem::replace(&mut self.key, next);
        // This is synced to the disk before the old key is gone, whatever the durability.
        if let Err(error) = self.sign(tip, now).and_then(|tip| self.put(tip, true, now)) {
            self.key = old;
            // If this fails, the next attempt or start repeats it.
            let _ = SigningKey::recover(&self.settings.key, Some(self.key.public()));
            return Err(error);
        }
        self.publish(now);
        if let Err(error) = self.key.replace(&self.settings.key) {
            tracing::warn!(error = %display_chain(&error), "cannot replace the old audit key with the new one; the next start will retry");
        }
        Ok(self.key.public())
    }

    /// Returns the number of unsigned lines.
    pub(super) fn unsigned(&self) -> u64 {
        self.tip.seq - self.signed
    }

    /// Checks that the file is still the one that a reader finds under its name; returns false, and makes the next write begin
    /// a new file, if it is not. A file that was removed accepts writes without an error and loses them.
    pub(super) fn check_in_place(&mut self) -> bool {
        let same = is_in_place(&self.file, &self.path, self.length);
        if !same {
            self.state = FileState::Abandoned;
        }
        same
    }

    /// Syncs everything that was written, whatever the durability: for an orderly stop.
    pub(super) fn sync(&self) -> Result<(), AuditError> {
        self.file.sync_data().map_err(AuditError::write)
    }

    fn is_overdue(&self, now: Timestamp) -> bool {
        self.unsigned_since.is_some_and(|since| now.duration_since(since) > SIGN_LAG)
    }

    /// Begins the output: with the first line of the segment, if that is due, and with a checkpoint if `late` (see [`SIGN_LAG`]).
    ///
    /// A segment that begins after unsigned lines (because the one before could not be written any more) signs them in its
    /// second line, in the first page of its file, which the kernel writes as a whole: only the newest segment has unsigned
    /// lines.
    fn begin_out(&mut self, late: bool, now: Timestamp) -> Result<ChainTip, AuditError> {
        if self.out.capacity() > MAX_KEPT_BYTES {
            self.out = Vec::new();
        }
        self.out.clear();
        self.signs = None;
        if self.length > 0 {
            return if late { self.sign(self.tip, now) } else { Ok(self.tip) };
        }
        let began = SegmentBegan {
            log: self.log.clone(),
            segment: self.segment,
            previous: self.tip.link,
            key: self.key.public(),
            rest_void: self.rest_void,
        };
        let tip = self.seal_own(self.tip, &Event::SegmentBegan(Cow::Owned(began)), now)?;
        if late || self.unsigned() > 0 {
            return self.sign(tip, now);
        }
        Ok(tip)
    }

    /// Adds a checkpoint of everything up to `tip` to the output.
    fn sign(&mut self, tip: ChainTip, now: Timestamp) -> Result<ChainTip, AuditError> {
        let checkpoint = Checkpoint::sign(&self.log, tip, now, &self.key);
        let tip = self.seal_own(tip, &Event::Checkpoint(Cow::Owned(checkpoint)), now)?;
        self.signs = Some(tip.seq);
        Ok(tip)
    }

    /// Stores the last line of the output, a checkpoint of everything before it, beside the log, so that the next start notices
    /// lines that are missing at the end.
    fn publish(&mut self, now: Timestamp) {
        let Some(line) = self.out.split_inclusive(|byte| *byte == b'\n').next_back() else {
            return;
        };
        let signed = SignedTip {
            log: self.log.clone(),
            segment: self.segment,
            seq: self.tip.seq,
            link: self.tip.link,
            line: String::from_utf8_lossy(line.trim_ascii_end()).into_owned(),
        };
        {
            let mut stats = self.stats.lock();
            (stats.counts.signed, stats.signed_tip) = (Some(now), Some(signed));
        }
        if let Err(error) = replace_private(&self.settings.dir.join(CHECKPOINT_FILE), line) {
            tracing::warn!(error = %display_chain(&error), "cannot write the checkpoint file beside the audit log");
        }
    }

    fn seal_own(&mut self, tip: ChainTip, event: &Event<'_>, now: Timestamp) -> Result<ChainTip, AuditError> {
        self.own.clear();
        self.own.push(now, event).map_err(|_| AuditError::Encode)?;
        let Self { own, out, .. } = self;
        Ok(own.iter().fold(tip, |tip, line| tip.seal(out, line)))
    }

    /// Writes the output, which ends at `tip`, and syncs it if durability or the caller requires it.
    fn put(&mut self, tip: ChainTip, durable: bool, now: Timestamp) -> Result<(), AuditError> {
        if let Err(error) = self.file.write_all(&self.out) {
            self.roll_back();
            return Err(AuditError::write(error));
        }
        let sync = durable || self.settings.durability == Durability::Power;
        if sync && let Err(error) = self.sync_written() {
            self.roll_back();
            // In a file without any complete line the kernel has nothing to lose: it is begun again, so that a disk that fails
            // for an hour does not leave a thousand files.
            if self.length > 0 {
                (self.state, self.rest_void) = (FileState::Abandoned, true);
            }
            return Err(AuditError::write(error));
        }
        let mut stats = self.stats.lock();
        stats.counts.lines += tip.seq - self.tip.seq;
        stats.counts.bytes += self.out.len() as u64;
        stats.counts.writes += 1;
        stats.counts.syncs += u64::from(sync);
        stats.counts.last_seq = tip.seq;
        drop(stats);
        self.rest_void = false;
        self.length += self.out.len() as u64;
        self.tip = tip;
        if let Some(signed) = self.signs.take() {
            (self.signed, self.unsigned_since) = (signed, None);
        }
        if self.unsigned() > 0 {
            self.unsigned_since.get_or_insert(now);
        }
        Ok(())
    }

    fn is_full(&self, now: Timestamp) -> bool {
        let age = SignedDuration::try_from(self.settings.segment_age).unwrap_or(SignedDuration::MAX);
        self.length >= self.settings.segment_bytes || (self.length > 0 && now.duration_since(self.began) >= age)
    }

    /// Writes the last checkpoint into the segment and begins the next one.
    fn close_segment(&mut self, now: Timestamp) -> Result<(), AuditError> {
        if self.unsigned() > 0 {
            self.out.clear();
            let tip = self.sign(self.tip, now)?;
            self.put(tip, false, now)?;
            self.publish(now);
        }
        self.begin_segment(now)
    }

    /// Cuts off the bytes that a failed write may have left.
    fn roll_back(&mut self) {
        if self.file.set_len(self.length).is_err() {
            self.state = FileState::Torn;
        }
    }

    /// Repairs the leftover of an earlier failure, so that a line can be written.
    fn make_ready(&mut self, now: Timestamp) -> Result<(), AuditError> {
        if self.state == FileState::Torn {
            self.state = match self.file.set_len(self.length) {
                Ok(()) => FileState::Whole,
                Err(_) => FileState::Abandoned,
            };
            self.rest_void |= self.state == FileState::Abandoned;
        }
        if self.state == FileState::Abandoned {
            self.begin_segment(now)?;
            tracing::warn!(file = %self.path.display(), "cannot repair the audit segment; started a new one");
        }
        Ok(())
    }

    /// Begins the next segment; if the folder was removed, creates and locks it again.
    fn begin_segment(&mut self, now: Timestamp) -> Result<(), AuditError> {
        let dir = &self.settings.dir;
        let open_folder = self.lock.metadata().map_err(AuditError::write)?;
        if !std::fs::metadata(dir).is_ok_and(|named| is_same(&named, &open_folder)) {
            self.lock = lock_folder(dir, false)?;
        }
        let existing = segment::list(dir).map_err(AuditError::write)?;
        let newest = existing.last().map_or(0, |segment| segment.number);
        let number = newest.max(self.segment) + 1;
        let path = dir.join(segment::name(number));
        let file = options().create_new(true).open(&path).map_err(AuditError::write)?;
        (self.file, self.path, self.segment, self.length, self.began) = (file, path, number, 0, now);
        self.state = FileState::Whole;
        self.stats.lock().counts.segment = number.into();
        Ok(())
    }

    /// Syncs the file; after its first write also the folder, so that the file's name survives a power failure.
    fn sync_written(&self) -> io::Result<()> {
        self.file.sync_data()?;
        if self.length == 0 { self.sync_folder() } else { Ok(()) }
    }

    fn sync_folder(&self) -> io::Result<()> {
        let power = self.settings.durability == Durability::Power;
        if power { self.lock.sync_all() } else { Ok(()) }
    }
}

/// Creates the folder (0700) if needed, and locks it for this process. Without `with_parents` its parent has to exist: if that of a
/// removed folder is gone, too, no reader would look at a log begun there.
fn lock_folder(dir: &Path, with_parents: bool) -> Result<File, AuditError> {
    match DirBuilder::new().recursive(with_parents).mode(0o700).create(dir) {
        Err(error) if with_parents || error.kind() != io::ErrorKind::AlreadyExists => return Err(AuditError::open(dir, error)),
        _ => {}
    }
    folder_lock::take(dir).map_err(|error| match error {
        FolderLockError::Held => AuditError::Locked { dir: dir.to_owned() },
        FolderLockError::Io(error) => AuditError::open(dir, error),
    })
}

/// Opens a segment to continue it, without the bytes after its last whole line. A packed segment is closed for good: it is only
/// held open until the next one is begun.
fn open_whole(path: &Path, length: u64, packed: bool) -> io::Result<File> {
    if packed {
        return File::open(path.with_extension("jsonl.zst"));
    }
    let file = options().create(true).open(path)?;
    if file.metadata()?.len() > length {
        file.set_len(length)?;
    }
    Ok(file)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(0o600);
    options
}

/// Generates the id of a new log.
fn new_log() -> Result<LogId, AuditError> {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(LogId::from_random(bytes))
}

/// Returns true if a file is the one that a reader finds under its name, and at least as long as it was.
fn is_in_place(file: &File, path: &Path, length: u64) -> bool {
    match (std::fs::symlink_metadata(path), file.metadata()) {
        (Ok(named), Ok(open)) => is_same(&named, &open) && open.len() >= length,
        _ => false,
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.ino(), one.dev()) == (other.ino(), other.dev())
}

#[cfg(test)]
mod tests;
