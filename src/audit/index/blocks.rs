//! A packed segment without the blocks that have nothing of what is looked for, as bytes to read lines from.
//!
//! It looks at no line. Blocks end with the ends of lines, so that what is left out is never part of one.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom};

use super::terms::Demand;
use super::{Block, Index};
use crate::audit::segment::Segment;

/// A larger block is not one of ours: it has a line longer than any record.
const LARGEST: u32 = 80 << 20;

/// The blocks that are left.
pub(in crate::audit) struct Blocks {
    file: File,
    left: VecDeque<Block>,
    frame: Vec<u8>,
    lines: Vec<u8>,
    /// What was read of `lines`.
    at: usize,
    /// Lines in front of the block that was begun last, until they are asked for.
    jumped: Option<u64>,
    unpacker: zstd::bulk::Decompressor<'static>,
}

/// Opens a packed segment with its index; `None` if there is none that can be used.
pub(in crate::audit) fn open(segment: &Segment, demand: &Demand) -> io::Result<Option<Blocks>> {
    let mut file = File::open(&segment.path)?;
    let Some(index) = Index::load(segment, &mut file) else {
        return Ok(None);
    };
    if index.blocks.is_empty() || index.blocks.iter().any(|block| block.size > LARGEST) {
        return Ok(None);
    }
    Ok(Some(Blocks {
        file,
        left: index.blocks.into_iter().filter(|block| demand.may_be_in(block)).collect(),
        frame: Vec::new(),
        lines: Vec::new(),
        at: 0,
        jumped: None,
        unpacker: zstd::bulk::Decompressor::new()?,
    }))
}

impl Blocks {
    /// How many lines of the segment lie before the next one, if a block was begun since this was asked.
    pub(in crate::audit) fn jumped(&mut self) -> Option<u64> {
        self.jumped.take()
    }

    fn next_block(&mut self) -> io::Result<()> {
        let Some(block) = self.left.pop_front() else {
            return Ok(());
        };
        self.file.seek(SeekFrom::Start(block.offset))?;
        self.frame.clear();
        let read = Read::take(&mut self.file, u64::from(block.length)).read_to_end(&mut self.frame)?;
        self.lines.clear();
        self.lines.reserve(usize::try_from(block.size).unwrap_or(0));
        self.at = 0;
        self.jumped = Some(block.lines);
        let size = self.unpacker.decompress_to_buffer(&self.frame, &mut self.lines)?;
        if read as u64 != u64::from(block.length) || size as u64 != u64::from(block.size) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Blocks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at >= self.lines.len() && !self.left.is_empty() {
            self.next_block()?;
        }
        Ok(self.lines.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
    }
}

impl Demand {
    /// Whether the block may have something of what is looked for.
    fn may_be_in(&self, block: &Block) -> bool {
        if block.unreadable {
            return true;
        }
        let one_of = |terms: &Vec<u64>| terms.iter().any(|term| block.may_have(*term));
        let too_old = self.since_us.is_some_and(|since| block.last_us < since) && !(self.by_result && block.torn);
        let too_young = self.until_us.is_some_and(|until| block.first_us >= until);
        let measured = self.min_duration_us.is_none_or(|least| block.max_duration_us >= least)
            && self.min_rows.is_none_or(|least| block.max_rows >= least);
        !too_old && !too_young && self.names.iter().all(one_of) && (block.torn || (measured && self.joined.iter().all(one_of)))
    }
}
