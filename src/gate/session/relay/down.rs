//! Direction from the target to the client: the bytes of a chunk to be written, the message boundaries in it, and the gate's own
//! messages in between or in the place of a message.
//!
//! This module does not know the reasons: the relay passes the gate's own messages, and the statement recorder the replacement of
//! an error.
//!
//! INVARIANT: every inserted message stands at a message boundary of the client's stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncReadExt as _, AsyncWrite as _};

use super::RelayStop;
use crate::base::clock::Moment;
use crate::base::tls::Transport;
use crate::gate::session::buffer::{BufferChunk, BufferPool};
use crate::gate::session::recorder::StatementRecorder;
use crate::protocol::wire::frame::{BodyPiece, Framer};
use crate::protocol::wire::{backend, error_response};

/// State of the direction from the target to the client.
pub(in crate::gate::session) struct TargetToClient {
    pub(in crate::gate::session) chunk: BufferChunk,
    framer: Framer,
    /// Framer at the start of the chunk, to find the boundaries in it again.
    before: Framer,
    /// Message of the gate's own for the next boundary: its position in the chunk, and the bytes.
    inserted: Option<NoticeInsert>,
    /// Beginning of an error that will be replaced, or of a header that may belong to it. It is put before the next chunk, so
    /// that the error is replaced completely.
    carried: Vec<u8>,
    unflushed: bool,
}

/// Maximum length of an error that is carried over, in bytes; those of a message that cannot be parsed are far shorter.
const MAX_CARRIED_BYTES: usize = 8 * 1024;

/// Progress of [`TargetToClient::poll`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DownStep {
    /// There is a new chunk to inspect.
    Read,
    /// Something was written.
    Written,
}

/// Position of a message that does not fit in this chunk.
const NOT_IN_CHUNK: usize = usize::MAX;

struct NoticeInsert {
    at: usize,
    bytes: Vec<u8>,
    sent: usize,
}

impl TargetToClient {
    pub(in crate::gate::session) fn new() -> Self {
        let framer = Framer::new(backend::limit);
        Self {
            chunk: BufferChunk::default(),
            framer,
            before: framer,
            inserted: None,
            carried: Vec::new(),
            unflushed: false,
        }
    }
}

impl TargetToClient {
    /// Inserts a message of the gate's own into the client's stream, at the next message boundary.
    pub(in crate::gate::session) fn insert(&mut self, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        if let Some(before) = &mut self.inserted {
            // The earlier message has not been written completely: this one follows it.
            before.bytes.extend_from_slice(&bytes);
            return;
        }
        let at = self.next_boundary().unwrap_or(NOT_IN_CHUNK);
        self.inserted = Some(NoticeInsert { at, bytes, sent: 0 });
    }

    /// Runs one step: `Ready` if it made progress.
    pub(super) fn poll(
        &mut self,
        client: &mut Transport,
        target: &mut Transport,
        pool: &BufferPool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<DownStep, RelayStop>> {
        if !self.chunk.is_done() || self.inserted.as_ref().is_some_and(|insert| insert.at != NOT_IN_CHUNK) {
            let written = ready!(self.poll_write(client, cx));
            return Poll::Ready(written.map(|()| DownStep::Written).map_err(|_| RelayStop::ClientGone));
        }
        if self.unflushed {
            // Once per chunk, not per message.
            match ready!(Pin::new(client).poll_flush(cx)) {
                Ok(()) => self.unflushed = false,
                Err(_) => return Poll::Ready(Err(RelayStop::ClientGone)),
            }
        }
        let read = ready!(self.chunk.poll_fill(target, &mut self.carried, pool, cx));
        Poll::Ready(read.map(|_| DownStep::Read).ok_or(RelayStop::TargetGone))
    }

    /// Passes a chunk to the statement recorder, message by message, and replaces an error for which it returns a refusal. Returns the
    /// time, if the recorder asked for it.
    pub(super) fn look(&mut self, recorder: &mut StatementRecorder) -> Result<Option<Moment>, RelayStop> {
        self.before = self.framer;
        let (mut now, mut carried) = (None, None);
        let mut rest = self.chunk.bytes();
        let mut all = rest.len();
        loop {
            let begins = all - rest.len();
            let Some(piece) = self.framer.next(&mut rest).map_err(|_| RelayStop::TargetBroken)? else {
                break;
            };
            if piece.tag == b'E' && piece.first && !piece.last && recorder.extended.refusal().is_some() {
                carried = Some(begins);
                break;
            }
            let ours = match recorder.target(&piece, &mut now) {
                Some(_) if !piece.first => {
                    // The error began before the message that it answers was sent.
                    return Err(RelayStop::TargetBroken);
                }
                Some(refused) => error_response::error(&refused.words()),
                None => match with_hint(&piece, recorder) {
                    Some(hinted) => hinted,
                    None => continue,
                },
            };
            self.chunk.replace(begins..all - rest.len(), &ours);
            all = self.chunk.bytes().len();
            rest = self.chunk.bytes().get(begins + ours.len()..).unwrap_or_default();
        }
        if self.framer.header_begun() > 0 && recorder.extended.refusal().is_some() {
            carried = Some(all - self.framer.header_begun());
        }
        if let Some(at) = carried {
            self.carry(at)?;
        }
        recorder.totals.bytes_out += self.chunk.bytes().len() as u64;
        if self.inserted.as_ref().is_some_and(|insert| insert.at == NOT_IN_CHUNK) {
            let at = self.next_boundary();
            if let (Some(insert), Some(at)) = (&mut self.inserted, at) {
                insert.at = at;
            }
        }
        Ok(now)
    }

    /// Carries the bytes from here on over to the next chunk.
    fn carry(&mut self, at: usize) -> Result<(), RelayStop> {
        self.carried = self.chunk.cut(at);
        self.framer = Framer::new(backend::limit);
        if self.carried.len() > MAX_CARRIED_BYTES {
            return Err(RelayStop::TargetBroken);
        }
        Ok(())
    }

    /// Writes the next bytes: of the chunk, or of the gate's own message at this position.
    fn poll_write(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let end = match &mut self.inserted {
            Some(insert) if insert.at == self.chunk.sent => {
                let rest = insert.bytes.get(insert.sent..).unwrap_or_default();
                insert.sent += ready!(write(client, cx, rest))?;
                if insert.sent == insert.bytes.len() {
                    self.inserted = None;
                }
                self.unflushed = true;
                return Poll::Ready(Ok(()));
            }
            Some(insert) => insert.at.min(self.chunk.bytes().len()),
            None => self.chunk.bytes().len(),
        };
        self.chunk.sent += ready!(write(client, cx, self.chunk.unsent(end)))?;
        self.unflushed = true;
        Poll::Ready(Ok(()))
    }

    /// Returns the first message boundary in the chunk at or after the written bytes; `None` if the current message extends
    /// beyond the chunk.
    fn next_boundary(&self) -> Option<usize> {
        let all = self.chunk.bytes();
        if all.is_empty() {
            return self.framer.at_boundary().then_some(0);
        }
        let mut framer = self.before;
        let mut rest = all;
        if framer.at_boundary() && self.chunk.sent == 0 {
            return Some(0);
        }
        while let Ok(Some(piece)) = framer.next(&mut rest) {
            let at = all.len() - rest.len();
            if piece.last && at >= self.chunk.sent {
                return Some(at);
            }
        }
        None
    }
}

/// Maximum number of bytes kept of a message that has to be completed for a client.
const MAX_TAIL_BYTES: usize = 1 << 20;

/// Rest of the message that was being sent when a session ended: bytes that must still be written so that the client's stream ends with a whole message.
#[derive(Debug, Default)]
pub(in crate::gate::session) struct UnfinishedMessage {
    pub(in crate::gate::session) bytes: Vec<u8>,
    /// True if the bytes end at a message boundary.
    pub(in crate::gate::session) whole: bool,
}

impl UnfinishedMessage {
    /// Returns true if the rest of the message is still needed.
    pub(in crate::gate::session) fn wanted(&self) -> bool {
        !self.whole && self.bytes.len() <= MAX_TAIL_BYTES
    }

    /// Adds more of the message; returns false if it is too long to be held.
    pub(in crate::gate::session) fn add(&mut self, bytes: &[u8]) -> bool {
        self.bytes.extend_from_slice(bytes);
        self.bytes.len() <= MAX_TAIL_BYTES
    }
}

// Methods for the end of a session.
impl TargetToClient {
    /// Returns the bytes of the chunk that must still be written so that the client's stream ends with a whole message.
    pub(in crate::gate::session) fn tail(&self) -> UnfinishedMessage {
        let begun = self.inserted.as_ref().filter(|insert| insert.sent > 0);
        let (rest, whole) = match (begun, self.next_boundary()) {
            (Some(insert), _) => (insert.bytes.get(insert.sent..).unwrap_or_default(), true),
            (None, Some(at)) => (self.chunk.unsent(at), true),
            (None, None) => (self.chunk.unsent(self.chunk.bytes().len()), false),
        };
        UnfinishedMessage {
            bytes: rest.to_vec(),
            whole,
        }
    }

    /// Returns the number of rows of the open answer, or messages of its COPY, in the chunk that will not be written any more:
    /// the client gets only the rest of the current message.
    pub(in crate::gate::session) fn rows_left(&self, recorder: &StatementRecorder) -> u64 {
        let begun = self.inserted.as_ref().filter(|insert| insert.sent > 0);
        let Some(from) = begun.map(|insert| insert.at).or_else(|| self.next_boundary()) else {
            return 0;
        };
        let (all, mut framer, mut left) = (self.chunk.bytes(), self.before, 0);
        let mut rest = all;
        while let Ok(Some(piece)) = framer.next(&mut rest) {
            match piece.tag {
                b'D' | b'd' => left += u64::from(piece.last && all.len() - rest.len() > from),
                tag if recorder.settles(tag) => left = 0,
                _ => {}
            }
        }
        left
    }

    /// Reads the current message to its end, into `tail`.
    pub(in crate::gate::session) async fn finish_message(
        &mut self,
        target: &mut Transport,
        recorder: &mut StatementRecorder,
        tail: &mut UnfinishedMessage,
    ) {
        while !tail.whole && self.read_unsent(target, recorder, Some(tail)).await {}
    }

    /// Reads once, for the record; the part that completes the current message goes into `tail`. Returns false at the end.
    pub(in crate::gate::session) async fn read_unsent(
        &mut self,
        target: &mut Transport,
        recorder: &mut StatementRecorder,
        mut tail: Option<&mut UnfinishedMessage>,
    ) -> bool {
        let mut buffer = self.carried.clone();
        buffer.resize(self.carried.len() + 8192, 0);
        let Ok(n @ 1..) = target.read(buffer.get_mut(self.carried.len()..).unwrap_or_default()).await else {
            return false;
        };
        let bytes = buffer.get(..self.carried.len() + n).unwrap_or_default();
        self.carried.clear();
        let mut rest = bytes;
        let mut now = None;
        let mut before = 0;
        loop {
            match self.framer.next(&mut rest) {
                // A refusal is dropped: the client gets only the rest of the current message.
                Ok(Some(piece)) if tail.as_deref().is_some_and(|tail| !tail.whole) => drop(recorder.target(&piece, &mut now)),
                Ok(Some(piece)) => recorder.target_unsent(&piece, &mut now),
                Ok(None) => break,
                Err(_) => return false,
            }
            let at = bytes.len() - rest.len();
            if let Some(tail) = tail.as_deref_mut().filter(|tail| !tail.whole) {
                if !tail.add(bytes.get(before..at).unwrap_or_default()) {
                    return false;
                }
                tail.whole = self.framer.at_boundary();
            }
            before = at;
        }
        if let Some(tail) = tail.filter(|tail| !tail.whole) {
            // The remaining bytes are part of a header.
            return tail.add(bytes.get(before..).unwrap_or_default());
        }
        true
    }

    pub(in crate::gate::session) fn at_boundary(&self) -> bool {
        self.framer.at_boundary() && self.carried.is_empty()
    }
}

/// Returns an error of the target about a masked table with a hint added. An error that comes in pieces stays unchanged.
fn with_hint(piece: &BodyPiece<'_>, recorder: &StatementRecorder) -> Option<Vec<u8>> {
    let masked = recorder.masked.as_ref().filter(|_| piece.tag == b'E')?;
    masked.with_hint(piece.whole()?)
}

fn write(to: &mut Transport, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(to).poll_write(cx, bytes)) {
        Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        other => Poll::Ready(other),
    }
}

#[cfg(test)]
mod tests;
