//! Bound values of a message that is too long to be held: the recorded parts of each are collected as the message passes.
//!
//! The kept bytes are limited, whatever the message claims. This module shows nothing: [`super`] does.

use super::follow::WordWatch;
use super::words::FoundWords;
use super::{MAX_HASHED_PARAMETERS, MAX_INSPECTED_BYTES};
use crate::audit::truncate::OriginalHashes;
use crate::audit::values::ValueKey;

/// Maximum number of bytes of values that are kept of one message.
const MAX_KEPT_BYTES: usize = 1 << 20;

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

/// Next field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextPart {
    /// This number of names, each with a NUL.
    Names(u8),
    /// This number of bytes of the function's OID.
    Function(u64),
    FormatCount,
    /// This number of bytes of formats.
    Formats(u64),
    Count,
    Length,
    /// This number of bytes of a value.
    Value(u64),
    Nothing,
}

/// Parser of the values of a Bind or a FunctionCall, in pieces (protocol: "Message Formats").
#[derive(Debug)]
pub(in crate::gate::session) struct ValuesFollower {
    next: NextPart,
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
        Self::new(NextPart::Names(2), most, key)
    }

    /// Begins with a FunctionCall.
    pub(in crate::gate::session) fn of_call(most: usize, key: &ValueKey) -> Self {
        Self::new(NextPart::Function(4), most, key)
    }

    fn new(next: NextPart, most: usize, key: &ValueKey) -> Self {
        Self {
            next,
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
            bytes = match self.next {
                NextPart::Nothing => return,
                NextPart::Names(names) => {
                    let Some(end) = memchr::memchr(0, bytes) else { return };
                    self.next = if names > 1 {
                        NextPart::Names(names - 1)
                    } else {
                        NextPart::FormatCount
                    };
                    bytes.get(end + 1..).unwrap_or_default()
                }
                NextPart::Function(left) | NextPart::Formats(left) | NextPart::Value(left) => self.pass(left, bytes),
                NextPart::FormatCount | NextPart::Count => self.number(2, bytes),
                NextPart::Length => self.number(4, bytes),
            };
        }
    }

    /// Processes the bytes of the current field, of which `left` bytes are still to come.
    fn pass<'b>(&mut self, left: u64, bytes: &'b [u8]) -> &'b [u8] {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let (taken, rest) = bytes.split_at_checked(here).unwrap_or_default();
        if let (NextPart::Value(_), Some(Some(part))) = (self.next, self.values.last_mut()) {
            part.take(taken);
        }
        let left = left - taken.len() as u64;
        self.next = match self.next {
            NextPart::Function(_) if left == 0 => NextPart::FormatCount,
            NextPart::Function(_) => NextPart::Function(left),
            NextPart::Formats(_) if left == 0 => NextPart::Count,
            NextPart::Formats(_) => NextPart::Formats(left),
            _ if left == 0 => self.next_value(),
            _ => NextPart::Value(left),
        };
        rest
    }

    /// Processes bytes of an integer with `size` bytes.
    fn number<'b>(&mut self, size: u8, mut bytes: &'b [u8]) -> &'b [u8] {
        while let Some((byte, rest)) = bytes.split_first() {
            bytes = rest;
            self.number = (self.number.0 << 8 | u32::from(*byte), self.number.1 + 1);
            if self.number.1 == size {
                let (number, _) = std::mem::take(&mut self.number);
                self.next = self.numbered(number);
                break;
            }
        }
        bytes
    }

    fn numbered(&mut self, number: u32) -> NextPart {
        match self.next {
            NextPart::FormatCount if number == 0 => NextPart::Count,
            NextPart::FormatCount => NextPart::Formats(u64::from(number) * 2),
            NextPart::Count => {
                self.left = number;
                self.next_value()
            }
            // NULL.
            _ if number == u32::MAX => {
                self.left -= 1;
                self.values.push(None);
                self.next_value()
            }
            _ => {
                self.left -= 1;
                let part = self.begin(u64::from(number));
                self.values.push(Some(part));
                if number == 0 {
                    self.next_value()
                } else {
                    NextPart::Value(u64::from(number))
                }
            }
        }
    }

    fn next_value(&self) -> NextPart {
        if self.left == 0 || self.without_room > MAX_HASHED_PARAMETERS {
            NextPart::Nothing
        } else {
            NextPart::Length
        }
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
