//! How the log's segments are named, found and opened.
//!
//! It does not write them (the writer does), pack them (the compactor does), nor know what a line means.
//!
//! A segment is `audit-000001.jsonl`; once it is closed and packed, `audit-000001.jsonl.zst`. Where both are there, packing was
//! interrupted, and the first is the segment.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Number of bytes read at once.
const CHUNK_BYTES: usize = 128 * 1024;

/// A longer line is not one of ours: an SQL text of the greatest length that can be configured is 8 MiB, all parameters listed with it
/// are 64 KiB, and a byte of either is an escape of at most six. Bytes.
pub(crate) const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;

/// A segment in a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// Its number, from 1.
    pub number: u32,
    /// Path of the file.
    pub path: PathBuf,
    /// True if it is closed and compressed.
    pub packed: bool,
}

/// The name of the segment that is being written.
pub(super) fn name(number: u32) -> String {
    format!("audit-{number:06}.jsonl")
}

impl Segment {
    /// The segment with this path, if its name is the one that a gate gives it: no number has two names.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        let rest = path.file_name()?.to_str()?.strip_prefix("audit-")?;
        let (digits, packed) = match rest.strip_suffix(".jsonl.zst") {
            Some(digits) => (digits, true),
            None => (rest.strip_suffix(".jsonl")?, false),
        };
        let number = digits
            .parse()
            .ok()
            .filter(|number| *number > 0 && name(*number) == format!("audit-{digits}.jsonl"))?;
        Some(Self {
            number,
            path: path.to_owned(),
            packed,
        })
    }

    /// The segment as it is once it is packed.
    #[must_use]
    pub fn as_packed(&self) -> Self {
        Self {
            number: self.number,
            path: self.path.with_extension("jsonl.zst"),
            packed: true,
        }
    }

    /// Returns its first line, without the newline; `None` if it has none.
    pub(super) fn first_line(&self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let next = next_line(&mut self.open()?, &mut line)?;
        Ok((next == NextLine::Line).then_some(line))
    }

    /// Opens it for reading from its first line.
    pub fn open(&self) -> io::Result<SegmentReader> {
        match File::open(&self.path) {
            Ok(file) if self.packed => unpack(file),
            Ok(file) => Ok(SegmentReader::Plain(BufReader::with_capacity(CHUNK_BYTES, file))),
            // It was packed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.packed => unpack(File::open(self.as_packed().path)?),
            Err(error) => Err(error),
        }
    }
}

fn unpack(file: File) -> io::Result<SegmentReader> {
    let decoder = zstd::Decoder::new(file)?;
    Ok(SegmentReader::Packed(Box::new(BufReader::with_capacity(
        CHUNK_BYTES,
        decoder,
    ))))
}

/// A segment's bytes.
pub enum SegmentReader {
    /// A segment as it is written; it may grow.
    Plain(BufReader<File>),
    /// A packed one.
    Packed(Box<BufReader<zstd::Decoder<'static, BufReader<File>>>>),
}

impl std::fmt::Debug for SegmentReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Packed(_) => "Packed",
        })
    }
}

impl Read for SegmentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Packed(reader) => reader.read(buffer),
        }
    }
}

impl BufRead for SegmentReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self {
            Self::Plain(reader) => reader.fill_buf(),
            Self::Packed(reader) => reader.fill_buf(),
        }
    }

    fn consume(&mut self, amount: usize) {
        match self {
            Self::Plain(reader) => reader.consume(amount),
            Self::Packed(reader) => reader.consume(amount),
        }
    }
}

/// The log's segments in the folder, in order, each once.
pub fn list(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        segments.extend(Segment::at(&entry?.path()));
    }
    // The plain one first where both are there.
    segments.sort_by_key(|segment| (segment.number, segment.packed));
    segments.dedup_by_key(|segment| segment.number);
    Ok(segments)
}

/// Files in the folder that are named almost like segments, in order: nobody reads them.
pub(super) fn strays(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut strays = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().to_ascii_lowercase())
            .unwrap_or_default();
        let rest = name
            .strip_prefix("audit-")
            .map(|rest| rest.strip_suffix(".zst").unwrap_or(rest));
        let alike = rest.is_some_and(|rest| rest.strip_suffix(".jsonl").is_some());
        if alike && Segment::at(&path).is_none() {
            strays.push(path);
        }
    }
    strays.sort();
    Ok(strays)
}

/// Replaces a file atomically by one that only its owner can read.
pub(super) fn replace_private(path: &Path, text: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    // A leftover of a process that crashed here may have any mode.
    remove_if_there(&next)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
    file.write_all(text)?;
    std::fs::rename(&next, path)
}

/// Removes a file, if there is one.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Next part of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextLine {
    /// A whole line; the newline is cut off.
    Line,
    /// A line longer than [`MAX_LINE_BYTES`], of which that much was read.
    TooLong,
    /// End of the file, with the number of bytes of a line without its end.
    Rest(u64),
}

/// Reads the next line, and never more of it than a gate writes.
pub(super) fn next_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<NextLine> {
    line.clear();
    let read = Read::take(from, MAX_LINE_BYTES).read_until(b'\n', line)? as u64;
    Ok(match line.pop_if(|byte| *byte == b'\n') {
        Some(_) => NextLine::Line,
        None if read == MAX_LINE_BYTES => NextLine::TooLong,
        None => NextLine::Rest(read),
    })
}

/// The first segment with a higher number.
pub(super) fn after(dir: &Path, number: u32) -> io::Result<Option<Segment>> {
    Ok(list(dir)?.into_iter().find(|segment| segment.number > number))
}

/// The position after the last newline; 0 when there is none.
pub(super) fn end_of_last_line(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut chunk = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(CHUNK_BYTES as u64);
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
