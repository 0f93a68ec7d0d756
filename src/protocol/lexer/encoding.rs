//! Boundaries of characters in a client's encoding, as far as an ASCII byte can be the second byte of a character.
//!
//! It converts nothing: [`decode`](super::decode) does, for records. PostgreSQL converts a text to the server's encoding before
//! it scans it, and no server has one of those encodings. So a byte that belongs to a character there must not be taken for a
//! quote here (`src/common/wchar.c`).
//!
//! INVARIANT: the boundaries of characters are either those that PostgreSQL finds, or reported as unknown.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Encoding that a client may have chosen (`client_encoding`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    name: &'static str,
    scheme: Scheme,
}

/// Rule that determines the length of a character in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    /// UTF-8, in which no byte of a longer character is ASCII. Also encodings in which PostgreSQL does not interpret bytes.
    Utf8,
    /// The same property, but with other characters.
    Apart,
    /// `SJIS`, `SHIFT_JIS_2004`.
    ShiftJis,
    /// `BIG5`, `GBK`, `UHC`.
    Two,
    /// `GB18030`.
    Four,
    /// `JOHAB`, of which PostgreSQL accepts only the part that is encoded like EUC.
    Euc,
    /// Any of them: the current setting is not known.
    Unsettled,
}

/// Schemes under which an ASCII byte can be part of a longer character.
const OVERLAPPING: [Scheme; 4] = [Scheme::ShiftJis, Scheme::Two, Scheme::Four, Scheme::Euc];

/// PostgreSQL's encodings, by the names that a server reports.
const ENCODINGS: [(&str, Scheme); 43] = [
    ("UTF8", Scheme::Utf8),
    ("SQL_ASCII", Scheme::Utf8),
    ("SJIS", Scheme::ShiftJis),
    ("SHIFT_JIS_2004", Scheme::ShiftJis),
    ("BIG5", Scheme::Two),
    ("GBK", Scheme::Two),
    ("UHC", Scheme::Two),
    ("GB18030", Scheme::Four),
    ("JOHAB", Scheme::Euc),
    ("EUC_JP", Scheme::Apart),
    ("EUC_CN", Scheme::Apart),
    ("EUC_KR", Scheme::Apart),
    ("EUC_TW", Scheme::Apart),
    ("EUC_JIS_2004", Scheme::Apart),
    ("MULE_INTERNAL", Scheme::Apart),
    ("LATIN1", Scheme::Apart),
    ("LATIN2", Scheme::Apart),
    ("LATIN3", Scheme::Apart),
    ("LATIN4", Scheme::Apart),
    ("LATIN5", Scheme::Apart),
    ("LATIN6", Scheme::Apart),
    ("LATIN7", Scheme::Apart),
    ("LATIN8", Scheme::Apart),
    ("LATIN9", Scheme::Apart),
    ("LATIN10", Scheme::Apart),
    ("WIN1256", Scheme::Apart),
    ("WIN1258", Scheme::Apart),
    ("WIN866", Scheme::Apart),
    ("WIN874", Scheme::Apart),
    ("KOI8R", Scheme::Apart),
    ("WIN1251", Scheme::Apart),
    ("WIN1252", Scheme::Apart),
    ("ISO_8859_5", Scheme::Apart),
    ("ISO_8859_6", Scheme::Apart),
    ("ISO_8859_7", Scheme::Apart),
    ("ISO_8859_8", Scheme::Apart),
    ("WIN1250", Scheme::Apart),
    ("WIN1253", Scheme::Apart),
    ("WIN1254", Scheme::Apart),
    ("WIN1255", Scheme::Apart),
    ("WIN1257", Scheme::Apart),
    ("KOI8U", Scheme::Apart),
    // Not an encoding of a server: the name in a record if the encoding could not be determined.
    (UNSETTLED, Scheme::Unsettled),
];

/// Name of an encoding that is not known.
const UNSETTLED: &str = "unsettled";

impl Default for Encoding {
    fn default() -> Self {
        Self::UTF8
    }
}

impl Encoding {
    /// UTF-8, which drivers choose.
    pub const UTF8: Self = Self {
        name: "UTF8",
        scheme: Scheme::Utf8,
    };
    /// Unknown encoding, which may be any.
    pub const UNSETTLED: Self = Self {
        name: UNSETTLED,
        scheme: Scheme::Unsettled,
    };

    /// Returns the encoding of this name, as a server reports it; [`Self::UNSETTLED`] for any other name.
    #[must_use]
    pub fn of_name(name: &[u8]) -> Self {
        let known = ENCODINGS
            .iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        known.map_or(Self::UNSETTLED, |(name, scheme)| Self { name, scheme: *scheme })
    }

    /// Returns the encoding's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Returns true if names that are not ASCII can be compared with those of UTF-8 texts.
    #[must_use]
    pub fn is_utf8(self) -> bool {
        self.scheme == Scheme::Utf8
    }

    /// Returns true if an ASCII byte can be the second byte of a character, or if the encoding is not known.
    #[must_use]
    pub fn overlaps_ascii(self) -> bool {
        !matches!(self.scheme, Scheme::Utf8 | Scheme::Apart)
    }

    /// Masks a text, see [`super::LexerSettings::mask`].
    pub(super) fn mask(self, text: &[u8]) -> Option<Cow<'_, [u8]>> {
        if !self.overlaps_ascii() || text.is_ascii() {
            return Some(Cow::Borrowed(text));
        }
        if self.scheme == Scheme::Unsettled {
            let alike = |scheme: &Scheme| scheme.mask(text).is_none_or(|masked| is_read_alike(text, &masked));
            return OVERLAPPING.iter().all(alike).then_some(Cow::Borrowed(text));
        }
        self.scheme.mask(text).map(Cow::Owned)
    }
}

impl Serialize for Encoding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for Encoding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::of_name(String::deserialize(deserializer)?.as_bytes()))
    }
}

/// Returns true if a lexer finds the same tokens in both: each masked byte would have continued a word anyway.
fn is_read_alike(text: &[u8], masked: &[u8]) -> bool {
    let unlike = |(byte, masked): (&u8, &u8)| byte != masked && !byte.is_ascii_alphanumeric() && *byte != b'_';
    !text.iter().zip(masked).any(unlike)
}

impl Scheme {
    /// Returns the text with no ASCII byte in its longer characters; `None` if PostgreSQL refuses it.
    fn mask(self, text: &[u8]) -> Option<Vec<u8>> {
        let mut masked = text.to_vec();
        let mut rest = masked.as_mut_slice();
        while let Some(high) = rest.iter().position(|byte| !byte.is_ascii()) {
            rest = rest.get_mut(high..)?;
            let length = self.length(rest)?;
            let (character, behind) = std::mem::take(&mut rest).split_at_mut_checked(length)?;
            for byte in character {
                *byte |= 0x80;
            }
            rest = behind;
        }
        Some(masked)
    }

    /// Returns the number of bytes of the character at the beginning of `text`, whose first byte is not ASCII; `None` if it is
    /// invalid.
    fn length(self, text: &[u8]) -> Option<usize> {
        let tail = |byte: &u8| matches!(byte, 0x40..=0x7e | 0x80..=0xfe);
        let lead = |byte: &u8| matches!(byte, 0x81..=0xfe);
        let euc = |bytes: &[u8]| bytes.iter().all(|byte| matches!(byte, 0xa1..=0xfe));
        match (self, text) {
            (Self::ShiftJis, [0xa1..=0xdf, ..]) => Some(1),
            (Self::ShiftJis, [0x81..=0x9f | 0xe0..=0xfc, 0x40..=0x7e | 0x80..=0xfc, ..]) => Some(2),
            (Self::Two, [0x80..=0xff, second, ..]) if tail(second) || *second == 0xff => Some(2),
            (Self::Four, [first, b'0'..=b'9', third, b'0'..=b'9', ..]) if lead(first) && lead(third) => Some(4),
            (Self::Four, [first, second, ..]) if lead(first) && tail(second) => Some(2),
            (Self::Euc, [0x8f, second, third, ..]) if euc(&[*second, *third]) => Some(3),
            (Self::Euc, [0x80..=0x8e | 0x90..=0xff, second, ..]) if euc(&[*second]) => Some(2),
            _ => None,
        }
    }
}
