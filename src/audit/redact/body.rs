//! Literals of a text that cannot be split reliably, and secrets in text that is not SQL.
//!
//! This module uses no grammar: all literals count.

use super::code::{CodeTracker, UnquotedLiteral, mark_length};
use super::{AUTHORITY, BLANK, FINDER, PEM, RedactedRange, TRIGGERS, is_secret, is_space, login_of, until, value_behind};
use crate::protocol::lexer::{Backslashes, Lexer, LexerSettings, Token, TokenKind, in_word};

/// Depth up to which bodies in bodies are examined.
const MAX_DEPTH: u8 = 8;

/// Literals of a text under one reading.
#[derive(Debug, Default)]
pub(super) struct TextLiterals {
    pub(super) cuts: Vec<RedactedRange>,
}

/// Finds all literals, and those of bodies of code within them. A literal without an end goes to the end of the text.
pub(super) fn literals(text: &[u8], settings: LexerSettings) -> TextLiterals {
    let mut found = TextLiterals::default();
    found.look(text, settings, 0);
    found
}

impl TextLiterals {
    fn look(&mut self, text: &[u8], settings: LexerSettings, depth: u8) {
        let (mut lexer, mut place) = (Lexer::under(text, settings), CodeTracker::default());
        while let Some(token) = lexer.next_code() {
            let code = place.is_code() && depth < MAX_DEPTH;
            match LiteralBody::of(&token, settings) {
                Some(LiteralBody::Plain(inner, start)) if code => {
                    self.within(inner, settings, depth, |cut| Some(shifted(cut, start)));
                }
                Some(LiteralBody::Quoted(unquoted)) if code => {
                    let whole = whole(&token);
                    self.within(&unquoted.text, settings, depth, |cut| unquoted.place(cut).or(Some(whole)));
                }
                Some(_) => self.cuts.push(whole(&token)),
                None => {}
            }
            place.pass(&token);
        }
    }

    fn within(
        &mut self,
        text: &[u8],
        settings: LexerSettings,
        depth: u8,
        place: impl Fn(&RedactedRange) -> Option<RedactedRange>,
    ) {
        let mut inner = Self::default();
        inner.look(text, settings, depth + 1);
        self.cuts.extend(inner.cuts.iter().filter_map(place));
    }
}

/// Content of a literal, finished or not.
#[derive(Debug)]
pub(super) enum LiteralBody<'a> {
    /// Content without escapes, and its offset.
    Plain(&'a [u8], usize),
    Quoted(UnquotedLiteral),
}

impl<'a> LiteralBody<'a> {
    /// Returns the content if a token is a literal or the beginning of one.
    pub(super) fn of(token: &Token<'a>, settings: LexerSettings) -> Option<Self> {
        let open = matches!(token.kind, TokenKind::Unfinished | TokenKind::Ambiguous);
        let quote = memchr::memchr(b'\'', token.text.get(..3).unwrap_or(token.text));
        let dollar = token.text.first() == Some(&b'$');
        match token.kind {
            TokenKind::Dollar | TokenKind::Unfinished | TokenKind::Ambiguous if dollar => {
                let mark = mark_length(token.text);
                let end = token.text.len() - if open { 0 } else { mark };
                Some(Self::Plain(token.text.get(mark..end).unwrap_or_default(), token.start + mark))
            }
            TokenKind::Literal | TokenKind::Escaped | TokenKind::Unfinished | TokenKind::Ambiguous
                if !matches!(token.text, [b'"' | b'/', ..]) =>
            {
                // `U&"…` has no literal's quote in its prefix.
                let from = quote? + 1;
                let end = token.text.len() - usize::from(!open);
                let inner = token.text.get(from..end).unwrap_or_default();
                let escapes = match token.text {
                    [b'e' | b'E', ..] => true,
                    [b'\'' | b'n' | b'N', ..] => settings.strings == Backslashes::Escape,
                    _ => false,
                };
                Some(Self::Quoted(UnquotedLiteral::of(inner, token.start + from, escapes)))
            }
            _ => None,
        }
    }
}

pub(super) fn shifted(cut: &RedactedRange, by: usize) -> RedactedRange {
    RedactedRange {
        start: cut.start + by,
        end: cut.end + by,
        with: cut.with,
    }
}

pub(super) fn whole(token: &Token<'_>) -> RedactedRange {
    RedactedRange {
        start: token.start,
        end: token.end(),
        with: BLANK,
    }
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
                let address = until(text, found.end(), |byte| is_space(byte) || matches!(byte, b'\'' | b'"'));
                at = found.end() + address.len();
                login_of(address).map(|login| {
                    let colon = login.iter().position(|byte| *byte == b':').map_or(0, |colon| colon + 1);
                    (found.end() + colon, found.end() + login.len())
                })
            }
            Some(&PEM) => Some((found.end(), found.end() + length(behind, |_| false))),
            _ => {
                let name = until(text, found.start(), |byte| !in_word(byte));
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
            cuts.push(RedactedRange { start, end, with: BLANK });
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
