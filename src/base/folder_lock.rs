//! Exclusive lock of a process on a directory, for the process's lifetime.
//!
//! It creates no directory and writes nothing. The system releases the lock at any end of the process, so there is no stale lock
//! to remove.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

/// Number of attempts to take the lock. The lock is released with the last copy of its descriptor. A child of its former holder
/// may have a copy for a moment between fork and exec, so a held lock is retried before that is an error.
const LOCK_ATTEMPTS: u32 = 10;
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Error of taking the lock.
#[derive(Debug, thiserror::Error)]
pub enum FolderLockError {
    /// Another process holds it.
    #[error("another process has locked it")]
    Held,
    /// The directory cannot be opened or locked.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Locks a directory for this process until the returned file is dropped.
pub fn take(dir: &Path) -> Result<File, FolderLockError> {
    let folder = File::open(dir)?;
    for tries_left in (0..LOCK_ATTEMPTS).rev() {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(folder),
            Err(rustix::io::Errno::WOULDBLOCK) if tries_left > 0 => std::thread::sleep(LOCK_RETRY_INTERVAL),
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
