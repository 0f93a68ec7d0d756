//! Cuts texts and values that are too long for a record: a record then has the beginning, the whole length and hashes of the
//! whole.
//!
//! This module does not decide which length is too long.
//!
//! INVARIANT: everything that is cut or blanked has the length and the keyed hash of the original beside it. The plain hash is
//! there only if no word hints at a secret: an attacker who knows the rest of a text could try secrets until the hash fits.

use std::borrow::Cow;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::event::{OutsideText, ParameterValue, SqlText};
use super::redact::{self, SecretParameters};
use super::values::{KeyedHash, ValueKey};
use crate::protocol::lexer::{Decoded, Encoding, LexerSettings};

/// Beginning of an original, which may be all of it.
#[derive(Debug)]
pub struct TruncatedBytes<'a> {
    start: &'a [u8],
    length: u64,
}

impl<'a> TruncatedBytes<'a> {
    /// Takes at most `max` bytes of `held`, which is the start of an original of `length` bytes.
    #[must_use]
    pub fn of(held: &'a [u8], max: usize, length: u64) -> Self {
        Self {
            start: beginning(held, max),
            length,
        }
    }

    fn is_whole(&self) -> bool {
        self.start.len() as u64 == self.length
    }
}

/// Hashes of an original.
#[derive(Debug, Clone)]
pub struct OriginalHashes {
    sha256: Sha256,
    keyed: KeyedHash,
}

impl OriginalHashes {
    /// Starts hashing.
    #[must_use]
    pub fn begin(key: &ValueKey) -> Self {
        Self {
            sha256: Sha256::new(),
            keyed: key.begin(),
        }
    }

    /// Adds the next piece of the original.
    pub fn update(&mut self, piece: &[u8]) {
        self.sha256.update(piece);
        self.keyed.update(piece);
    }

    /// Hashes a whole original.
    #[must_use]
    pub fn of(original: &[u8], key: &ValueKey) -> Self {
        let mut hashes = Self::begin(key);
        hashes.update(original);
        hashes
    }

    /// Returns the SHA-256, in hexadecimal.
    #[must_use]
    pub fn plain(&self) -> Cow<'static, str> {
        Cow::Owned(HEXLOWER.encode(&self.sha256.clone().finalize()))
    }

    /// Returns the keyed hash of a text.
    #[must_use]
    pub fn keyed(&self) -> Cow<'static, str> {
        Cow::Owned(self.keyed.clone().text())
    }

    /// Returns the keyed hash of a value.
    #[must_use]
    pub fn value(&self) -> Cow<'static, str> {
        Cow::Owned(self.keyed.clone().value())
    }
}

impl<'a> SqlText<'a> {
    /// Returns the record of an SQL text that has none of [`redact::TRIGGERS`].
    #[must_use]
    pub fn of(text: &TruncatedBytes<'a>, encoding: Encoding, hashes: impl FnOnce() -> OriginalHashes) -> Self {
        let recorded = Self::decoded(encoding.decode(text.start, text.is_whole()));
        if text.is_whole() {
            return recorded;
        }
        let hashes = hashes();
        Self {
            length: Some(text.length),
            sha256: Some(hashes.plain()),
            hmac_sha256: Some(hashes.keyed()),
            cut: true,
            ..recorded
        }
    }

    fn decoded(decoded: Decoded<'a>) -> Self {
        Self {
            escaped: decoded.escaped,
            ..Self::whole(OutsideText(decoded.text))
        }
    }

    /// Notes the settings of the session when the text came, if they affect it; `bytes` is the text as it came. `settled`: no
    /// statement in progress may have changed them.
    #[must_use]
    pub fn under(self, settings: LexerSettings, settled: bool, bytes: &[u8]) -> Self {
        if settings == LexerSettings::default() {
            return self;
        }
        let encoding = if bytes.is_ascii() { self.encoding } else { settings.encoding };
        Self {
            scs: if bytes.contains(&b'\\') { settings.strings } else { self.scs },
            converted: settled && encoding.is_converted(),
            encoding,
            ..self
        }
    }

    /// Returns the settings under which the recorded text can be analysed. `None`: its characters are not on record as they
    /// came.
    #[must_use]
    pub fn settings(&self) -> Option<LexerSettings> {
        if self.converted {
            return Some(LexerSettings {
                strings: self.scs,
                encoding: Encoding::UTF8,
            });
        }
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

    /// Returns the record of an SQL text that has one of [`redact::TRIGGERS`], with its secrets blanked, and the set of its
    /// parameters that are secrets: all, if the names of some may be after the cut.
    #[must_use]
    pub fn redacted(
        text: &TruncatedBytes<'a>,
        settings: LexerSettings,
        hashes: impl FnOnce() -> OriginalHashes,
    ) -> (Self, SecretParameters) {
        let whole = text.is_whole();
        let redaction = redact::sql(text.start, whole, settings);
        let changed = !whole || redaction.places > 0 || redaction.unclear;
        let sql = Self {
            length: changed.then_some(text.length),
            sha256: None,
            hmac_sha256: changed.then(|| hashes().keyed()),
            cut: !whole,
            redacted: redaction.places,
            unclear: redaction.unclear,
            ..Self::decoded(settings.encoding.decode_own(redaction.text, whole))
        };
        (sql, redaction.parameters)
    }
}

impl<'a> ParameterValue<'a> {
    /// Returns a value in text form, or its beginning if it is longer than `max` bytes; as a binary value if it is invalid in
    /// the session's encoding.
    #[must_use]
    pub fn text(oid: u32, bytes: &'a [u8], max: usize, encoding: Encoding) -> Self {
        let start = beginning(bytes, max);
        let whole = start.len() == bytes.len();
        let Decoded { text, escaped: 0 } = encoding.decode(start, whole) else {
            return Self::binary(oid, bytes, max);
        };
        if whole {
            Self::Text(OutsideText(text))
        } else {
            Self::beginning(text, bytes)
        }
    }

    /// Returns a value of which the record has a beginning only.
    fn beginning(start: Cow<'a, str>, whole: &[u8]) -> Self {
        Self::Long {
            start: OutsideText(start),
            length: whole.len() as u64,
            sha256: Cow::Owned(sha256(whole)),
        }
    }

    /// Returns a value that contains a secret, or is too long to tell.
    #[must_use]
    pub fn blanked(length: u64, hmac_sha256: Cow<'a, str>) -> Self {
        Self::Blanked { length, hmac_sha256 }
    }

    /// Returns a value of `length` bytes of which only the `start` is held; in hexadecimal if it has no encoding or is invalid
    /// in it.
    #[must_use]
    pub fn long(start: &[u8], encoding: Option<Encoding>, length: u64, sha256: Cow<'a, str>) -> Self {
        let decoded = encoding.map(|encoding| encoding.decode(beginning(start, start.len()), false));
        let start = match decoded {
            Some(Decoded { text, escaped: 0 }) => text.into_owned(),
            _ if start.is_empty() => String::new(),
            _ => bytea(start),
        };
        Self::Long {
            start: OutsideText(Cow::Owned(start)),
            length,
            sha256,
        }
    }

    /// Returns the length and the SHA-256 of bytes without any text.
    #[must_use]
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::beginning(Cow::Borrowed(""), bytes)
    }

    /// Returns a binary value that is not decoded, in hexadecimal; if it is longer than `max` bytes, its beginning in
    /// PostgreSQL's notation of a `bytea` (`\x…`).
    #[must_use]
    pub fn binary(oid: u32, bytes: &[u8], max: usize) -> Self {
        match bytes.get(..max) {
            Some(start) if start.len() < bytes.len() => Self::beginning(Cow::Owned(bytea(start)), bytes),
            _ => Self::Binary {
                oid,
                hex: Cow::Owned(HEXLOWER.encode(bytes)),
            },
        }
    }
}

/// Returns at most `max` bytes from the start, without a part of a UTF-8 character at the end.
fn beginning(bytes: &[u8], max: usize) -> &[u8] {
    let continues = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    // A character has at most three continuation bytes; with more it is not UTF-8 and may be cut anywhere.
    let end = (max.saturating_sub(3)..=max).rev().find(|at| !continues(*at)).unwrap_or(max);
    bytes.get(..end).unwrap_or(bytes)
}

/// Returns bytes in PostgreSQL's notation of a `bytea`.
fn bytea(bytes: &[u8]) -> String {
    format!("\\x{}", HEXLOWER.encode(bytes))
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &[u8], max: usize) -> SqlText<'_> {
        let key = ValueKey::for_test();
        let beginning = TruncatedBytes::of(text, max, text.len() as u64);
        SqlText::of(&beginning, Encoding::UTF8, || OriginalHashes::of(text, &key))
    }

    fn redacted(text: &[u8], max: usize) -> (SqlText<'_>, SecretParameters) {
        let key = ValueKey::for_test();
        let beginning = TruncatedBytes::of(text, max, text.len() as u64);
        SqlText::redacted(&beginning, LexerSettings::default(), || OriginalHashes::of(text, &key))
    }

    #[test]
    fn short_text_is_whole() {
        assert_eq!(of(b"SELECT 1", 8), SqlText::whole(OutsideText::of(b"SELECT 1")));
        assert_eq!(
            ParameterValue::text(25, b"x", 1, Encoding::UTF8),
            ParameterValue::Text(OutsideText::of(b"x"))
        );
        assert_eq!(
            ParameterValue::binary(17, &[0, 255], 2),
            ParameterValue::Binary {
                oid: 17,
                hex: Cow::Borrowed("00ff")
            }
        );
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let sql = of("éé".as_bytes(), 3);
        assert_eq!(
            (sql.text, sql.length, sql.cut),
            (OutsideText::of("é".as_bytes()), Some(4), true)
        );
        // SHA-256 of "abc": FIPS 180-4's example.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let sql = of(b"abc", 1);
        assert_eq!(sql.sha256.as_deref(), Some(abc));
        assert_eq!(sql.hmac_sha256.as_deref(), Some(&*ValueKey::for_test().hash_text(b"abc")));
        let long = ParameterValue::binary(17, b"abc", 2);
        assert!(matches!(long, ParameterValue::Long { start, length: 3, .. } if start.0 == "\\x6162"));
    }

    #[test]
    fn a_text_is_read_as_what_it_was_converted_to_where_that_is_certain() {
        let latin9 = LexerSettings {
            encoding: Encoding::of_name(b"LATIN9"),
            ..LexerSettings::default()
        };
        let text = b"SELECT '\xa4'";
        let key = ValueKey::for_test();
        let sql = |settled| {
            let beginning = TruncatedBytes::of(text, 1000, text.len() as u64);
            SqlText::of(&beginning, latin9.encoding, || OriginalHashes::of(text, &key)).under(latin9, settled, text)
        };
        assert_eq!((&*sql(true).text.0, &*sql(false).text.0), ("SELECT '€'", "SELECT '€'"));
        assert_eq!(sql(true).settings(), Some(LexerSettings::default()));
        assert_eq!(sql(false).settings(), Some(latin9));
        // Secrets are found in the bytes, and what is left of them is text.
        let beginning = TruncatedBytes::of(b"ALTER ROLE \"\xa4\" PASSWORD '\xa4\xa4'", 1000, 28);
        let (sql, _) = SqlText::redacted(&beginning, latin9, || OriginalHashes::of(text, &key));
        assert_eq!((&*sql.text.0, sql.redacted), ("ALTER ROLE \"€\" PASSWORD '***'", 1));
    }

    #[test]
    fn a_value_that_is_no_text_is_told_from_one_that_looks_like_it() {
        let value = |bytes: &'static [u8], max| ParameterValue::text(25, bytes, max, Encoding::UTF8);
        assert_eq!(value(br"\xa4", 9), ParameterValue::Text(OutsideText::of(br"\xa4")));
        let hex = Cow::Borrowed("a4");
        assert_eq!(value(b"\xa4", 9), ParameterValue::Binary { oid: 25, hex });
        let long = ParameterValue::long(b"\xa4", Some(Encoding::of_name(b"LATIN9")), 9, "".into());
        assert!(matches!(long, ParameterValue::Long { start, .. } if start.0 == "€"));
        let long = ParameterValue::long(b"\xa4", Some(Encoding::UTF8), 9, "".into());
        assert!(matches!(long, ParameterValue::Long { start, .. } if start.0 == "\\xa4"));
    }

    #[test]
    fn a_text_with_secrets_has_a_keyed_hash_alone() {
        let text = b"ALTER ROLE a PASSWORD 'x'; SELECT 'y'";
        let keyed = ValueKey::for_test().hash_text(text);
        let (sql, _) = redacted(text, 1000);
        assert_eq!(
            (
                &*sql.text.0,
                sql.length,
                sql.sha256.as_deref(),
                sql.hmac_sha256.as_deref(),
                sql.redacted
            ),
            ("ALTER ROLE a PASSWORD '***'; SELECT 'y'", Some(37), None, Some(&*keyed), 1)
        );
        assert!(!sql.is_cut());
        let (sql, secrets) = redacted(text, 12);
        // Its name may be beyond the cut.
        assert!(secrets.has(1));
        assert_eq!(
            (
                &*sql.text.0,
                sql.length,
                sql.sha256.as_deref(),
                sql.hmac_sha256.as_deref(),
                sql.cut
            ),
            ("ALTER ROLE a", Some(37), None, Some(&*keyed), true)
        );
        let (sql, _) = redacted(b"SELECT password, '", 1000);
        assert_eq!(
            (&*sql.text.0, sql.length, sql.redacted, sql.unclear),
            ("SELECT password, '***'", Some(18), 1, true)
        );
        let (sql, _) = redacted(b"SELECT password FROM t", 1000);
        assert_eq!(sql, SqlText::whole(OutsideText::of(b"SELECT password FROM t")));
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
            let sql = of(&bytes, max);
            prop_assert_eq!(sql.length.is_some(), bytes.len() > max);
            prop_assert_eq!(sql.is_cut(), bytes.len() > max);
        }
    }
}
