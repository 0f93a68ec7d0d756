//! Parser of the messages that a client sends after login (protocol: "Message Formats", marked F).
//!
//! It reads only the fields that the audit record needs. The bytes are forwarded unchanged, and PostgreSQL judges them.

use super::frame::{MAX_MESSAGE_BYTES, MAX_SHORT_MESSAGE_BYTES};

/// Returns the maximum length of a message body by type, in bytes, as PostgreSQL has it (`SocketBackend`, tcop/postgres.c);
/// `None` for a type that may not come after login.
#[must_use]
pub fn limit(tag: u8) -> Option<u32> {
    match tag {
        b'Q' | b'F' | b'B' | b'P' | b'd' => Some(MAX_MESSAGE_BYTES),
        b'X' | b'C' | b'D' | b'E' | b'H' | b'S' | b'c' | b'f' => Some(MAX_SHORT_MESSAGE_BYTES),
        _ => None,
    }
}

/// Reader of the fields of a message body, front to back.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Creates a reader at the beginning of `body`.
    #[must_use]
    pub fn of(body: &'a [u8]) -> Self {
        Self(body)
    }

    /// Reads up to the next NUL and consumes it too. Returns `None` if there is none.
    pub fn text(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (text, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.get(1..)?;
        Some(text)
    }

    /// Reads up to the next NUL, or all that is left.
    pub fn text_or_rest(&mut self) -> &'a [u8] {
        self.text().unwrap_or_else(|| std::mem::take(&mut self.0))
    }

    /// Reads the next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(bytes)
    }

    /// Reads a 16-bit integer.
    pub fn int16(&mut self) -> Option<u16> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*bytes))
    }

    /// Reads a 32-bit integer.
    pub fn int32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    /// Reads a list of OIDs after their number: four bytes each, none if it is not complete.
    pub fn oids(&mut self) -> &'a [u8] {
        let count = self.int16().map_or(0, usize::from);
        self.bytes(count * 4).unwrap_or_default()
    }

    /// Returns the bytes that are left.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }
}

/// Parsed Parse message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Name of the prepared statement to make; empty: the unnamed one.
    pub name: &'a [u8],
    /// SQL text, or its beginning if the body was cut.
    pub text: &'a [u8],
    /// Parameter types, four bytes each, as far as they are given and received.
    pub types: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Parses a body. A body cut short gives a text cut short; `None` if the name is not complete.
    #[must_use]
    pub fn of(body: &'a [u8]) -> Option<Self> {
        let mut fields = Fields::of(body);
        let name = fields.text()?;
        let text = fields.text_or_rest();
        let types = fields.oids();
        Some(Self { name, text, types })
    }
}

/// Values with their formats, from a Bind message or the arguments of a FunctionCall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireValues<'a> {
    formats: &'a [u8],
    /// Number of values that the message claims to have.
    pub count: u16,
    body: &'a [u8],
}

impl<'a> WireValues<'a> {
    /// Parses formats, count and values.
    #[must_use]
    pub fn of(mut fields: Fields<'a>) -> Option<Self> {
        let formats = fields.int16()?;
        let formats = fields.bytes(usize::from(formats) * 2)?;
        let count = fields.int16()?;
        Some(Self {
            formats,
            count,
            body: fields.rest(),
        })
    }

    /// Returns true if the value of this index is binary. There is one format for all values, one for each, or none: all text
    /// (protocol: Bind).
    #[must_use]
    pub fn is_binary(&self, index: usize) -> bool {
        let at = if self.formats.len() == 2 { 0 } else { index * 2 };
        self.formats.get(at + 1).is_some_and(|low| *low == 1)
    }

    /// Iterates over the complete values in order: true if the value is binary, and its bytes (`None` is NULL).
    pub fn iter(&self) -> impl Iterator<Item = (bool, Option<&'a [u8]>)> + use<'a> {
        let this = *self;
        let mut fields = Fields::of(this.body);
        (0..usize::from(this.count)).map_while(move |index| {
            let binary = this.is_binary(index);
            let length = fields.int32()?;
            if length == u32::MAX {
                return Some((binary, None));
            }
            fields.bytes(length as usize).map(|bytes| (binary, Some(bytes)))
        })
    }
}

/// Parsed Bind message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Name of the portal to make; empty: the unnamed one.
    pub portal: &'a [u8],
    /// Name of the prepared statement to bind.
    pub statement: &'a [u8],
    /// Parameters; `None` if formats and count cannot be read.
    pub values: Option<WireValues<'a>>,
}

impl<'a> Bind<'a> {
    /// Parses a body. Returns `None` if the names are not complete.
    #[must_use]
    pub fn of(body: &'a [u8]) -> Option<Self> {
        let mut fields = Fields::of(body);
        let portal = fields.text()?;
        let statement = fields.text()?;
        Some(Self {
            portal,
            statement,
            values: WireValues::of(fields),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parse_with_types() {
        let parse = Parse::of(b"s1\0select $1\0\0\x01\0\0\0\x17").unwrap();
        assert_eq!(
            (parse.name, parse.text, parse.types),
            (&b"s1"[..], &b"select $1"[..], &b"\0\0\0\x17"[..])
        );
    }

    #[test]
    fn bind_with_each_kind_of_format() {
        let values = |body: Vec<u8>| {
            let values = Bind::of(&body).unwrap().values.unwrap();
            values
                .iter()
                .map(|(binary, value)| (binary, value.map(<[u8]>::to_vec)))
                .collect::<Vec<_>>()
        };
        let a = || Some(b"a".to_vec());
        let two = b"\0\x02\0\0\0\x01a\xff\xff\xff\xff\0\0";
        let with = |formats: &[u8]| [b"p\0s\0", formats, two].concat();
        assert_eq!(values(with(b"\0\0")), [(false, a()), (false, None)]);
        assert_eq!(values(with(b"\0\x01\0\x01")), [(true, a()), (true, None)]);
        assert_eq!(values(with(b"\0\x02\0\0\0\x01")), [(false, a()), (true, None)]);
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Parse::of(&body);
            if let Some(values) = Bind::of(&body).and_then(|bind| bind.values) {
                prop_assert!(values.iter().count() <= usize::from(values.count));
            }
        }
    }
}
