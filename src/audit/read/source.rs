//! The lines of one segment that may be wanted, as bytes to read them from.
//!
//! It parses no line and chooses none: it leaves out what the prefilter rules out. A packed segment is unpacked and
//! filtered by a thread of its own, so that several are read at once.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::LONGEST;
use crate::audit::chain::number;
use crate::audit::filter::LinePrefilter;
use crate::audit::segment::{self, Segment};
use crate::audit::survey::voids_behind;

/// As much is filtered at once; a line may be longer.
const CHUNK: usize = 1 << 20;
/// As much of what is left is handed over at once (a line may be longer), and so many times before the thread waits.
const BATCH: usize = 1 << 20;
const AHEAD: usize = 1;
/// Below the threads of sessions.
const NICE: i32 = 10;

/// Lines that are left.
#[derive(Debug, Default)]
struct Batch {
    text: Vec<u8>,
    /// Where in it lines begin that do not follow those before, and how many lines of the segment are in front of them.
    marks: VecDeque<(usize, u64)>,
}

/// Collects lines that are left.
#[derive(Debug, Default)]
struct Collector {
    batch: Batch,
    /// The line that would follow, counted from 0.
    next: u64,
    /// The number of the segment's last line, where there may be more in its file.
    last: Option<u64>,
}

impl Collector {
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

/// The lines of a segment.
#[derive(Debug)]
pub(super) struct Source {
    from: Origin,
    batch: Batch,
    /// What was read of the batch.
    at: usize,
    jumped: Option<u64>,
}

#[derive(Debug)]
enum Origin {
    /// A thread unpacks and filters it.
    Packed(Receiver<io::Result<Batch>>),
    /// It is being written, or was.
    Growing(Growing),
}

#[derive(Debug)]
struct Growing {
    file: File,
    prefilter: Arc<LinePrefilter>,
    left: Collector,
    /// Where the next line begins that was not looked at.
    offset: u64,
    /// Lines in front of it.
    lines: u64,
    chunk: Vec<u8>,
    /// The end of the file was reached, in the middle of a line.
    partial: bool,
}

impl Source {
    /// Opens a segment, from its first line.
    pub(super) fn open(dir: &Path, segment: &Segment, prefilter: &Arc<LinePrefilter>) -> io::Result<Self> {
        let from = if segment.packed {
            Origin::Packed(spawn(dir, segment, prefilter)?)
        } else {
            match File::open(&segment.path) {
                Ok(file) => Origin::Growing(Growing::new(file, prefilter, last_line(dir, segment.number)?)),
                // It was packed since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let packed = Segment {
                        path: segment.path.with_extension("jsonl.zst"),
                        packed: true,
                        ..segment.clone()
                    };
                    Origin::Packed(spawn(dir, &packed, prefilter)?)
                }
                Err(error) => return Err(error),
            }
        };
        Ok(Self {
            from,
            batch: Batch::default(),
            at: 0,
            jumped: None,
        })
    }

    /// How many lines of the segment lie before the one that was read last, if some were left out in front of it.
    pub(super) fn jumped(&mut self) -> Option<u64> {
        self.jumped.take()
    }

    /// Whether it is a packed one, which nobody writes.
    pub(super) fn is_packed(&self) -> bool {
        matches!(self.from, Origin::Packed(_))
    }

    /// Leaves out what is in the segment, up to the end of its last whole line.
    pub(super) fn skip_to_end(&mut self) -> io::Result<()> {
        match &mut self.from {
            Origin::Growing(growing) => growing.offset = segment::end_of_last_line(&mut growing.file)?,
            Origin::Packed(batches) => {
                for batch in batches.iter() {
                    batch?;
                }
            }
        }
        Ok(())
    }

    /// Takes back the part of a line that was read last: it is read anew from its beginning.
    pub(super) fn take_back(&mut self, bytes: u64) {
        match &mut self.from {
            Origin::Growing(growing) => growing.partial = false,
            Origin::Packed(_) => self.at = self.at.saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX)),
        }
    }

    /// There is a segment behind it, which may say where this one ends.
    pub(super) fn is_closed(&mut self, dir: &Path, number: u32) -> io::Result<()> {
        if let Origin::Growing(growing) = &mut self.from {
            growing.left.last = last_line(dir, number)?;
        }
        Ok(())
    }
}

impl Growing {
    fn new(file: File, prefilter: &Arc<LinePrefilter>, last: Option<u64>) -> Self {
        Self {
            file,
            prefilter: Arc::clone(prefilter),
            left: Collector {
                last,
                ..Collector::default()
            },
            offset: 0,
            lines: 0,
            chunk: Vec::new(),
            partial: false,
        }
    }

    /// The next lines that are left; an empty batch at the end of the file. What it has of an unfinished line is in a batch of its own,
    /// with the end of the file behind it.
    fn next(&mut self) -> io::Result<Batch> {
        while !self.partial {
            self.chunk.clear();
            let whole = loop {
                let more = read_more(&self.file, self.offset, &mut self.chunk)?;
                if let Some(end) = memchr::memrchr(b'\n', &self.chunk) {
                    break Some(end + 1);
                }
                if !more || self.chunk.len() as u64 >= LONGEST {
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
        Ok(Batch::default())
    }

    fn unfinished(&mut self) -> Batch {
        let text = std::mem::take(&mut self.chunk);
        if (text.len() as u64) < LONGEST {
            self.partial = true;
            // Behind the segment's last line there is nothing that somebody is writing.
            if self.left.last.is_some() {
                return Batch::default();
            }
        } else {
            self.offset += text.len() as u64;
        }
        let marks = (self.left.next != self.lines).then_some((0, self.lines));
        self.left.next = self.lines;
        Batch {
            text,
            marks: marks.into_iter().collect(),
        }
    }
}

/// Reads on behind what is in the chunk, which begins at this place; `false` at the end of the file.
fn read_more(file: &File, start: u64, chunk: &mut Vec<u8>) -> io::Result<bool> {
    let had = chunk.len();
    chunk.resize(had + CHUNK, 0);
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

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Source {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.batch.text.len() {
            self.batch = match &mut self.from {
                Origin::Growing(growing) => growing.next()?,
                Origin::Packed(batches) => match batches.recv() {
                    Ok(batch) => batch?,
                    // The thread has ended: so has the segment.
                    Err(_) => return Ok(&[]),
                },
            };
            self.at = 0;
        }
        Ok(self.batch.text.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
        while let Some((_, lines)) = self.batch.marks.pop_front_if(|(place, _)| *place < self.at) {
            self.jumped = Some(lines);
        }
    }
}

/// The number of the last line that a segment has of the log, where the next one says that there may be more in its file.
fn last_line(dir: &Path, number: u32) -> io::Result<Option<u64>> {
    for next in segment::list(dir)?.iter().filter(|next| next.number > number) {
        let mut line = Vec::new();
        let first = next
            .open()
            .and_then(|lines| Read::take(lines, LONGEST).read_until(b'\n', &mut line));
        match first {
            // A packed one that is damaged says nothing, and is reported in its place.
            Err(_) if next.packed => return Ok(None),
            answer => answer?,
        };
        // One without a line says nothing.
        if line.pop_if(|byte| *byte == b'\n').is_some() {
            return Ok(voids_behind(&line));
        }
    }
    Ok(None)
}

fn spawn(dir: &Path, segment: &Segment, prefilter: &Arc<LinePrefilter>) -> io::Result<Receiver<io::Result<Batch>>> {
    // Here and not in the thread: retention may take the file away.
    let file = File::open(&segment.path)?;
    let (send, batches) = sync_channel(AHEAD);
    let (dir, segment, prefilter) = (dir.to_owned(), segment.clone(), Arc::clone(prefilter));
    std::thread::Builder::new().name("audit-read".to_owned()).spawn(move || {
        // Linux counts niceness by thread. Without it the reader works all the same.
        let _ = rustix::process::setpriority_process(None, NICE);
        let mut unpacking = Unpacking {
            prefilter,
            left: Collector::default(),
            send,
        };
        let done = last_line(&dir, segment.number).and_then(|last| {
            unpacking.left.last = last;
            unpacking.all(file)
        });
        // Nobody is told when nobody listens any more. What was read in front of a damage is not lost with it.
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

/// What a thread does.
struct Unpacking {
    prefilter: Arc<LinePrefilter>,
    left: Collector,
    send: SyncSender<io::Result<Batch>>,
}

impl Unpacking {
    /// Filters lines that have so many lines in front of them.
    fn take(&mut self, lines: u64, text: &[u8]) -> io::Result<()> {
        let left = &mut self.left;
        self.prefilter.apply(text, |at, line| left.add(lines + at, line));
        if left.batch.text.len() >= BATCH {
            let batch = std::mem::take(&mut left.batch);
            self.send
                .send(Ok(batch))
                .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(())
    }

    fn all(&mut self, file: File) -> io::Result<()> {
        let mut reader = io::BufReader::with_capacity(CHUNK, zstd::Decoder::new(file)?);
        let (mut chunk, mut lines) = (Vec::new(), 0);
        loop {
            let read = Read::take(&mut reader, LONGEST).read_until(b'\n', &mut chunk);
            // At its end, or at a damage: what is in front of that is shown.
            let over = !matches!(read, Ok(1..));
            if chunk.len() >= CHUNK || (over && !chunk.is_empty()) {
                self.take(lines, &chunk)?;
                lines += memchr::memchr_iter(b'\n', &chunk).count() as u64;
                chunk.clear();
            }
            if over {
                return read.map(drop);
            }
        }
    }
}
