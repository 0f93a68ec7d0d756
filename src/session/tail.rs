//! The rest of the message that was at work when a session ended: what must go out before a last word can.
//!
//! It holds a bounded part of it, and writes nothing.

/// How much is kept of a message that has to be finished for a client.
const MOST_TAIL: usize = 1 << 20;

/// What must still be written so that the client's stream ends with a whole message.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pub(super) bytes: Vec<u8>,
    /// Whether the bytes end at a message boundary.
    pub(super) whole: bool,
}

impl Tail {
    /// Whether the rest of the message is still to be had.
    pub(super) fn wanted(&self) -> bool {
        !self.whole && self.bytes.len() <= MOST_TAIL
    }

    /// Takes more of the message; false when it is too long to be held.
    pub(super) fn add(&mut self, bytes: &[u8]) -> bool {
        self.bytes.extend_from_slice(bytes);
        self.bytes.len() <= MOST_TAIL
    }
}
