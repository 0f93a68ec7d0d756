//! The segment being written: whole lines go in, numbered and chained, or nothing does.
//!
//! It does not queue, wait or know who asked; one owner at a time calls it (see the journal). It begins segments and signs
//! checkpoints when told to; the compactor takes closed segments on.
//!
//! INVARIANT: after each call the segment ends with a whole line, or the writer knows that it does not and puts that right
//! before anything else is written. Numbers have no gap and no double within what was reported as written, and each line follows
//! the one before it in the chain.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::chain::Tip;
use super::checkpoint::{Checkpoint, LATE};
use super::encode::Lines;
use super::event::{Event, KeyChanged, SegmentBegan};
use super::kept::{CHECKPOINT, RememberedTip};
use super::key::{PublicKey, SigningKey};
use super::survey;
use super::tally::{SignedTip, Tally};
use super::{AuditError, Durability, Settings, segment};
use crate::causes::in_one_line;
use crate::ids::LogId;
use folder::{lock_again, lock_folder, open_whole, options, replace_private};

mod folder;

/// An output buffer larger than this is given back after use.
const KEEP: usize = 256 * 1024;

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
    /// When the first line was written that no checkpoint covers.
    unsigned_since: Option<Timestamp>,
    /// The number of the last checkpoint in the output.
    signs: Option<u64>,
    pub(super) tally: Arc<Tally>,
    state: State,
    /// The segment before may have, behind its last line, what could not be taken back: the next one's first line says so.
    rest_void: bool,
    out: Vec<u8>,
    own: Lines,
    /// What the start found to be missing, in words.
    gap: Option<String>,
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
    /// Which log it is.
    pub(super) fn log(&self) -> &LogId {
        &self.log
    }

    /// What this start found to be missing, in words.
    pub(super) fn gap(&self) -> Option<&str> {
        self.gap.as_deref()
    }

    /// Takes the folder and goes on where its log ends, or begins one. What was found to be wrong, also by what the ledger remembers, is
    /// put into `notes`.
    pub(super) fn open(
        settings: &Settings,
        remembered: &RememberedTip,
        now: Timestamp,
        notes: &mut Lines,
    ) -> Result<Self, AuditError> {
        let dir = &settings.dir;
        let lock = lock_folder(dir)?;
        let found = survey::survey(dir, remembered).map_err(|error| AuditError::open(dir, error))?;
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
        let log = match found.log {
            Some(log) => log,
            None => folder::new_log()?,
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
            // How long ago it was written nobody knows.
            unsigned_since: (found.signed < found.tip.seq).then_some(Timestamp::MIN),
            signs: None,
            tally: Arc::default(),
            state: if found.broken || packed {
                State::Abandoned
            } else {
                State::Whole
            },
            rest_void: found.rest_void,
            out: Vec::new(),
            own: Lines::default(),
            gap,
        };
        writer.tally.begun(segment);
        writer.tally.reached(writer.tip.seq);
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
        let told_late = |lines: &&Lines| lines.oldest().is_some_and(|oldest| now.duration_since(oldest) > LATE);
        let late = parts.iter().any(|lines| !lines.is_empty()) && self.is_overdue(now) || parts.iter().any(told_late);
        // A log is signed from its first write on: one that nobody has signed proves nothing.
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

    /// Signs what is not signed yet; the line of the last checkpoint, if there is one of this run.
    pub(super) fn checkpoint(&mut self, now: Timestamp) -> Result<Option<String>, AuditError> {
        self.write(&[], true, now)?;
        Ok(self.tally.signed_tip().map(|tip| tip.line))
    }

    /// Goes over to a new key. In this order: the new one is kept beside the old; one write has the change, the old one's
    /// signature under it and the new one's; the new one takes the old one's place. A start in between finishes or forgets it.
    pub(super) fn rotate_key(&mut self, by: &str, now: Timestamp) -> Result<PublicKey, AuditError> {
        let old = self.key.public();
        // What an earlier attempt has left.
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
        // On the disk before the old key is gone, whatever the setting.
        if let Err(error) = self.sign(tip, now).and_then(|tip| self.put(tip, true, now)) {
            self.key = old;
            // If this fails, the next attempt or start does it.
            let _ = SigningKey::recover(&self.settings.key, Some(self.key.public()));
            return Err(error);
        }
        self.publish(now);
        if let Err(error) = self.key.replace(&self.settings.key) {
            tracing::warn!(error = %in_one_line(&error), "the new audit key could not take the place of the old one: the next start tries it again");
        }
        Ok(self.key.public())
    }

    /// The lines that nothing signs yet.
    pub(super) fn unsigned(&self) -> u64 {
        self.tip.seq - self.signed
    }

    /// Looks whether the file is still the one that a reader finds under its name. If not, the next write begins a new one;
    /// returns whether that is so. A file that was removed takes writes without complaint and loses them.
    pub(super) fn check_in_place(&mut self) -> bool {
        let same = folder::is_in_place(&self.file, &self.path, self.length);
        if !same {
            self.state = State::Abandoned;
        }
        same
    }

    /// Makes everything written durable, whatever the setting: for an orderly stop.
    pub(super) fn sync(&self) -> Result<(), AuditError> {
        self.file.sync_data().map_err(AuditError::write)
    }

    fn is_overdue(&self, now: Timestamp) -> bool {
        self.unsigned_since.is_some_and(|since| now.duration_since(since) > LATE)
    }

    /// Begins the output: with the first line of the segment, if that is due, and with a checkpoint if `late` (see [`LATE`]).
    ///
    /// A segment that was begun behind lines that nobody has signed (the one before could not be written any more) signs them in its
    /// second line, in the first page of its file, which the kernel takes whole: so only the newest segment has such lines.
    fn begin_out(&mut self, late: bool, now: Timestamp) -> Result<Tip, AuditError> {
        if self.out.capacity() > KEEP {
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
    fn sign(&mut self, tip: Tip, now: Timestamp) -> Result<Tip, AuditError> {
        let checkpoint = Checkpoint::sign(&self.log, tip, now, &self.key);
        let tip = self.seal_own(tip, &Event::Checkpoint(Cow::Owned(checkpoint)), now)?;
        self.signs = Some(tip.seq);
        Ok(tip)
    }

    /// Everything is signed by the last line written, a checkpoint; puts it beside the log, so that what is missing at its end is
    /// noticed at the next start.
    fn publish(&mut self, now: Timestamp) {
        let Some(line) = self.out.split_inclusive(|byte| *byte == b'\n').next_back() else {
            return;
        };
        let text = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
        self.tally
            .signed(now, SignedTip::new(self.log.clone(), self.segment, self.tip, text));
        if let Err(error) = replace_private(&self.settings.dir.join(CHECKPOINT), line) {
            tracing::warn!(error = %in_one_line(&error), "the last checkpoint could not be put beside the audit log");
        }
    }

    fn seal_own(&mut self, tip: Tip, event: &Event<'_>, now: Timestamp) -> Result<Tip, AuditError> {
        self.own.clear();
        self.own.push(now, event).map_err(|_| AuditError::Encode)?;
        let Self { own, out, .. } = self;
        Ok(own.iter().fold(tip, |tip, line| tip.seal(out, line)))
    }

    /// Writes the output, which ends at `tip`, and syncs it where durability or the caller asks for it.
    fn put(&mut self, tip: Tip, durable: bool, now: Timestamp) -> Result<(), AuditError> {
        if let Err(error) = self.file.write_all(&self.out) {
            self.roll_back();
            return Err(AuditError::write(error));
        }
        let sync = durable || self.settings.durability == Durability::Power;
        if sync && let Err(error) = self.sync_written() {
            self.roll_back();
            // Of a file in which nothing counts yet the kernel has nothing to lose: it is begun again, so that a disk that fails for
            // an hour does not leave a thousand of them.
            if self.length > 0 {
                (self.state, self.rest_void) = (State::Abandoned, true);
            }
            return Err(AuditError::write(error));
        }
        self.tally.written(tip.seq - self.tip.seq, self.out.len() as u64, sync);
        self.rest_void = false;
        self.length += self.out.len() as u64;
        self.tip = tip;
        self.tally.reached(tip.seq);
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

    /// Puts the last checkpoint into the segment and begins the next.
    fn close_segment(&mut self, now: Timestamp) -> Result<(), AuditError> {
        if self.unsigned() > 0 {
            self.out.clear();
            let tip = self.sign(self.tip, now)?;
            self.put(tip, false, now)?;
            self.publish(now);
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
            self.rest_void |= self.state == State::Abandoned;
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
            self.lock = lock_again(dir)?;
        }
        let existing = segment::list(dir).map_err(AuditError::write)?;
        let newest = existing.last().map_or(0, |segment| segment.number);
        let number = newest.max(self.segment) + 1;
        let path = dir.join(segment::name(number));
        let file = options().create_new(true).open(&path).map_err(AuditError::write)?;
        (self.file, self.path, self.segment, self.length, self.began) = (file, path, number, 0, now);
        self.state = State::Whole;
        self.tally.begun(number);
        Ok(())
    }

    /// What was written survives a power failure; with the first of it the file's name, for which its folder is synced, too.
    fn sync_written(&self) -> io::Result<()> {
        self.file.sync_data()?;
        if self.length == 0 { self.sync_folder() } else { Ok(()) }
    }

    fn sync_folder(&self) -> io::Result<()> {
        let power = self.settings.durability == Durability::Power;
        if power { self.lock.sync_all() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
