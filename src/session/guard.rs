//! Applies the guard rails to each text of a client as soon as it is complete, and determines which bytes must not be forwarded.
//!
//! This module answers and forwards nothing: the relay puts [`Instead`] in the place of a refused message, and replaces the
//! target's own error for it by the gate's ([`super::book::Book::refuse`]). So the target is in the same state as after any
//! error, and no state must be kept in step.
//!
//! INVARIANT: when a message is refused, the end of its text has not been forwarded. If no part of the text was forwarded, it is
//! replaced by one with a syntax error. Otherwise no NUL follows, so the target finds a string without an end (`pq_getmsgstring`,
//! libpq/pqformat.c), or for a FunctionCall no such function.

use std::ops::Range;
use std::sync::Arc;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::lexer_settings::TrackedSettings;
use super::statement::unloggable;
use crate::metrics::Metrics;
use crate::names::TargetName;
use crate::rails::{REMEMBERED, Rails, Refused, Unloggable, Verdict};
use crate::wire::frame::Piece;

/// Value that replaces a byte of a message that must not be parsed.
const UNREADABLE: u8 = 0xff;

/// Replacement for a piece of a refused message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Instead {
    /// Its text, which is in this piece, becomes a literal without an end. The target treats it like any syntax error: the
    /// unnamed statement is dropped (`exec_simple_query` and `exec_parse_message`, tcop/postgres.c).
    Unparseable(Range<usize>),
    /// The piece has no text to replace: the text began in a piece that was forwarded, or there is none.
    Unreadable,
}

impl Instead {
    pub(super) fn overwrite(self, bytes: &mut [u8]) {
        if let Self::Unparseable(text) = self
            && let Some([before @ .., quote]) = bytes.get_mut(text)
        {
            before.fill(b' ');
            // The quote is the last character, because the target's error repeats the text after it.
            *quote = b'\'';
        } else {
            bytes.fill(UNREADABLE);
        }
    }
}

/// Guard rails of one session.
#[derive(Debug)]
pub(super) struct Guard {
    rails: Arc<Rails>,
    target: TargetName,
    metrics: Metrics,
    message: Message,
    /// Beginning of a text that comes in pieces.
    text: Vec<u8>,
    /// Range of the text in the current piece, if it contains all of it.
    here: Option<Range<usize>>,
    /// Number of bytes of a text that the log keeps.
    max_logged: usize,
}

/// State of the current message.
#[derive(Debug)]
enum Message {
    /// Its text ends after so many strings.
    Reading(u8),
    /// The rules allow the text, and this number of its bytes has arrived; it may be too long for the log.
    Counting(usize),
    Passed,
    Refused(Arc<Refused>),
}

impl Guard {
    /// Creates the guard of a session. Refusals are counted for this target; the log keeps `max_logged` bytes of a text.
    pub(super) fn new(rails: Arc<Rails>, target: TargetName, metrics: Metrics, max_logged: usize) -> Self {
        Self {
            rails,
            target,
            metrics,
            message: Message::Passed,
            text: Vec::new(),
            here: None,
            max_logged,
        }
    }

    /// Inspects the next piece of a message, whose text the target reads under the tracked settings. Returns the replacement for
    /// its bytes if they must not be forwarded.
    pub(super) fn refuses(&mut self, piece: &Piece<'_>, settings: &TrackedSettings) -> Option<Instead> {
        if piece.first {
            self.message = match piece.tag {
                b'Q' => Message::Reading(1),
                b'P' => Message::Reading(2),
                b'F' => verdict(self.rails.judge_call()),
                _ => Message::Passed,
            };
        }
        match self.message {
            Message::Reading(strings) => {
                self.message = self.read(strings, piece, settings);
                if !matches!(self.message, Message::Reading(_)) {
                    self.text = Vec::new();
                }
            }
            Message::Counting(length) => self.message = self.count(length, piece),
            Message::Passed | Message::Refused(_) => {}
        }
        let here = self.here.take();
        let instead = || here.map_or(Instead::Unreadable, Instead::Unparseable);
        matches!(self.message, Message::Refused(_)).then(instead)
    }

    /// Returns the reason if the current message is refused; once.
    pub(super) fn refusal(&mut self) -> Option<Arc<Refused>> {
        match std::mem::replace(&mut self.message, Message::Passed) {
            Message::Refused(refused) => {
                let profile = self.rails.profile();
                self.metrics.rail_refused(&self.target, profile, refused.rule.name());
                Some(refused)
            }
            _ => None,
        }
    }

    fn read(&mut self, mut strings: u8, piece: &Piece<'_>, settings: &TrackedSettings) -> Message {
        let mut bytes = piece.bytes;
        while let Some(end) = memchr::memchr(0, bytes) {
            let (string, rest) = bytes.split_at_checked(end).unwrap_or_default();
            strings -= 1;
            if strings == 0 {
                let begins = piece.bytes.len() - bytes.len();
                self.here = self.text.is_empty().then_some(begins..begins + end);
                return self.judge(string, settings);
            }
            bytes = rest.get(1..).unwrap_or_default();
        }
        if piece.last {
            // A text without an end: the target refuses it.
            return Message::Passed;
        }
        if strings == 1 {
            self.text.extend_from_slice(bytes);
            if self.text.len() > self.rails.longest() {
                return match self.rails.judge_long(&self.text) {
                    Verdict::Allowed if self.rails.refuses_unloggable() => self.counted(self.text.len()),
                    judged => verdict(judged),
                };
            }
        }
        Message::Reading(strings)
    }

    /// Counts the bytes of a text that is too long for any other rule.
    fn count(&self, length: usize, piece: &Piece<'_>) -> Message {
        let end = memchr::memchr(0, piece.bytes);
        match self.counted(length + end.unwrap_or(piece.bytes.len())) {
            Message::Counting(_) if end.is_some() || piece.last => Message::Passed,
            counted => counted,
        }
    }

    fn counted(&self, length: usize) -> Message {
        if length > self.max_logged {
            verdict(self.rails.judge_unloggable(Unloggable::Long { max: self.max_logged }))
        } else {
            Message::Counting(length)
        }
    }

    /// Judges the text that ends with `end`.
    fn judge(&mut self, end: &[u8], settings: &TrackedSettings) -> Message {
        let text = if self.text.is_empty() {
            end
        } else {
            self.text.extend_from_slice(end);
            &self.text
        };
        let judge = || {
            let judged = self.rails.judge(text, settings.of(text));
            let unloggable = || unloggable(text, self.max_logged, settings.of(text));
            match judged {
                Verdict::Allowed if self.rails.refuses_unloggable() => {
                    unloggable().map_or(judged, |why| self.rails.judge_unloggable(why))
                }
                judged => judged,
            }
        };
        verdict(if text.len() > REMEMBERED { aside(judge) } else { judge() })
    }
}

/// Runs work that may take many milliseconds, while other sessions of the thread continue on another one.
fn aside<T>(long: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
    if matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
        tokio::task::block_in_place(long)
    } else {
        long()
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
