//! Turns an event into one line of the log, fit to be shown to anybody and parsed by anything.
//!
//! It does not number lines, hold files or read clocks: a line gets its number and its place in the chain when it is written.
//!
//! INVARIANT: whatever bytes a client or a server sends, one event is one line of valid JSON, and no character that moves a
//! cursor, breaks a line, turns text around or hides in it ([`visible::is_unseen`]) stands in it as itself: all are JSON escapes.
//! Encoding allocates nothing but the growth of the buffer it writes to, and what texts with such characters take.

mod hot;

use std::io;

use jiff::Timestamp;
use jiff::tz::Offset;
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use super::event::Event;
use crate::causes::in_one_line;
use crate::visible;

/// Buffers larger than this are given back instead of being kept for the next use.
const KEEP: usize = 64 * 1024;
/// A time in a line, such as `2026-11-23T09:05:07.000042Z`.
pub(super) const TIME_LENGTH: usize = 27;

/// Lines that have no number yet: their bytes, each ending in a newline, and where each ends.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// The earliest time in them.
    oldest: Option<Timestamp>,
    second: Second,
}

impl Lines {
    /// Encodes one more event.
    ///
    /// Fails only if serde does (no type of [`Event`] can make it); the lines are then as before.
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

    /// Adds the lines of another.
    pub(super) fn append(&mut self, other: &Lines) {
        let base = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| base + end));
        self.oldest = earlier(self.oldest, other.oldest);
    }

    /// The lines one by one.
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

    /// The earliest time in them: they may be written long after what they tell.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.oldest
    }

    /// How many lines.
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// Their length in bytes.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Empties it; the memory is kept for reuse unless it is much.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.oldest = None;
        if self.bytes.capacity() > KEEP {
            self.bytes = Vec::new();
        }
        if self.ends.capacity() * size_of::<usize>() > KEEP {
            self.ends = Vec::new();
        }
    }
}

/// The earlier of two times, of which there may be one or none.
fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// Records on their way to the journal, encoded as they are pushed and before any lock is taken. Reusable: handing it to
/// [`super::Journal::submit`] or [`super::Journal::defer`] empties it.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) lines: Lines,
    /// Set when an event could not be encoded, so that the batch is refused as a whole instead of lacking a record.
    pub(super) incomplete: bool,
}

impl Batch {
    /// An empty batch; takes memory only when something is pushed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record of what happened at `time`.
    pub fn push(&mut self, time: Timestamp, event: &Event<'_>) {
        if cfg!(feature = "unlogged") {
            return;
        }
        if let Err(error) = self.lines.push(time, event) {
            tracing::error!(error = %in_one_line(&error), "an event could not be encoded for the audit log");
            self.incomplete = true;
        }
    }

    /// Whether nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && !self.incomplete
    }

    /// The length of its lines in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.lines.size()
    }

    pub(super) fn clear(&mut self) {
        self.lines.clear();
        self.incomplete = false;
    }
}

/// Appends `"time":"…","event":"…",…}` and a newline: a line without its head and its mark, which the chain supplies.
fn encode(out: &mut Vec<u8>, second: &mut Second, time: Timestamp, event: &Event<'_>) -> Result<(), serde_json::Error> {
    out.extend_from_slice(br#""time":""#);
    second.write(out, time);
    out.push(b'"');
    match event {
        Event::Statement(statement) => hot::statement(out, statement)?,
        Event::Outcome(outcome) => hot::outcome(out, outcome)?,
        event => {
            let brace = out.len();
            event.serialize(&mut Serializer::with_formatter(&mut *out, Harmless))?;
            // The object's opening brace becomes the comma that continues the object begun by the head.
            if let Some(byte) = out.get_mut(brace) {
                *byte = b',';
            }
        }
    }
    out.push(b'\n');
    Ok(())
}

/// Writes strings so that no character stands in them as itself which does something instead of being seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Harmless;

impl Formatter for Harmless {
    /// serde_json has dealt with C0, the quote and the backslash; what comes here is the text between them.
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        writer.write_all(visible::json(fragment).as_bytes())
    }
}

/// The second that was written last: most records share it with the one before, and the calendar is slow.
#[derive(Debug, Default)]
struct Second {
    of: Option<i64>,
    text: Vec<u8>,
}

impl Second {
    /// Appends a time as [`timestamp`] does.
    fn write(&mut self, out: &mut Vec<u8>, time: Timestamp) {
        let micros = time.as_microsecond();
        let second = micros.div_euclid(1_000_000);
        if self.of != Some(second) {
            self.text.clear();
            timestamp(&mut self.text, time);
            let whole = self.text.len() == TIME_LENGTH;
            self.of = whole.then_some(second);
            if !whole {
                out.extend_from_slice(&self.text);
                return;
            }
            // Without the fraction and its end.
            self.text.truncate(TIME_LENGTH - 7);
        }
        out.extend_from_slice(&self.text);
        let fraction = micros.rem_euclid(1_000_000);
        for pair in [fraction / 10_000, fraction / 100 % 100, fraction % 100] {
            two(out, u8::try_from(pair).unwrap_or(99));
        }
        out.push(b'Z');
    }
}

/// RFC 3339 in UTC with microseconds, always [`TIME_LENGTH`] bytes for years 0 to 9999.
pub(super) fn timestamp(out: &mut Vec<u8>, time: Timestamp) {
    let civil = Offset::UTC.to_datetime(time);
    let Ok(year) = u16::try_from(civil.year()) else {
        out.extend_from_slice(format!("{time:.6}").as_bytes());
        return;
    };
    let small = |value: i8| value.unsigned_abs();
    let (century, year) = (year / 100, year % 100);
    two(out, u8::try_from(century).unwrap_or(99));
    two(out, u8::try_from(year).unwrap_or(99));
    out.push(b'-');
    two(out, small(civil.month()));
    out.push(b'-');
    two(out, small(civil.day()));
    out.push(b'T');
    two(out, small(civil.hour()));
    out.push(b':');
    two(out, small(civil.minute()));
    out.push(b':');
    two(out, small(civil.second()));
    out.push(b'.');
    let micros = civil.subsec_nanosecond().unsigned_abs() / 1000;
    for pair in [micros / 10_000, micros / 100 % 100, micros % 100] {
        two(out, u8::try_from(pair).unwrap_or(99));
    }
    out.push(b'Z');
}

/// Returns a time as it stands in a line; `None` for one that no line can have.
pub(super) fn written(time: Timestamp) -> Option<String> {
    let mut text = Vec::new();
    timestamp(&mut text, time);
    String::from_utf8(text).ok().filter(|text| text.len() == TIME_LENGTH)
}

/// Two decimal digits.
fn two(out: &mut Vec<u8>, value: u8) {
    out.extend_from_slice(&[b'0' + value / 10 % 10, b'0' + value % 10]);
}

/// A number in decimal.
pub(super) fn decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        used += 1;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

#[cfg(test)]
mod tests;
