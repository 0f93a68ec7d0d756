//! Position of forwarding, in a file that is replaced atomically.
//!
//! This module does not know what was sent. A file that cannot be read counts as absent: the log is then sent from its
//! beginning, which is more than needed and never less.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::audit::chain::LinkMark;
use crate::base::error_chain::display_chain;

/// Position after a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct LogPosition {
    /// Number of the segment; 0: before the first.
    pub(super) segment: u32,
    /// Offset at which the following line begins, in bytes of the unpacked segment.
    pub(super) offset: u64,
    /// Length of the line in the file in bytes, with its newline.
    #[serde(default)]
    pub(super) length: u64,
    /// Sequence number of the line, or of the last line that had one if this line is no record.
    pub(super) seq: u64,
    /// Mark of the line, to check that it is still the same line.
    pub(super) chain: LinkMark,
    /// Mark of the first line of the segment, to check that it is still the same log.
    #[serde(default)]
    pub(super) began: LinkMark,
}

/// Number of bytes that are read of the file; a valid one is shorter.
const MAX_FILE_BYTES: u64 = 4096;

/// Returns the position saved in a file, or the beginning of the log if there is none that can be read. Blocks.
pub(super) fn load(path: &Path) -> LogPosition {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut text));
    match read {
        Ok(_) => serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), error = %display_chain(&error), "the forwarding position is damaged; forwarding the whole audit log again");
            LogPosition::default()
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => LogPosition::default(),
        Err(error) => {
            tracing::warn!(path = %path.display(), error = %display_chain(&error), "cannot read the forwarding position; forwarding the whole audit log again");
            LogPosition::default()
        }
    }
}

/// Replaces the file with one that has this position. Blocks.
pub(super) fn save(path: &Path, position: LogPosition) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec(&position)?)?;
    file.as_file().sync_data()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_again_and_damage_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("forward.position");
        assert_eq!(load(&path), LogPosition::default());
        let position = LogPosition {
            segment: 3,
            offset: 4711,
            length: 300,
            seq: 99,
            chain: "0123456789abcdef".parse().unwrap(),
            began: "fedcba9876543210".parse().unwrap(),
        };
        save(&path, position).unwrap();
        assert_eq!(load(&path), position);
        std::fs::write(&path, b"{").unwrap();
        assert_eq!(load(&path), LogPosition::default());
    }
}
