//! Reserve on the log's disk that records of strangers may not use: it is for the records of statements of authenticated clients.

use std::path::{Path, PathBuf};

/// Maximum size of the reserve in bytes; it is a quarter of the file system up to this size.
const MAX_RESERVE_BYTES: u64 = 64 << 20;

/// Reserve on the file system of one directory.
#[derive(Debug)]
pub(super) struct DiskReserve {
    dir: PathBuf,
}

impl DiskReserve {
    pub(super) fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Returns true if there is more room than the reserve, or if the file system cannot be asked: then the write itself shows
    /// it.
    pub(super) fn has_room(&self) -> bool {
        let Ok(space) = rustix::fs::statvfs(&self.dir) else {
            return true;
        };
        let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
        bytes(space.f_bavail) > (bytes(space.f_blocks) / 4).min(MAX_RESERVE_BYTES)
    }
}
