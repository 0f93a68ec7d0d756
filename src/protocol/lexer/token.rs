//! Token: its kind, its position, and the properties that do not depend on its value.
//!
//! Only the [`Lexer`](super::Lexer) makes tokens.

/// Kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Identifier or keyword.
    Word,
    /// `"…"` or `U&"…"`, which is an identifier and not a keyword; its inner part is the text between the quotes.
    Quoted,
    /// Literal in which a backslash is an ordinary character, with its continuations on further lines: `'…'`, and with a prefix
    /// `N'…'`, `B'…'`, `X'…'`, `U&'…'`.
    Literal,
    /// Literal in which a backslash can escape a quote, with its continuations: `E'…'`, and `'…'` and `N'…'` under
    /// [`super::Backslashes::Escape`].
    Escaped,
    /// Dollar-quoted literal: `$tag$…$tag$`.
    Dollar,
    /// Parameter: `$1`.
    Parameter,
    /// Number: `12`, `0.5`, `1e3`, `0x1F`.
    Number,
    /// Comment: `-- …` or `/* … */`.
    Comment,
    /// Operator, or another sign: `::`, `<=`, `,`, `(`. A backslash outside of literals is a sign that no grammar accepts.
    Sign,
    /// Token that begins and does not end: PostgreSQL refuses the text.
    Unfinished,
    /// Rest of the text, from the first token whose end is not known.
    Ambiguous,
}

/// Token and its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// Kind of the token.
    pub kind: TokenKind,
    /// Position of its first byte.
    pub start: usize,
    /// All of its bytes.
    pub text: &'a [u8],
    /// Bytes between its quotes (of a continued literal: from the first quote to the last); the whole token if it has no quotes.
    pub inner: &'a [u8],
}

impl Token<'_> {
    /// Returns the position after its last byte.
    #[must_use]
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Returns true if it is this keyword (given in lower case).
    #[must_use]
    pub fn is(&self, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(keyword.as_bytes())
    }

    /// Returns true if it is this sign.
    #[must_use]
    pub fn is_sign(&self, sign: u8) -> bool {
        self.kind == TokenKind::Sign && self.text == [sign]
    }

    /// Returns the letter before its quotes, in lower case: `e`, `n`, `b`, `x`, or `u` for `U&`.
    #[must_use]
    pub fn prefix(&self) -> Option<u8> {
        let quoted = matches!(self.kind, TokenKind::Quoted | TokenKind::Literal | TokenKind::Escaped);
        let first = self.text.first().filter(|first| quoted && first.is_ascii_alphabetic())?;
        Some(first.to_ascii_lowercase())
    }

    /// Returns true for a literal or name with Unicode escapes (`U&'d\0061ta'`). Its value depends on a `UESCAPE` that may follow
    /// it, see [`Token::code_points`].
    #[must_use]
    pub fn is_by_code_points(&self) -> bool {
        self.prefix() == Some(b'u')
    }

    /// Returns the same token in the text before it was masked.
    #[must_use]
    pub fn within<'t>(&self, text: &'t [u8]) -> Token<'t> {
        let text = text.get(self.start..self.end()).unwrap_or_default();
        let around = self.text.len() - self.inner.len();
        let from = match self.kind {
            TokenKind::Dollar => around / 2,
            _ => around.saturating_sub(1),
        };
        Token {
            text,
            inner: text.get(from..from + self.inner.len()).unwrap_or_default(),
            ..*self
        }
    }
}
