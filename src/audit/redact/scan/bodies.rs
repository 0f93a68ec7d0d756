//! Treatment of whole tokens in the scan: comments, literals without a clear end, bodies of code.
//!
//! This module looks at no name.

use super::super::body::{self, LiteralBody, shifted, whole};
use super::super::nest::PlainValue;
use super::super::{RedactedRange, body::literals};
use super::{MAX_DEPTH, Name, SecretScan};
use crate::protocol::lexer::{Token, TokenKind};

impl SecretScan<'_> {
    pub(super) fn comment(&mut self, token: &Token<'_>) {
        let secrets = body::assigned(token.text, body::ends_line);
        self.nest.cuts.extend(secrets.iter().map(|cut| shifted(cut, token.start)));
    }

    /// Takes a token without an end: the rest of it is unknown.
    pub(super) fn unfinished(&mut self, token: &Token<'_>) {
        if token.text.starts_with(b"/*") {
            self.comment(token);
        } else if LiteralBody::of(token, self.settings).is_some() || self.bare {
            self.nest.secret(PlainValue::Text(whole(token)));
        }
    }

    /// Takes a literal whose end depends on the reading of backslashes. It is blanked even if the reading is known, which does
    /// no harm.
    pub(super) fn ambiguous_literal(&mut self, token: &Token<'_>) {
        self.doubts.ambiguous = true;
        self.value_begins();
        self.name = Name::None;
        self.nest.secret(PlainValue::Text(whole(token)));
    }

    /// Takes a body of code, with or without an end: only its own literals are blanked.
    pub(super) fn code(&mut self, token: &Token<'_>) {
        self.name = Name::None;
        let open = token.kind == TokenKind::Unfinished;
        let body = LiteralBody::of(token, self.settings);
        // Escapes hide its letters.
        let hidden = matches!(token.text, [b'u' | b'U', ..]);
        let cuts = match &body {
            Some(LiteralBody::Plain(inner, start)) => self.within(inner, open, |cut| shifted(cut, *start)),
            Some(LiteralBody::Quoted(quoted)) if !hidden => {
                self.within(&quoted.text, open, |cut| quoted.place(cut).unwrap_or_else(|| whole(token)))
            }
            _ => None,
        };
        match (cuts, body) {
            (Some(cuts), _) => self.nest.cuts.extend(cuts),
            (None, Some(_)) => {
                self.doubts.unclear = true;
                self.nest.cuts.push(whole(token));
            }
            (None, None) => self.unfinished(token),
        }
    }

    /// Returns the places to blank in a body of code; `None` if it is nested too deep.
    fn within(&mut self, text: &[u8], open: bool, place: impl Fn(&RedactedRange) -> RedactedRange) -> Option<Vec<RedactedRange>> {
        if self.level >= MAX_DEPTH {
            return None;
        }
        let mut within = SecretScan::new(text, self.level + 1, self.settings);
        let deep = within.run().is_err();
        self.doubts.ambiguous |= within.doubts.ambiguous;
        self.doubts.unclear |= within.doubts.unclear;
        let mut cuts = std::mem::take(&mut within.nest.cuts);
        if open {
            within.nest.give_up();
            cuts.append(&mut within.nest.cuts);
        } else if within.doubts.open || deep {
            cuts.extend(literals(text, self.settings).cuts);
            self.doubts.unclear = true;
        }
        Some(cuts.iter().map(place).collect())
    }
}
