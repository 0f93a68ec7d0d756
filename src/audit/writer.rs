//! The segment being written: whole lines go in, numbered and chained, or nothing does.
//!
//! It does not queue, wait or know who asked; one owner at a time calls it (see the journal). It begins segments and signs
//! checkpoints when told to; what becomes of a closed segment is the keeper's business.
//!
//! INVARIANT: after each call the segment ends with a whole line, or the writer knows that it does not and puts that right
//! before anything else is written. Numbers have no gap and no double within what was reported as written, and each line follows
//! the one before it in the chain.

use std::borrow::Cow;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustix::fs::{FlockOperation, flock};

use super::chain::Tip;
use super::checkpoint::Checkpoint;
use super::encode::Lines;
use super::event::{Event, KeyChanged, SegmentBegan};
use super::key::SigningKey;
use super::survey::{self, CHECKPOINT, Survey};
use super::{AuditError, Durability, Settings, segment};
use crate::ids::LogId;

/// An output buffer larger than this is given back after use.
const KEEP: usize = 256 * 1024;

/// The lock goes with the last copy of its descriptor. A process that has just closed it may have a copy left for a moment, in a
/// child between fork and exec; so a folder that is in use is tried again before it is given up.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Writes the log's newest segment.
#[derive(Debug)]
pub(super) struct Writer {
    settings: Settings,
    /// The folder, locked as long as this is open.
    lock: File,
    file: File,
    path: PathBuf,
    segment: u32,
    /// When the segment began, as far as this run knows.
    began: Timestamp,
    /// The segment's length up to and including its last whole line.
    length: u64,
    log: LogId,
    key: SigningKey,
    /// The log up to the last line written.
    tip: Tip,
    /// The number of the last line that is signed or a signature.
    signed: u64,
    state: State,
    out: Vec<u8>,
    own: Lines,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The file ends where we think it does.
    Whole,
    /// A part of a line may be in it and could not be cut off yet.
    Torn,
    /// It must not be written any more: a sync of it failed, so the kernel may have thrown pages away and will not say so again
    /// (the fsync behaviour found by the PostgreSQL project in 2018), or it is not where a reader would find it, or it holds what
    /// no gate has written.
    Abandoned,
}

impl Writer {
    /// Takes the folder and goes on where its log ends, or begins one. What was found to be wrong is put into `notes`.
    pub(super) fn open(settings: &Settings, now: Timestamp, notes: &mut Lines) -> Result<Self, AuditError> {
        let dir = &settings.dir;
        let lock = lock_folder(dir)?;
        let key = SigningKey::load_or_make(&settings.key).map_err(|error| AuditError::Key(Arc::new(error)))?;
        let found = survey::survey(dir).map_err(|error| AuditError::open(dir, error))?;
        remark(&found, &key, now, notes)?;
        let (segment, length) = found
            .newest
            .as_ref()
            .map_or((1, 0), |(segment, length)| (segment.number, *length));
        let packed = found.newest.as_ref().is_some_and(|(segment, _)| segment.packed);
        let path = dir.join(segment::name(segment));
        let file = open_whole(&path, length, packed).map_err(|error| AuditError::open(&path, error))?;
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
            state: if found.broken || packed {
                State::Abandoned
            } else {
                State::Whole
            },
            out: Vec::new(),
            own: Lines::default(),
        };
        writer.sync_folder().map_err(|error| AuditError::open(dir, error))?;
        writer.make_ready(now)?;
        Ok(writer)
    }

    /// Writes lines with one system call (and one sync, where durability asks for it), with a checkpoint behind them if `sign`
    /// says so and there is anything to sign. All are written or none is.
    pub(super) fn write(&mut self, parts: &[&Lines], sign: bool, now: Timestamp) -> Result<(), AuditError> {
        let sign = sign && (self.unsigned() > 0 || parts.iter().any(|lines| !lines.is_empty()));
        if !sign && parts.iter().all(|lines| lines.is_empty()) {
            return Ok(());
        }
        self.make_ready(now)?;
        if self.is_full(now) {
            self.close_segment(now)?;
        }
        let mut tip = self.begin_out(now)?;
        for line in parts.iter().flat_map(|lines| lines.iter()) {
            tip = tip.seal(&mut self.out, line);
        }
        if !sign {
            return self.put(tip);
        }
        let tip = self.sign(tip, now)?;
        self.put(tip)?;
        self.signed = tip.seq;
        self.publish();
        Ok(())
    }

    /// The lines that nothing signs yet.
    pub(super) fn unsigned(&self) -> u64 {
        self.tip.seq - self.signed
    }

    /// Looks whether the file is still the one that a reader finds under its name. If not, the next write begins a new one;
    /// returns whether that is so. A file that was removed takes writes without complaint and loses them.
    pub(super) fn check_in_place(&mut self) -> bool {
        let same = match (std::fs::symlink_metadata(&self.path), self.file.metadata()) {
            (Ok(named), Ok(open)) => named.ino() == open.ino() && named.dev() == open.dev() && open.len() >= self.length,
            _ => false,
        };
        if !same {
            self.state = State::Abandoned;
        }
        same
    }

    /// Makes everything written durable, whatever the setting: for an orderly stop.
    pub(super) fn sync(&self) -> Result<(), AuditError> {
        self.file.sync_data().map_err(AuditError::write)
    }

    /// Begins the output: with the first line of the segment, if that is due.
    fn begin_out(&mut self, now: Timestamp) -> Result<Tip, AuditError> {
        self.out.clear();
        if self.length > 0 {
            return Ok(self.tip);
        }
        let began = SegmentBegan {
            log: self.log.clone(),
            segment: self.segment,
            previous: self.tip.link,
            key: self.key.public(),
        };
        self.seal_own(self.tip, &Event::SegmentBegan(Cow::Owned(began)), now)
    }

    /// Adds a checkpoint of everything up to `tip` to the output.
    fn sign(&mut self, tip: Tip, now: Timestamp) -> Result<Tip, AuditError> {
        let checkpoint = Checkpoint::sign(&self.log, tip, now, &self.key);
        self.seal_own(tip, &Event::Checkpoint(Cow::Owned(checkpoint)), now)
    }

    /// Puts the last line written, a checkpoint, beside the log: what is missing at its end is noticed at the next start.
    fn publish(&self) {
        let Some(line) = self.out.split_inclusive(|byte| *byte == b'\n').next_back() else {
            return;
        };
        let next = self.settings.dir.join("checkpoint.next");
        let written = std::fs::write(&next, line).and_then(|()| std::fs::rename(&next, self.settings.dir.join(CHECKPOINT)));
        if let Err(error) = written {
            tracing::warn!(%error, "the last checkpoint could not be put beside the audit log");
        }
    }

    fn seal_own(&mut self, tip: Tip, event: &Event<'_>, now: Timestamp) -> Result<Tip, AuditError> {
        self.own.clear();
        self.own.push(now, event).map_err(|_| AuditError::Encode)?;
        let Self { own, out, .. } = self;
        Ok(own.iter().fold(tip, |tip, line| tip.seal(out, line)))
    }

    /// Writes the output, which ends at `tip`.
    fn put(&mut self, tip: Tip) -> Result<(), AuditError> {
        if let Err(error) = self.file.write_all(&self.out) {
            self.roll_back();
            return Err(AuditError::write(error));
        }
        if self.settings.durability == Durability::Power
            && let Err(error) = self.file.sync_data()
        {
            self.roll_back();
            self.state = State::Abandoned;
            return Err(AuditError::write(error));
        }
        self.length += self.out.len() as u64;
        self.tip = tip;
        if self.out.capacity() > KEEP {
            self.out = Vec::new();
        }
        Ok(())
    }

    fn is_full(&self, now: Timestamp) -> bool {
        let age = SignedDuration::try_from(self.settings.segment_age).unwrap_or(SignedDuration::MAX);
        self.length >= self.settings.segment_bytes || (self.length > 0 && now.duration_since(self.began) >= age)
    }

    /// Puts the last checkpoint into the segment and begins the next.
    fn close_segment(&mut self, now: Timestamp) -> Result<(), AuditError> {
        if self.unsigned() > 0 {
            self.out.clear();
            let tip = self.sign(self.tip, now)?;
            self.put(tip)?;
            self.signed = tip.seq;
        }
        self.begin_segment(now)
    }

    /// Cuts off what a failed write may have left.
    fn roll_back(&mut self) {
        if self.file.set_len(self.length).is_err() {
            self.state = State::Torn;
        }
    }

    /// Puts right what an earlier failure left, so that a line can be written.
    fn make_ready(&mut self, now: Timestamp) -> Result<(), AuditError> {
        if self.state == State::Torn {
            self.state = match self.file.set_len(self.length) {
                Ok(()) => State::Whole,
                Err(_) => State::Abandoned,
            };
        }
        if self.state == State::Abandoned {
            self.begin_segment(now)?;
            tracing::warn!(file = %self.path.display(), "a new audit segment was begun");
        }
        Ok(())
    }

    /// Begins the next segment; makes and locks the folder again when it was removed.
    fn begin_segment(&mut self, now: Timestamp) -> Result<(), AuditError> {
        let dir = &self.settings.dir;
        let open_folder = self.lock.metadata().map_err(AuditError::write)?;
        let in_place =
            std::fs::metadata(dir).is_ok_and(|named| (named.ino(), named.dev()) == (open_folder.ino(), open_folder.dev()));
        if !in_place {
            self.lock = lock_folder(dir)?;
        }
        let existing = segment::list(dir).map_err(AuditError::write)?;
        let newest = existing.last().map_or(0, |segment| segment.number);
        let number = newest.max(self.segment) + 1;
        let path = dir.join(segment::name(number));
        let file = options().create_new(true).open(&path).map_err(AuditError::write)?;
        (self.file, self.path, self.segment, self.length, self.began) = (file, path, number, 0, now);
        self.state = State::Whole;
        self.sync_folder().map_err(AuditError::write)
    }

    /// A file's name survives a power failure only when its folder was synced, too.
    fn sync_folder(&self) -> io::Result<()> {
        if self.settings.durability == Durability::Power {
            self.lock.sync_all()
        } else {
            Ok(())
        }
    }
}

/// Puts on record what was found to be wrong.
fn remark(found: &Survey, key: &SigningKey, now: Timestamp, notes: &mut Lines) -> Result<(), AuditError> {
    let mut note = |event: &Event<'_>| notes.push(now, event).map_err(|_| AuditError::Encode);
    for fault in &found.faults {
        tracing::warn!(fault = ?fault.fault, detail = fault.detail, "the audit log was not as it was left");
        note(&Event::JournalHealed(fault.clone()))?;
    }
    if let Some(previous) = found.key.filter(|known| *known != key.public()) {
        tracing::warn!(
            was = previous.id(),
            is = key.public().id(),
            "the audit log is signed with another key from here on"
        );
        note(&Event::KeyChanged(KeyChanged {
            key: key.public(),
            previous,
            vouched: false,
            by: "gate".to_owned(),
        }))?;
    }
    Ok(())
}

fn new_log() -> Result<LogId, AuditError> {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).map_err(|_| AuditError::Key(Arc::new(super::key::KeyError::Random)))?;
    Ok(LogId::from_random(bytes))
}

/// Makes the folder (0700) if need be and takes it for this process.
fn lock_folder(dir: &Path) -> Result<File, AuditError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| AuditError::open(dir, error))?;
    let folder = File::open(dir).map_err(|error| AuditError::open(dir, error))?;
    for tries_left in (0..LOCK_TRIES).rev() {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(folder),
            Err(rustix::io::Errno::WOULDBLOCK) if tries_left > 0 => std::thread::sleep(LOCK_PAUSE),
            Err(rustix::io::Errno::WOULDBLOCK) => break,
            Err(error) => return Err(AuditError::open(dir, error.into())),
        }
    }
    Err(AuditError::Locked { dir: dir.to_owned() })
}

/// Opens a segment for going on with it, without what stands behind its last whole line. A packed one is closed for good: it is only
/// held until the next is begun.
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
