//! How the log's files are named and found.
//!
//! It does not open them, nor know what a line means.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// How much is read at once when looking for the last line.
const CHUNK: u64 = 64 * 1024;

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

/// The first file with a higher number.
pub(super) fn after(dir: &Path, number: u32) -> io::Result<Option<(u32, PathBuf)>> {
    Ok(list(dir)?.into_iter().find(|(found, _)| *found > number))
}

/// The position after the last newline before `end`; 0 when there is none.
pub(super) fn end_of_last_line(file: &mut File, end: u64) -> io::Result<u64> {
    let mut end = end;
    let mut chunk = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        file.seek(SeekFrom::Start(start))?;
        chunk.clear();
        Read::take(&mut *file, end - start).read_to_end(&mut chunk)?;
        if let Some(at) = chunk.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
