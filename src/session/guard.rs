//! Has the guard rails judge each text of a client as soon as all of it is here, and says which bytes must not arrive.
//!
//! It changes no byte and answers nothing: the relay makes a refused message unreadable, and the target's own error for it is
//! answered in our words ([`super::book::Book::refuse`]). So the target is in the state that any error puts it in, and there is
//! nothing to keep in step.
//!
//! INVARIANT: when a message is refused, the end of its text has not been forwarded. From there on it has no NUL any more, so the
//! target finds a string without an end (`pq_getmsgstring`, libpq/pqformat.c), or for a FunctionCall no such function.

use std::sync::Arc;

use crate::rails::{Rails, Refused, Verdict};
use crate::wire::frame::Piece;

/// What every byte of a refused message becomes, from the piece in which it is refused.
pub(super) const UNREADABLE: u8 = 0xff;

/// Client encodings in which a byte of ASCII can be a part of another character (PostgreSQL: "Supported Character Sets", those
/// that no server has).
const AMBIGUOUS: [&str; 7] = ["SJIS", "SHIFT_JIS_2004", "BIG5", "GBK", "GB18030", "UHC", "JOHAB"];

/// The guard rails of one session.
#[derive(Debug)]
pub(super) struct Guard {
    rails: Arc<Rails>,
    message: Message,
    /// The beginning of a text that comes in pieces.
    text: Vec<u8>,
    /// The target reads texts as the rails do.
    strings_conform: bool,
    encoding_is_clear: bool,
}

/// What is known of the message at hand.
#[derive(Debug)]
enum Message {
    /// Its text ends after so many strings.
    Reading(u8),
    Passed,
    Refused(Arc<Refused>),
}

impl Guard {
    pub(super) fn new(rails: Arc<Rails>) -> Self {
        Self {
            rails,
            message: Message::Passed,
            text: Vec::new(),
            strings_conform: true,
            encoding_is_clear: true,
        }
    }

    /// The target told a setting of its own, at login or later.
    pub(super) fn told(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"standard_conforming_strings" => self.strings_conform = value == b"on",
            b"client_encoding" => {
                self.encoding_is_clear = !AMBIGUOUS.iter().any(|name| value.eq_ignore_ascii_case(name.as_bytes()));
            }
            _ => {}
        }
    }

    /// Looks at the next piece of a message; whether its bytes must not arrive as they are.
    pub(super) fn refuses(&mut self, piece: &Piece<'_>) -> bool {
        if piece.first {
            self.message = match piece.tag {
                b'Q' => Message::Reading(1),
                b'P' => Message::Reading(2),
                b'F' => verdict(self.rails.judge_call()),
                _ => Message::Passed,
            };
        }
        if let Message::Reading(strings) = self.message {
            self.message = self.read(strings, piece.bytes, piece.last);
            if !matches!(self.message, Message::Reading(_)) {
                self.text = Vec::new();
            }
        }
        matches!(self.message, Message::Refused(_))
    }

    /// Why the message at hand is refused, if it is; once.
    pub(super) fn refusal(&mut self) -> Option<Arc<Refused>> {
        match std::mem::replace(&mut self.message, Message::Passed) {
            Message::Refused(refused) => Some(refused),
            _ => None,
        }
    }

    fn read(&mut self, mut strings: u8, mut bytes: &[u8], last: bool) -> Message {
        while let Some(end) = memchr::memchr(0, bytes) {
            let (string, rest) = bytes.split_at_checked(end).unwrap_or_default();
            strings -= 1;
            if strings == 0 {
                return self.judge(string);
            }
            bytes = rest.get(1..).unwrap_or_default();
        }
        if last {
            // A text without an end: the target refuses it.
            return Message::Passed;
        }
        if strings == 1 {
            self.text.extend_from_slice(bytes);
            if self.text.len() > self.rails.longest() {
                return verdict(self.rails.judge_long(&self.text));
            }
        }
        Message::Reading(strings)
    }

    /// Judges the text that ends with `end`.
    fn judge(&mut self, end: &[u8]) -> Message {
        let text = if self.text.is_empty() {
            end
        } else {
            self.text.extend_from_slice(end);
            &self.text
        };
        verdict(if self.strings_conform && (self.encoding_is_clear || text.is_ascii()) {
            self.rails.judge(text)
        } else {
            self.rails.judge_astray(text)
        })
    }
}

fn verdict(verdict: Verdict) -> Message {
    match verdict {
        Verdict::Allowed => Message::Passed,
        Verdict::Refused(refused) => Message::Refused(refused),
    }
}

#[cfg(test)]
mod tests;
