//! Encodes an event as one line of the log that is safe to display and that any JSON parser reads.
//!
//! This module does not number lines, hold files or read clocks: a line gets its number and its place in the chain when it is
//! written.
//!
//! INVARIANT: whatever bytes a client or a server sends, one event is one line of valid JSON, and every character that moves a
//! cursor, breaks a line, changes the direction of text or is invisible ([`visible::is_unseen`]) is written as a JSON escape.
//! Encoding allocates nothing but the growth of its output buffer, and memory for texts with such characters.

mod hot;

use std::io;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use super::event::Event;
use super::text::{TIME_BYTES, timestamp, two};
use crate::base::error_chain::display_chain;
use crate::base::visible;

/// Number of bytes of capacity from which a buffer is freed instead of being kept for reuse.
const MAX_KEPT_BYTES: usize = 64 * 1024;

/// Encoded lines without a number yet: their bytes, each line with its newline, and the end of each.
#[derive(Debug, Default)]
pub(super) struct LineBuffer {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Earliest time in the lines.
    oldest: Option<Timestamp>,
    second: FormattedSecond,
}

impl LineBuffer {
    /// Encodes one more event.
    ///
    /// Fails only if serde does (no type of [`Event`] can cause it); the lines are then unchanged.
    pub(super) fn push(&mut self, time: Timestamp, event: &Event<'_>) -> Result<(), serde_json::Error> {
        let start = self.bytes.len();
        let encoded = encode(&mut self.bytes, &mut self.second, time, event);
        match encoded {
            Ok(()) => {
                self.ends.push(self.bytes.len());
                self.oldest = earlier(self.oldest, Some(time));
            }
            Err(_) => self.bytes.truncate(start),
        }
        encoded
    }

    /// Appends the lines of another.
    pub(super) fn append(&mut self, other: &LineBuffer) {
        let base = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| base + end));
        self.oldest = earlier(self.oldest, other.oldest);
    }

    /// Returns the lines one by one.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let line = self.bytes.get(start..end).unwrap_or_default();
            start = end;
            line
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the earliest time in the lines: they may be written long after the events.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.oldest
    }

    /// Returns the number of lines.
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// Returns the length of the lines in bytes.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Empties it; the memory is kept for reuse up to [`MAX_KEPT_BYTES`] bytes.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.oldest = None;
        if self.bytes.capacity() > MAX_KEPT_BYTES {
            self.bytes = Vec::new();
        }
        if self.ends.capacity() * size_of::<usize>() > MAX_KEPT_BYTES {
            self.ends = Vec::new();
        }
    }
}

/// Returns the earlier of two optional times.
fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// Records for the journal, encoded when they are pushed and before any lock is taken. Reusable: [`super::Journal::submit`] and
/// [`super::Journal::defer`] empty it.
#[derive(Debug, Default)]
pub struct RecordBatch {
    pub(super) lines: LineBuffer,
    /// True if an event could not be encoded, so the batch is refused as a whole instead of lacking a record.
    pub(super) incomplete: bool,
}

impl RecordBatch {
    /// Returns an empty batch; it allocates only when an event is pushed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record of an event at `time`.
    pub fn push(&mut self, time: Timestamp, event: &Event<'_>) {
        if cfg!(feature = "unlogged") {
            return;
        }
        if let Err(error) = self.lines.push(time, event) {
            tracing::error!(error = %display_chain(&error), "cannot encode an event for the audit log");
            self.incomplete = true;
        }
    }

    /// Returns true if nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && !self.incomplete
    }

    /// Returns the length of its lines in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.lines.size()
    }

    pub(super) fn clear(&mut self) {
        self.lines.clear();
        self.incomplete = false;
    }
}

/// Appends `"time":"…","event":"…",…}` and a newline: a line without its head and its mark, which the chain adds.
fn encode(out: &mut Vec<u8>, second: &mut FormattedSecond, time: Timestamp, event: &Event<'_>) -> Result<(), serde_json::Error> {
    out.extend_from_slice(br#""time":""#);
    second.write(out, time);
    out.push(b'"');
    match event {
        Event::Statement(statement) => hot::statement(out, statement)?,
        Event::Outcome(outcome) => hot::outcome(out, outcome)?,
        event => {
            let brace = out.len();
            event.serialize(&mut Serializer::with_formatter(&mut *out, EscapingFormatter))?;
            // The comma replaces the object's opening brace, because the head has begun the object.
            if let Some(byte) = out.get_mut(brace) {
                *byte = b',';
            }
        }
    }
    out.push(b'\n');
    Ok(())
}

/// JSON formatter that escapes every character that is invisible or controls the display.
#[derive(Debug, Clone, Copy)]
pub(super) struct EscapingFormatter;

impl Formatter for EscapingFormatter {
    /// Writes a piece of a string; serde_json has already escaped C0 characters, quotes and backslashes.
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        writer.write_all(visible::json(fragment).as_bytes())
    }
}

/// Text of the last second written: most records share it with the one before, and calendar arithmetic is slow.
#[derive(Debug, Default)]
struct FormattedSecond {
    of: Option<i64>,
    text: Vec<u8>,
}

impl FormattedSecond {
    /// Appends a time in the format of [`timestamp`].
    fn write(&mut self, out: &mut Vec<u8>, time: Timestamp) {
        let micros = time.as_microsecond();
        let second = micros.div_euclid(1_000_000);
        if self.of != Some(second) {
            self.text.clear();
            timestamp(&mut self.text, time);
            let whole = self.text.len() == TIME_BYTES;
            self.of = whole.then_some(second);
            if !whole {
                out.extend_from_slice(&self.text);
                return;
            }
            // The fraction and the `Z` are cut off.
            self.text.truncate(TIME_BYTES - 7);
        }
        out.extend_from_slice(&self.text);
        let fraction = micros.rem_euclid(1_000_000);
        for pair in [fraction / 10_000, fraction / 100 % 100, fraction % 100] {
            two(out, u8::try_from(pair).unwrap_or(99));
        }
        out.push(b'Z');
    }
}

#[cfg(test)]
mod tests;
