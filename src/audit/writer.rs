//! The file of the journal: whole lines go in, numbered, or nothing does.
//!
//! It does not queue, wait or know who asked; one owner at a time calls it (see the journal).
//!
//! INVARIANT: after each call the file ends with a whole line, or the writer knows that it does not and puts that right
//! before anything else is written. Numbers have no gap and no double within what was reported as written.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::encode::{Lines, seal};
use super::{AuditError, Durability, files};

/// An output buffer larger than this is given back after use.
const KEEP: usize = 256 * 1024;

/// The lock goes with the last copy of its descriptor. A process that has just closed it may have a copy left for a moment, in a
/// child between fork and exec; so a folder that is in use is tried again before it is given up.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Writes the log's newest file.
#[derive(Debug)]
pub(super) struct Writer {
    dir: PathBuf,
    durability: Durability,
    /// The folder, locked as long as this is open.
    lock: File,
    file: File,
    path: PathBuf,
    /// The file's length up to and including its last whole line.
    length: u64,
    /// The number of the last record written.
    seq: u64,
    state: State,
    out: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The file ends where we think it does.
    Whole,
    /// A part of a line may be in it and could not be cut off yet.
    Torn,
    /// It must not be written any more: a sync of it failed, so the kernel may have thrown pages away and will not say so again
    /// (the fsync behaviour found by the PostgreSQL project in 2018), or it is not where a reader would find it.
    Abandoned,
}

impl Writer {
    /// Opens the newest file of the folder, or begins the first; returns how many bytes of an unfinished line were cut off.
    pub(super) fn open(dir: &Path, durability: Durability) -> Result<(Self, u64), AuditError> {
        let lock = lock_folder(dir)?;
        let existing = files::list(dir).map_err(|error| AuditError::open(dir, error))?;
        let number = existing.last().map_or(1, |(number, _)| *number);
        let path = dir.join(files::name(number));
        let (file, length, cut) = open_whole(&path).map_err(|error| AuditError::open(&path, error))?;
        let seq = last_seq(&existing).map_err(|error| AuditError::open(dir, error))?;
        let mut writer = Self {
            dir: dir.to_owned(),
            durability,
            lock,
            file,
            path,
            length,
            seq: seq.number,
            state: if seq.certain { State::Whole } else { State::Abandoned },
            out: Vec::new(),
        };
        writer.sync_folder().map_err(|error| AuditError::open(dir, error))?;
        writer.make_ready()?;
        Ok((writer, cut))
    }

    /// Writes lines with one system call (and one sync, where durability asks for it). All are written or none is.
    pub(super) fn write(&mut self, parts: &[&Lines]) -> Result<(), AuditError> {
        self.make_ready()?;
        self.out.clear();
        let mut seq = self.seq;
        for line in parts.iter().flat_map(|lines| lines.iter()) {
            seq += 1;
            seal(&mut self.out, seq, line);
        }
        if self.out.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.file.write_all(&self.out) {
            self.roll_back();
            return Err(AuditError::write(error));
        }
        if self.durability == Durability::Power
            && let Err(error) = self.file.sync_data()
        {
            self.roll_back();
            self.state = State::Abandoned;
            return Err(AuditError::write(error));
        }
        self.length += self.out.len() as u64;
        self.seq = seq;
        if self.out.capacity() > KEEP {
            self.out = Vec::new();
        }
        Ok(())
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

    /// Cuts off what a failed write may have left.
    fn roll_back(&mut self) {
        if self.file.set_len(self.length).is_err() {
            self.state = State::Torn;
        }
    }

    /// Puts right what an earlier failure left, so that a line can be written.
    fn make_ready(&mut self) -> Result<(), AuditError> {
        if self.state == State::Torn {
            self.state = match self.file.set_len(self.length) {
                Ok(()) => State::Whole,
                Err(_) => State::Abandoned,
            };
        }
        if self.state == State::Abandoned {
            self.begin_file()?;
            self.state = State::Whole;
        }
        Ok(())
    }

    /// Begins the next file; makes and locks the folder again when it was removed.
    fn begin_file(&mut self) -> Result<(), AuditError> {
        let open_folder = self.lock.metadata().map_err(AuditError::write)?;
        let in_place =
            std::fs::metadata(&self.dir).is_ok_and(|named| (named.ino(), named.dev()) == (open_folder.ino(), open_folder.dev()));
        if !in_place {
            self.lock = lock_folder(&self.dir)?;
        }
        let existing = files::list(&self.dir).map_err(AuditError::write)?;
        let newest = existing.last().map_or(0, |(number, _)| *number);
        let own = self
            .path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(files::number)
            .unwrap_or(0);
        let path = self.dir.join(files::name(newest.max(own) + 1));
        let file = new_file(&path).map_err(AuditError::write)?;
        tracing::warn!(file = %path.display(), "a new audit file was begun");
        (self.file, self.path, self.length) = (file, path, 0);
        self.sync_folder().map_err(AuditError::write)
    }

    /// A file's name survives a power failure only when its folder was synced, too.
    fn sync_folder(&self) -> io::Result<()> {
        if self.durability == Durability::Power {
            self.lock.sync_all()
        } else {
            Ok(())
        }
    }
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

fn new_file(path: &Path) -> io::Result<File> {
    options().create_new(true).open(path)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(0o600);
    options
}

/// Opens a file for appending and cuts off an unfinished last line; returns its length and how much was cut.
fn open_whole(path: &Path) -> io::Result<(File, u64, u64)> {
    let mut file = options().create(true).open(path)?;
    let length = file.metadata()?.len();
    let whole = files::end_of_last_line(&mut file, length)?;
    if whole < length {
        file.set_len(whole)?;
    }
    Ok((file, whole, length - whole))
}

/// Where the numbering stands.
struct LastSeq {
    number: u64,
    /// Whether the very last line had a number. If not, somebody else wrote into the file, and we do not write behind that.
    certain: bool,
}

/// The number of the last record in the files: usually the last line of the last file, else as far back as needed.
fn last_seq(files: &[(u32, PathBuf)]) -> io::Result<LastSeq> {
    let mut certain = true;
    for (_, path) in files.iter().rev() {
        let mut file = File::open(path)?;
        let mut end = file.metadata()?.len();
        end = files::end_of_last_line(&mut file, end)?;
        while end > 0 {
            let start = files::end_of_last_line(&mut file, end - 1)?;
            // The head of a line is enough: `{"v":1,"seq":…,`.
            let mut head = Vec::new();
            file.seek(SeekFrom::Start(start))?;
            Read::take(&mut file, (end - start).min(64)).read_to_end(&mut head)?;
            if let Some(number) = seq_of(&head) {
                return Ok(LastSeq { number, certain });
            }
            certain = false;
            end = start;
        }
    }
    Ok(LastSeq { number: 0, certain })
}

fn seq_of(head: &[u8]) -> Option<u64> {
    let digits = head.strip_prefix(br#"{"v":1,"seq":"#)?;
    let end = digits.iter().position(|byte| *byte == b',')?;
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}
