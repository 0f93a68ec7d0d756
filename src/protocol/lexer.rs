//! Lexer for SQL text: it finds tokens as PostgreSQL's scanner does (`src/backend/parser/scan.l`), under a session's settings.
//!
//! The guard rails, the SQL analysis for the log and the redaction use it. It does not parse statements and judges nothing. The
//! scanners of versions 13 to 18 split every text alike that all of them accept; where they do not, this lexer follows the
//! versions that accept the text (see `Lexer::number`).
//!
//! INVARIANT: a text whose tokens cannot be determined as in PostgreSQL ends in a [`TokenKind::Ambiguous`] token; none is guessed.
//!
//! INVARIANT: for any bytes, each [`Lexer::next`] advances, tokens do not overlap, and a token without an end is marked as such.

mod encoding;
mod settings;
mod shape;
mod token;

pub use encoding::{Decoded, Encoding};
pub use settings::{Backslashes, LexerSettings};
pub use shape::shape;
#[cfg(test)]
pub(crate) use shape::texts_of_one_shape;
pub(crate) use token::escape;
pub use token::{Token, TokenKind, stored_name};

/// Maximum number of operator characters in a row. The name of an operator has fewer than 64 bytes (`NAMEDATALEN`).
const MAX_OPERATOR_RUN: usize = 256;

/// Reader of tokens, front to back; a copy of it serves to look ahead.
///
/// A text that is not ASCII must be masked first ([`LexerSettings::mask`]), unless its encoding is known to be one of a server's.
#[derive(Debug, Clone, Copy)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    strings: Backslashes,
    /// True if two dollar-quote tags are equal exactly if their bytes are.
    tags_compare: bool,
}

impl<'a> Lexer<'a> {
    /// Creates a lexer for a text that PostgreSQL reads under its default settings.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Self {
        Self::under(text, LexerSettings::default())
    }

    /// Creates a lexer for a text that PostgreSQL reads under these settings; the text must be masked by them.
    #[must_use]
    pub fn under(text: &'a [u8], settings: LexerSettings) -> Self {
        Self {
            text,
            at: 0,
            strings: settings.strings,
            tags_compare: !settings.encoding.overlaps_ascii(),
        }
    }

    /// Returns the next token; `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "an iterator is not `Copy`, and copies look ahead")]
    pub fn next(&mut self) -> Option<Token<'a>> {
        let rest = self.text.get(self.at..)?;
        let spaces = rest.iter().take_while(|byte| is_space(**byte)).count();
        let start = self.at + spaces;
        let (first, second) = (self.byte(start)?, self.byte(start + 1));
        let token = match (first, second) {
            (b'\'', _) => self.plain(start, start),
            (b'"', _) => self.name(start, start),
            (b'-', Some(b'-')) => self.line_comment(start),
            (b'/', Some(b'*')) => self.block_comment(start),
            (b'$', Some(b'0'..=b'9')) => self.run(TokenKind::Parameter, start, |byte| byte.is_ascii_digit()),
            (b'$', _) => self.dollar(start),
            (b'0'..=b'9', _) | (b'.', Some(b'0'..=b'9')) => self.number(start),
            (b'e' | b'E', Some(b'\'')) => self.literal(Quoting::Escapes, start, start + 1),
            (b'n' | b'N', Some(b'\'')) => self.plain(start, start + 1),
            (b'b' | b'B' | b'x' | b'X', Some(b'\'')) => self.literal(Quoting::Bits, start, start + 1),
            (b'u' | b'U', Some(b'&')) => match self.byte(start + 2) {
                Some(b'\'') => self.literal(Quoting::Plain, start, start + 2),
                Some(b'"') => self.name(start, start + 2),
                _ => self.token(TokenKind::Word, start, start + 1),
            },
            (byte, _) if in_word(byte) => self.run(TokenKind::Word, start, in_word),
            (byte, _) if is_operator(byte) => self.operator(start),
            (b':', Some(b':' | b'=')) | (b'.', Some(b'.')) => self.token(TokenKind::Sign, start, start + 2),
            _ => self.token(TokenKind::Sign, start, start + 1),
        };
        self.at = token.end();
        Some(token)
    }

    /// Returns the next token that is not a comment.
    pub fn next_code(&mut self) -> Option<Token<'a>> {
        loop {
            match self.next()? {
                token if token.kind == TokenKind::Comment => {}
                token => return Some(token),
            }
        }
    }

    /// Skips to the first byte that cannot be part of an unquoted value (a space, a separator, a quote, a comment), and returns
    /// its position.
    pub fn skip_unquoted(&mut self) -> usize {
        let ends = |byte| is_space(byte) || matches!(byte, b';' | b',' | b'(' | b')' | b'\'' | b'"' | b'$');
        let comment = |at: usize| matches!(self.text.get(at..at + 2), Some(b"--" | b"/*"));
        let mut at = self.at;
        while self.byte(at).is_some_and(|byte| !ends(byte)) && !comment(at) {
            at += 1;
        }
        self.at = at;
        at
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied()
    }

    fn token(&self, kind: TokenKind, start: usize, end: usize) -> Token<'a> {
        let text = self.text.get(start..end).unwrap_or_default();
        Token {
            kind,
            start,
            text,
            inner: text,
        }
    }

    /// Returns a token that takes the rest of the text.
    fn rest(&self, kind: TokenKind, start: usize) -> Token<'a> {
        self.token(kind, start, self.text.len())
    }

    fn run(&self, kind: TokenKind, start: usize, belongs: impl Fn(u8) -> bool) -> Token<'a> {
        self.token(kind, start, self.end_of_run(start + 1, belongs))
    }

    fn end_of_run(&self, from: usize, belongs: impl Fn(u8) -> bool) -> usize {
        let rest = self.text.get(from..).unwrap_or_default();
        from + rest.iter().take_while(|byte| belongs(**byte)).count()
    }

    fn find(&self, from: usize, find: impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
        self.text.get(from..).and_then(find).map(|found| from + found)
    }

    /// Reads a literal in which the meaning of backslashes depends on the setting.
    fn plain(&self, start: usize, quote: usize) -> Token<'a> {
        let quoting = match self.strings {
            Backslashes::Ordinary => Quoting::Plain,
            Backslashes::Escape => Quoting::Escapes,
            Backslashes::Unsettled => Quoting::Unsettled,
        };
        self.literal(quoting, start, quote)
    }

    /// Reads a literal from its opening quote on. White space with a line break, followed by another quote, continues it with the
    /// same meaning of backslashes (scan.l: `quotecontinue`).
    fn literal(&self, quoting: Quoting, start: usize, quote: usize) -> Token<'a> {
        let mut from = quote + 1;
        loop {
            let closing = match self.closing_quote(quoting, from) {
                Ok(closing) => closing,
                Err(kind) => return self.rest(kind, start),
            };
            match self.continuation(closing + 1) {
                Some(opening) => from = opening + 1,
                None => {
                    return Token {
                        inner: self.text.get(quote + 1..closing).unwrap_or_default(),
                        ..self.token(quoting.kind(), start, closing + 1)
                    };
                }
            }
        }
    }

    /// Returns the position of the closing quote, or else the kind of token that the rest of the text is.
    fn closing_quote(&self, quoting: Quoting, from: usize) -> Result<usize, TokenKind> {
        match quoting {
            // Two quotes do not stand for one in these: the second begins another literal (scan.l: `xb`, `xh`).
            Quoting::Bits => self
                .find(from, |rest| memchr::memchr(b'\'', rest))
                .ok_or(TokenKind::Unfinished),
            Quoting::Plain => self.single_quote(from, b'\'').ok_or(TokenKind::Unfinished),
            Quoting::Escapes => self.unescaped_quote(from).ok_or(TokenKind::Unfinished),
            Quoting::Unsettled => {
                let (plain, escaped) = (self.single_quote(from, b'\''), self.unescaped_quote(from));
                if plain == escaped {
                    plain.ok_or(TokenKind::Unfinished)
                } else {
                    Err(TokenKind::Ambiguous)
                }
            }
        }
    }

    /// Returns the position of the next quote that is not doubled.
    fn single_quote(&self, mut from: usize, quote: u8) -> Option<usize> {
        loop {
            let found = self.find(from, |rest| memchr::memchr(quote, rest))?;
            if self.byte(found + 1) != Some(quote) {
                return Some(found);
            }
            from = found + 2;
        }
    }

    /// Returns the position of the next quote that is neither doubled nor escaped by a backslash.
    fn unescaped_quote(&self, mut from: usize) -> Option<usize> {
        loop {
            let found = self.find(from, |rest| memchr::memchr2(b'\'', b'\\', rest))?;
            if self.byte(found) == Some(b'\'') && self.byte(found + 1) != Some(b'\'') {
                return Some(found);
            }
            from = found + 2;
        }
    }

    /// Returns the position of the quote that continues a literal closed before `at`. Line comments may stand in between.
    fn continuation(&self, mut at: usize) -> Option<usize> {
        let mut on_a_new_line = false;
        loop {
            match self.byte(at)? {
                b'\'' if on_a_new_line => return Some(at),
                b'-' if self.byte(at + 1) == Some(b'-') => at = self.line_comment(at).end(),
                byte if is_space(byte) => {
                    on_a_new_line |= matches!(byte, b'\n' | b'\r');
                    at += 1;
                }
                _ => return None,
            }
        }
    }

    fn name(&self, start: usize, quote: usize) -> Token<'a> {
        match self.single_quote(quote + 1, b'"') {
            Some(closing) => Token {
                inner: self.text.get(quote + 1..closing).unwrap_or_default(),
                ..self.token(TokenKind::Quoted, start, closing + 1)
            },
            None => self.rest(TokenKind::Unfinished, start),
        }
    }

    fn line_comment(&self, start: usize) -> Token<'a> {
        match self.find(start, |rest| memchr::memchr2(b'\n', b'\r', rest)) {
            Some(end) => self.token(TokenKind::Comment, start, end),
            None => self.rest(TokenKind::Comment, start),
        }
    }

    fn block_comment(&self, start: usize) -> Token<'a> {
        let (mut at, mut depth) = (start + 2, 1_u32);
        while let Some(found) = self.find(at, |rest| memchr::memchr2(b'*', b'/', rest)) {
            match (self.byte(found), self.byte(found + 1)) {
                (Some(b'*'), Some(b'/')) => depth -= 1,
                (Some(b'/'), Some(b'*')) => depth += 1,
                _ => {
                    at = found + 1;
                    continue;
                }
            }
            at = found + 2;
            if depth == 0 {
                return self.token(TokenKind::Comment, start, at);
            }
        }
        self.rest(TokenKind::Unfinished, start)
    }

    /// Reads a number. A word that touches it begins behind its first decimal digits: PostgreSQL before 15 reads it so, later
    /// versions refuse the text (`integer_junk`). A number in another base or with `_` is one token for the versions that support
    /// those (16 on), if no word touches it; older versions read what follows the first digits as a name, which can only be an alias.
    fn number(&self, start: usize) -> Token<'a> {
        let is_other: fn(u8) -> bool = match (self.byte(start), self.byte(start + 1)) {
            (Some(b'0'), Some(b'x' | b'X')) => |byte| byte.is_ascii_hexdigit(),
            (Some(b'0'), Some(b'o' | b'O')) => |byte| matches!(byte, b'0'..=b'7'),
            (Some(b'0'), Some(b'b' | b'B')) => |byte| matches!(byte, b'0' | b'1'),
            _ => |_| false,
        };
        let from = start + 2 + usize::from(self.byte(start + 2) == Some(b'_'));
        let to_another_base = self.digits(from, is_other);
        let touches_word = |end: usize| self.byte(end).is_some_and(in_word);
        if to_another_base > from && !touches_word(to_another_base) {
            return self.token(TokenKind::Number, start, to_another_base);
        }
        let is_digit = |byte: u8| byte.is_ascii_digit();
        let mut end = self.digits(start, is_digit);
        // `1..10` is a 1, `..` and a 10.
        if self.byte(end) == Some(b'.') && (end == start || self.byte(end + 1) != Some(b'.')) {
            end = self.digits(end + 1, is_digit);
        }
        if matches!(self.byte(end), Some(b'e' | b'E')) {
            let from = end + 1 + usize::from(matches!(self.byte(end + 1), Some(b'+' | b'-')));
            let exponent = self.digits(from, is_digit);
            end = if exponent > from { exponent } else { end };
        }
        if touches_word(end)
            && let Some(mark) = self.text.get(start..end).and_then(|number| memchr::memchr(b'_', number))
        {
            end = start + mark;
        }
        self.token(TokenKind::Number, start, end)
    }

    /// Returns the end of the digits from here on; an underscore may stand between any two of them.
    fn digits(&self, from: usize, is_digit: impl Fn(u8) -> bool) -> usize {
        let mut end = self.end_of_run(from, &is_digit);
        while end > from && self.byte(end) == Some(b'_') && self.byte(end + 1).is_some_and(&is_digit) {
            end = self.end_of_run(end + 1, &is_digit);
        }
        end
    }

    /// Reads the longest operator, up to a comment. If it has only characters of SQL's own operators, a `+` or `-` at its end is
    /// a separate operator (scan.l: `operator`). A run of more than [`MAX_OPERATOR_RUN`] characters is not read: each of its tokens
    /// would take the time of the whole run.
    fn operator(&self, start: usize) -> Token<'a> {
        let rest = self.text.get(start..).unwrap_or_default();
        let is_comment = |at: usize| matches!(rest.get(at..at + 2), Some(b"/*" | b"--"));
        let run = rest.iter().take(MAX_OPERATOR_RUN + 1).enumerate();
        let length = run.take_while(|(at, byte)| is_operator(**byte) && !is_comment(*at)).count();
        if length > MAX_OPERATOR_RUN {
            return self.rest(TokenKind::Ambiguous, start);
        }
        let mut operator = rest.get(..length).unwrap_or_default();
        if !operator.iter().any(|byte| b"~!@#^&|`?%".contains(byte)) {
            while let [shorter @ .., b'+' | b'-'] = operator
                && !shorter.is_empty()
            {
                operator = shorter;
            }
        }
        self.token(TokenKind::Sign, start, start + operator.len())
    }

    fn dollar(&self, start: usize) -> Token<'a> {
        let Some(mark) = self.dollar_tag(start) else {
            return self.token(TokenKind::Sign, start, start + 1);
        };
        let from = start + mark.len();
        let behind = self.text.get(from..).unwrap_or_default();
        let end = memchr::memmem::find(behind, mark).map(|length| from + length);
        if !mark.is_ascii() && (!self.tags_compare || self.has_another_spelling(from, end.unwrap_or(self.text.len()))) {
            return self.rest(TokenKind::Ambiguous, start);
        }
        match end {
            Some(end) => Token {
                inner: self.text.get(from..end).unwrap_or_default(),
                ..self.token(TokenKind::Dollar, start, end + mark.len())
            },
            None => self.rest(TokenKind::Unfinished, start),
        }
    }

    /// Returns the `$tag$` at this position.
    fn dollar_tag(&self, start: usize) -> Option<&'a [u8]> {
        let end = match self.byte(start + 1)? {
            b'$' => start + 1,
            byte if in_word(byte) && !byte.is_ascii_digit() => self.end_of_run(start + 1, |byte| in_word(byte) && byte != b'$'),
            _ => return None,
        };
        (self.byte(end) == Some(b'$')).then(|| self.text.get(start..=end)).flatten()
    }

    /// Returns true if a tag that is not ASCII stands between these positions. PostgreSQL compares tags in the server's encoding,
    /// in which two tags that differ here may be equal.
    fn has_another_spelling(&self, from: usize, to: usize) -> bool {
        let dollars = self.text.get(from..to).unwrap_or_default();
        memchr::memchr_iter(b'$', dollars).any(|at| self.dollar_tag(from + at).is_some_and(|tag| !tag.is_ascii()))
    }
}

/// Rule that determines the end of a literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quoting {
    /// It ends at the next quote.
    Bits,
    /// It ends at the next quote that is not doubled.
    Plain,
    /// It ends at the next quote that is neither doubled nor escaped by a backslash.
    Escapes,
    /// Either [`Self::Plain`] or [`Self::Escapes`]: the setting is not known.
    Unsettled,
}

impl Quoting {
    fn kind(self) -> TokenKind {
        match self {
            Self::Escapes => TokenKind::Escaped,
            Self::Bits | Self::Plain | Self::Unsettled => TokenKind::Literal,
        }
    }
}

/// Returns true for white space (scan.l: `space`). A vertical tab is white space from version 16 on; before, no grammar accepts
/// it.
#[must_use]
pub fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Returns true for a byte that can continue a word (scan.l: `ident_cont`).
#[must_use]
pub fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

/// Returns true for a character of operators (scan.l: `op_chars`).
fn is_operator(byte: u8) -> bool {
    matches!(
        byte,
        b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'='
    )
}

#[cfg(test)]
pub(crate) mod tests;
