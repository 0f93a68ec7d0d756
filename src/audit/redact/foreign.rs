//! Bodies of `DO`, functions and procedures in languages other than SQL and PL/pgSQL: their places, and what may be a literal
//! in them.
//!
//! This module does not know these languages. Text between two quotes of either kind counts as a literal, both if a backslash
//! escapes a quote and if it does not.

use super::literal::{CodeTracker, assigned, ends_word, mark_length, shifted, whole};
use super::{RedactedRange, readings};
use crate::protocol::lexer::{Backslashes, Lexer, LexerSettings, Token, TokenKind};

/// Languages whose literals are SQL's.
const SQL_LANGUAGES: [&str; 2] = ["sql", "plpgsql"];

/// Bodies of other languages in a text.
#[derive(Default)]
pub(super) struct ForeignBodies {
    /// Start and end of each body, with its quotes.
    places: Vec<(usize, usize)>,
    /// Places to blank in the bodies.
    cuts: Vec<RedactedRange>,
}

impl ForeignBodies {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Replaces the places that begin in one of the bodies, because SQL's literals are not theirs, by those of the bodies.
    pub(super) fn replace(self, cuts: &mut Vec<RedactedRange>) {
        let Self { places, cuts: own } = self;
        cuts.retain(|cut| !places.iter().any(|(start, end)| (*start..*end).contains(&cut.start)));
        cuts.extend(own);
    }
}

/// Finds the bodies of other languages.
pub(super) fn bodies(text: &[u8], settings: LexerSettings) -> ForeignBodies {
    let mut all = ForeignBodies::default();
    if settings.strings == Backslashes::Unsettled {
        for settings in readings(settings) {
            of_commands(text, settings, &mut all);
        }
    } else {
        of_commands(text, settings, &mut all);
    }
    all
}

/// State of one command.
#[derive(Default)]
struct CommandBodies<'a> {
    bodies: Vec<Token<'a>>,
    /// Number of open parentheses: a word in them is a name.
    depth: usize,
    /// True if the previous word is `LANGUAGE`.
    names_language: bool,
    foreign: bool,
}

fn of_commands(text: &[u8], settings: LexerSettings, all: &mut ForeignBodies) {
    let (mut lexer, mut place, mut command) = (Lexer::under(text, settings), CodeTracker::default(), CommandBodies::default());
    while let Some(token) = lexer.next_code() {
        let in_list = command.depth > 0;
        if token.is_sign(b';') {
            std::mem::take(&mut command).end(all);
        } else if token.is_sign(b'(') {
            command.depth += 1;
        } else if token.is_sign(b')') {
            command.depth = command.depth.saturating_sub(1);
        } else if std::mem::replace(&mut command.names_language, !in_list && token.is("language")) {
            let name = token.inner;
            command.foreign |= !SQL_LANGUAGES.iter().any(|ours| name.eq_ignore_ascii_case(ours.as_bytes()));
        } else if place.is_code()
            && matches!(
                token.kind,
                TokenKind::Dollar | TokenKind::Literal | TokenKind::Escaped | TokenKind::Unfinished
            )
        {
            command.bodies.push(token);
        }
        place.pass(&token);
    }
    command.end(all);
}

impl CommandBodies<'_> {
    fn end(self, all: &mut ForeignBodies) {
        if !self.foreign {
            return;
        }
        for body in &self.bodies {
            all.places.push((body.start, body.end()));
            if body.text.first() != Some(&b'$') {
                // Its own quotes are doubled or escaped.
                all.cuts.push(whole(body));
                continue;
            }
            let mark = mark_length(body.text);
            let end = body.text.len() - if body.kind == TokenKind::Dollar { mark } else { 0 };
            let inner = body.text.get(mark..end).unwrap_or_default();
            let cuts = [
                quoted_runs(inner, false),
                quoted_runs(inner, true),
                assigned(inner, ends_word),
            ]
            .concat();
            all.cuts.extend(cuts.iter().map(|cut| shifted(cut, body.start + mark)));
        }
    }
}

/// Returns the text between two quotes of a kind, with the quotes. A quote without a second one does not count.
fn quoted_runs(text: &[u8], escapes: bool) -> Vec<RedactedRange> {
    let (mut runs, mut at) = (Vec::new(), 0);
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr2(b'\'', b'"', rest)) {
        let start = at + found;
        let quote = text.get(start).copied().unwrap_or_default();
        match end_of_run(text.get(start + 1..).unwrap_or_default(), quote, escapes) {
            Some(length) => {
                at = start + 1 + length;
                runs.push(RedactedRange::blank(start, at));
            }
            None => at = start + 1,
        }
    }
    runs
}

/// Returns the length up to and including the closing quote.
fn end_of_run(text: &[u8], quote: u8, escapes: bool) -> Option<usize> {
    let mut at = 0;
    loop {
        match *text.get(at)? {
            b'\\' if escapes => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}
