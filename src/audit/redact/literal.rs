//! Literals of a text: their content, which of them are code, and secrets in text that is not SQL.
//!
//! This module uses no grammar, but that of the commands with a body of code.

use std::borrow::Cow;

use super::{
    AUTHORITY, BLANK, FINDER, MAX_DEPTH, PEM, RedactedRange, TRIGGERS, address_at, is_secret, login_of, value_behind, word_at,
};
use crate::protocol::lexer::{self, Backslashes, Lexer, LexerSettings, Token, TokenKind, is_space};

/// Finds all literals, and those of bodies of code within them up to a depth. A literal without an end goes to the end of the
/// text.
pub(super) fn literals(text: &[u8], settings: LexerSettings, depth: u8) -> Vec<RedactedRange> {
    let (mut lexer, mut place, mut cuts) = (Lexer::under(text, settings), CodeTracker::default(), Vec::new());
    while let Some(token) = lexer.next_code() {
        match LiteralBody::of(&token, settings) {
            Some(body) if place.is_code() && depth < MAX_DEPTH && !body.refused => {
                let inner = literals(&body.text, settings, depth + 1);
                cuts.extend(inner.iter().map(|cut| body.place(cut)));
            }
            Some(body) => cuts.push(body.whole),
            None => {}
        }
        place.pass(&token);
    }
    cuts
}

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

/// Content of a literal, finished or not.
#[derive(Debug)]
pub(super) struct LiteralBody<'a> {
    /// Content, with doubled quotes and escapes resolved.
    pub(super) text: Cow<'a, [u8]>,
    /// Place of the literal, with its quotes.
    pub(super) whole: RedactedRange,
    /// True if it has an escape that PostgreSQL refuses: its content is not certain.
    pub(super) refused: bool,
    /// Start and end of the content in the whole text.
    start: usize,
    end: usize,
    /// Offset in the whole text from which each byte of the content comes; `None` in dollar quotes, which resolve nothing.
    from: Option<Vec<usize>>,
}

impl<'a> LiteralBody<'a> {
    /// Returns the content if a token is a literal or the beginning of one.
    pub(super) fn of(token: &Token<'a>, settings: LexerSettings) -> Option<Self> {
        let open = matches!(token.kind, TokenKind::Unfinished | TokenKind::Ambiguous);
        let literal = matches!(token.kind, TokenKind::Literal | TokenKind::Escaped | TokenKind::Dollar);
        let (before, behind, escapes) = match token.text {
            _ if !open && !literal => return None,
            [b'$', ..] => (mark_length(token.text), mark_length(token.text), None),
            [b'"' | b'/', ..] | [] => return None,
            [first, ..] => {
                let escapes = match first {
                    b'e' | b'E' => true,
                    b'\'' | b'n' | b'N' => settings.strings == Backslashes::Escape,
                    _ => false,
                };
                // `U&"…` has no literal's quote in its prefix.
                let quote = memchr::memchr(b'\'', token.text.get(..3).unwrap_or(token.text))?;
                (quote + 1, 1, Some(escapes))
            }
        };
        let end = token.text.len() - if open { 0 } else { behind };
        let inner = token.text.get(before..end).unwrap_or_default();
        let start = token.start + before;
        let (text, from, refused) = match escapes.map(|escapes| resolved(inner, start, escapes)) {
            None => (Cow::Borrowed(inner), None, false),
            Some((text, from, refused)) => (Cow::Owned(text), Some(from), refused),
        };
        Some(Self {
            text,
            whole: whole(token),
            // A text that is cut may end within an escape.
            refused: refused && !open,
            start,
            end: start + inner.len(),
            from,
        })
    }

    /// Converts a place in the content into one in the whole text: into all of the literal, if the replacement cannot be written
    /// within so many quotes.
    pub(super) fn place(&self, cut: &RedactedRange) -> RedactedRange {
        let Some(from) = &self.from else {
            return shifted(cut, self.start);
        };
        let at = |index: usize| from.get(index).copied().unwrap_or(self.end);
        quoted(cut.with).map_or(self.whole, |with| RedactedRange {
            start: at(cut.start),
            end: at(cut.end),
            with,
        })
    }
}

/// Resolves a quoted literal whose `inner` part begins at `start`; returns its bytes, the offset from which each comes, and
/// true if PostgreSQL refuses an escape in it.
fn resolved(inner: &[u8], start: usize, escapes: bool) -> (Vec<u8>, Vec<usize>, bool) {
    let (mut text, mut from, mut refused, mut at) = (Vec::new(), Vec::new(), false, 0);
    while let Some(byte) = inner.get(at).copied() {
        let behind = inner.get(at + 1..).unwrap_or_default();
        let length = match byte {
            b'\'' if behind.first() == Some(&b'\'') => {
                text.push(b'\'');
                2
            }
            // The literal was closed and continues after the next quote.
            b'\'' => gap(behind) + 1,
            b'\\' if escapes => {
                let rest = lexer::escape(behind, &mut text).unwrap_or_else(|| {
                    refused = true;
                    text.push(behind.first().copied().unwrap_or(byte));
                    behind.get(1..).unwrap_or_default()
                });
                1 + behind.len() - rest.len()
            }
            byte => {
                text.push(byte);
                1
            }
        };
        from.resize(text.len(), start + at);
        at += length;
    }
    (text, from, refused)
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

pub(super) fn shifted(cut: &RedactedRange, by: usize) -> RedactedRange {
    let (start, end) = (cut.start + by, cut.end + by);
    RedactedRange { start, end, ..*cut }
}

pub(super) fn whole(token: &Token<'_>) -> RedactedRange {
    RedactedRange::blank(token.start, token.end())
}

/// Returns true if a byte ends a line.
pub(super) fn ends_line(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// Returns true if a byte ends a value without quotes.
pub(super) fn ends_word(byte: u8) -> bool {
    is_space(byte) || matches!(byte, b';' | b',' | b'(' | b')' | b'\'' | b'"')
}

/// Finds values assigned to a secret's name in a text that is not SQL, as in a comment: each goes up to a byte that `ends` it
/// or to an end of a comment.
pub(super) fn assigned(text: &[u8], ends: fn(u8) -> bool) -> Vec<RedactedRange> {
    let (mut cuts, mut at) = (Vec::new(), 0);
    for found in FINDER.find_iter(text) {
        if found.start() < at {
            continue;
        }
        let behind = text.get(found.end()..).unwrap_or_default();
        let place = match TRIGGERS.get(found.pattern().as_usize()) {
            Some(&AUTHORITY) => {
                let address = address_at(text, found.end());
                at = found.end() + address.len();
                login_of(address).map(|login| {
                    let colon = login.iter().position(|byte| *byte == b':').map_or(0, |colon| colon + 1);
                    (found.end() + colon, found.end() + login.len())
                })
            }
            Some(&PEM) => Some((found.end(), found.end() + length(behind, |_| false))),
            _ => {
                let name = word_at(text, found.start());
                at = found.start() + name.len();
                let value = text.get(at..).filter(|_| is_secret(name)).and_then(value_behind);
                value.map(|value| {
                    let start = text.len() - value.len();
                    (start, start + length(value, ends))
                })
            }
        };
        // The place includes the quotes, and excludes the spaces before a comment's end.
        let quoted = |at: &usize| text.get(*at).is_some_and(|byte| matches!(byte, b'\'' | b'"' | b'\\'));
        let place = place.map(|(start, end)| {
            let spaces = text.get(start..end).unwrap_or_default().iter().rev();
            let from = (0..start).rev().take_while(quoted).last().unwrap_or(start);
            (
                from.max(at.min(start)),
                end - spaces.take_while(|byte| is_space(**byte)).count(),
            )
        });
        if let Some((start, end)) = place.filter(|(start, end)| start < end) {
            cuts.push(RedactedRange::blank(start, end));
            at = end;
        }
    }
    cuts
}

/// Returns the number of bytes up to one that `ends` the value, or up to the beginning or end of a comment.
fn length(text: &[u8], ends: impl Fn(u8) -> bool) -> usize {
    let mark = |at: usize| matches!(text.get(at..at + 2), Some(b"*/" | b"/*"));
    (0..text.len())
        .find(|at| mark(*at) || text.get(*at).copied().is_some_and(&ends))
        .unwrap_or(text.len())
}
