//! Followers of texts and bound values that pass in pieces: of a message that is too long to be held, the recorded parts are collected
//! as it passes.
//!
//! The kept bytes are limited, whatever the message claims. This module shows nothing: [`super`] does.

use super::words::{FoundWords, MAX_WORD_BYTES};
use super::{MAX_HASHED_PARAMETERS, MAX_INSPECTED_BYTES};
use crate::audit::truncate::OriginalHashes;
use crate::audit::values::ValueKey;

/// Maximum number of bytes of values that are kept of one message.
const MAX_KEPT_BYTES: usize = 1 << 20;

/// Searcher for words in a text that comes in pieces.
#[derive(Debug, Default)]
struct WordWatch {
    words: FoundWords,
    /// Last bytes, because the end of a piece may cut a word.
    last: Vec<u8>,
}

impl WordWatch {
    fn look(&mut self, text: &[u8]) {
        self.last.extend_from_slice(text.get(..MAX_WORD_BYTES).unwrap_or(text));
        self.words.add(FoundWords::of(&self.last));
        self.words.add(FoundWords::of(text));
        self.last.extend_from_slice(
            text.get(MAX_WORD_BYTES..)
                .map_or(&[], |rest| rest.last_chunk::<MAX_WORD_BYTES>().map_or(rest, |last| last)),
        );
        let old = self.last.len().saturating_sub(MAX_WORD_BYTES);
        self.last.drain(..old);
    }
}

/// Follower of an SQL text through the pieces of its message, so that a text of any size has its full length and hashes on record
/// while only its beginning is held.
#[derive(Debug)]
pub(in crate::gate::session) struct TextFollower {
    /// Number of NULs to pass before the text begins: the name of a Parse.
    before: u8,
    ended: bool,
    length: u64,
    hashes: OriginalHashes,
    watch: WordWatch,
}

impl TextFollower {
    /// Creates a follower for a message whose text comes after `before` other strings.
    pub(in crate::gate::session) fn new(before: u8, key: &ValueKey) -> Self {
        Self {
            before,
            ended: false,
            length: 0,
            hashes: OriginalHashes::begin(key),
            watch: WordWatch::default(),
        }
    }

    /// Processes the next bytes of the body.
    pub(in crate::gate::session) fn feed(&mut self, mut bytes: &[u8]) {
        while !self.ended {
            let nul = memchr::memchr(0, bytes);
            let (text, rest) = bytes.split_at_checked(nul.unwrap_or(bytes.len())).unwrap_or_default();
            if self.before == 0 {
                self.length += text.len() as u64;
                self.hashes.update(text);
                self.watch.look(text);
            }
            if nul.is_none() {
                return;
            }
            bytes = rest.get(1..).unwrap_or_default();
            self.ended = self.before == 0;
            self.before = self.before.saturating_sub(1);
        }
    }

    /// Returns the words found in the text, its length and its hashes.
    pub(super) fn finish(self) -> (FoundWords, u64, Option<OriginalHashes>) {
        (self.watch.words, self.length, Some(self.hashes))
    }
}

/// Value, or the part that is kept of it.
#[derive(Debug)]
pub(in crate::gate::session) struct BoundValue {
    /// All of the value, or its beginning.
    pub(super) start: Vec<u8>,
    pub(super) length: u64,
    /// Maximum number of its bytes that are kept.
    most: usize,
    /// Hashes of a value that is not kept completely.
    pub(super) hashes: Option<OriginalHashes>,
    watch: WordWatch,
}

impl BoundValue {
    pub(super) fn words(&self) -> FoundWords {
        self.watch.words
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = self.most.saturating_sub(self.start.len());
        self.start.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        if let Some(hashes) = &mut self.hashes {
            hashes.update(bytes);
            self.watch.look(bytes);
        }
    }
}

/// Next integer of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextNumber {
    FormatCount,
    ValueCount,
    ValueLength,
    /// None: no further value is kept.
    End,
}

/// Parser of the values of a Bind or a FunctionCall, in pieces (protocol: "Message Formats").
#[derive(Debug)]
pub(in crate::gate::session) struct ValuesFollower {
    /// Number of names still to pass, each with a NUL.
    names: u8,
    /// Number of bytes still to come before the next integer: of the function's OID, of the formats or of a value.
    passing: u64,
    next: NextNumber,
    /// Integer read so far, and the number of its bytes read.
    number: (u32, u8),
    /// Number of values still to come.
    left: u32,
    /// Number of bytes that may still be kept.
    room: usize,
    without_room: usize,
    pub(super) values: Vec<Option<BoundValue>>,
    /// Maximum number of bytes of a long value that are kept.
    most: usize,
    key: ValueKey,
}

impl ValuesFollower {
    /// Begins with a Bind; `most` bytes of its long values are kept.
    pub(in crate::gate::session) fn of_bind(most: usize, key: &ValueKey) -> Self {
        Self::new(2, 0, most, key)
    }

    /// Begins with a FunctionCall.
    pub(in crate::gate::session) fn of_call(most: usize, key: &ValueKey) -> Self {
        Self::new(0, 4, most, key)
    }

    fn new(names: u8, passing: u64, most: usize, key: &ValueKey) -> Self {
        Self {
            names,
            passing,
            next: NextNumber::FormatCount,
            number: (0, 0),
            left: 0,
            room: MAX_KEPT_BYTES,
            without_room: 0,
            values: Vec::new(),
            most,
            key: key.clone(),
        }
    }

    /// Processes the next bytes of the body.
    pub(in crate::gate::session) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.names > 0 {
                let Some(end) = memchr::memchr(0, bytes) else { return };
                self.names -= 1;
                bytes = bytes.get(end + 1..).unwrap_or_default();
            } else if self.passing > 0 {
                let here = usize::try_from(self.passing).unwrap_or(usize::MAX).min(bytes.len());
                let (passed, rest) = bytes.split_at_checked(here).unwrap_or_default();
                // Before the first value there are only the OID and the formats.
                if let Some(Some(value)) = self.values.last_mut() {
                    value.take(passed);
                }
                self.passing -= passed.len() as u64;
                bytes = rest;
            } else if self.next == NextNumber::End {
                return;
            } else {
                bytes = self.read_number(bytes);
            }
        }
    }

    /// Processes bytes of the next integer.
    fn read_number<'b>(&mut self, mut bytes: &'b [u8]) -> &'b [u8] {
        let size = if self.next == NextNumber::ValueLength { 4 } else { 2 };
        while let Some((byte, rest)) = bytes.split_first() {
            bytes = rest;
            self.number = (self.number.0 << 8 | u32::from(*byte), self.number.1 + 1);
            if self.number.1 == size {
                let (number, _) = std::mem::take(&mut self.number);
                self.numbered(number);
                break;
            }
        }
        bytes
    }

    fn numbered(&mut self, number: u32) {
        match self.next {
            NextNumber::FormatCount => {
                self.passing = u64::from(number) * 2;
                self.next = NextNumber::ValueCount;
                return;
            }
            NextNumber::ValueCount => self.left = number,
            // NULL.
            _ if number == u32::MAX => {
                self.left -= 1;
                self.values.push(None);
            }
            _ => {
                self.left -= 1;
                self.passing = u64::from(number);
                let value = self.begin(self.passing);
                self.values.push(Some(value));
            }
        }
        self.next = if self.left == 0 || self.without_room > MAX_HASHED_PARAMETERS {
            NextNumber::End
        } else {
            NextNumber::ValueLength
        };
    }

    fn begin(&mut self, length: u64) -> BoundValue {
        let whole = usize::try_from(length)
            .ok()
            .filter(|length| *length <= MAX_INSPECTED_BYTES.min(self.room));
        let most = whole.unwrap_or(self.most.min(MAX_INSPECTED_BYTES).min(self.room));
        self.room -= most;
        self.without_room += usize::from(most == 0 && length > 0);
        BoundValue {
            start: Vec::new(),
            length,
            most,
            hashes: whole.is_none().then(|| OriginalHashes::begin(&self.key)),
            watch: WordWatch::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::wire::frontend::{Bind, Fields, WireValues};

    fn body(of_call: bool, formats: usize, values: &[Option<Vec<u8>>]) -> Vec<u8> {
        let mut body = if of_call {
            b"\0\0\0\x07".to_vec()
        } else {
            b"portal\0name\0".to_vec()
        };
        body.extend_from_slice(&u16::try_from(formats).unwrap().to_be_bytes());
        body.extend(std::iter::repeat_n([0, 1], formats).flatten());
        body.extend_from_slice(&u16::try_from(values.len()).unwrap().to_be_bytes());
        for value in values {
            match value {
                None => body.extend_from_slice(&[0xff; 4]),
                Some(value) => {
                    body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
                    body.extend_from_slice(value);
                }
            }
        }
        [&body[..], b"\0\0"].concat()
    }

    fn follow(of_call: bool, pieces: &[&[u8]]) -> ValuesFollower {
        let key = ValueKey::for_test();
        let mut follow = if of_call {
            ValuesFollower::of_call(4, &key)
        } else {
            ValuesFollower::of_bind(4, &key)
        };
        for piece in pieces {
            follow.feed(piece);
        }
        follow
    }

    proptest! {
        #[test]
        fn values_are_those_of_the_message_wherever_it_is_cut(
            of_call in any::<bool>(),
            formats in 0_usize..3,
            values in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)), 0..6),
            cuts in proptest::collection::vec(0_usize..100, 0..6),
        ) {
            let body = body(of_call, formats, &values);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &body[cut[0]..cut[1]]).collect();
            let followed = follow(of_call, &pieces);
            let whole: Vec<_> = if of_call {
                let mut fields = Fields::of(&body);
                fields.int32();
                WireValues::of(fields).unwrap().iter().map(|(_, value)| value.map(<[u8]>::to_vec)).collect()
            } else {
                Bind::of(&body).unwrap().values.unwrap().iter().map(|(_, value)| value.map(<[u8]>::to_vec)).collect()
            };
            let kept: Vec<_> = followed.values.into_iter().map(|part| part.map(|part| part.start)).collect();
            prop_assert_eq!(&kept, &whole);
            prop_assert_eq!(kept, values);
        }

        #[test]
        fn any_bytes_can_be_followed(of_call in any::<bool>(), bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = follow(of_call, &[&bytes]);
        }
    }

    #[test]
    fn what_is_too_long_has_its_beginning_its_length_and_its_hash() {
        let long = [vec![b'x'; MAX_INSPECTED_BYTES], b" password ".to_vec()].concat();
        let body = body(false, 0, &[Some(long.clone()), Some(b"y".to_vec())]);
        let followed = follow(false, &body.chunks(1000).collect::<Vec<_>>());
        let [Some(first), Some(second)] = &followed.values[..] else {
            panic!("{followed:?}")
        };
        assert_eq!((&first.start[..], first.length), (&b"xxxx"[..], long.len() as u64));
        assert!(first.words().secrets);
        let hashes = first.hashes.as_ref().unwrap();
        assert_eq!(hashes.keyed(), ValueKey::for_test().hash_text(&long));
        assert_eq!((&second.start[..], second.hashes.is_none()), (&b"y"[..], true));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let many = vec![Some(vec![b'x'; MAX_INSPECTED_BYTES]); 2000];
        let followed = follow(false, &[&body(false, 0, &many)]);
        let kept: usize = followed.values.iter().flatten().map(|part| part.start.len()).sum();
        assert!(
            kept <= MAX_KEPT_BYTES && followed.values.len() < 1100,
            "{kept} of {}",
            followed.values.len()
        );
    }
}
