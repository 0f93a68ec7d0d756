//! The folder and files of the log, as the one that writes them opens them.
//!
//! It writes no line and knows nothing of what is in them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use crate::audit::AuditError;
use crate::folder_lock::{self, FolderLockError};
use crate::ids::LogId;

/// Makes the folder (0700) if need be, with those it is in, and takes it for this process.
pub(super) fn lock_folder(dir: &Path) -> Result<File, AuditError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| AuditError::open(dir, error))?;
    take(dir)
}

/// Makes the folder again that was removed, and takes it. What it was in has to be there: where that is gone, a log begun in its
/// place would be one that nobody looks at.
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

/// Opens a segment for going on with it, without what stands behind its last whole line. A packed one is closed for good: it is only
/// held until the next is begun.
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

/// Replaces a file, whole or not at all, by one that only its owner can read.
pub(super) fn replace_private(path: &Path, text: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    // One that a process left which died just here may have any mode.
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

/// Makes the name of a log that has none yet.
pub(super) fn new_log() -> Result<LogId, AuditError> {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).map_err(|_| AuditError::Key(Arc::new(crate::audit::key::KeyError::Random)))?;
    Ok(LogId::from_random(bytes))
}

/// Returns whether a file is the one that a reader finds under its name, and as long as it was.
pub(super) fn is_in_place(file: &File, path: &Path, length: u64) -> bool {
    match (std::fs::symlink_metadata(path), file.metadata()) {
        (Ok(named), Ok(open)) => named.ino() == open.ino() && named.dev() == open.dev() && open.len() >= length,
        _ => false,
    }
}
