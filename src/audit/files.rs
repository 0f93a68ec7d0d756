//! How the log's files are named and found.
//!
//! It does not open them.

use std::io;
use std::path::{Path, PathBuf};

/// The name of the file with this number.
pub(super) fn name(number: u32) -> String {
    format!("audit-{number:06}.jsonl")
}

/// The number in a file's name, if it is one of ours.
pub(super) fn number(name: &str) -> Option<u32> {
    let number = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
    (number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit())).then(|| number.parse().ok())?
}

/// The log's files in the folder, in order.
pub(super) fn list(dir: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if let Some(number) = entry.file_name().to_str().and_then(number) {
            files.push((number, entry.path()));
        }
    }
    files.sort_unstable();
    Ok(files)
}
