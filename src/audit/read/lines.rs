//! Lines of one segment that may match, as bytes.
//!
//! This module parses no line and chooses none: it leaves out lines that the prefilter rules out. A packed segment is unpacked and
//! sifted on a thread of its own, so that several are read at once. A line that may still be in the course of being written is
//! read again from its beginning.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::audit::chain::number;
use crate::audit::filter::LinePrefilter;
use crate::audit::recovery::voids_behind;
use crate::audit::segment::{self, MAX_LINE_BYTES, NextLine, Segment};

/// Number of bytes that are sifted at once; a line may be longer.
const CHUNK_BYTES: usize = 1 << 20;
/// Size in bytes from which a batch is handed over (a line may be longer), and number of batches that wait before the thread
/// does.
const BATCH_BYTES: usize = 1 << 20;
const MAX_BATCHES_AHEAD: usize = 1;
/// Niceness of reading threads: lower priority than the threads of sessions.
const NICE_LEVEL: i32 = 10;

/// Lines that passed the sieve.
#[derive(Debug, Default)]
struct SiftedBatch {
    text: Vec<u8>,
    /// Offsets of lines that do not directly follow those before, each with the number of the segment's lines before it.
    marks: VecDeque<(usize, u64)>,
}

/// Collector of the lines that passed the sieve.
#[derive(Debug, Default)]
struct LineCollector {
    batch: SiftedBatch,
    /// Index of the next line, counted from 0.
    next: u64,
    /// Number of the segment's last line, if its file may have further bytes.
    last: Option<u64>,
}

impl LineCollector {
    fn add(&mut self, at: u64, line: &[u8]) {
        let behind = |last| number(line).is_some_and(|number| number > last) || !line.ends_with(b"\n");
        if self.last.is_some_and(behind) {
            return;
        }
        if at != self.next {
            self.batch.marks.push_back((self.batch.text.len(), at));
        }
        self.next = at + 1;
        self.batch.text.extend_from_slice(line);
    }
}

/// Segment that is being read.
#[derive(Debug)]
pub(super) struct SegmentLines {
    pub(super) number: u32,
    pub(super) path: PathBuf,
    /// Number of lines so far, with those that were left out.
    pub(super) lines: u64,
    /// True if there is a newer segment, so that this one no longer grows; its end was read once more since that was seen.
    pub(super) final_look: bool,
    from: LinesOrigin,
    batch: SiftedBatch,
    /// Offset in the batch up to which it was read.
    at: usize,
    /// Place in the batch of the line that was read last.
    line: Range<usize>,
}

#[derive(Debug)]
enum LinesOrigin {
    /// Batches of a thread that unpacks and sifts the segment.
    Packed(Receiver<io::Result<SiftedBatch>>),
    /// File that is being written, or was.
    Growing(GrowingFile),
}

#[derive(Debug)]
struct GrowingFile {
    file: File,
    prefilter: Arc<LinePrefilter>,
    left: LineCollector,
    /// Offset of the next line that was not sifted.
    offset: u64,
    /// Number of lines before it.
    lines: u64,
    chunk: Vec<u8>,
    /// True if the end of the file was reached, in the middle of a line.
    partial: bool,
}

impl SegmentLines {
    /// Opens a segment at its first line.
    pub(super) fn open(dir: &Path, segment: &Segment, prefilter: &Arc<LinePrefilter>) -> io::Result<Self> {
        let from = if segment.packed {
            LinesOrigin::Packed(spawn(dir, segment, prefilter)?)
        } else {
            match File::open(&segment.path) {
                Ok(file) => LinesOrigin::Growing(GrowingFile::new(file, prefilter, last_line(dir, segment.number)?)),
                // The segment was packed since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    LinesOrigin::Packed(spawn(dir, &segment.as_packed(), prefilter)?)
                }
                Err(error) => return Err(error),
            }
        };
        Ok(Self {
            number: segment.number,
            path: segment.path.clone(),
            lines: 0,
            final_look: false,
            from,
            batch: SiftedBatch::default(),
            at: 0,
            line: 0..0,
        })
    }

    /// Reads the next line, without holding on to one that is too long.
    pub(super) fn read(&mut self) -> io::Result<NextLine> {
        let mut too_long = false;
        loop {
            let rest = self.batch.text.get(self.at..).unwrap_or_default();
            let (end, length) = (memchr::memchr(b'\n', rest), rest.len());
            while let Some((_, lines)) = self.batch.marks.pop_front_if(|(place, _)| length > 0 && *place <= self.at) {
                if !too_long {
                    self.lines = lines;
                }
            }
            if let Some(end) = end {
                self.line = self.at..self.at + end;
                (self.at, self.lines) = (self.line.end + 1, self.lines + 1);
                too_long |= end as u64 >= MAX_LINE_BYTES;
                return Ok(if too_long { NextLine::TooLong } else { NextLine::Line });
            }
            too_long |= length as u64 >= MAX_LINE_BYTES;
            if self.next_batch()? {
                continue;
            }
            if too_long {
                (self.at, self.lines) = (self.batch.text.len(), self.lines + 1);
                return Ok(NextLine::TooLong);
            }
            // The writer may take an unfinished line back and write another one, so it is read again from its beginning.
            if let LinesOrigin::Growing(growing) = &mut self.from {
                growing.partial = false;
            }
            return Ok(NextLine::Rest(length as u64));
        }
    }

    /// Goes on to the next batch; returns false at the end of the file. That of a packed segment leaves the batch as it is.
    fn next_batch(&mut self) -> io::Result<bool> {
        self.batch = match &mut self.from {
            LinesOrigin::Growing(growing) => growing.next()?,
            LinesOrigin::Packed(batches) => match batches.recv() {
                Ok(batch) => batch?,
                // The thread has ended, and so has the segment.
                Err(_) => return Ok(false),
            },
        };
        self.at = 0;
        Ok(!self.batch.text.is_empty())
    }

    /// Returns the line that was read last, without its newline.
    pub(super) fn line(&self) -> &[u8] {
        self.batch.text.get(self.line.clone()).unwrap_or_default()
    }

    /// Returns true if the segment is packed and thus no longer written.
    pub(super) fn is_packed(&self) -> bool {
        matches!(self.from, LinesOrigin::Packed(_))
    }

    /// Skips everything up to the end of the last whole line.
    pub(super) fn skip_to_end(&mut self) -> io::Result<()> {
        match &mut self.from {
            LinesOrigin::Growing(growing) => growing.offset = segment::end_of_last_line(&mut growing.file)?,
            LinesOrigin::Packed(batches) => {
                for batch in batches.iter() {
                    batch?;
                }
            }
        }
        Ok(())
    }

    /// Notes that there is a later segment, which may say where this one ends.
    pub(super) fn is_closed(&mut self, dir: &Path) -> io::Result<()> {
        if let LinesOrigin::Growing(growing) = &mut self.from {
            growing.left.last = last_line(dir, self.number)?;
        }
        Ok(())
    }
}

impl GrowingFile {
    fn new(file: File, prefilter: &Arc<LinePrefilter>, last: Option<u64>) -> Self {
        Self {
            file,
            prefilter: Arc::clone(prefilter),
            left: LineCollector {
                last,
                ..LineCollector::default()
            },
            offset: 0,
            lines: 0,
            chunk: Vec::new(),
            partial: false,
        }
    }

    /// Returns the next lines that passed the sieve; an empty batch at the end of the file. The bytes of an unfinished line
    /// come in a batch of their own, followed by the end of the file.
    fn next(&mut self) -> io::Result<SiftedBatch> {
        while !self.partial {
            self.chunk.clear();
            let whole = loop {
                let more = read_more(&self.file, self.offset, &mut self.chunk)?;
                if let Some(end) = memchr::memrchr(b'\n', &self.chunk) {
                    break Some(end + 1);
                }
                if !more || self.chunk.len() as u64 >= MAX_LINE_BYTES {
                    break None;
                }
            };
            let Some(whole) = whole else { return Ok(self.unfinished()) };
            let text = self.chunk.get(..whole).unwrap_or_default();
            let (front, left) = (self.lines, &mut self.left);
            self.prefilter.apply(text, |at, line| left.add(front + at, line));
            self.offset += whole as u64;
            self.lines += memchr::memchr_iter(b'\n', text).count() as u64;
            if !left.batch.text.is_empty() {
                return Ok(std::mem::take(&mut left.batch));
            }
        }
        Ok(SiftedBatch::default())
    }

    fn unfinished(&mut self) -> SiftedBatch {
        let text = std::mem::take(&mut self.chunk);
        if (text.len() as u64) < MAX_LINE_BYTES {
            self.partial = true;
            // Bytes after the segment's last line are not in the course of being written.
            if self.left.last.is_some() {
                return SiftedBatch::default();
            }
        } else {
            self.offset += text.len() as u64;
        }
        let marks = (self.left.next != self.lines).then_some((0, self.lines));
        self.left.next = self.lines;
        SiftedBatch {
            text,
            marks: marks.into_iter().collect(),
        }
    }
}

/// Reads more bytes after those in the chunk, which begins at `start`; returns false at the end of the file.
fn read_more(file: &File, start: u64, chunk: &mut Vec<u8>) -> io::Result<bool> {
    let had = chunk.len();
    chunk.resize(had + CHUNK_BYTES, 0);
    let mut end = had;
    while let Some(room) = chunk.get_mut(end..).filter(|room| !room.is_empty()) {
        match file.read_at(room, start + end as u64) {
            Ok(0) => break,
            Ok(read) => end += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    chunk.truncate(end);
    Ok(end > had)
}

/// Returns the number of the segment's last line, if the next segment says that its file may have further bytes.
fn last_line(dir: &Path, number: u32) -> io::Result<Option<u64>> {
    for next in segment::list(dir)?.iter().filter(|next| next.number > number) {
        match next.first_line() {
            Ok(Some(line)) => return Ok(voids_behind(&line)),
            // A segment without a line gives no answer.
            Ok(None) => {}
            // A packed segment that is damaged gives no answer, and is reported in its place.
            Err(_) if next.packed => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn spawn(dir: &Path, segment: &Segment, prefilter: &Arc<LinePrefilter>) -> io::Result<Receiver<io::Result<SiftedBatch>>> {
    // The file is opened here and not in the thread, because retention may remove it.
    let file = File::open(&segment.path)?;
    let (send, batches) = sync_channel(MAX_BATCHES_AHEAD);
    let (dir, segment, prefilter) = (dir.to_owned(), segment.clone(), Arc::clone(prefilter));
    std::thread::Builder::new().name("audit-read".to_owned()).spawn(move || {
        // Linux has a niceness for each thread. If it cannot be set, the reader works all the same.
        let _ = rustix::process::setpriority_process(None, NICE_LEVEL);
        let mut unpacking = UnpackTask {
            prefilter,
            left: LineCollector::default(),
            send,
        };
        let done = last_line(&dir, segment.number).and_then(|last| {
            unpacking.left.last = last;
            unpacking.all(file)
        });
        // Errors of sending are ignored: the receiver has gone. Lines before a damage are sent before the error.
        let rest = std::mem::take(&mut unpacking.left.batch);
        if !rest.text.is_empty() {
            let _ = unpacking.send.send(Ok(rest));
        }
        if let Err(error) = done {
            let _ = unpacking.send.send(Err(error));
        }
    })?;
    Ok(batches)
}

/// Work of an unpacking thread.
struct UnpackTask {
    prefilter: Arc<LinePrefilter>,
    left: LineCollector,
    send: SyncSender<io::Result<SiftedBatch>>,
}

impl UnpackTask {
    /// Sifts lines that come after `lines` other lines of the segment.
    fn take(&mut self, lines: u64, text: &[u8]) -> io::Result<()> {
        let left = &mut self.left;
        self.prefilter.apply(text, |at, line| left.add(lines + at, line));
        if left.batch.text.len() >= BATCH_BYTES {
            let batch = std::mem::take(&mut left.batch);
            self.send
                .send(Ok(batch))
                .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(())
    }

    /// Unpacks and filters the whole segment.
    fn all(&mut self, file: File) -> io::Result<()> {
        let mut reader = zstd::Decoder::new(file)?;
        let (mut chunk, mut used, mut lines) = (vec![0; 2 * CHUNK_BYTES], 0, 0);
        // Number of bytes that are known to have no end of a line.
        let mut endless = 0;
        loop {
            let read = match reader.read(chunk.get_mut(used..used + CHUNK_BYTES).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read,
            };
            used += read.as_ref().map_or(0, |read| *read);
            // This is the end, or a damage: the lines before it are handed over.
            let over = !matches!(read, Ok(1..));
            if used >= CHUNK_BYTES || (over && used > 0) {
                let text = chunk.get(..used).unwrap_or_default();
                let whole = match memchr::memrchr(b'\n', text.get(endless..).unwrap_or_default()) {
                    Some(end) if !over => endless + end + 1,
                    None if !over && (used as u64) < MAX_LINE_BYTES => 0,
                    // The rest of the file, or a line that is too long.
                    _ => used,
                };
                let text = text.get(..whole).unwrap_or_default();
                self.take(lines, text)?;
                lines += memchr::memchr_iter(b'\n', text).count() as u64;
                chunk.copy_within(whole..used, 0);
                used -= whole;
                // Behind the last end of a line there is none.
                endless = used;
                if chunk.len() < used + CHUNK_BYTES {
                    chunk.resize(used + CHUNK_BYTES, 0);
                }
            }
            if over {
                return read.map(drop);
            }
        }
    }
}
