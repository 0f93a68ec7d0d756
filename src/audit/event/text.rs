//! Texts from outside as they are recorded: SQL, values, names.
//!
//! This module holds texts as they are given: they are cut and redacted before.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::protocol::lexer::{Backslashes, Encoding};

/// SQL text as recorded.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlText<'a> {
    /// Text as it came, or its beginning, with secrets blanked.
    pub text: OutsideText<'a>,
    /// Length of the original in bytes; set if anything is blanked or cut.
    pub length: Option<u64>,
    /// SHA-256 of the original, in hexadecimal; set if `text` is only the beginning and no word in the original hints at
    /// secrets.
    pub sha256: Option<Cow<'a, str>>,
    /// HMAC-SHA-256 of the original under the log's value key, in hexadecimal; set if anything is blanked or cut.
    pub hmac_sha256: Option<Cow<'a, str>>,
    /// True if `text` is only the beginning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Number of places where a secret was replaced by `***`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub redacted: u32,
    /// `standard_conforming_strings` of the session when the text came: `off`, or `unsettled` if an earlier statement without a
    /// response yet might have changed it. Absent if it was on, and for a text without a backslash.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scs: Backslashes,
    /// `client_encoding` of the session when the text came, under the server's name, or `unsettled` as above. Absent if it was
    /// UTF-8, and for a text of ASCII only.
    #[serde(default, skip_serializing_if = "is_default")]
    pub encoding: Encoding,
    /// True if `text` is what the server reads, although it came in that encoding: no statement in progress could have changed
    /// it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub converted: bool,
    /// Number of bytes that are invalid in the session's encoding and appear in `text` as `\xNN`. If there are none, such
    /// sequences in `text` are the client's own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub escaped: u32,
    /// True if the ends of literals could not be determined: everything that may be a literal is blanked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unclear: bool,
}

impl<'a> SqlText<'a> {
    /// Returns a text with nothing blanked or cut.
    #[must_use]
    pub fn whole(text: OutsideText<'a>) -> Self {
        Self { text, ..Self::default() }
    }

    /// Returns true if `text` is only the beginning. Records from before there was a keyed hash show it by their length alone.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut || (self.length.is_some() && self.hmac_sha256.is_none())
    }

    /// Returns an owned copy.
    #[must_use]
    pub fn into_owned(self) -> SqlText<'static> {
        let own = |hash: Cow<'_, str>| Cow::Owned(hash.into_owned());
        SqlText {
            text: OutsideText(Cow::Owned(self.text.0.into_owned())),
            length: self.length,
            sha256: self.sha256.map(own),
            hmac_sha256: self.hmac_sha256.map(own),
            cut: self.cut,
            redacted: self.redacted,
            scs: self.scs,
            encoding: self.encoding,
            converted: self.converted,
            escaped: self.escaped,
            unclear: self.unclear,
        }
    }

    /// Returns a borrowing copy.
    #[must_use]
    pub fn borrowed(&'a self) -> Self {
        Self {
            text: OutsideText(Cow::Borrowed(&self.text.0)),
            sha256: self.sha256.as_deref().map(Cow::Borrowed),
            hmac_sha256: self.hmac_sha256.as_deref().map(Cow::Borrowed),
            ..*self
        }
    }
}

/// Text from outside, which may be any bytes: valid text in its encoding stays as it is; an invalid byte is written as `\xNN`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OutsideText<'a>(pub Cow<'a, str>);

impl<'a> OutsideText<'a> {
    /// Returns bytes as text, decoded as UTF-8.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        Self::of_encoded(bytes, Encoding::UTF8)
    }

    /// Returns bytes as text, decoded from this encoding.
    #[must_use]
    pub fn of_encoded(bytes: &'a [u8], encoding: Encoding) -> Self {
        Self(encoding.decode(bytes, true).text)
    }
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
