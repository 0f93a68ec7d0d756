//! Room on the log's disk that strangers may not use up: it is for those whose statements have to go on record.

use std::path::{Path, PathBuf};

/// A quarter of the file system is kept back, but no more than this.
const MAX_RESERVE_BYTES: u64 = 64 << 20;

/// The reserve of one folder's file system.
#[derive(Debug)]
pub(super) struct DiskReserve {
    dir: PathBuf,
}

impl DiskReserve {
    pub(super) fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Whether there is more room than the reserve. What cannot be asked is taken to be there: the write tells.
    pub(super) fn has_room(&self) -> bool {
        let Ok(space) = rustix::fs::statvfs(&self.dir) else {
            return true;
        };
        let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
        bytes(space.f_bavail) > (bytes(space.f_blocks) / 4).min(MAX_RESERVE_BYTES)
    }
}
