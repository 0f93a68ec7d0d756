//! The settings by which a text is read.
//!
//! They are given: what a session's are is followed elsewhere.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Encoding, Kind, Lexer};

/// The settings of a session that decide how PostgreSQL reads its texts.
///
/// `backslash_quote` is none of them: where it forbids `\'` the whole text is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LexerSettings {
    /// The meaning of backslashes in plain literals.
    pub strings: Backslashes,
    /// The encoding of the text (`client_encoding`).
    pub encoding: Encoding,
}

/// The meaning of a backslash in a plain literal (`'…'`), which `standard_conforming_strings` decides; in records by its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backslashes {
    /// An ordinary character (`on`, PostgreSQL's default).
    #[default]
    #[serde(rename = "on")]
    Ordinary,
    /// The beginning of an escape, as in `E'…'` (`off`).
    #[serde(rename = "off")]
    Escape,
    /// Either: what the setting is now is not known.
    Unsettled,
}

impl LexerSettings {
    /// Settings of which nothing is known.
    pub const UNSETTLED: Self = Self {
        strings: Backslashes::Unsettled,
        encoding: Encoding::UNSETTLED,
    };

    /// Returns true where these settings cannot make a difference to the text: PostgreSQL reads it alike under all others.
    #[must_use]
    pub fn do_not_matter_to(text: &[u8]) -> bool {
        text.is_ascii() && memchr::memchr(b'\\', text).is_none()
    }

    /// Returns true where the text has the same tokens under all settings.
    #[must_use]
    pub fn are_all_alike_to(text: &[u8]) -> bool {
        let is_certain = |masked: Cow<'_, [u8]>| {
            let mut lexer = Lexer::under(&masked, Self::UNSETTLED);
            std::iter::from_fn(|| lexer.next()).all(|token| token.kind != Kind::Ambiguous)
        };
        Self::do_not_matter_to(text) || Self::UNSETTLED.mask(text).is_some_and(is_certain)
    }

    /// Returns the text with each byte of a multi-byte character above 0x7f, and all else in its place: what a [`Lexer`] reads.
    /// A position in it is a position in the text. `None`: where its characters end cannot be told, or PostgreSQL refuses it.
    #[must_use]
    pub fn mask<'a>(&self, text: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        self.encoding.mask(text)
    }
}
