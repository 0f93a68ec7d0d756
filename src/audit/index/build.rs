//! Makes indexes: reads a packed segment once and notes what each of its blocks has.
//!
//! It changes no segment, and nothing waits for it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use xorf::{BinaryFuse8, DmaSerializable};

use super::{Block, Index, MAX_BLOCK_BYTES, MAX_FRAME_BYTES, MAX_INDEX_BYTES, make, terms};
use crate::audit::event::{Event, Kind, Outcome, Sql, Statement};
use crate::audit::reading::{Reading, Readings};
use crate::audit::record::Record;
use crate::audit::segment;
use crate::ids::SessionId;
use crate::lexer::LexerSettings;

/// How much of a packed file is read at once.
const CHUNK: usize = 256 << 10;
/// Texts whose terms are remembered, at most.
const TEXTS: usize = 4096;
/// Longer ones are not.
const LONGEST: usize = 4096;

/// Segments that are looked at in one pass.
const AT_ONCE: usize = 16;

/// Keeps the indexes beside packed segments.
#[derive(Debug, Default)]
pub(in crate::audit) struct Indexer {
    /// Segments whose index was found or made.
    done: HashSet<u32>,
}

impl Indexer {
    /// Makes indexes that are missing or not fit for use; `false` when there may be more of them, for a start finds all the segments
    /// there are, and packing must not wait for that. One that is damaged later is not used by readers, and made again at the next
    /// start.
    pub(in crate::audit) fn pass(&mut self, dir: &Path) -> io::Result<bool> {
        let segments = segment::list(dir)?;
        let mut left = segments
            .iter()
            .filter(|segment| segment.packed && !self.done.contains(&segment.number));
        let now: Vec<_> = left.by_ref().take(AT_ONCE).collect();
        let done = left.next().is_none();
        for segment in now {
            // Also one that cannot be read: it will not be read any better a second later.
            self.done.insert(segment.number);
            let fit = Index::load(segment, &mut std::fs::File::open(&segment.path)?).is_some();
            if !fit {
                make(segment)?;
            }
        }
        Ok(done)
    }
}

/// Blocks of one segment: a gate's segments have a few hundred.
const MAX_BLOCKS: usize = 1 << 16;
/// What is held of blocks and statements that are not complete, in terms: a gate's segments come to a tenth of it.
const MAX_TERMS: usize = 8 << 20;

/// Reads a packed segment from its beginning. Of one that is not in frames of whole lines, or has more in it than can be held, nothing
/// is known: no blocks.
pub(super) fn build(packed: &mut impl Read) -> io::Result<Index> {
    build_within(packed, MAX_TERMS)
}

/// The same with so much room for what is held, in terms.
pub(super) fn build_within(packed: &mut impl Read, room: usize) -> io::Result<Index> {
    let mut frames = Frames::default();
    let mut building = Building {
        room,
        ..Building::default()
    };
    while let Some(frame) = frames.next(packed)? {
        let lines = unpacked(&frame)?;
        let Some(lines) = lines.filter(|_| building.blocks.last().is_none_or(|last| last.whole)) else {
            return Ok(Index { blocks: Vec::new() });
        };
        building.block(frame.len(), &lines);
        if building.is_too_much() {
            return Ok(Index { blocks: Vec::new() });
        }
    }
    Ok(building.finish())
}

/// The lines of a frame; nothing if they are more than a block of ours can have, however small the frame is.
fn unpacked(frame: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut lines = Vec::new();
    let most = u64::from(MAX_BLOCK_BYTES);
    Read::take(zstd::Decoder::new(frame)?, most + 1).read_to_end(&mut lines)?;
    Ok((lines.len() as u64 <= most).then_some(lines))
}

/// The frames of a packed file, one after the other.
#[derive(Default)]
struct Frames {
    pending: Vec<u8>,
}

impl Frames {
    fn next(&mut self, from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Ok(length) = zstd::zstd_safe::find_frame_compressed_size(&self.pending)
                && length <= self.pending.len()
                && length > 0
            {
                return Ok(Some(self.pending.drain(..length).collect()));
            }
            if self.pending.len() >= MAX_FRAME_BYTES as usize + CHUNK {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a longer frame than any of ours"));
            }
            let read = Read::take(&mut *from, CHUNK as u64).read_to_end(&mut self.pending)?;
            if read == 0 {
                return if self.pending.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }
}

#[derive(Default)]
struct Building {
    blocks: Vec<Draft>,
    /// Statements that have no outcome yet.
    open: HashMap<SessionId, BTreeMap<u64, Open>>,
    readings: Readings,
    texts: HashMap<Box<str>, Arc<[u64]>>,
    offset: u64,
    lines: u64,
    /// What is held, in terms, and what may be.
    held: usize,
    room: usize,
    /// The fingerprints of finished blocks. Bytes.
    finished: usize,
}

/// A block whose terms are not complete.
#[derive(Default)]
struct Draft {
    block: Block,
    terms: HashSet<u64>,
    /// It ends with the end of a line.
    whole: bool,
    empty: bool,
}

/// A statement without an outcome so far: its block, and the terms of its content.
struct Open {
    block: usize,
    /// It only parses: if that succeeds, no outcome comes.
    parses: bool,
    reading: Arc<Reading>,
    text: Arc<[u64]>,
    beside: Vec<u64>,
}

impl Open {
    /// What a statement takes beside its terms, in terms.
    const OVERHEAD: usize = 32;

    fn weight(&self) -> usize {
        self.text.len() + self.beside.len() + Self::OVERHEAD
    }
}

impl Building {
    fn block(&mut self, length: usize, lines: &[u8]) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.blocks.push(Draft {
            block: Block {
                offset: self.offset,
                length,
                size: u32::try_from(lines.len()).unwrap_or(u32::MAX),
                lines: self.lines,
                ..Block::default()
            },
            whole: lines.ends_with(b"\n"),
            empty: true,
            terms: HashSet::new(),
        });
        self.offset += u64::from(length);
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            self.lines += 1;
            self.line(line);
            if self.is_too_much() {
                return;
            }
        }
        self.seal();
        self.weigh();
    }

    fn is_too_much(&self) -> bool {
        self.held > self.room || self.blocks.len() > MAX_BLOCKS || self.finished as u64 > MAX_INDEX_BYTES / 2
    }

    /// Takes stock of what is held; between two looks it only grows.
    fn weigh(&mut self) {
        let open = self.open.values().flat_map(BTreeMap::values).map(Open::weight).sum::<usize>();
        let drafts = self.blocks.iter().map(|draft| draft.terms.len()).sum::<usize>();
        self.held = open + drafts + self.open.len() * Open::OVERHEAD;
        self.finished = self.blocks.iter().map(|draft| draft.block.fingerprints.len()).sum();
    }

    fn line(&mut self, line: &[u8]) {
        let at = self.blocks.len() - 1;
        let Some(draft) = self.blocks.last_mut() else { return };
        let record = line.strip_suffix(b"\n").and_then(|line| Record::parse(line).ok());
        let Some(record) = record else {
            draft.block.unreadable = true;
            return;
        };
        draft.is_at(record.seq, record.time.as_microsecond());
        terms::of_names(&record.event, |term| {
            draft.terms.insert(term);
        });
        match &record.event {
            Event::Statement(statement) => self.statement(at, statement),
            Event::Outcome(outcome) => self.outcome(at, record.time.as_microsecond(), outcome),
            Event::SessionEnded(ended) => drop(self.open.remove(&ended.who.session)),
            Event::GateStarted(_) => self.open.clear(),
            _ => {}
        }
    }

    fn statement(&mut self, at: usize, statement: &Statement<'_>) {
        let reading = self.readings.of_statement(statement);
        let text = self.text(statement, &reading);
        let mut beside = Vec::new();
        terms::beside(statement, &mut |term| beside.push(term));
        let open = Open {
            block: at,
            parses: statement.kind == Kind::Parse,
            reading,
            text,
            beside,
        };
        // In the block, in the statement, and for a session that is new.
        self.held += 2 * open.weight() + Open::OVERHEAD;
        if let Some(draft) = self.blocks.get_mut(at) {
            draft.add_content(&open);
        }
        let session = self.open.entry(statement.who.session.clone()).or_default();
        session.insert(statement.statement, open);
    }

    fn outcome(&mut self, at: usize, time: i64, outcome: &Outcome<'_>) {
        let open = self.open.get_mut(&outcome.who.session).and_then(|session| {
            // A session's outcomes are in the order of its statements: what was to be parsed before this one was.
            session.retain(|number, open| !open.parses || *number >= outcome.statement);
            session.remove(&outcome.statement)
        });
        let Some(draft) = self.blocks.get_mut(at) else { return };
        draft.add_result(outcome);
        let Some(open) = open else {
            draft.block.torn = true;
            return;
        };
        // Its names are not what was read, then.
        let contradicted = open.reading.is_complete() && !open.reading.with_outcome(outcome).is_complete();
        draft.hides_names(contradicted);
        if open.block != at {
            draft.add_content(&open);
            if let Some(other) = self.blocks.get_mut(open.block) {
                other.add_result(outcome);
                other.hides_names(contradicted);
                other.block.last_us = other.block.last_us.max(time);
            }
        }
    }

    /// The terms of a statement's SQL.
    fn text(&mut self, statement: &Statement<'_>, reading: &Reading) -> Arc<[u64]> {
        let text = statement.sql.as_ref().map_or("", |sql| sql.text.0.as_ref());
        // The same text may be the beginning of another one, or not be relied on.
        let usual = |sql: &Sql<'_>| sql.settings() == Some(LexerSettings::default());
        let known = reading.is_read() && text.len() <= LONGEST && statement.sql.as_ref().is_none_or(usual);
        if let Some(known) = self.texts.get(text).filter(|_| known) {
            return Arc::clone(known);
        }
        let mut found = HashSet::new();
        terms::of_text(text, reading, &mut |term| {
            found.insert(term);
        });
        let found: Arc<[u64]> = found.into_iter().collect();
        if known {
            if self.texts.len() >= TEXTS {
                self.texts.clear();
            }
            self.texts.insert(text.into(), Arc::clone(&found));
        }
        found
    }

    /// Makes the filters of the blocks to which nothing can be added any more.
    fn seal(&mut self) {
        let awaited: HashSet<usize> = self.open.values().flat_map(BTreeMap::values).map(|open| open.block).collect();
        for (at, draft) in self.blocks.iter_mut().enumerate() {
            if !awaited.contains(&at) {
                draft.seal();
            }
        }
    }

    fn finish(mut self) -> Index {
        for open in self.open.values().flat_map(BTreeMap::values) {
            if let Some(draft) = self.blocks.get_mut(open.block) {
                draft.block.torn = true;
            }
        }
        self.open.clear();
        self.seal();
        let blocks = self.blocks.into_iter().map(|draft| draft.block);
        Index {
            blocks: blocks.collect(),
        }
    }
}

impl Draft {
    fn is_at(&mut self, seq: u64, time: i64) {
        let block = &mut self.block;
        if std::mem::take(&mut self.empty) {
            (block.first_seq, block.first_us, block.last_us) = (seq, time, time);
        }
        block.last_seq = seq;
        block.first_us = block.first_us.min(time);
        block.last_us = block.last_us.max(time);
    }

    fn add_content(&mut self, open: &Open) {
        self.terms.extend(open.text.iter().chain(&open.beside));
    }

    /// A search for any table may want something of it.
    fn hides_names(&mut self, hides: bool) {
        if hides {
            self.terms.insert(terms::hidden());
        }
    }

    fn add_result(&mut self, outcome: &Outcome<'_>) {
        terms::of_result(outcome, &mut |term| {
            self.terms.insert(term);
        });
        self.block.max_duration_us = self.block.max_duration_us.max(outcome.duration_us);
        self.block.max_rows = self.block.max_rows.max(outcome.rows_in_all());
    }

    /// Makes the filter, once.
    fn seal(&mut self) {
        if !self.block.fingerprints.is_empty() {
            return;
        }
        let terms: Vec<u64> = std::mem::take(&mut self.terms).into_iter().collect();
        // It comes about in a few attempts of a thousand; a block without one is never skipped.
        let filter = BinaryFuse8::try_from(&terms).or_else(|_| {
            self.block.unreadable = true;
            BinaryFuse8::try_from(&Vec::new())
        });
        if let Ok(filter) = filter {
            filter.dma_copy_descriptor_to(&mut self.block.descriptor);
            self.block.fingerprints = filter.dma_fingerprints().to_vec();
        }
    }
}
