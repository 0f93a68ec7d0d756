//! The blocks of a packed segment that may have something of what is looked for, unpacked.
//!
//! It looks at no line. Blocks end with the ends of lines, so that what is left out is never part of one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::terms::Demand;
use super::{Block, Index};
use crate::audit::segment::Segment;

/// The blocks that are left.
pub(in crate::audit) struct Blocks {
    file: File,
    left: std::vec::IntoIter<Block>,
    frame: Vec<u8>,
    lines: Vec<u8>,
    unpacker: zstd::bulk::Decompressor<'static>,
}

/// Opens a packed segment with its index; `None` if there is none that can be used.
pub(in crate::audit) fn open(segment: &Segment, demand: &Demand) -> io::Result<Option<Blocks>> {
    let mut file = File::open(&segment.path)?;
    let Some(mut index) = Index::load(segment, &mut file) else {
        return Ok(None);
    };
    if index.blocks.is_empty() {
        return Ok(None);
    }
    index.blocks.retain(|block| demand.may_be_in(block));
    Ok(Some(Blocks {
        file,
        left: index.blocks.into_iter(),
        frame: Vec::new(),
        lines: Vec::new(),
        unpacker: zstd::bulk::Decompressor::new()?,
    }))
}

impl Blocks {
    /// The next one: how many lines of the segment lie before it, and its lines; `None` behind the last.
    pub(in crate::audit) fn next(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        let Some(block) = self.left.next() else {
            return Ok(None);
        };
        self.frame.resize(usize::try_from(block.length).unwrap_or(0), 0);
        self.file.read_exact_at(&mut self.frame, block.offset)?;
        self.lines.clear();
        self.lines.reserve(usize::try_from(block.size).unwrap_or(0));
        let size = self.unpacker.decompress_to_buffer(&self.frame, &mut self.lines)?;
        if size as u64 != u64::from(block.size) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Some((block.lines, &self.lines)))
    }
}

impl Demand {
    /// Whether the block may have something of what is looked for.
    pub(super) fn may_be_in(&self, block: &Block) -> bool {
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
