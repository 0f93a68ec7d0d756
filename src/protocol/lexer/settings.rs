//! Settings under which PostgreSQL reads a text.
//!
//! They are inputs here: the settings of a session are tracked elsewhere.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Encoding, Lexer, TokenKind};

/// Settings of a session that determine how PostgreSQL reads its texts.
///
/// `backslash_quote` is not among them: if it forbids `\'`, the whole text is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LexerSettings {
    /// Meaning of backslashes in plain literals.
    pub strings: Backslashes,
    /// Encoding of the text (`client_encoding`).
    pub encoding: Encoding,
}

/// Meaning of a backslash in a plain literal (`'…'`), which `standard_conforming_strings` determines; records have the setting's
/// values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backslashes {
    /// Ordinary character (`on`, PostgreSQL's default).
    #[default]
    #[serde(rename = "on")]
    Ordinary,
    /// Beginning of an escape, as in `E'…'` (`off`).
    #[serde(rename = "off")]
    Escape,
    /// Either: the current setting is not known.
    Unsettled,
}

impl LexerSettings {
    /// Settings of which nothing is known.
    pub const UNSETTLED: Self = Self {
        strings: Backslashes::Unsettled,
        encoding: Encoding::UNSETTLED,
    };

    /// Returns true if these settings cannot make a difference to the text: PostgreSQL reads it alike under all of them.
    #[must_use]
    pub fn do_not_matter_to(text: &[u8]) -> bool {
        text.is_ascii() && memchr::memchr(b'\\', text).is_none()
    }

    /// Returns true if the text has the same tokens under all settings.
    #[must_use]
    pub fn are_all_alike_to(text: &[u8]) -> bool {
        let is_certain = |masked: Cow<'_, [u8]>| {
            let mut lexer = Lexer::under(&masked, Self::UNSETTLED);
            std::iter::from_fn(|| lexer.next()).all(|token| token.kind != TokenKind::Ambiguous)
        };
        Self::do_not_matter_to(text) || Self::UNSETTLED.mask(text).is_some_and(is_certain)
    }

    /// Returns the text as a [`Lexer`] must read it: each byte of a multi-byte character is above 0x7f, and all else is
    /// unchanged. Positions are the same as in the text. `None` if the boundaries of its characters cannot be determined, or if
    /// PostgreSQL refuses it.
    #[must_use]
    pub fn mask<'a>(&self, text: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        self.encoding.mask(text)
    }
}
