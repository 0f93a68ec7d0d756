//! Applies the guard rails to each text of a client as soon as it is complete, and determines which bytes must not be forwarded.
//!
//! This module answers and forwards nothing: the relay puts [`Replacement`] in the place of a refused message, and replaces the
//! target's own error for it by the gate's ([`super::extended_query::ExtendedQueryState::refusal`]). So the target is in the same state as after any
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
use crate::gate::metrics::Metrics;
use crate::gate::sql_filter::{FilterVerdict, MAX_CACHED_TEXT_BYTES, SqlFilter, StatementRefusal, UnloggableText};
use crate::model::names::TargetName;
use crate::protocol::wire::frame::BodyPiece;

/// Value that replaces a byte of a message that must not be parsed.
const BLANK_BYTE: u8 = 0xff;

/// Replacement for a piece of a refused message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Replacement {
    /// Its text, which is in this piece, becomes a literal without an end. The target treats it like any syntax error: the
    /// unnamed statement is dropped (`exec_simple_query` and `exec_parse_message`, tcop/postgres.c).
    Unparseable(Range<usize>),
    /// The piece has no text to replace: the text began in a piece that was forwarded, or there is none.
    Unreadable,
}

impl Replacement {
    pub(super) fn overwrite(self, bytes: &mut [u8]) {
        if let Self::Unparseable(text) = self
            && let Some([before @ .., quote]) = bytes.get_mut(text)
        {
            before.fill(b' ');
            // The quote is the last character, because the target's error repeats the text after it.
            *quote = b'\'';
        } else {
            bytes.fill(BLANK_BYTE);
        }
    }
}

/// Guard rails of one session.
#[derive(Debug)]
pub(super) struct SessionFilter {
    rails: Arc<SqlFilter>,
    target: TargetName,
    metrics: Metrics,
    message: FilterProgress,
    /// Beginning of a text that comes in pieces.
    text: Vec<u8>,
    /// Range of the text in the current piece, if it contains all of it.
    here: Option<Range<usize>>,
    /// Number of bytes of a text that the log keeps.
    max_logged: usize,
}

/// State of the current message.
#[derive(Debug)]
enum FilterProgress {
    /// Its text ends after so many strings.
    Reading(u8),
    /// The rules allow the text, and this number of its bytes has arrived; it may be too long for the log.
    Counting(usize),
    Passed,
    Refused(Arc<StatementRefusal>),
}

impl SessionFilter {
    /// Creates the guard of a session. Refusals are counted for this target; the log keeps `max_logged` bytes of a text.
    pub(super) fn new(rails: Arc<SqlFilter>, target: TargetName, metrics: Metrics, max_logged: usize) -> Self {
        Self {
            rails,
            target,
            metrics,
            message: FilterProgress::Passed,
            text: Vec::new(),
            here: None,
            max_logged,
        }
    }

    /// Inspects the next piece of a message, whose text the target reads under the tracked settings. Returns the replacement for
    /// its bytes if they must not be forwarded.
    pub(super) fn refuses(&mut self, piece: &BodyPiece<'_>, settings: &TrackedSettings) -> Option<Replacement> {
        if piece.first {
            self.message = match piece.tag {
                b'Q' => FilterProgress::Reading(1),
                b'P' => FilterProgress::Reading(2),
                b'F' => verdict(self.rails.judge_call()),
                _ => FilterProgress::Passed,
            };
        }
        match self.message {
            FilterProgress::Reading(strings) => {
                self.message = self.read(strings, piece, settings);
                if !matches!(self.message, FilterProgress::Reading(_)) {
                    self.text = Vec::new();
                }
            }
            FilterProgress::Counting(length) => self.message = self.count(length, piece),
            FilterProgress::Passed | FilterProgress::Refused(_) => {}
        }
        let here = self.here.take();
        let instead = || here.map_or(Replacement::Unreadable, Replacement::Unparseable);
        matches!(self.message, FilterProgress::Refused(_)).then(instead)
    }

    /// Returns the reason if the current message is refused; once.
    pub(super) fn refusal(&mut self) -> Option<Arc<StatementRefusal>> {
        match std::mem::replace(&mut self.message, FilterProgress::Passed) {
            FilterProgress::Refused(refused) => {
                let profile = self.rails.profile();
                self.metrics.rail_refused(&self.target, profile, refused.rule.name());
                Some(refused)
            }
            _ => None,
        }
    }

    fn read(&mut self, mut strings: u8, piece: &BodyPiece<'_>, settings: &TrackedSettings) -> FilterProgress {
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
            return FilterProgress::Passed;
        }
        if strings == 1 {
            self.text.extend_from_slice(bytes);
            if self.text.len() > self.rails.longest() {
                return match self.rails.judge_long(&self.text) {
                    None if self.rails.refuses_unloggable() => self.counted(self.text.len()),
                    judged => verdict(judged),
                };
            }
        }
        FilterProgress::Reading(strings)
    }

    /// Counts the bytes of a text that is too long for any other rule.
    fn count(&self, length: usize, piece: &BodyPiece<'_>) -> FilterProgress {
        let end = memchr::memchr(0, piece.bytes);
        match self.counted(length + end.unwrap_or(piece.bytes.len())) {
            FilterProgress::Counting(_) if end.is_some() || piece.last => FilterProgress::Passed,
            counted => counted,
        }
    }

    fn counted(&self, length: usize) -> FilterProgress {
        if length > self.max_logged {
            verdict(self.rails.judge_unloggable(UnloggableText::Long { max: self.max_logged }))
        } else {
            FilterProgress::Counting(length)
        }
    }

    /// Judges the text that ends with `end`.
    fn judge(&mut self, end: &[u8], settings: &TrackedSettings) -> FilterProgress {
        let text = if self.text.is_empty() {
            end
        } else {
            self.text.extend_from_slice(end);
            &self.text
        };
        let judge = || {
            self.rails.judge(text, settings.of(text)).or_else(|| {
                let refuses = self.rails.refuses_unloggable();
                let why = refuses.then(|| unloggable(text, self.max_logged, settings.of(text)))??;
                self.rails.judge_unloggable(why)
            })
        };
        verdict(if text.len() > MAX_CACHED_TEXT_BYTES {
            aside(judge)
        } else {
            judge()
        })
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

fn verdict(verdict: FilterVerdict) -> FilterProgress {
    verdict.map_or(FilterProgress::Passed, FilterProgress::Refused)
}

#[cfg(test)]
mod tests;
