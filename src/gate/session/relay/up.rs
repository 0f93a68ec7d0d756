//! Direction from the client to the target: the bytes read, inspected, cleared and written, and the state of their intents.
//!
//! This module does not move bytes: the relay does.

use futures_util::FutureExt as _;

use crate::audit::SubmissionFuture;
use crate::gate::session::buffer::BufferChunk;
use crate::protocol::wire::frame::Framer;
use crate::protocol::wire::frontend;

/// Flush message, which makes the target send the answers it has (protocol: Flush). It has no answer itself.
pub(super) const FLUSH_MESSAGE: &[u8] = b"H\0\0\0\x04";

/// State of the direction from the client to the target.
pub(in crate::gate::session) struct ClientToTarget {
    pub(super) chunk: BufferChunk,
    pub(super) framer: Framer,
    /// Number of bytes inspected so far.
    pub(super) seen: usize,
    /// Number of bytes that may be written so far.
    pub(super) cleared: usize,
    pub(super) intents: IntentsState,
    /// Rest to be written of a [`FLUSH_MESSAGE`] of the gate's own, which follows the cleared bytes.
    pub(super) flush: &'static [u8],
    pub(super) unflushed: bool,
    /// True if the last read found nothing, neither in the socket nor in TLS.
    pub(super) dry: bool,
    /// True if the client sent Terminate: it is forwarded, and no more is read.
    pub(super) quit: bool,
}

/// State of the intents of bytes that were inspected and are not cleared.
pub(super) enum IntentsState {
    /// There are none: all are in the log, and the bytes that they announce are cleared.
    None,
    /// They are on their way to the log.
    Underway(SubmissionFuture),
    /// They are in the log, but it has become too late to begin anything.
    Withheld,
}

impl ClientToTarget {
    pub(in crate::gate::session) fn new() -> Self {
        Self {
            chunk: BufferChunk::default(),
            framer: Framer::new(frontend::limit),
            seen: 0,
            cleared: 0,
            intents: IntentsState::None,
            flush: &[],
            unflushed: false,
            dry: false,
            quit: false,
        }
    }

    /// Returns true if the log has intents of which nothing was forwarded: the session ended while they were on their way.
    pub(in crate::gate::session) fn written_in_vain(self) -> bool {
        match self.intents {
            IntentsState::None => false,
            IntentsState::Underway(waiting) => waiting.now_or_never().is_some_and(|written| written.is_ok()),
            IntentsState::Withheld => true,
        }
    }
}
