//! Token: its kind, its position, and its value: the characters of a literal without its quotes and escapes, and a name as PostgreSQL
//! stores it.
//!
//! Only the [`Lexer`](super::Lexer) makes tokens. A value does not depend on the server's encoding: code points become UTF-8.

use std::borrow::Cow;

/// Maximum length of a name in bytes; PostgreSQL keeps the beginning of a longer one (`NAMEDATALEN`).
const MAX_NAME_BYTES: usize = 63;

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

impl<'a> Token<'a> {
    /// Returns the value of a literal: without quotes, continuations joined, escapes resolved. `None` if it is not a literal, or
    /// if PostgreSQL refuses it. A literal with Unicode escapes (`U&'…'`) gets its value from [`Token::code_points`].
    #[must_use]
    pub fn value(&self) -> Option<Cow<'a, [u8]>> {
        let inner = self.inner;
        match self.kind {
            TokenKind::Dollar => Some(Cow::Borrowed(inner)),
            TokenKind::Literal if memchr::memchr(b'\'', inner).is_none() => Some(Cow::Borrowed(inner)),
            TokenKind::Escaped if memchr::memchr2(b'\'', b'\\', inner).is_none() => Some(Cow::Borrowed(inner)),
            TokenKind::Literal | TokenKind::Escaped => self.resolved().map(Cow::Owned),
            _ => None,
        }
    }

    fn resolved(&self) -> Option<Vec<u8>> {
        let mut value = Vec::with_capacity(self.inner.len());
        let mut rest = self.inner;
        while let Some((byte, behind)) = rest.split_first() {
            rest = behind;
            match byte {
                b'\'' if rest.first() == Some(&b'\'') => {
                    value.push(b'\'');
                    rest = rest.get(1..)?;
                }
                // The literal was closed and continues after the next quote. A comment in between has no quote, or it would not
                // be continued.
                b'\'' => rest = behind_gap(rest)?,
                b'\\' if self.kind == TokenKind::Escaped => rest = escape(rest, &mut value)?,
                byte => value.push(*byte),
            }
        }
        Some(value)
    }

    /// Returns the value of a literal or name with Unicode escapes, given the escape character (`\` if no `UESCAPE` follows).
    #[must_use]
    pub fn code_points(&self, escape: u8) -> Option<String> {
        let written = if self.kind == TokenKind::Quoted {
            std::str::from_utf8(self.inner)
                .ok()?
                .replace("\"\"", "\"")
                .into_bytes()
                .into()
        } else {
            self.value()?
        };
        let usable = escape.is_ascii_graphic() && !escape.is_ascii_hexdigit() && !b"+'\"".contains(&escape);
        let mut characters = std::str::from_utf8(&written).ok().filter(|_| usable)?.chars();
        let (mut said, mut units) = (String::new(), Vec::new());
        while let Some(character) = characters.next() {
            let rest = characters.as_str();
            let unit = match (character == char::from(escape), rest.bytes().next()) {
                (false, _) => None,
                (true, Some(next)) if next == escape => {
                    characters.next();
                    None
                }
                (true, next) => {
                    let digits = if next == Some(b'+') { rest.get(1..7)? } else { rest.get(..4)? };
                    let digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(digits)?;
                    characters = rest.get(digits.len() + usize::from(next == Some(b'+'))..)?.chars();
                    Some(u32::from_str_radix(digits, 16).ok().filter(|point| *point != 0)?)
                }
            };
            match unit {
                Some(unit) => add_unit(unit, &mut said, &mut units)?,
                None if units.is_empty() => said.push(character),
                None => return None,
            }
        }
        units.is_empty().then_some(said)
    }

    /// Returns the identifier that a word or a quoted name stands for, as PostgreSQL stores it if no `UESCAPE` follows. `None` if
    /// it is not an identifier, or if its end depends on the server's encoding.
    #[must_use]
    pub fn identifier(&self) -> Option<Cow<'a, str>> {
        let name = match self.kind {
            TokenKind::Word => {
                let word = std::str::from_utf8(self.text).ok()?;
                // Only ASCII is lowered if characters have more than one byte (scansup.c, downcase_identifier).
                if word.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    Cow::Owned(word.to_ascii_lowercase())
                } else {
                    Cow::Borrowed(word)
                }
            }
            TokenKind::Quoted if self.is_by_code_points() => Cow::Owned(self.code_points(b'\\')?),
            TokenKind::Quoted => match std::str::from_utf8(self.inner).ok()? {
                plain if !plain.contains('"') => Cow::Borrowed(plain),
                doubled => Cow::Owned(doubled.replace("\"\"", "\"")),
            },
            _ => return None,
        };
        stored_name(name)
    }
}

/// Returns the part of a name that PostgreSQL keeps. `None` if it is too long and that part depends on the server's encoding.
#[must_use]
pub fn stored_name(name: Cow<'_, str>) -> Option<Cow<'_, str>> {
    match name {
        name if name.len() <= MAX_NAME_BYTES => Some(name),
        name if !name.is_ascii() => None,
        Cow::Borrowed(name) => name.get(..MAX_NAME_BYTES).map(Cow::Borrowed),
        Cow::Owned(mut name) => {
            name.truncate(MAX_NAME_BYTES);
            Some(Cow::Owned(name))
        }
    }
}

/// Returns the text after the quote that continues a literal.
fn behind_gap(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let at = memchr::memchr2(b'\'', b'-', rest)?;
        if rest.get(at) == Some(&b'\'') {
            return rest.get(at + 1..);
        }
        let line = rest.get(at..)?;
        rest = line.get(memchr::memchr2(b'\n', b'\r', line)?..)?;
    }
}

/// Resolves the escape at the beginning of `rest`, whose backslash is already consumed; returns the text after it.
pub(crate) fn escape<'a>(rest: &'a [u8], value: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (byte, behind) = rest.split_first()?;
    let number = |from: &'a [u8], most: usize, radix: u32| {
        let is_digit = |byte: &&u8| char::from(**byte).is_digit(radix);
        let length = from.iter().take(most).take_while(is_digit).count();
        let digits = std::str::from_utf8(from.get(..length)?).ok()?;
        Some((u32::from_str_radix(digits, radix).ok()?, from.get(length..)?))
    };
    let (said, behind) = match byte {
        b'b' => (8, behind),
        b'f' => (12, behind),
        b'n' => (b'\n', behind),
        b'r' => (b'\r', behind),
        b't' => (b'\t', behind),
        b'0'..=b'7' => {
            let (code, behind) = number(rest, 3, 8)?;
            (u8::try_from(code & 0xff).ok()?, behind)
        }
        b'x' => match number(behind, 2, 16) {
            Some((code, behind)) => (u8::try_from(code).ok()?, behind),
            None => (b'x', behind),
        },
        b'u' | b'U' => return unicode_escape(rest, value),
        byte => (*byte, behind),
    };
    value.push(said);
    Some(behind)
}

/// Resolves `\uXXXX` or `\UXXXXXXXX`, and the second half of a surrogate pair directly after the first.
fn unicode_escape<'a>(rest: &'a [u8], value: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (mut said, mut units) = (String::new(), Vec::new());
    let mut rest = rest;
    loop {
        let length = if rest.first()? == &b'u' { 4 } else { 8 };
        let digits = std::str::from_utf8(rest.get(1..=length)?).ok()?;
        let digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(digits)?;
        add_unit(u32::from_str_radix(digits, 16).ok()?, &mut said, &mut units)?;
        rest = rest.get(1 + length..)?;
        if units.is_empty() {
            value.extend_from_slice(said.as_bytes());
            return Some(rest);
        }
        rest = rest
            .strip_prefix(b"\\")
            .filter(|rest| matches!(rest.first(), Some(b'u' | b'U')))?;
    }
}

/// Adds a code point, or half of a surrogate pair, which waits in `units`.
fn add_unit(unit: u32, said: &mut String, units: &mut Vec<u16>) -> Option<()> {
    let first = units.pop();
    let character = match (first, unit) {
        (None, 0xd800..=0xdbff) => {
            units.push(u16::try_from(unit).ok()?);
            return Some(());
        }
        (Some(first), 0xdc00..=0xdfff) => char::decode_utf16([first, u16::try_from(unit).ok()?]).next()?.ok()?,
        (Some(_), _) => return None,
        (None, unit) => char::from_u32(unit).filter(|character| *character != '\0')?,
    };
    said.push(character);
    Some(())
}
