//! Lends read buffers to sessions while bytes are on their way, and takes them back: an idle session holds none.
//!
//! It does not read or write.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// What a session reads into while messages are short.
const SMALL: usize = 16 * 1024;
/// What it reads into once a read filled the small one: a bulk transfer.
const LARGE: usize = 128 * 1024;
/// Buffers of a size that are kept for the next borrower.
const KEPT: usize = 32;

/// Buffers shared by all sessions of a gate.
#[derive(Debug, Clone, Default)]
pub struct Pool(Arc<Shelves>);

#[derive(Debug, Default)]
struct Shelves {
    small: Mutex<Vec<Box<[u8]>>>,
    large: Mutex<Vec<Box<[u8]>>>,
}

impl Pool {
    /// Lends a buffer; give it back with [`Pool::give_back`].
    pub(super) fn lend(&self, large: bool) -> Box<[u8]> {
        let kept = self.shelf(large).lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| vec![0; if large { LARGE } else { SMALL }].into_boxed_slice())
    }

    /// Takes a buffer back, unless it was made for one chunk. Its bytes stay in it: it is only ever read as far as it was filled
    /// anew.
    pub(super) fn give_back(&self, buffer: Box<[u8]>) {
        if !matches!(buffer.len(), SMALL | LARGE) {
            return;
        }
        let mut kept = self
            .shelf(buffer.len() == LARGE)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(buffer);
        }
    }

    fn shelf(&self, large: bool) -> &Mutex<Vec<Box<[u8]>>> {
        if large { &self.0.large } else { &self.0.small }
    }
}

/// One direction's bytes: read in one go, and written out before the next read.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    buffer: Option<Box<[u8]>>,
    filled: usize,
    /// Written so far.
    pub(super) sent: usize,
    /// The last read filled the buffer, so the next one may be larger.
    bulk: bool,
}

impl Chunk {
    /// Whether everything read has been written.
    pub(super) fn is_done(&self) -> bool {
        self.sent == self.filled
    }

    /// All that was read.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer
            .as_deref()
            .and_then(|buffer| buffer.get(..self.filled))
            .unwrap_or_default()
    }

    /// What was read, from the byte to be written next up to `end`.
    pub(super) fn unsent(&self, end: usize) -> &[u8] {
        self.bytes().get(self.sent..end).unwrap_or_default()
    }

    /// An empty buffer to read into.
    pub(super) fn empty(&mut self, pool: &Pool) -> &mut [u8] {
        self.filled = 0;
        self.sent = 0;
        let wanted = if self.bulk { LARGE } else { SMALL };
        if self.buffer.as_ref().is_none_or(|buffer| buffer.len() != wanted) {
            self.release(pool);
            self.buffer = Some(pool.lend(wanted == LARGE));
        }
        self.buffer.as_deref_mut().unwrap_or_default()
    }

    /// `n` bytes were read into it.
    pub(super) fn fill(&mut self, n: usize) {
        let size = self.buffer.as_ref().map_or(0, |buffer| buffer.len());
        self.filled = n.min(size);
        self.sent = 0;
        // TLS reads one record at a time, 16 KiB at most; a short read of the large buffer ends the bulk.
        self.bulk = self.filled * if size == LARGE { 16 } else { 1 } >= size;
    }

    /// Has bytes that are not written yet overwritten.
    pub(super) fn overwrite(&mut self, range: Range<usize>, write: impl FnOnce(&mut [u8])) {
        if let Some(bytes) = self.buffer.as_deref_mut().and_then(|buffer| buffer.get_mut(range)) {
            write(bytes);
        }
    }

    /// Puts others in the place of bytes that are not written yet. It is for what seldom happens: the rest is copied.
    pub(super) fn replace(&mut self, range: Range<usize>, others: &[u8]) {
        let mut bytes = self.bytes().to_vec();
        bytes.splice(range, others.iter().copied());
        self.filled = bytes.len();
        self.buffer = Some(bytes.into_boxed_slice());
    }

    /// Takes off what stands from `at` on.
    pub(super) fn cut(&mut self, at: usize) -> Vec<u8> {
        let rest = self.bytes().get(at..).unwrap_or_default().to_vec();
        self.filled = self.filled.min(at);
        rest
    }

    /// Takes bytes that came with the login.
    pub(super) fn preset(&mut self, pool: &Pool, bytes: &[u8]) {
        self.bulk = bytes.len() > SMALL;
        let buffer = self.empty(pool);
        let n = bytes.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..n), bytes.get(..n)) {
            to.copy_from_slice(from);
        }
        self.filled = n;
    }

    /// Gives the buffer back; nothing may be unsent.
    pub(super) fn release(&mut self, pool: &Pool) {
        self.filled = 0;
        self.sent = 0;
        if let Some(buffer) = self.buffer.take() {
            pool.give_back(buffer);
        }
    }
}
