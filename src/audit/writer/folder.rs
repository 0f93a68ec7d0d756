//! Opens the folder and the files of the log for writing.
//!
//! This module writes no line and does not look at the content of files.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use crate::audit::AuditError;
use crate::base::folder_lock::{self, FolderLockError};
use crate::model::ids::LogId;

/// Creates the folder (0700) and its parents if needed, and locks it for this process.
pub(super) fn lock_folder(dir: &Path) -> Result<File, AuditError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| AuditError::open(dir, error))?;
    take(dir)
}

/// Creates a folder again that was removed, and locks it. Its parent has to exist: if that is gone, no reader would look at a
/// log begun there.
pub(super) fn lock_again(dir: &Path) -> Result<File, AuditError> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(AuditError::open(dir, error)),
        _ => take(dir),
    }
}

fn take(dir: &Path) -> Result<File, AuditError> {
    folder_lock::take(dir).map_err(|error| match error {
        FolderLockError::Held => AuditError::Locked { dir: dir.to_owned() },
        FolderLockError::Io(error) => AuditError::open(dir, error),
    })
}

/// Opens a segment to continue it, without the bytes after its last whole line. A packed segment is closed for good: it is only
/// held open until the next one is begun.
pub(super) fn open_whole(path: &Path, length: u64, packed: bool) -> io::Result<File> {
    if packed {
        return File::open(path.with_extension("jsonl.zst"));
    }
    let file = options().create(true).open(path)?;
    if file.metadata()?.len() > length {
        file.set_len(length)?;
    }
    Ok(file)
}

/// Replaces a file atomically by one that only its owner can read.
pub(super) fn replace_private(path: &Path, text: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    // A leftover of a process that crashed here may have any mode.
    match std::fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
    file.write_all(text)?;
    std::fs::rename(&next, path)
}

pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(0o600);
    options
}

/// Generates the id of a new log.
pub(super) fn new_log() -> Result<LogId, AuditError> {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).map_err(|_| AuditError::Key(Arc::new(crate::audit::key::KeyError::Random)))?;
    Ok(LogId::from_random(bytes))
}

/// Returns true if a file is the one that a reader finds under its name, and at least as long as it was.
pub(super) fn is_in_place(file: &File, path: &Path, length: u64) -> bool {
    match (std::fs::symlink_metadata(path), file.metadata()) {
        (Ok(named), Ok(open)) => named.ino() == open.ino() && named.dev() == open.dev() && open.len() >= length,
        _ => false,
    }
}
