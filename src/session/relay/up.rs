//! The direction from the client to the target: what was read, looked at, cleared and written, and where its intents are.
//!
//! It moves nothing: the relay does.

use futures_util::FutureExt as _;

use crate::audit::Waiting;
use crate::session::buffer::Chunk;
use crate::wire::frame::Framer;
use crate::wire::frontend;

/// Has the target send the answers it has (protocol: Flush). It answers nothing itself.
pub(super) const FLUSH: &[u8] = b"H\0\0\0\x04";

/// From the client to the target.
pub(in crate::session) struct Up {
    pub(super) chunk: Chunk,
    pub(super) framer: Framer,
    /// Looked at so far.
    pub(super) seen: usize,
    /// May be written so far.
    pub(super) cleared: usize,
    pub(super) intents: Intents,
    /// What is left to write of a [`FLUSH`] of our own that goes out behind what is cleared.
    pub(super) flush: &'static [u8],
    pub(super) unflushed: bool,
    /// The last read found nothing, in the socket nor in TLS.
    pub(super) dry: bool,
    /// The client said Terminate: it is written, and no more is read.
    pub(super) quit: bool,
}

/// Where the intents are of what was looked at and is not cleared.
pub(super) enum Intents {
    /// There are none: all are in the log, and what they announce is cleared.
    None,
    /// On their way to the log.
    Underway(Waiting),
    /// In the log, but it has become too late to begin anything.
    Withheld,
}

impl Up {
    pub(in crate::session) fn new() -> Self {
        Self {
            chunk: Chunk::default(),
            framer: Framer::new(frontend::limit),
            seen: 0,
            cleared: 0,
            intents: Intents::None,
            flush: &[],
            unflushed: false,
            dry: false,
            quit: false,
        }
    }

    /// Whether the log has taken intents by now of which nothing was forwarded: the session ended while they were on their way.
    pub(in crate::session) fn written_in_vain(self) -> bool {
        match self.intents {
            Intents::None => false,
            Intents::Underway(waiting) => waiting.now_or_never().is_some_and(|written| written.is_ok()),
            Intents::Withheld => true,
        }
    }
}
