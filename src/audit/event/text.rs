//! Texts from outside as they are recorded: SQL, values, names.
//!
//! It holds what it is given: texts are cut and secrets taken out before.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::lexer::{Backslashes, Encoding};

/// SQL text as recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sql<'a> {
    /// The text: as it came, or its beginning, with secrets blanked.
    pub text: Text<'a>,
    /// Set when anything is blanked or cut: the length of the original in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Set when `text` is only the beginning and no word in the original speaks of secrets: SHA-256 of the original, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Cow<'a, str>>,
    /// Set when anything is blanked or cut: HMAC-SHA-256 of the original under the log's value key, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac_sha256: Option<Cow<'a, str>>,
    /// `text` is only the beginning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// In how many places something was replaced by `***`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub redacted: u32,
    /// `standard_conforming_strings` of the session when the text came: `off`, or `unsettled` where a statement before it might have
    /// changed it and was not answered yet. Absent where it was on, and in a text without a backslash.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scs: Backslashes,
    /// `client_encoding` of the session when the text came, as the server names it, or `unsettled` as above. Absent where it was UTF-8,
    /// and in a text of ASCII only.
    #[serde(default, skip_serializing_if = "is_default")]
    pub encoding: Encoding,
    /// `text` is what the server reads, although it came in that encoding: no statement was on its way that could have changed it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub converted: bool,
    /// How many bytes are no text in the session's encoding, and stand in `text` as `\xNN`. Where there is none, what looks like it was
    /// typed so.
    #[serde(default, skip_serializing_if = "is_default")]
    pub escaped: u32,
    /// Where literals end could not be told: everything is blanked that may be one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unclear: bool,
}

impl<'a> Sql<'a> {
    /// Returns a text of which nothing is blanked or cut.
    #[must_use]
    pub fn whole(text: Text<'a>) -> Self {
        Self { text, ..Self::default() }
    }

    /// Returns whether `text` is only the beginning. Records from before there was a keyed hash say so by their length alone.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut || (self.length.is_some() && self.hmac_sha256.is_none())
    }

    /// Returns the same, its own.
    #[must_use]
    pub fn into_owned(self) -> Sql<'static> {
        let own = |hash: Cow<'_, str>| Cow::Owned(hash.into_owned());
        Sql {
            text: Text(Cow::Owned(self.text.0.into_owned())),
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

    /// Returns the same, borrowed.
    #[must_use]
    pub fn borrowed(&'a self) -> Self {
        Self {
            text: Text(Cow::Borrowed(&self.text.0)),
            length: self.length,
            sha256: self.sha256.as_deref().map(Cow::Borrowed),
            hmac_sha256: self.hmac_sha256.as_deref().map(Cow::Borrowed),
            cut: self.cut,
            redacted: self.redacted,
            scs: self.scs,
            encoding: self.encoding,
            converted: self.converted,
            escaped: self.escaped,
            unclear: self.unclear,
        }
    }
}

/// Text from outside: any bytes. What is text in its encoding stays as it is; a byte that is none is written `\xNN`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<'a> Text<'a> {
    /// Takes bytes as they come: UTF-8, as far as they are.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        Self::of_encoded(bytes, Encoding::UTF8)
    }

    /// Takes bytes of a session with this encoding.
    #[must_use]
    pub fn of_encoded(bytes: &'a [u8], encoding: Encoding) -> Self {
        Self(encoding.decode(bytes, true).text)
    }
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
