//! Literals that are code: it determines which ones are, and their content without quotes.
//!
//! This module looks for no secrets.

use super::{BLANK, RedactedRange};
use crate::protocol::lexer::{Token, TokenKind, is_space};

/// Command that a literal is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum LiteralCommand {
    /// Before the first word.
    #[default]
    None,
    Do,
    Create,
    /// `CREATE FUNCTION` and the like.
    Routine,
    Other,
}

/// Position in a text that says whether a literal would be the body of a `DO`, function or procedure. It has to be passed each
/// token.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CodeTracker {
    command: LiteralCommand,
    /// True if the token before opens a body, or is one that may continue in the next literal.
    opens: bool,
}

impl CodeTracker {
    /// Returns true if a literal that comes next is code.
    pub(super) fn is_code(self) -> bool {
        self.opens
    }

    /// Takes the next token, without comments.
    pub(super) fn pass(&mut self, token: &Token<'_>) {
        if token.is_sign(b';') {
            *self = Self::default();
            return;
        }
        match self.command {
            LiteralCommand::None if token.is("do") => self.command = LiteralCommand::Do,
            LiteralCommand::None if token.is("create") => self.command = LiteralCommand::Create,
            LiteralCommand::None if token.kind == TokenKind::Word => self.command = LiteralCommand::Other,
            LiteralCommand::Create if token.is("function") || token.is("procedure") => self.command = LiteralCommand::Routine,
            _ => {}
        }
        let literal = matches!(token.kind, TokenKind::Literal | TokenKind::Escaped | TokenKind::Dollar);
        self.opens = match self.command {
            // `DO LANGUAGE 'plpgsql' $$…$$`
            LiteralCommand::Do => !token.is("language"),
            LiteralCommand::Routine => token.is("as") || (literal && self.opens),
            _ => false,
        };
    }
}

/// Content of a quoted literal, with its doubled quotes and its escapes resolved.
#[derive(Debug, Default)]
pub(super) struct UnquotedLiteral {
    pub(super) text: Vec<u8>,
    /// Offset in the whole text from which each byte comes.
    at: Vec<usize>,
    end: usize,
}

impl UnquotedLiteral {
    /// Resolves a literal whose `inner` part begins at `start`.
    pub(super) fn of(inner: &[u8], start: usize, escapes: bool) -> Self {
        let mut all = Self {
            end: start + inner.len(),
            ..Self::default()
        };
        let mut at = 0;
        while let Some(byte) = inner.get(at).copied() {
            let (resolved, length) = match byte {
                b'\'' if inner.get(at + 1) == Some(&b'\'') => (b'\'', 2),
                // The literal was closed and continues after the next quote.
                b'\'' => {
                    at += gap(inner.get(at + 1..).unwrap_or_default()) + 1;
                    continue;
                }
                b'\\' if escapes => escape(inner.get(at + 1..).unwrap_or_default()),
                byte => (byte, 1),
            };
            all.text.push(resolved);
            all.at.push(start + at);
            at += length;
        }
        all
    }

    /// Converts a place in the resolved text into one in the whole text; `None` if the replacement cannot be written within so
    /// many quotes.
    pub(super) fn place(&self, cut: &RedactedRange) -> Option<RedactedRange> {
        let at = |index: usize| self.at.get(index).copied().unwrap_or(self.end);
        Some(RedactedRange {
            start: at(cut.start),
            end: at(cut.end),
            with: quoted(cut.with)?,
        })
    }
}

/// Returns the length of the text between the parts of a literal, with the quote after it (scan.l: `quotecontinue`).
fn gap(text: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match text.get(at) {
            Some(b'-') => {
                at += text
                    .get(at..)
                    .unwrap_or_default()
                    .iter()
                    .take_while(|byte| !matches!(byte, b'\n' | b'\r'))
                    .count();
            }
            Some(byte) if is_space(*byte) => at += 1,
            _ => return at + 1,
        }
    }
}

/// Returns the byte that an escape stands for, and its length with the backslash (scan.l: `xeescape` and those after it). A
/// character outside of ASCII becomes a single byte other than a quote: it ends no literal.
fn escape(behind: &[u8]) -> (u8, usize) {
    let digits = |from: usize, most: usize, radix: u32| {
        let digit = |byte: u8| char::from(byte).to_digit(radix);
        let digits = behind.iter().skip(from).take(most).map_while(|byte| digit(*byte));
        digits.fold((0_u32, from), |(value, end), digit| {
            (value.wrapping_mul(radix) + digit, end + 1)
        })
    };
    let byte = |(value, end): (u32, usize), least: usize| {
        // Only ASCII can be a quote or a backslash.
        let value = u8::try_from(value).unwrap_or(b'?');
        (end > least).then_some((value, end + 1))
    };
    let numbered = match behind.first() {
        Some(b'x') => byte(digits(1, 2, 16), 1),
        Some(b'u') => byte(digits(1, 4, 16), 1),
        Some(b'U') => byte(digits(1, 8, 16), 1),
        Some(b'0'..=b'7') => byte(digits(0, 3, 8), 0),
        _ => None,
    };
    numbered.unwrap_or(match behind.first() {
        Some(b'n') => (b'\n', 2),
        Some(b't') => (b'\t', 2),
        Some(b'r') => (b'\r', 2),
        Some(b'b' | b'f') => (b' ', 2),
        Some(other) => (*other, 2),
        None => (b'\\', 1),
    })
}

/// Returns a replacement as it is written within one more pair of quotes.
fn quoted(mark: &'static [u8]) -> Option<&'static [u8]> {
    const TWICE: &[u8] = b"''***''";
    match mark {
        BLANK => Some(TWICE),
        TWICE => Some(b"''''***''''"),
        _ => None,
    }
}

/// Returns the length of the tag at the start of a dollar-quoted text.
pub(super) fn mark_length(text: &[u8]) -> usize {
    let tag = text.iter().skip(1).position(|byte| *byte == b'$');
    tag.map_or(0, |tag| tag + 2)
}
