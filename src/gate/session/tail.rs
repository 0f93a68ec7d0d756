//! Rest of the message that was being sent when a session ended, which must be sent before the last message.
//!
//! It holds a limited part of that message, and writes nothing.

/// Maximum number of bytes kept of a message that has to be completed for a client.
const MAX_TAIL_BYTES: usize = 1 << 20;

/// Bytes that must still be written so that the client's stream ends with a whole message.
#[derive(Debug, Default)]
pub(super) struct UnfinishedMessage {
    pub(super) bytes: Vec<u8>,
    /// True if the bytes end at a message boundary.
    pub(super) whole: bool,
}

impl UnfinishedMessage {
    /// Returns true if the rest of the message is still needed.
    pub(super) fn wanted(&self) -> bool {
        !self.whole && self.bytes.len() <= MAX_TAIL_BYTES
    }

    /// Adds more of the message; returns false if it is too long to be held.
    pub(super) fn add(&mut self, bytes: &[u8]) -> bool {
        self.bytes.extend_from_slice(bytes);
        self.bytes.len() <= MAX_TAIL_BYTES
    }
}
