//! The lexer: takes SQL text apart as PostgreSQL's scanner does (`src/backend/parser/scan.l`), under the settings of a session.
//!
//! It serves the guard rails, the log's reading and redaction. It does not parse: it knows tokens and no statements, and judges
//! nothing. The versions 13 to 18 of the scanner take apart alike whatever they accept; where they do not, this one follows the
//! versions that accept the text (see `Lexer::number`).
//!
//! The law: what PostgreSQL reads in a way that is not known here is [`Kind::Ambiguous`] and ends the text; it is never guessed.
//!
//! INVARIANT: whatever the bytes, each call of [`Lexer::next`] gets on, tokens do not overlap, and one that has no end says so.

mod decode;
mod encoding;
mod settings;
mod token;
mod value;

pub use decode::Decoded;
pub use encoding::Encoding;
pub use settings::{Backslashes, LexerSettings};
pub use token::{Kind, Token};
pub use value::stored_name;

/// Reads tokens front to back; a copy of it looks ahead.
///
/// A text that is not ASCII is masked before ([`LexerSettings::mask`]), unless its encoding is known to be one of a server's.
#[derive(Debug, Clone, Copy)]
pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    strings: Backslashes,
    /// Two tags are the same where their bytes are.
    tags_compare: bool,
}

impl<'a> Lexer<'a> {
    /// Makes a lexer for a text that PostgreSQL reads under its default settings.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Self {
        Self::under(text, LexerSettings::default())
    }

    /// Makes a lexer for a text that PostgreSQL reads under these settings, by which it is masked.
    #[must_use]
    pub fn under(text: &'a [u8], settings: LexerSettings) -> Self {
        Self {
            text,
            at: 0,
            strings: settings.strings,
            tags_compare: !settings.encoding.overlaps_ascii(),
        }
    }

    /// Returns the next token; nothing at the end.
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
            (b'$', Some(b'0'..=b'9')) => self.run(Kind::Parameter, start, |byte| byte.is_ascii_digit()),
            (b'$', _) => self.dollar(start),
            (b'0'..=b'9', _) | (b'.', Some(b'0'..=b'9')) => self.number(start),
            (b'e' | b'E', Some(b'\'')) => self.literal(Quoting::Escapes, start, start + 1),
            (b'n' | b'N', Some(b'\'')) => self.plain(start, start + 1),
            (b'b' | b'B' | b'x' | b'X', Some(b'\'')) => self.literal(Quoting::Bits, start, start + 1),
            (b'u' | b'U', Some(b'&')) => match self.byte(start + 2) {
                Some(b'\'') => self.literal(Quoting::Plain, start, start + 2),
                Some(b'"') => self.name(start, start + 2),
                _ => self.token(Kind::Word, start, start + 1),
            },
            (byte, _) if in_word(byte) => self.run(Kind::Word, start, in_word),
            (byte, _) if is_operator(byte) => self.operator(start),
            (b':', Some(b':' | b'=')) | (b'.', Some(b'.')) => self.token(Kind::Sign, start, start + 2),
            _ => self.token(Kind::Sign, start, start + 1),
        };
        self.at = token.end();
        Some(token)
    }

    /// Returns the next token that is no comment.
    pub fn next_code(&mut self) -> Option<Token<'a>> {
        loop {
            match self.next()? {
                Token { kind: Kind::Comment, .. } => {}
                token => return Some(token),
            }
        }
    }

    /// Goes on where a value without quotes cannot go on (a space, a separator, a quote, a comment), and returns its place.
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

    fn token(&self, kind: Kind, start: usize, end: usize) -> Token<'a> {
        let text = self.text.get(start..end).unwrap_or_default();
        Token {
            kind,
            start,
            text,
            inner: text,
        }
    }

    /// A token that takes all that is left of the text.
    fn rest(&self, kind: Kind, start: usize) -> Token<'a> {
        self.token(kind, start, self.text.len())
    }

    fn run(&self, kind: Kind, start: usize, belongs: impl Fn(u8) -> bool) -> Token<'a> {
        self.token(kind, start, self.end_of_run(start + 1, belongs))
    }

    fn end_of_run(&self, from: usize, belongs: impl Fn(u8) -> bool) -> usize {
        let rest = self.text.get(from..).unwrap_or_default();
        from + rest.iter().take_while(|byte| belongs(**byte)).count()
    }

    fn find(&self, from: usize, find: impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
        self.text.get(from..).and_then(find).map(|found| from + found)
    }

    /// A literal whose backslashes mean what the setting says.
    fn plain(&self, start: usize, quote: usize) -> Token<'a> {
        let quoting = match self.strings {
            Backslashes::Ordinary => Quoting::Plain,
            Backslashes::Escape => Quoting::Escapes,
            Backslashes::Unsettled => Quoting::Unsettled,
        };
        self.literal(quoting, start, quote)
    }

    /// A literal from its opening quote on. Spaces with a line break in them, and another quote, continue it with the same meaning of
    /// backslashes as it began with (scan.l: `quotecontinue`).
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

    /// The place of the quote that closes; else what the rest of the text is.
    fn closing_quote(&self, quoting: Quoting, from: usize) -> Result<usize, Kind> {
        match quoting {
            // Two quotes are not one in these: the second begins another literal (scan.l: `xb`, `xh`).
            Quoting::Bits => self.find(from, |rest| memchr::memchr(b'\'', rest)).ok_or(Kind::Unfinished),
            Quoting::Plain => self.single_quote(from, b'\'').ok_or(Kind::Unfinished),
            Quoting::Escapes => self.unescaped_quote(from).ok_or(Kind::Unfinished),
            Quoting::Unsettled => {
                let (plain, escaped) = (self.single_quote(from, b'\''), self.unescaped_quote(from));
                if plain == escaped {
                    plain.ok_or(Kind::Unfinished)
                } else {
                    Err(Kind::Ambiguous)
                }
            }
        }
    }

    /// The next quote that is not doubled.
    fn single_quote(&self, mut from: usize, quote: u8) -> Option<usize> {
        loop {
            let found = self.find(from, |rest| memchr::memchr(quote, rest))?;
            if self.byte(found + 1) != Some(quote) {
                return Some(found);
            }
            from = found + 2;
        }
    }

    /// The next quote that is neither doubled nor behind a backslash.
    fn unescaped_quote(&self, mut from: usize) -> Option<usize> {
        loop {
            let found = self.find(from, |rest| memchr::memchr2(b'\'', b'\\', rest))?;
            if self.byte(found) == Some(b'\'') && self.byte(found + 1) != Some(b'\'') {
                return Some(found);
            }
            from = found + 2;
        }
    }

    /// The quote with which a literal goes on that was closed before `at`. Comments to the end of a line may stand between.
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
                ..self.token(Kind::Quoted, start, closing + 1)
            },
            None => self.rest(Kind::Unfinished, start),
        }
    }

    fn line_comment(&self, start: usize) -> Token<'a> {
        match self.find(start, |rest| memchr::memchr2(b'\n', b'\r', rest)) {
            Some(end) => self.token(Kind::Comment, start, end),
            None => self.rest(Kind::Comment, start),
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
                return self.token(Kind::Comment, start, at);
            }
        }
        self.rest(Kind::Unfinished, start)
    }

    /// A number. Letters behind it begin a word: PostgreSQL before 15 reads them so, later ones refuse the text (`integer_junk`). Only
    /// digits to another base and with `_` are one number to those that know them (16); the older ones take a name for what
    /// follows, which can only be an alias.
    fn number(&self, start: usize) -> Token<'a> {
        let is_other: fn(u8) -> bool = match (self.byte(start), self.byte(start + 1)) {
            (Some(b'0'), Some(b'x' | b'X')) => |byte| byte.is_ascii_hexdigit(),
            (Some(b'0'), Some(b'o' | b'O')) => |byte| matches!(byte, b'0'..=b'7'),
            (Some(b'0'), Some(b'b' | b'B')) => |byte| matches!(byte, b'0' | b'1'),
            _ => |_| false,
        };
        let from = start + 2 + usize::from(self.byte(start + 2) == Some(b'_'));
        let to_another_base = self.digits(from, is_other);
        if to_another_base > from {
            return self.token(Kind::Number, start, to_another_base);
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
        self.token(Kind::Number, start, end)
    }

    /// The end of the digits from here on, between any two of which an underscore may stand.
    fn digits(&self, from: usize, is_digit: impl Fn(u8) -> bool) -> usize {
        let mut end = self.end_of_run(from, &is_digit);
        while end > from && self.byte(end) == Some(b'_') && self.byte(end + 1).is_some_and(&is_digit) {
            end = self.end_of_run(end + 1, &is_digit);
        }
        end
    }

    /// An operator as long as it goes, but a comment begins within it; and where it has only signs of SQL's own operators, a `+` or
    /// `-` at its end is another one (scan.l: `operator`).
    fn operator(&self, start: usize) -> Token<'a> {
        let run = self.run(Kind::Sign, start, is_operator).text;
        let comment = run.windows(2).position(|two| two == b"/*" || two == b"--");
        let mut operator = run.get(..comment.unwrap_or(run.len())).unwrap_or(run);
        if !operator.iter().any(|byte| b"~!@#^&|`?%".contains(byte)) {
            while let [shorter @ .., b'+' | b'-'] = operator
                && !shorter.is_empty()
            {
                operator = shorter;
            }
        }
        self.token(Kind::Sign, start, start + operator.len())
    }

    fn dollar(&self, start: usize) -> Token<'a> {
        let Some(mark) = self.dollar_tag(start) else {
            return self.token(Kind::Sign, start, start + 1);
        };
        let from = start + mark.len();
        let behind = self.text.get(from..).unwrap_or_default();
        let end = memchr::memmem::find(behind, mark).map(|length| from + length);
        if !mark.is_ascii() && (!self.tags_compare || self.has_another_spelling(from, end.unwrap_or(self.text.len()))) {
            return self.rest(Kind::Ambiguous, start);
        }
        match end {
            Some(end) => Token {
                inner: self.text.get(from..end).unwrap_or_default(),
                ..self.token(Kind::Dollar, start, end + mark.len())
            },
            None => self.rest(Kind::Unfinished, start),
        }
    }

    /// `$tag$` at this place.
    fn dollar_tag(&self, start: usize) -> Option<&'a [u8]> {
        let end = match self.byte(start + 1)? {
            b'$' => start + 1,
            byte if in_word(byte) && !byte.is_ascii_digit() => self.end_of_run(start + 1, |byte| in_word(byte) && byte != b'$'),
            _ => return None,
        };
        (self.byte(end) == Some(b'$')).then(|| self.text.get(start..=end)).flatten()
    }

    /// Whether a tag that is not ASCII stands between. PostgreSQL compares tags in the server's encoding, in which two that differ here
    /// may be one.
    fn has_another_spelling(&self, from: usize, to: usize) -> bool {
        let dollars = self.text.get(from..to).unwrap_or_default();
        memchr::memchr_iter(b'$', dollars).any(|at| self.dollar_tag(from + at).is_some_and(|tag| !tag.is_ascii()))
    }
}

/// Where a literal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quoting {
    /// At the next quote.
    Bits,
    /// At the next quote that is not doubled.
    Plain,
    /// The same, but a backslash hides a quote.
    Escapes,
    /// One of the two.
    Unsettled,
}

impl Quoting {
    fn kind(self) -> Kind {
        match self {
            Self::Escapes => Kind::Escaped,
            Self::Bits | Self::Plain | Self::Unsettled => Kind::Literal,
        }
    }
}

/// Returns true for what separates tokens (scan.l: `space`). A vertical tab is one from version 16 on; before, no grammar knows it.
#[must_use]
pub fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Returns true for a byte that goes on with a word before it or after it (scan.l: `ident_cont`).
#[must_use]
pub fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

/// scan.l: `op_chars`.
fn is_operator(byte: u8) -> bool {
    matches!(
        byte,
        b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'='
    )
}

#[cfg(test)]
pub(crate) mod tests;
