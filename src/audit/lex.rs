//! Takes SQL text apart as PostgreSQL's scanner does (scan.l), as far as it matters where literals, comments and names end.
//!
//! It does not parse: it knows tokens, no statements, and judges nothing.
//!
//! INVARIANT: whatever the bytes, each call of [`Lexer::next`] gets on, tokens do not overlap, and one that has no end says so.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An identifier or keyword.
    Word,
    /// `"…"`; its inner part is what stands between the quotes.
    Quoted,
    /// `'…'`, also with a prefix.
    Literal,
    /// `E'…'`, where a backslash can hide a quote.
    Escaped,
    /// `$tag$…$tag$`.
    Dollar,
    /// `$1`.
    Parameter,
    /// `12`, `0.5`.
    Number,
    /// `-- …` or `/* … */`.
    Comment,
    /// Any other byte, or `::`.
    Sign,
    /// It begins and does not end.
    Unfinished,
}

/// A token, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    /// The whole of it.
    pub(crate) text: &'a [u8],
    /// What stands between its quotes; for others, all of it.
    pub(crate) inner: &'a [u8],
}

impl Token<'_> {
    /// Where it ends.
    pub(crate) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Whether it is this keyword (given in lower case).
    pub(crate) fn is(&self, keyword: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(keyword.as_bytes())
    }

    /// Whether it is this sign.
    pub(crate) fn is_sign(&self, sign: u8) -> bool {
        self.kind == Kind::Sign && self.text == [sign]
    }
}

/// Reads tokens front to back; a copy of it looks ahead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// The next token; nothing at the end.
    pub(crate) fn next(&mut self) -> Option<Token<'a>> {
        while self.byte(self.at).is_some_and(is_space) {
            self.at += 1;
        }
        let start = self.at;
        let (first, second) = (self.byte(start)?, self.byte(start + 1));
        let token = match (first, second) {
            (b'\'', _) => self.between(Kind::Literal, start, start + 1, b'\''),
            (b'"', _) => self.between(Kind::Quoted, start, start + 1, b'"'),
            (b'-', Some(b'-')) => self.line_comment(start),
            (b'/', Some(b'*')) => self.block_comment(start),
            (b'$', Some(b'0'..=b'9')) => self.run(Kind::Parameter, start, |byte| byte.is_ascii_digit()),
            (b'$', _) => self.dollar(start),
            (b'0'..=b'9', _) => self.run(Kind::Number, start, |byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_')
            }),
            (b':', Some(b':')) => self.token(Kind::Sign, start, start + 2),
            (b'e' | b'E', Some(b'\'')) => self.between(Kind::Escaped, start, start + 2, b'\''),
            (b'b' | b'B' | b'x' | b'X' | b'n' | b'N', Some(b'\'')) => self.between(Kind::Literal, start, start + 2, b'\''),
            (b'u' | b'U', Some(b'&')) => match self.byte(start + 2) {
                Some(b'\'') => self.between(Kind::Literal, start, start + 3, b'\''),
                Some(b'"') => self.between(Kind::Quoted, start, start + 3, b'"'),
                _ => self.token(Kind::Word, start, start + 1),
            },
            (byte, _) if in_word(byte) => self.run(Kind::Word, start, in_word),
            _ => self.token(Kind::Sign, start, start + 1),
        };
        self.at = token.end();
        Some(token)
    }

    /// The next token that is no comment.
    pub(crate) fn next_code(&mut self) -> Option<Token<'a>> {
        loop {
            match self.next()? {
                Token { kind: Kind::Comment, .. } => {}
                token => return Some(token),
            }
        }
    }

    /// Goes on where the next space or semicolon is; says where.
    pub(crate) fn skip_to_space(&mut self) -> usize {
        while self.byte(self.at).is_some_and(|byte| !is_space(byte) && byte != b';') {
            self.at += 1;
        }
        self.at
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied()
    }

    fn token(&self, kind: Kind, start: usize, end: usize) -> Token<'a> {
        let text = self.text.get(start..end).unwrap_or_default();
        Token {
            kind,
            start,
            text,
            inner: text,
        }
    }

    fn unfinished(&self, start: usize) -> Token<'a> {
        self.token(Kind::Unfinished, start, self.text.len())
    }

    fn run(&self, kind: Kind, start: usize, belongs: impl Fn(u8) -> bool) -> Token<'a> {
        let rest = self.text.get(start + 1..).unwrap_or_default();
        let more = rest.iter().take_while(|byte| belongs(**byte)).count();
        self.token(kind, start, start + 1 + more)
    }

    /// To the closing quote; two of them are one that does not close, and so is one behind a backslash where that escapes.
    fn between(&self, kind: Kind, start: usize, from: usize, quote: u8) -> Token<'a> {
        let mut at = from;
        loop {
            let special = |byte: &u8| *byte == quote || (kind == Kind::Escaped && *byte == b'\\');
            let Some(found) = self.text.get(at..).and_then(|rest| rest.iter().position(special)) else {
                return self.unfinished(start);
            };
            at += found;
            if self.byte(at) == Some(quote) && self.byte(at + 1) != Some(quote) {
                let inner = self.text.get(from..at).unwrap_or_default();
                return Token {
                    inner,
                    ..self.token(kind, start, at + 1)
                };
            }
            at += 2;
        }
    }

    fn line_comment(&self, start: usize) -> Token<'a> {
        self.run(Kind::Comment, start, |byte| !matches!(byte, b'\n' | b'\r'))
    }

    fn block_comment(&self, start: usize) -> Token<'a> {
        let (mut at, mut depth) = (start + 2, 1_u32);
        loop {
            match (self.byte(at), self.byte(at + 1)) {
                (Some(b'*'), Some(b'/')) if depth == 1 => return self.token(Kind::Comment, start, at + 2),
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    at += 2;
                }
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    at += 2;
                }
                (Some(_), _) => at += 1,
                (None, _) => return self.unfinished(start),
            }
        }
    }

    fn dollar(&self, start: usize) -> Token<'a> {
        let rest = self.text.get(start + 1..).unwrap_or_default();
        let tag = rest.iter().take_while(|byte| in_word(**byte) && **byte != b'$').count();
        if rest.get(tag) != Some(&b'$') {
            return self.token(Kind::Sign, start, start + 1);
        }
        let from = start + tag + 2;
        let mark = self.text.get(start..from).unwrap_or_default();
        let behind = self.text.get(from..).unwrap_or_default();
        match behind.windows(mark.len()).position(|here| here == mark) {
            Some(length) => Token {
                inner: behind.get(..length).unwrap_or_default(),
                ..self.token(Kind::Dollar, start, from + length + mark.len())
            },
            None => self.unfinished(start),
        }
    }
}

/// scan.l: `space`.
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Whether a byte goes on with a word before it or after it (scan.l: `ident_cont`).
pub(crate) fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str) -> Vec<(Kind, String)> {
        let mut lexer = Lexer::new(text.as_bytes());
        std::iter::from_fn(|| lexer.next())
            .map(|token| (token.kind, String::from_utf8_lossy(token.text).into_owned()))
            .collect()
    }

    fn is(text: &str, expected: &[(Kind, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(kind, text)| (*kind, (*text).to_owned())).collect();
        assert_eq!(all(text), expected, "{text}");
    }

    #[test]
    fn tokens() {
        use Kind::{Comment, Dollar, Escaped, Literal, Number, Parameter, Quoted, Sign, Unfinished, Word};
        is(
            "select $1::text",
            &[(Word, "select"), (Parameter, "$1"), (Sign, "::"), (Word, "text")],
        );
        is(r"'it''s\' x", &[(Literal, r"'it''s\'"), (Word, "x")]);
        is(r"E'it\'s' x", &[(Escaped, r"E'it\'s'"), (Word, "x")]);
        is(
            r#"U&'d\0061' u&"x" "a""b""#,
            &[(Literal, r"U&'d\0061'"), (Quoted, r#"u&"x""#), (Quoted, r#""a""b""#)],
        );
        is("n'x'b'1'", &[(Literal, "n'x'"), (Literal, "b'1'")]);
        is(
            "a/* /* */ ' */b--c'\nd",
            &[
                (Word, "a"),
                (Comment, "/* /* */ ' */"),
                (Word, "b"),
                (Comment, "--c'"),
                (Word, "d"),
            ],
        );
        is("$$'$$ $a$ $$ $a$", &[(Dollar, "$$'$$"), (Dollar, "$a$ $$ $a$")]);
        is("a$b$ 1.5e3", &[(Word, "a$b$"), (Number, "1.5e3")]);
        is("'open", &[(Unfinished, "'open")]);
        is("$x$ open $X$", &[(Unfinished, "$x$ open $X$")]);
        is("/* /* */", &[(Unfinished, "/* /* */")]);
        is("\"open", &[(Unfinished, "\"open")]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart(text in "['\"$/*\\-eEuU&a1 \\\\\n:;,()]{0,60}") {
            let mut lexer = Lexer::new(text.as_bytes());
            let mut end = 0;
            while let Some(token) = lexer.next() {
                prop_assert!(token.start >= end && !token.text.is_empty());
                prop_assert!(text.as_bytes()[end..token.start].iter().copied().all(is_space));
                prop_assert_eq!(token.text, &text.as_bytes()[token.start..token.end()]);
                end = token.end();
            }
            prop_assert!(text.as_bytes()[end..].iter().copied().all(is_space));
        }
    }
}
