//! A folder that one process has for itself, for as long as it lives.
//!
//! It makes no folder and writes nothing. The lock goes with the process, however that dies: there is no stale one to remove.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

/// The lock goes with the last copy of its descriptor. A process that has just closed it may have a copy left for a moment, in a
/// child between fork and exec; so a folder that is in use is tried again before it is given up.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Why a folder is not this process's.
#[derive(Debug, thiserror::Error)]
pub enum FolderLockError {
    /// Another process has it.
    #[error("another process has locked it")]
    Held,
    /// It cannot be opened or locked.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Takes a folder for this process until the file that is returned is dropped.
pub fn take(dir: &Path) -> Result<File, FolderLockError> {
    let folder = File::open(dir)?;
    for tries_left in (0..LOCK_TRIES).rev() {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(folder),
            Err(rustix::io::Errno::WOULDBLOCK) if tries_left > 0 => std::thread::sleep(LOCK_PAUSE),
            Err(rustix::io::Errno::WOULDBLOCK) => break,
            Err(error) => return Err(FolderLockError::Io(error.into())),
        }
    }
    Err(FolderLockError::Held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_process_s_until_it_lets_go() {
        let dir = tempfile::tempdir().unwrap();
        let held = take(dir.path()).unwrap();
        assert!(matches!(take(dir.path()), Err(FolderLockError::Held)));
        drop(held);
        assert!(take(dir.path()).is_ok());
        assert!(matches!(take(&dir.path().join("none")), Err(FolderLockError::Io(_))));
    }
}
