//! Conversion of bytes in a client's encoding to text, so that a record shows the characters that a person typed.
//!
//! Nothing is decided by the result. PostgreSQL's conversions are those of the Encoding Standard, except where noted here; in
//! encodings that the standard does not have, only ASCII is text.
//!
//! INVARIANT: a byte that is not valid in its encoding appears in the result as `\xNN`, and is counted.

use std::borrow::Cow;
use std::fmt::Write as _;

use encoding_rs::{DecoderResult, Encoding as Standard};

use super::Encoding;

/// Decoded text, and the number of its invalid bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Text, with `\xNN` for each invalid byte.
    pub text: Cow<'a, str>,
    /// Number of invalid bytes.
    pub escaped: u32,
}

/// Method of conversion from bytes to characters.
#[derive(Debug, Clone, Copy)]
enum Conversion {
    /// UTF-8, as far as the bytes are valid.
    Utf8,
    /// ISO 8859-1: each byte is the character of its number.
    Latin1,
    /// ISO 8859: each byte of 0x80 to 0x9f is the character of its number.
    Iso(&'static Standard),
    /// Windows code page: bytes of 0x80 to 0x9f without a character are invalid.
    Windows(&'static Standard),
    /// Conversion exactly as the Encoding Standard defines it.
    Standard(&'static Standard),
    /// Unknown conversion: only ASCII is text.
    Ascii,
}

impl Encoding {
    /// Returns true if [`Encoding::decode`] knows this encoding and converts its bytes beyond ASCII differently from UTF-8.
    #[must_use]
    pub fn is_converted(self) -> bool {
        !matches!(self.conversion(), Conversion::Utf8 | Conversion::Ascii)
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
        match self.conversion() {
            Conversion::Utf8 => bytes.utf8_chunks().for_each(|chunk| {
                decoding.text.push_str(chunk.valid());
                decoding.escape(chunk.invalid());
            }),
            Conversion::Latin1 => decoding.text.extend(bytes.iter().copied().map(char::from)),
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

    fn conversion(self) -> Conversion {
        use encoding_rs::{
            BIG5, EUC_JP, EUC_KR, GB18030, GBK, IBM866, ISO_8859_2, ISO_8859_3, ISO_8859_4, ISO_8859_5, ISO_8859_6, ISO_8859_7,
            ISO_8859_8, ISO_8859_10, ISO_8859_13, ISO_8859_14, ISO_8859_15, ISO_8859_16, KOI8_R, KOI8_U, SHIFT_JIS, WINDOWS_874,
            WINDOWS_1250, WINDOWS_1251, WINDOWS_1252, WINDOWS_1253, WINDOWS_1254, WINDOWS_1255, WINDOWS_1256, WINDOWS_1257,
            WINDOWS_1258,
        };
        match self.name() {
            "UTF8" | "SQL_ASCII" | "unsettled" => Conversion::Utf8,
            "LATIN1" => Conversion::Latin1,
            "LATIN2" => Conversion::Iso(ISO_8859_2),
            "LATIN3" => Conversion::Iso(ISO_8859_3),
            "LATIN4" => Conversion::Iso(ISO_8859_4),
            // ISO 8859-9; the standard has only the code page instead, which has more characters below 0xa0.
            "LATIN5" => Conversion::Iso(WINDOWS_1254),
            "LATIN6" => Conversion::Iso(ISO_8859_10),
            "LATIN7" => Conversion::Iso(ISO_8859_13),
            "LATIN8" => Conversion::Iso(ISO_8859_14),
            "LATIN9" => Conversion::Iso(ISO_8859_15),
            "LATIN10" => Conversion::Iso(ISO_8859_16),
            "ISO_8859_5" => Conversion::Iso(ISO_8859_5),
            "ISO_8859_6" => Conversion::Iso(ISO_8859_6),
            "ISO_8859_7" => Conversion::Iso(ISO_8859_7),
            "ISO_8859_8" => Conversion::Iso(ISO_8859_8),
            "WIN874" => Conversion::Windows(WINDOWS_874),
            "WIN1250" => Conversion::Windows(WINDOWS_1250),
            "WIN1251" => Conversion::Windows(WINDOWS_1251),
            "WIN1252" => Conversion::Windows(WINDOWS_1252),
            "WIN1253" => Conversion::Windows(WINDOWS_1253),
            "WIN1254" => Conversion::Windows(WINDOWS_1254),
            "WIN1255" => Conversion::Windows(WINDOWS_1255),
            "WIN1256" => Conversion::Windows(WINDOWS_1256),
            "WIN1257" => Conversion::Windows(WINDOWS_1257),
            "WIN1258" => Conversion::Windows(WINDOWS_1258),
            "WIN866" => Conversion::Standard(IBM866),
            "KOI8R" => Conversion::Standard(KOI8_R),
            "KOI8U" => Conversion::Standard(KOI8_U),
            "SJIS" => Conversion::Standard(SHIFT_JIS),
            "BIG5" => Conversion::Standard(BIG5),
            "GBK" | "EUC_CN" => Conversion::Standard(GBK),
            "GB18030" => Conversion::Standard(GB18030),
            // UHC is a superset of EUC_KR, and the standard has only UHC.
            "UHC" | "EUC_KR" => Conversion::Standard(EUC_KR),
            "EUC_JP" => Conversion::Standard(EUC_JP),
            _ => Conversion::Ascii,
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
