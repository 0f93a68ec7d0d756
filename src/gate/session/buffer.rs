//! Pool of read buffers for sessions, and the chunk of bytes that is read into one. A session holds a buffer only while it transfers
//! bytes, so an idle session holds none.
//!
//! This module does not look at the bytes, and does not write them.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead as _, ReadBuf};

use crate::base::tls::Transport;

/// Size of a buffer for short messages, in bytes.
const SMALL_BUFFER_BYTES: usize = 16 * 1024;
/// Size of a buffer after a read filled the small one, as in a bulk transfer, in bytes.
const LARGE_BUFFER_BYTES: usize = 128 * 1024;
/// Number of buffers of each size that are kept for reuse.
const MAX_KEPT_BUFFERS: usize = 32;

/// Buffers shared by all sessions of a gate.
#[derive(Debug, Clone, Default)]
pub struct BufferPool(Arc<BufferShelves>);

#[derive(Debug, Default)]
struct BufferShelves {
    small: Mutex<Vec<Box<[u8]>>>,
    large: Mutex<Vec<Box<[u8]>>>,
}

impl BufferPool {
    /// Lends a buffer; it must be returned with [`BufferPool::give_back`].
    pub(super) fn lend(&self, large: bool) -> Box<[u8]> {
        let kept = self.shelf(large).lock().pop();
        kept.unwrap_or_else(|| vec![0; if large { LARGE_BUFFER_BYTES } else { SMALL_BUFFER_BYTES }].into_boxed_slice())
    }

    /// Takes a buffer back, unless it was made for one chunk. Its bytes are not cleared: a buffer is only read as far as it was
    /// filled again.
    pub(super) fn give_back(&self, buffer: Box<[u8]>) {
        if !matches!(buffer.len(), SMALL_BUFFER_BYTES | LARGE_BUFFER_BYTES) {
            return;
        }
        let mut kept = self.shelf(buffer.len() == LARGE_BUFFER_BYTES).lock();
        if kept.len() < MAX_KEPT_BUFFERS {
            kept.push(buffer);
        }
    }

    fn shelf(&self, large: bool) -> &Mutex<Vec<Box<[u8]>>> {
        if large { &self.0.large } else { &self.0.small }
    }
}

/// Bytes of one direction: read in one call, and written out before the next read.
#[derive(Debug, Default)]
pub(super) struct BufferChunk {
    buffer: Option<Box<[u8]>>,
    filled: usize,
    /// Number of bytes written so far.
    pub(super) sent: usize,
    /// True if the last read filled the buffer, so the next one may be larger.
    bulk: bool,
    /// True if the last read found nothing, neither in the socket nor in TLS.
    dry: bool,
}

impl BufferChunk {
    /// Returns true if everything read has been written.
    pub(super) fn is_done(&self) -> bool {
        self.sent == self.filled
    }

    /// Returns all bytes that were read.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer
            .as_deref()
            .and_then(|buffer| buffer.get(..self.filled))
            .unwrap_or_default()
    }

    /// Returns the bytes from the next one to be written up to `end`.
    pub(super) fn unsent(&self, end: usize) -> &[u8] {
        self.bytes().get(self.sent..end).unwrap_or_default()
    }

    /// Returns an empty buffer to read into.
    fn empty(&mut self, pool: &BufferPool) -> &mut [u8] {
        self.filled = 0;
        self.sent = 0;
        let wanted = if self.bulk { LARGE_BUFFER_BYTES } else { SMALL_BUFFER_BYTES };
        if self.buffer.as_ref().is_none_or(|buffer| buffer.len() != wanted) {
            self.release(pool);
            self.buffer = Some(pool.lend(wanted == LARGE_BUFFER_BYTES));
        }
        self.buffer.as_deref_mut().unwrap_or_default()
    }

    /// Reads the next bytes, which follow those `carried` over from the chunk before, and returns their number; `None` at the end of
    /// the connection. No buffer is held while there are none.
    pub(super) fn poll_fill(
        &mut self,
        from: &mut Transport,
        carried: &mut Vec<u8>,
        pool: &BufferPool,
        cx: &mut Context<'_>,
    ) -> Poll<Option<usize>> {
        if self.dry {
            // Nothing was left to read, so the socket must be readable before a buffer is borrowed.
            let _ = ready!(from.tcp().poll_read_ready(cx));
            self.dry = false;
        }
        let (before, rest) = self.empty(pool).split_at_mut_checked(carried.len()).unwrap_or_default();
        let mut rest = ReadBuf::new(rest);
        let read = Pin::new(from).poll_read(cx, &mut rest);
        let n = rest.filled().len();
        match read {
            Poll::Pending => {
                self.release(pool);
                self.dry = true;
                Poll::Pending
            }
            Poll::Ready(Ok(())) if n > 0 => {
                before.copy_from_slice(carried);
                self.fill(carried.len() + n);
                carried.clear();
                Poll::Ready(Some(n))
            }
            Poll::Ready(_) => Poll::Ready(None),
        }
    }

    /// Notes that the buffer has `n` bytes.
    fn fill(&mut self, n: usize) {
        let size = self.buffer.as_ref().map_or(0, |buffer| buffer.len());
        self.filled = n.min(size);
        self.sent = 0;
        // TLS reads one record at a time, 16 KiB at most; a short read of the large buffer ends the bulk transfer.
        self.bulk = self.filled * if size == LARGE_BUFFER_BYTES { 16 } else { 1 } >= size;
    }

    /// Overwrites bytes that are not written yet.
    pub(super) fn overwrite(&mut self, range: Range<usize>, write: impl FnOnce(&mut [u8])) {
        if let Some(bytes) = self.buffer.as_deref_mut().and_then(|buffer| buffer.get_mut(range)) {
            write(bytes);
        }
    }

    /// Replaces bytes that are not written yet by others. It copies the rest, so it is for rare cases.
    pub(super) fn replace(&mut self, range: Range<usize>, others: &[u8]) {
        let mut bytes = self.bytes().to_vec();
        bytes.splice(range, others.iter().copied());
        self.filled = bytes.len();
        self.buffer = Some(bytes.into_boxed_slice());
    }

    /// Removes and returns the bytes from `at` on.
    pub(super) fn cut(&mut self, at: usize) -> Vec<u8> {
        let rest = self.bytes().get(at..).unwrap_or_default().to_vec();
        self.filled = self.filled.min(at);
        rest
    }

    /// Stores bytes that came with the login.
    pub(super) fn preset(&mut self, pool: &BufferPool, bytes: &[u8]) {
        self.bulk = bytes.len() > SMALL_BUFFER_BYTES;
        let buffer = self.empty(pool);
        let n = bytes.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..n), bytes.get(..n)) {
            to.copy_from_slice(from);
        }
        self.filled = n;
    }

    /// Returns the buffer to the pool; all bytes must be written.
    pub(super) fn release(&mut self, pool: &BufferPool) {
        self.filled = 0;
        self.sent = 0;
        if let Some(buffer) = self.buffer.take() {
            pool.give_back(buffer);
        }
    }
}
