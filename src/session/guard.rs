//! Has the guard rails judge each text of a client as soon as all of it is here, and says which bytes must not arrive.
//!
//! It answers nothing and forwards nothing: the relay puts [`Instead`] in the place of a refused message, and the target's own error
//! for it is answered in our words ([`super::book::Book::refuse`]). So the target is in the state that any error puts it in, and there
//! is nothing to keep in step.
//!
//! INVARIANT: when a message is refused, the end of its text has not been forwarded. A text of which nothing has been becomes one that
//! has a mistake in it. Otherwise there is no NUL from there on, so the target finds a string without an end (`pq_getmsgstring`,
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

/// What a byte of a message becomes that is not to be read.
const UNREADABLE: u8 = 0xff;

/// What becomes of a piece of a refused message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Instead {
    /// Its text, which is here, is a literal without an end. The target does with it all it does with a mistake in a text: the unnamed
    /// statement is dropped (`exec_simple_query` and `exec_parse_message`, tcop/postgres.c).
    Unparseable(Range<usize>),
    /// No text: it has begun in a piece that is forwarded, or there is none.
    Unreadable,
}

impl Instead {
    pub(super) fn overwrite(self, bytes: &mut [u8]) {
        if let Self::Unparseable(text) = self
            && let Some([before @ .., quote]) = bytes.get_mut(text)
        {
            before.fill(b' ');
            // The last character, for the target's error repeats what follows it.
            *quote = b'\'';
        } else {
            bytes.fill(UNREADABLE);
        }
    }
}

/// The guard rails of one session.
#[derive(Debug)]
pub(super) struct Guard {
    rails: Arc<Rails>,
    target: TargetName,
    metrics: Metrics,
    message: Message,
    /// The beginning of a text that comes in pieces.
    text: Vec<u8>,
    /// Where the text is in the piece at hand, if all of it is.
    here: Option<Range<usize>>,
    /// Bytes of a text that the log keeps.
    max_logged: usize,
}

/// What is known of the message at hand.
#[derive(Debug)]
enum Message {
    /// Its text ends after so many strings.
    Reading(u8),
    /// The rules allow the text, of which so many bytes have come; the log may not have room for all of it.
    Counting(usize),
    Passed,
    Refused(Arc<Refused>),
}

impl Guard {
    /// What it refuses is counted for this target; the log keeps `max_logged` bytes of a text.
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

    /// Looks at the next piece of a message, whose text the target reads under settings as they are tracked; what is to arrive in the
    /// place of its bytes, if they must not.
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

    /// Why the message at hand is refused, if it is; once.
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

    /// Counts the bytes of a text that is too long to be judged otherwise.
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

/// Does what may take many milliseconds, and lets the thread's other sessions go on elsewhere meanwhile.
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
