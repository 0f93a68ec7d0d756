//! Cuts what is too long for a record, visibly: the beginning, the whole length, the hash of the whole.
//!
//! It does not decide how long is too long.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::event::{Parameter, Sql, Text};
use super::redact::{self, Secrets};
use crate::lexer::{Backslashes, Encoding, LexerSettings};

impl<'a> Sql<'a> {
    /// SQL text as it came, or its beginning when it is longer than `max` bytes.
    #[must_use]
    pub fn of(bytes: &'a [u8], max: usize) -> Self {
        Self::cut(bytes, max, bytes.len() as u64, || Sha256::digest(bytes).into())
    }

    /// The same for a text of `length` bytes of which only the `start` is held; `hash` is of the whole.
    #[must_use]
    pub fn cut(start: &'a [u8], max: usize, length: u64, hash: impl FnOnce() -> [u8; 32]) -> Self {
        let start = beginning(start, max);
        let whole = start.len() as u64 == length;
        Self {
            text: Text::of(start),
            length: (!whole).then_some(length),
            sha256: (!whole).then(|| Cow::Owned(hex(&hash()))),
            redacted: 0,
            scs: Backslashes::default(),
            encoding: Encoding::default(),
        }
    }

    /// Notes the settings of the session when the text came, where they matter to it; `bytes` are the text as it came.
    #[must_use]
    pub fn under(self, settings: LexerSettings, bytes: &[u8]) -> Self {
        if settings == LexerSettings::default() {
            return self;
        }
        Self {
            scs: if bytes.contains(&b'\\') { settings.strings } else { self.scs },
            encoding: if bytes.is_ascii() { self.encoding } else { settings.encoding },
            ..self
        }
    }

    /// Returns the settings under which the recorded text can be read. `None`: its characters are not on record as they came.
    #[must_use]
    pub fn settings(&self) -> Option<LexerSettings> {
        let escaped = || self.text.0.contains("\\x");
        let lost = match self.encoding {
            Encoding::UNSETTLED => escaped(),
            encoding => encoding.overlaps_ascii(),
        };
        (!lost).then_some(LexerSettings {
            strings: self.scs,
            encoding: self.encoding,
        })
    }

    /// The same for a text that has one of [`redact::TRIGGERS`] anywhere, with its secrets taken out; and which of its
    /// parameters are secrets: all, where the names of some may stand beyond the cut. It has no hash: who knows the rest of the text could guess the secret by it.
    #[must_use]
    pub fn redacted(start: &'a [u8], max: usize, length: u64) -> (Self, Secrets) {
        let start = beginning(start, max);
        let whole = start.len() as u64 == length;
        let redaction = redact::sql(start, whole);
        let sql = Self {
            text: Text::from_bytes(redaction.text),
            length: (!whole || redaction.shortened).then_some(length),
            sha256: None,
            // What is beyond the cut has not been looked at closely, and its hash is left out.
            redacted: redaction.places.max(u32::from(!whole)),
            scs: Backslashes::default(),
            encoding: Encoding::default(),
        };
        (sql, redaction.parameters)
    }
}

impl<'a> Parameter<'a> {
    /// A value in text form, or its beginning when it is longer than `max` bytes.
    #[must_use]
    pub fn text(bytes: &'a [u8], max: usize) -> Self {
        let start = beginning(bytes, max);
        if start.len() == bytes.len() {
            return Self::Text(Text::of(bytes));
        }
        Self::Long {
            start: Text::of(start),
            length: bytes.len() as u64,
            sha256: Cow::Owned(sha256(bytes)),
        }
    }

    /// Bytes that are only bytes: their length and SHA-256.
    #[must_use]
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::Long {
            start: Text(Cow::Borrowed("")),
            length: bytes.len() as u64,
            sha256: Cow::Owned(sha256(bytes)),
        }
    }

    /// A binary value that is not decoded, in hexadecimal; of one longer than `max` bytes the beginning, written as
    /// PostgreSQL writes a `bytea` (`\x…`).
    #[must_use]
    pub fn binary(oid: u32, bytes: &[u8], max: usize) -> Self {
        match bytes.get(..max) {
            Some(start) if start.len() < bytes.len() => Self::Long {
                start: Text(Cow::Owned(format!("\\x{}", hex(start)))),
                length: bytes.len() as u64,
                sha256: Cow::Owned(sha256(bytes)),
            },
            _ => Self::Binary {
                oid,
                hex: Cow::Owned(hex(bytes)),
            },
        }
    }
}

/// At most `max` bytes from the start, without a part of a UTF-8 character at the end.
fn beginning(bytes: &[u8], max: usize) -> &[u8] {
    let continues = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    // A character has at most three continuation bytes; more is not UTF-8 and may be cut anywhere.
    let end = (max.saturating_sub(3)..=max).rev().find(|at| !continues(*at)).unwrap_or(max);
    bytes.get(..end).unwrap_or(bytes)
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [hex_digit(byte >> 4), hex_digit(*byte)]);
    digits.map(char::from).collect()
}

/// The lower-case hexadecimal digit of the value's lowest four bits.
pub(super) fn hex_digit(value: u8) -> u8 {
    match value & 15 {
        value @ 0..=9 => b'0' + value,
        value => b'a' - 10 + value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_text_is_whole() {
        assert_eq!(
            Sql::of(b"SELECT 1", 8),
            Sql {
                text: Text::of(b"SELECT 1"),
                length: None,
                sha256: None,
                redacted: 0,
                scs: Backslashes::default(),
                encoding: Encoding::default(),
            }
        );
        assert_eq!(Parameter::text(b"x", 1), Parameter::Text(Text::of(b"x")));
        assert_eq!(
            Parameter::binary(17, &[0, 255], 2),
            Parameter::Binary {
                oid: 17,
                hex: Cow::Borrowed("00ff")
            }
        );
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let sql = Sql::of("éé".as_bytes(), 3);
        assert_eq!((sql.text, sql.length), (Text::of("é".as_bytes()), Some(4)));
        // SHA-256 of "abc": FIPS 180-4's example.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Sql::of(b"abc", 1).sha256.as_deref(), Some(abc));
        let long = Parameter::binary(17, b"abc", 2);
        assert!(matches!(long, Parameter::Long { start, length: 3, .. } if start.0 == "\\x6162"));
    }

    #[test]
    fn a_text_with_secrets_has_no_hash() {
        let text = b"ALTER ROLE a PASSWORD 'x'; SELECT 'y'";
        let (sql, _) = Sql::redacted(text, 1000, 37);
        assert_eq!(
            (&*sql.text.0, sql.length, sql.redacted),
            ("ALTER ROLE a PASSWORD '***'; SELECT 'y'", None, 1)
        );
        let (sql, secrets) = Sql::redacted(text, 12, 37);
        // Its name may be beyond the cut.
        assert!(secrets.has(1));
        assert_eq!(
            (&*sql.text.0, sql.length, sql.sha256, sql.redacted),
            ("ALTER ROLE a", Some(37), None, 1)
        );
        let (sql, _) = Sql::redacted(b"SELECT password, '", 1000, 18);
        assert_eq!((&*sql.text.0, sql.length, sql.redacted), ("SELECT password", Some(18), 1));
    }

    proptest! {
        #[test]
        fn a_cut_is_never_longer_and_never_splits(text in any::<String>(), max in 0_usize..40) {
            let start = beginning(text.as_bytes(), max);
            prop_assert!(start.len() <= max);
            prop_assert!(std::str::from_utf8(start).is_ok());
            prop_assert!(start.len() + 4 > max.min(text.len()));
        }

        #[test]
        fn any_bytes_can_be_cut(bytes in proptest::collection::vec(any::<u8>(), 0..40), max in 0_usize..40) {
            let sql = Sql::of(&bytes, max);
            prop_assert_eq!(sql.length.is_some(), bytes.len() > max);
        }
    }
}
