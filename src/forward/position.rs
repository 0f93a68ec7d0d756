//! Where the forwarding of the log was, in a file that is whole whenever it is read.
//!
//! It does not know what was sent. A file that cannot be read is as none: then the log is sent from its beginning, which is more
//! than is needed and never less.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::audit::chain::Mark;
use crate::causes::in_one_line;

/// Behind which line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Position {
    /// The number of its segment; 0: before the first.
    pub(super) segment: u32,
    /// Where the line behind it begins, in bytes of the unpacked segment.
    pub(super) offset: u64,
    /// How long it is there, with its newline.
    #[serde(default)]
    pub(super) length: u64,
    /// Its number; of the last line that had one, if it is no record.
    pub(super) seq: u64,
    /// Its mark: that it is still the same line.
    pub(super) chain: Mark,
    /// The mark of its segment's first line: that it is still the same log.
    #[serde(default)]
    pub(super) began: Mark,
}

/// A longer file is none of ours.
const MAX_BYTES: u64 = 4096;

/// The file.
#[derive(Debug, Clone)]
pub(super) struct PositionFile(PathBuf);

impl PositionFile {
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// What it says. Blocking.
    pub(super) fn load(&self) -> Position {
        let mut text = Vec::new();
        let read = std::fs::File::open(&self.0).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text));
        let text = match read.map(|_| text) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Position::default(),
            Err(error) => {
                tracing::warn!(path = %self.0.display(), error = %in_one_line(&error), "cannot read the forwarding position; forwarding the whole audit log again");
                return Position::default();
            }
        };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(path = %self.0.display(), error = %in_one_line(&error), "the forwarding position is damaged; forwarding the whole audit log again");
            Position::default()
        })
    }

    /// Replaces it. Blocking.
    pub(super) fn save(&self, position: Position) -> io::Result<()> {
        let folder = self.0.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec(&position)?)?;
        file.as_file().sync_data()?;
        file.persist(&self.0)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_again_and_damage_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("forward.position");
        let file = PositionFile::at(path.clone());
        assert_eq!(file.load(), Position::default());
        let position = Position {
            segment: 3,
            offset: 4711,
            length: 300,
            seq: 99,
            chain: "0123456789abcdef".to_owned().try_into().unwrap(),
            began: "fedcba9876543210".to_owned().try_into().unwrap(),
        };
        file.save(position).unwrap();
        assert_eq!(PositionFile::at(path.clone()).load(), position);
        std::fs::write(&path, b"{").unwrap();
        assert_eq!(file.load(), Position::default());
    }
}
