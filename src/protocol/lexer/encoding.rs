//! Encodings of a client: the boundaries of characters, as far as an ASCII byte can be the second byte of a character, and the
//! conversion to text, so that a record shows the characters that a person typed.
//!
//! PostgreSQL converts a text to the server's encoding before it scans it, and no server has one of the encodings that overlap
//! ASCII. So a byte that belongs to a character there must not be taken for a quote here (`src/common/wchar.c`). Nothing is decided
//! by converted text. PostgreSQL's conversions are those of the Encoding Standard, except where noted here.
//!
//! INVARIANT: the boundaries of characters are either those that PostgreSQL finds, or reported as unknown. A byte that is not valid
//! in its encoding appears in converted text as `\xNN`, and is counted.

use std::borrow::Cow;
use std::fmt::Write as _;

use encoding_rs::{DecoderResult, Encoding as Standard};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Encoding that a client may have chosen (`client_encoding`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    name: &'static str,
    scheme: Scheme,
    conversion: Conversion,
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

/// Decoded text, and the number of its invalid bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Text, with `\xNN` for each invalid byte.
    pub text: Cow<'a, str>,
    /// Number of invalid bytes.
    pub escaped: u32,
}

/// Method of conversion from bytes to characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conversion {
    /// UTF-8, as far as the bytes are valid.
    Utf8,
    /// ISO 8859: each byte of 0x80 to 0x9f is the character of its number.
    Iso(&'static Standard),
    /// Windows code page: bytes of 0x80 to 0x9f without a character are invalid.
    Windows(&'static Standard),
    /// Conversion exactly as the Encoding Standard defines it.
    Standard(&'static Standard),
    /// Unknown conversion: only ASCII is text.
    Ascii,
}

/// Schemes under which an ASCII byte can be part of a longer character.
const OVERLAPPING: [Scheme; 4] = [Scheme::ShiftJis, Scheme::Two, Scheme::Four, Scheme::Euc];

/// PostgreSQL's encodings, by the names that a server reports. In those that the Encoding Standard does not have, only ASCII is text.
static ENCODINGS: [(&str, Scheme, Conversion); 43] = [
    ("UTF8", Scheme::Utf8, Conversion::Utf8),
    ("SQL_ASCII", Scheme::Utf8, Conversion::Utf8),
    ("SJIS", Scheme::ShiftJis, Conversion::Standard(encoding_rs::SHIFT_JIS)),
    ("SHIFT_JIS_2004", Scheme::ShiftJis, Conversion::Ascii),
    ("BIG5", Scheme::Two, Conversion::Standard(encoding_rs::BIG5)),
    ("GBK", Scheme::Two, Conversion::Standard(encoding_rs::GBK)),
    // UHC is a superset of EUC_KR, and the standard has only UHC.
    ("UHC", Scheme::Two, Conversion::Standard(encoding_rs::EUC_KR)),
    ("GB18030", Scheme::Four, Conversion::Standard(encoding_rs::GB18030)),
    ("JOHAB", Scheme::Euc, Conversion::Ascii),
    ("EUC_JP", Scheme::Apart, Conversion::Standard(encoding_rs::EUC_JP)),
    ("EUC_CN", Scheme::Apart, Conversion::Standard(encoding_rs::GBK)),
    ("EUC_KR", Scheme::Apart, Conversion::Standard(encoding_rs::EUC_KR)),
    ("EUC_TW", Scheme::Apart, Conversion::Ascii),
    ("EUC_JIS_2004", Scheme::Apart, Conversion::Ascii),
    ("MULE_INTERNAL", Scheme::Apart, Conversion::Ascii),
    // ISO 8859-1; the standard has only the code page instead, which has more characters below 0xa0.
    ("LATIN1", Scheme::Apart, Conversion::Iso(encoding_rs::WINDOWS_1252)),
    ("LATIN2", Scheme::Apart, Conversion::Iso(encoding_rs::ISO_8859_2)),
    ("LATIN3", Scheme::Apart, Conversion::Iso(encoding_rs::ISO_8859_3)),
    ("LATIN4", Scheme::Apart, Conversion::Iso(encoding_rs::ISO_8859_4)),
    // ISO 8859-9, for which the same holds.
    ("LATIN5", Scheme::Apart, Conversion::Iso(encoding_rs::WINDOWS_1254)),
    ("LATIN6", Scheme::Apart, Conversion::Iso(encoding_rs::ISO_8859_10)),
    ("LATIN7", Scheme::Apart, Conversion::Iso(encoding_rs::ISO_8859_13)),
    ("LATIN8", Scheme::Apart, Conversion::Iso(encoding_rs::ISO_8859_14)),
    ("LATIN9", Scheme::Apart, Conversion::Iso(encoding_rs::ISO_8859_15)),
    ("LATIN10", Scheme::Apart, Conversion::Iso(encoding_rs::ISO_8859_16)),
    ("WIN1256", Scheme::Apart, Conversion::Windows(encoding_rs::WINDOWS_1256)),
    ("WIN1258", Scheme::Apart, Conversion::Windows(encoding_rs::WINDOWS_1258)),
    ("WIN866", Scheme::Apart, Conversion::Standard(encoding_rs::IBM866)),
    ("WIN874", Scheme::Apart, Conversion::Windows(encoding_rs::WINDOWS_874)),
    ("KOI8R", Scheme::Apart, Conversion::Standard(encoding_rs::KOI8_R)),
    ("WIN1251", Scheme::Apart, Conversion::Windows(encoding_rs::WINDOWS_1251)),
    ("WIN1252", Scheme::Apart, Conversion::Windows(encoding_rs::WINDOWS_1252)),
    ("ISO_8859_5", Scheme::Apart, Conversion::Iso(encoding_rs::ISO_8859_5)),
    ("ISO_8859_6", Scheme::Apart, Conversion::Iso(encoding_rs::ISO_8859_6)),
    ("ISO_8859_7", Scheme::Apart, Conversion::Iso(encoding_rs::ISO_8859_7)),
    ("ISO_8859_8", Scheme::Apart, Conversion::Iso(encoding_rs::ISO_8859_8)),
    ("WIN1250", Scheme::Apart, Conversion::Windows(encoding_rs::WINDOWS_1250)),
    ("WIN1253", Scheme::Apart, Conversion::Windows(encoding_rs::WINDOWS_1253)),
    ("WIN1254", Scheme::Apart, Conversion::Windows(encoding_rs::WINDOWS_1254)),
    ("WIN1255", Scheme::Apart, Conversion::Windows(encoding_rs::WINDOWS_1255)),
    ("WIN1257", Scheme::Apart, Conversion::Windows(encoding_rs::WINDOWS_1257)),
    ("KOI8U", Scheme::Apart, Conversion::Standard(encoding_rs::KOI8_U)),
    // Not an encoding of a server: the name in a record if the encoding could not be determined.
    (UNSETTLED, Scheme::Unsettled, Conversion::Utf8),
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
        conversion: Conversion::Utf8,
    };
    /// Unknown encoding, which may be any.
    pub const UNSETTLED: Self = Self {
        name: UNSETTLED,
        scheme: Scheme::Unsettled,
        conversion: Conversion::Utf8,
    };

    /// Returns the encoding of this name, as a server reports it; [`Self::UNSETTLED`] for any other name.
    #[must_use]
    pub fn of_name(name: &[u8]) -> Self {
        let mut known = ENCODINGS.iter();
        let known = known.find(|(known, ..)| name.eq_ignore_ascii_case(known.as_bytes()));
        known.map_or(Self::UNSETTLED, |&(name, scheme, conversion)| Self {
            name,
            scheme,
            conversion,
        })
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

    /// Returns true if [`Encoding::decode`] knows this encoding and converts its bytes beyond ASCII differently from UTF-8.
    #[must_use]
    pub fn is_converted(self) -> bool {
        !matches!(self.conversion, Conversion::Utf8 | Conversion::Ascii)
    }

    /// Returns bytes as text. If they are a prefix (not `whole`), an incomplete character at the end is left out.
    #[must_use]
    pub fn decode(self, bytes: &[u8], whole: bool) -> Decoded<'_> {
        if let Ok(text) = std::str::from_utf8(bytes)
            && (self.is_utf8() || bytes.is_ascii() || self == Self::UNSETTLED)
        {
            return Decoded {
                text: Cow::Borrowed(text),
                escaped: 0,
            };
        }
        let mut decoding = Decoding::default();
        match self.conversion {
            Conversion::Utf8 => bytes.utf8_chunks().for_each(|chunk| {
                decoding.text.push_str(chunk.valid());
                decoding.escape(chunk.invalid());
            }),
            Conversion::Iso(standard) => decoding.iso(standard, bytes),
            Conversion::Windows(standard) => decoding.windows(standard, bytes),
            Conversion::Standard(standard) => decoding.standard(standard, bytes, whole),
            Conversion::Ascii => {
                bytes
                    .chunk_by(|a, b| a.is_ascii() == b.is_ascii())
                    .for_each(|run| match std::str::from_utf8(run) {
                        Ok(text) if text.is_ascii() => decoding.text.push_str(text),
                        _ => decoding.escape(run),
                    });
            }
        }
        Decoded {
            text: Cow::Owned(decoding.text),
            escaped: decoding.escaped,
        }
    }

    /// Returns the same as [`Encoding::decode`] for bytes that may be owned.
    #[must_use]
    pub fn decode_own(self, bytes: Cow<'_, [u8]>, whole: bool) -> Decoded<'_> {
        match bytes {
            Cow::Borrowed(bytes) => self.decode(bytes, whole),
            Cow::Owned(bytes) => {
                let Decoded { text, escaped } = self.decode(&bytes, whole);
                Decoded {
                    text: Cow::Owned(text.into_owned()),
                    escaped,
                }
            }
        }
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

/// Text under construction, and the number of its invalid bytes.
#[derive(Default)]
struct Decoding {
    text: String,
    escaped: u32,
}

impl Decoding {
    fn escape(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let _ = write!(self.text, "\\x{byte:02x}");
            self.escaped = self.escaped.saturating_add(1);
        }
    }

    fn iso(&mut self, standard: &'static Standard, bytes: &[u8]) {
        let is_control = |byte: &u8| matches!(byte, 0x80..=0x9f);
        for run in bytes.chunk_by(|a, b| is_control(a) == is_control(b)) {
            if run.first().is_some_and(is_control) {
                self.text.extend(run.iter().copied().map(char::from));
            } else {
                self.standard(standard, run, true);
            }
        }
    }

    fn windows(&mut self, standard: &'static Standard, bytes: &[u8]) {
        let mut decoded = Self::default();
        decoded.standard(standard, bytes, true);
        self.escaped = self.escaped.saturating_add(decoded.escaped);
        for character in decoded.text.chars() {
            match u8::try_from(u32::from(character)) {
                // The standard maps the byte to the character of its number; PostgreSQL has no character there.
                Ok(byte @ 0x80..=0x9f) => self.escape(&[byte]),
                _ => self.text.push(character),
            }
        }
    }

    fn standard(&mut self, standard: &'static Standard, bytes: &[u8], whole: bool) {
        let mut decoder = standard.new_decoder_without_bom_handling();
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let room = decoder.max_utf8_buffer_length_without_replacement(rest.len());
            self.text.reserve(room.unwrap_or(rest.len()));
            let (result, read) = decoder.decode_to_string_without_replacement(rest, &mut self.text, whole);
            at += read;
            match result {
                DecoderResult::InputEmpty => return,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(length, behind) => {
                    let end = at.saturating_sub(usize::from(behind));
                    let start = end.saturating_sub(usize::from(length));
                    self.escape(bytes.get(start..end).unwrap_or_default());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode<'a>(name: &str, bytes: &'a [u8]) -> (Cow<'a, str>, u32) {
        let decoded = Encoding::of_name(name.as_bytes()).decode(bytes, true);
        (decoded.text, decoded.escaped)
    }

    #[test]
    fn texts_are_what_was_typed() {
        for (name, bytes, text) in [
            ("UTF8", "€ é".as_bytes(), "€ é"),
            ("LATIN1", b"\xa4 \xe9 \x80", "¤ é \u{80}"),
            ("LATIN9", b"\xa4", "€"),
            ("LATIN2", b"\xb1\x9f", "ą\u{9f}"),
            ("LATIN5", b"\xfe \x80", "ş \u{80}"),
            ("WIN1252", b"\x80 \xe4", "€ ä"),
            ("WIN1254", b"\xfe \x80", "ş €"),
            ("WIN1251", b"\xcf\xf0\xe8", "При"),
            ("KOI8R", b"\xf0\xd2\xc9", "При"),
            ("WIN866", b"\x8f\xe0\xa8", "При"),
            ("ISO_8859_5", b"\xbf\xe0\xd8", "При"),
            // The second byte of the first character is a backslash.
            ("SJIS", b"\x95\x5c\x93\xfa", "表日"),
            ("EUC_JP", b"\xc6\xfc", "日"),
            ("GBK", b"\xc8\xd5", "日"),
            ("GB18030", b"\x81\x30\x81\x30\xc8\xd5", "\u{80}日"),
            ("BIG5", b"\xa4\xe9", "日"),
            ("UHC", b"\xc7\xd1", "한"),
        ] {
            assert_eq!(decode(name, bytes), (text.into(), 0), "{name}");
        }
    }

    #[test]
    fn what_is_no_text_is_told_from_what_looks_like_it() {
        assert_eq!(decode("UTF8", b"\\xa4"), ("\\xa4".into(), 0));
        assert_eq!(decode("UTF8", b"\xa4"), ("\\xa4".into(), 1));
        assert_eq!(decode("UTF8", b"a\xffb\xfe"), ("a\\xffb\\xfe".into(), 2));
        // What PostgreSQL has no character for.
        assert_eq!(decode("WIN1252", b"a\x81\xe4"), ("a\\x81ä".into(), 1));
        assert_eq!(decode("SJIS", b"\x95\x5c\xff!"), ("表\\xff!".into(), 1));
        assert_eq!(decode("EUC_JP", b"\xc6!"), ("\\xc6!".into(), 1));
        // Of these no character is known.
        for name in ["EUC_TW", "JOHAB", "MULE_INTERNAL", "SHIFT_JIS_2004"] {
            assert_eq!(decode(name, "aé".as_bytes()), ("a\\xc3\\xa9".into(), 2), "{name}");
        }
        assert_eq!(decode("unsettled", "é".as_bytes()), ("é".into(), 0));
    }

    #[test]
    fn a_character_that_is_cut_is_left_out() {
        let sjis = Encoding::of_name(b"SJIS");
        assert_eq!(sjis.decode(b"a\x95", false).text, "a");
        assert_eq!(sjis.decode(b"a\x95", true).text, "a\\x95");
    }

    proptest! {
        #[test]
        fn any_bytes_are_text_in_any_encoding(
            name in proptest::sample::select(vec![
                "UTF8", "SQL_ASCII", "LATIN1", "LATIN5", "LATIN9", "WIN1252", "WIN874", "SJIS", "EUC_JP", "GB18030", "BIG5", "UHC",
                "JOHAB", "unsettled",
            ]),
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
            whole in any::<bool>(),
        ) {
            let decoded = Encoding::of_name(name.as_bytes()).decode(&bytes, whole);
            prop_assert!(decoded.text.matches("\\x").count() >= decoded.escaped as usize);
            prop_assert!(decoded.escaped as usize <= bytes.len());
            if bytes.is_ascii() {
                prop_assert_eq!(decoded.text.as_bytes(), &bytes[..]);
            }
        }
    }
}
