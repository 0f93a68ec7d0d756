//! Finds message boundaries in a byte stream, in place (protocol: "Message Formats": type byte, length, body).
//!
//! It does not look into bodies and buffers only an incomplete header.
//!
//! INVARIANT: the messages do not depend on how the stream is cut into chunks; only the [`BodyPiece`]s of their bodies do.

/// Maximum length of a message body that carries data, in either direction, in bytes: PostgreSQL's own limit
/// (`PQ_LARGE_MESSAGE_LIMIT`, libpq/libpq.h).
pub const MAX_MESSAGE_BYTES: u32 = 0x3fff_ffff;
/// Maximum length of the body of a message that carries no data, in bytes: PostgreSQL's own limit (`PQ_SMALL_MESSAGE_LIMIT`).
pub const MAX_SHORT_MESSAGE_BYTES: u32 = 10_000;

/// Bytes of the type byte and the length word.
const HEADER_BYTES: usize = 5;

/// Part of one message's body, as found in one chunk; the whole body if all of it is in the chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyPiece<'a> {
    /// Type byte of the message.
    pub tag: u8,
    /// Length of the whole body in bytes.
    pub length: u32,
    /// Bytes of this part of the body.
    pub bytes: &'a [u8],
    /// True if the body begins with this piece.
    pub first: bool,
    /// True if the body ends with this piece.
    pub last: bool,
}

impl<'a> BodyPiece<'a> {
    /// Returns the whole body, if this piece is all of it.
    #[must_use]
    pub fn whole(&self) -> Option<&'a [u8]> {
        (self.first && self.last).then_some(self.bytes)
    }
}

/// Violation of the protocol's framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A type byte that the protocol does not have in this direction.
    #[error("invalid message type {tag:#04x}")]
    Type {
        /// Type byte as sent.
        tag: u8,
    },
    /// A length below 4 or above the limit of its type.
    #[error("invalid length {length} of message type {tag:#04x}")]
    Length {
        /// Type byte as sent.
        tag: u8,
        /// Length word as sent.
        length: u32,
    },
}

/// Function from a message type to the maximum length of its body in bytes; `None` if the type does not exist.
pub type LengthLimit = fn(u8) -> Option<u32>;

/// Cuts one direction of a connection into messages.
#[derive(Debug, Clone, Copy)]
pub struct Framer {
    limit: LengthLimit,
    header: [u8; HEADER_BYTES],
    /// Number of header bytes received.
    have: u8,
    /// Length of the body, and the number of its bytes still to come; valid once the header is complete.
    length: u32,
    left: u32,
}

impl Framer {
    /// Creates a framer at a message boundary.
    #[must_use]
    pub fn new(limit: LengthLimit) -> Self {
        Self {
            limit,
            header: [0; HEADER_BYTES],
            have: 0,
            length: 0,
            left: 0,
        }
    }

    /// Returns true if the bytes so far end with a whole message.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.have == 0
    }

    /// Returns the number of received bytes of an incomplete header; 0 at a boundary and within a body.
    #[must_use]
    pub fn header_begun(&self) -> usize {
        usize::from(self.have) % HEADER_BYTES
    }

    /// Takes the next piece off `chunk`. Returns `None` if the chunk is used up.
    ///
    /// # Errors
    /// Fails if the peer violates the framing; the stream cannot be read any further then.
    pub fn next<'a>(&mut self, chunk: &mut &'a [u8]) -> Result<Option<BodyPiece<'a>>, FrameError> {
        let first = usize::from(self.have) < HEADER_BYTES;
        if first && !self.take_header(chunk)? {
            return Ok(None);
        }
        if !first && chunk.is_empty() {
            return Ok(None);
        }
        let here = chunk.len().min(self.left as usize);
        let Some((bytes, rest)) = chunk.split_at_checked(here) else {
            return Ok(None);
        };
        *chunk = rest;
        self.left -= u32::try_from(here).unwrap_or(self.left);
        let last = self.left == 0;
        if last {
            self.have = 0;
        }
        let [tag, ..] = self.header;
        Ok(Some(BodyPiece {
            tag,
            length: self.length,
            bytes,
            first,
            last,
        }))
    }

    /// Completes the header from `chunk`. Returns false if the chunk ends before.
    fn take_header(&mut self, chunk: &mut &[u8]) -> Result<bool, FrameError> {
        // The common case: a whole header in the chunk.
        if self.have == 0
            && let Some((header, rest)) = chunk.split_first_chunk::<HEADER_BYTES>()
        {
            self.header = *header;
            *chunk = rest;
        } else {
            while usize::from(self.have) < HEADER_BYTES {
                let Some((byte, rest)) = chunk.split_first() else {
                    return Ok(false);
                };
                if let Some(slot) = self.header.get_mut(usize::from(self.have)) {
                    *slot = *byte;
                }
                *chunk = rest;
                self.have += 1;
            }
        }
        self.have = 5;
        let [tag, a, b, c, d] = self.header;
        let limit = (self.limit)(tag).ok_or(FrameError::Type { tag })?;
        // Unsigned: a length with the sign bit set is too long, not negative.
        let word = u32::from_be_bytes([a, b, c, d]);
        match word.checked_sub(4) {
            Some(length) if length <= limit => {
                self.length = length;
                self.left = length;
                Ok(true)
            }
            _ => Err(FrameError::Length { tag, length: word }),
        }
    }
}

/// Buffer for the body of a message that comes in pieces, up to a limit.
#[derive(Debug, Default)]
pub struct BodyBuffer {
    kept: Vec<u8>,
}

impl BodyBuffer {
    /// Adds a piece. Returns the body once it is complete: all of it, or its first `bound` bytes.
    pub fn add<'a>(&'a mut self, piece: &BodyPiece<'a>, bound: usize) -> Option<&'a [u8]> {
        if let Some(whole) = piece.whole() {
            return Some(whole.get(..bound).unwrap_or(whole));
        }
        if piece.first {
            self.kept.clear();
        }
        let room = bound.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(piece.bytes.get(..room).unwrap_or(piece.bytes));
        piece.last.then_some(self.kept.as_slice())
    }

    /// Frees the memory.
    pub fn release(&mut self) {
        if self.kept.capacity() > 0 {
            self.kept = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[expect(clippy::unnecessary_wraps, reason = "the framer asks for this form")]
    fn anything(_: u8) -> Option<u32> {
        Some(MAX_MESSAGE_BYTES)
    }

    fn encode(messages: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut stream = Vec::new();
        for (tag, body) in messages {
            stream.push(*tag);
            stream.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
            stream.extend_from_slice(body);
        }
        stream
    }

    fn decode(framer: &mut Framer, chunks: &[&[u8]]) -> Result<Vec<(u8, Vec<u8>)>, FrameError> {
        let mut messages: Vec<(u8, Vec<u8>)> = Vec::new();
        for chunk in chunks {
            let mut rest = *chunk;
            while let Some(piece) = framer.next(&mut rest)? {
                if piece.first {
                    messages.push((piece.tag, Vec::new()));
                }
                let (_, body) = messages.last_mut().unwrap();
                body.extend_from_slice(piece.bytes);
                assert_eq!(piece.last, body.len() == piece.length as usize);
            }
        }
        Ok(messages)
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            messages in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..8),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
        ) {
            let stream = encode(&messages);
            let mut at: Vec<usize> = cuts.iter().map(|c| c.index(stream.len() + 1)).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|w| &stream[w[0]..w[1]]).collect();
            let mut framer = Framer::new(anything);
            prop_assert_eq!(decode(&mut framer, &chunks), Ok(messages));
            prop_assert!(framer.at_boundary());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut framer = Framer::new(crate::protocol::wire::frontend::limit);
            let _ = decode(&mut framer, &[&bytes]);
            let mut framer = Framer::new(crate::protocol::wire::backend::limit);
            let _ = decode(&mut framer, &[&bytes]);
        }

        #[test]
        fn gathers_up_to_the_bound(body in proptest::collection::vec(any::<u8>(), 0..60), cut in 0_usize..60, bound in 0_usize..70) {
            let stream = encode(&[(b'Q', body.clone())]);
            let cut = cut.min(stream.len());
            let mut framer = Framer::new(anything);
            let mut gather = BodyBuffer::default();
            let mut got = None;
            for mut chunk in [&stream[..cut], &stream[cut..]] {
                while let Some(piece) = framer.next(&mut chunk).unwrap() {
                    got = gather.add(&piece, bound).map(<[u8]>::to_vec);
                }
            }
            prop_assert_eq!(got, Some(body[..bound.min(body.len())].to_vec()));
        }
    }

    #[test]
    fn lengths_are_unsigned_and_bounded() {
        for word in [0_u32, 3, 0x4000_0004, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
            let mut bytes = vec![b'Q'];
            bytes.extend_from_slice(&word.to_be_bytes());
            let mut framer = Framer::new(anything);
            assert_eq!(
                framer.next(&mut bytes.as_slice()),
                Err(FrameError::Length { tag: b'Q', length: word })
            );
        }
    }
}
