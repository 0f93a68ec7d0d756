//! The index beside a packed segment: what each of its blocks has, so that a reader may skip those that have nothing it looks for.
//!
//! It chooses no record: the selector decides on the lines of the blocks that are left, so that a block too many costs time and no
//! more. It is never the truth: it is made from the segment, may be removed at any time, and is made again; one that is missing,
//! damaged, or made for another segment is not used. Verification does not look at it.
//!
//! The law: reading with an index gives what reading without it gives. So a block says more rather than less: statement and
//! outcome that stand in different blocks say what they have in both; a block with one of them only, or with a line that cannot
//! be read, is not skipped for what the other might have.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter as _, FilterRef};

use super::segment::Segment;

mod blocks;
mod build;
mod terms;

pub(super) use blocks::open;
pub(super) use build::Indexer;
pub(super) use terms::Demand;

/// Says what it is, and in which version. A change of the terms is a change of the version.
const MAGIC: &[u8; 8] = b"TGINDEX2";
const SUM: usize = 32;
/// Of the packed file's two ends as much goes into its identity: they have the log's id, the chain's state and signatures.
const END: u64 = 4096;
/// The descriptor of a filter, as xorf writes it.
const DESCRIPTOR: usize = BinaryFuse8::DESCRIPTOR_LEN;

/// A larger file is not used: an index has a few per cent of its segment's bytes.
const MAX_INDEX_BYTES: u64 = 64 << 20;
/// A larger block is not one of ours: it has a line longer than any record.
const MAX_BLOCK_BYTES: u32 = 80 << 20;
/// A larger frame is not one of ours: what cannot be packed at all grows by less than that (zstd: ZSTD_COMPRESSBOUND).
const MAX_FRAME_BYTES: u32 = MAX_BLOCK_BYTES + MAX_BLOCK_BYTES / 128 + 1024;

/// What is known of a packed segment.
#[derive(Debug, Clone)]
pub(super) struct Index {
    blocks: Vec<Block>,
}

/// What is known of a block: whole lines, packed in a frame of their own.
#[derive(Debug, Clone, Default)]
pub(super) struct Block {
    /// Where its frame begins in the packed file, and how long it is.
    offset: u64,
    length: u32,
    /// How long it is unpacked.
    size: u32,
    /// Lines in front of it.
    lines: u64,
    /// The numbers of its first and last record.
    first_seq: u64,
    last_seq: u64,
    /// The times of its records, and of the outcomes of its statements. Microseconds since 1970.
    first_us: i64,
    last_us: i64,
    /// The most of its outcomes, and of the outcomes of its statements.
    max_duration_us: u64,
    max_rows: u64,
    /// A statement has its outcome in another segment, or the other way round.
    torn: bool,
    /// It has a line that cannot be read.
    unreadable: bool,
    /// The filter of its terms: descriptor and fingerprints.
    descriptor: [u8; DESCRIPTOR],
    fingerprints: Vec<u8>,
}

impl Block {
    /// Whether one of its records may have the term.
    fn may_have(&self, term: u64) -> bool {
        BinaryFuse8Ref::from_dma(&self.descriptor, &self.fingerprints).contains(&term)
    }

    /// Whether it is one that a segment of so many packed bytes can have, so that it may be asked for room in memory.
    fn is_of(&self, length: u64) -> bool {
        let end = self.offset.checked_add(self.length.into());
        end.is_some_and(|end| end <= length) && self.length <= MAX_FRAME_BYTES && self.size <= MAX_BLOCK_BYTES
    }

    /// A descriptor that does not fit its fingerprints would be looked up past their end.
    fn is_sound(&self) -> bool {
        let number = |at: usize| {
            let bytes = self.descriptor.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_le_bytes)
        };
        // As xorf has it: a seed of eight bytes, a segment's length, its mask, the length of all but the last two.
        let (segment, mask, count) = (number(8), number(12), number(16));
        segment.is_power_of_two()
            && mask == segment - 1
            && u64::from(count) + 2 * u64::from(segment) <= self.fingerprints.len() as u64
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.offset.to_le_bytes());
        out.extend(self.length.to_le_bytes());
        out.extend(self.size.to_le_bytes());
        for number in [self.lines, self.first_seq, self.last_seq] {
            out.extend(number.to_le_bytes());
        }
        out.extend(self.first_us.to_le_bytes());
        out.extend(self.last_us.to_le_bytes());
        out.extend(self.max_duration_us.to_le_bytes());
        out.extend(self.max_rows.to_le_bytes());
        out.extend([u8::from(self.torn), u8::from(self.unreadable)]);
        out.extend(self.descriptor);
        out.extend(u32::try_from(self.fingerprints.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend(&self.fingerprints);
    }

    fn read(from: &mut &[u8]) -> Option<Self> {
        let mut block = Self {
            offset: u64::from_le_bytes(take(from)?),
            length: u32::from_le_bytes(take(from)?),
            size: u32::from_le_bytes(take(from)?),
            lines: u64::from_le_bytes(take(from)?),
            first_seq: u64::from_le_bytes(take(from)?),
            last_seq: u64::from_le_bytes(take(from)?),
            first_us: i64::from_le_bytes(take(from)?),
            last_us: i64::from_le_bytes(take(from)?),
            max_duration_us: u64::from_le_bytes(take(from)?),
            max_rows: u64::from_le_bytes(take(from)?),
            torn: take::<1>(from)? != [0],
            unreadable: take::<1>(from)? != [0],
            descriptor: take(from)?,
            fingerprints: Vec::new(),
        };
        let length = usize::try_from(u32::from_le_bytes(take(from)?)).ok()?;
        let (fingerprints, rest) = from.split_at_checked(length)?;
        block.fingerprints = fingerprints.to_vec();
        *from = rest;
        block.is_sound().then_some(block)
    }
}

fn take<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*bytes)
}

/// Where the index of a segment is.
pub(super) fn path(segment: &Segment) -> PathBuf {
    segment.path.with_file_name(format!("audit-{:06}.index", segment.number))
}

/// Which packed file an index was made for: its length, and a hash of its two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    length: u64,
    ends: [u8; SUM],
}

impl Identity {
    fn of(file: &mut File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let mut hash = Sha256::new();
        for start in [0, length.saturating_sub(END)] {
            let mut end = Vec::new();
            file.seek(SeekFrom::Start(start))?;
            Read::take(&mut *file, END).read_to_end(&mut end)?;
            hash.update(&end);
        }
        Ok(Self {
            length,
            ends: hash.finalize().into(),
        })
    }
}

impl Index {
    /// The index of a packed segment, which is open as `packed`; `None` if there is none that fits.
    fn load(segment: &Segment, packed: &mut File) -> Option<Self> {
        let mut bytes = Vec::new();
        let file = File::open(path(segment)).ok()?;
        file.take(MAX_INDEX_BYTES + 1).read_to_end(&mut bytes).ok()?;
        Self::parse(&bytes, Identity::of(packed).ok()?)
    }

    /// Reads an index that was made for this packed file; `None` if it was not, or is damaged.
    fn parse(bytes: &[u8], of: Identity) -> Option<Self> {
        if bytes.len() as u64 > MAX_INDEX_BYTES {
            return None;
        }
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let sum: [u8; SUM] = take(&mut rest)?;
        if sum != <[u8; SUM]>::from(Sha256::digest(rest)) {
            return None;
        }
        let made_for = Identity {
            length: u64::from_le_bytes(take(&mut rest)?),
            ends: take(&mut rest)?,
        };
        if made_for != of {
            return None;
        }
        let count = u32::from_le_bytes(take(&mut rest)?);
        let blocks = (0..count).map(|_| Block::read(&mut rest)).collect::<Option<Vec<_>>>()?;
        let fits = blocks.iter().all(|block| block.is_of(of.length));
        (rest.is_empty() && fits).then_some(Self { blocks })
    }

    /// Puts the index beside its segment, whole or not at all.
    fn save(&self, segment: &Segment, identity: Identity) -> io::Result<()> {
        let mut body = Vec::new();
        body.extend(identity.length.to_le_bytes());
        body.extend(identity.ends);
        body.extend(u32::try_from(self.blocks.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.blocks.iter().for_each(|block| block.write(&mut body));
        let path = path(segment);
        let next = path.with_extension("index.new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&next)?;
        file.write_all(MAGIC)?;
        file.write_all(&Sha256::digest(&body))?;
        file.write_all(&body)?;
        std::fs::rename(&next, path)
    }
}

/// Removes the index of a segment that was removed.
pub(super) fn remove(segment: &Segment) -> io::Result<()> {
    match std::fs::remove_file(path(segment)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Reads an index as one that was made for a large file, whatever its checksum, and asks each block: for fuzzers.
pub(super) fn ask_hostile(bytes: &[u8], demand: &Demand) {
    let of = Identity {
        length: 1 << 40,
        ends: [0; SUM],
    };
    let body = [&of.length.to_le_bytes()[..], &of.ends, bytes].concat();
    let whole = [MAGIC, &*Sha256::digest(&body), &body].concat();
    if let Some(index) = Index::parse(&whole, of) {
        let room: usize = index.blocks.iter().map(|block| block.fingerprints.len()).sum();
        assert!(room <= bytes.len(), "an index takes no more room than its file");
        for block in &index.blocks {
            assert!(
                block.length <= MAX_FRAME_BYTES && block.size <= MAX_BLOCK_BYTES,
                "no block asks for more"
            );
            let _ = demand.may_be_in(block);
        }
    }
}

/// Makes the index of packed bytes: for fuzzers.
pub(super) fn build_hostile(packed: &mut &[u8]) -> io::Result<usize> {
    Ok(build::build(packed)?.blocks.len())
}

/// Makes the index of a packed segment.
pub(super) fn make(segment: &Segment) -> io::Result<()> {
    let mut packed = File::open(&segment.path)?;
    let identity = Identity::of(&mut packed)?;
    packed.seek(SeekFrom::Start(0))?;
    build::build(&mut packed)?.save(segment, identity)
}

#[cfg(test)]
pub(super) fn exists(folder: &std::path::Path, number: u32) -> bool {
    folder.join(format!("audit-{number:06}.index")).exists()
}

#[cfg(test)]
mod tests;
