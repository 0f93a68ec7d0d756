//! A token: its kind, its place, and the parts that can be told without its value.
//!
//! It is made by the [`Lexer`](super::Lexer) alone.

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An identifier or keyword.
    Word,
    /// `"…"` or `U&"…"`, which is an identifier and no keyword; its inner part is what stands between the quotes.
    Quoted,
    /// A literal in which a backslash is an ordinary character, with its continuations on further lines: `'…'`, and with a prefix
    /// `N'…'`, `B'…'`, `X'…'`, `U&'…'`.
    Literal,
    /// A literal in which a backslash can hide a quote, with its continuations: `E'…'`, and `'…'` and `N'…'` under
    /// [`super::Backslashes::Escape`].
    Escaped,
    /// `$tag$…$tag$`.
    Dollar,
    /// `$1`.
    Parameter,
    /// `12`, `0.5`, `1e3`, `0x1F`.
    Number,
    /// `-- …` or `/* … */`.
    Comment,
    /// An operator, or another sign: `::`, `<=`, `,`, `(`. A backslash outside of literals is one that no grammar knows.
    Sign,
    /// A token that begins and does not end: PostgreSQL refuses the text.
    Unfinished,
    /// The rest of the text, from a token on whose end is not known.
    Ambiguous,
}

/// A token, and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// Its kind.
    pub kind: Kind,
    /// The place of its first byte.
    pub start: usize,
    /// The whole of it.
    pub text: &'a [u8],
    /// The part between its quotes (of a continued literal: from the first quote to the last); of others, all of it.
    pub inner: &'a [u8],
}

impl Token<'_> {
    /// Returns the place behind it.
    #[must_use]
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Returns true if it is this keyword (given in lower case).
    #[must_use]
    pub fn is(&self, keyword: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(keyword.as_bytes())
    }

    /// Returns true if it is this sign.
    #[must_use]
    pub fn is_sign(&self, sign: u8) -> bool {
        self.kind == Kind::Sign && self.text == [sign]
    }

    /// Returns the letter in front of its quotes, in lower case: `e`, `n`, `b`, `x`, or `u` for `U&`.
    #[must_use]
    pub fn prefix(&self) -> Option<u8> {
        let quoted = matches!(self.kind, Kind::Quoted | Kind::Literal | Kind::Escaped);
        let first = self.text.first().filter(|first| quoted && first.is_ascii_alphabetic())?;
        Some(first.to_ascii_lowercase())
    }

    /// Returns true for a literal or name that is written by code points (`U&'d\0061ta'`): what it says depends on a `UESCAPE`
    /// behind it, see [`Token::code_points`].
    #[must_use]
    pub fn is_by_code_points(&self) -> bool {
        self.prefix() == Some(b'u')
    }

    /// Returns the token as it stands in a text that was masked.
    #[must_use]
    pub fn within<'t>(&self, text: &'t [u8]) -> Token<'t> {
        let text = text.get(self.start..self.end()).unwrap_or_default();
        let around = self.text.len() - self.inner.len();
        let from = match self.kind {
            Kind::Dollar => around / 2,
            _ => around.saturating_sub(1),
        };
        Token {
            text,
            inner: text.get(from..from + self.inner.len()).unwrap_or_default(),
            ..*self
        }
    }
}
