//! Encodes an event as one line of the log that is safe to display and that any JSON parser reads.
//!
//! This module does not number lines, hold files or read clocks: a line gets its number and its place in the chain when it is
//! written.
//!
//! INVARIANT: whatever bytes a client or a server sends, one event is one line of valid JSON, and every character that moves a
//! cursor, breaks a line, changes the direction of text or is invisible ([`visible::is_unseen`]) is written as a JSON escape.
//! Encoding allocates nothing but the growth of its output buffer, and memory for texts with such characters.

use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::ser::Formatter;
use serde_json::{Error, Serializer};

use super::event::{Event, ParameterValue, SqlText, Statement, StatementOutcome, StatementResult, TransactionStatus, Who};
use super::text::{TIME_BYTES, decimal, timestamp, two};
use crate::base::error_chain::display_chain;
use crate::base::visible;
use crate::model::names::ProfileName;
use crate::protocol::lexer::{Backslashes, Encoding};

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
    names: FormattedNames,
}

impl LineBuffer {
    /// Encodes one more event.
    ///
    /// Fails only if serde does (no type of [`Event`] can cause it); the lines are then unchanged.
    pub(super) fn push(&mut self, time: Timestamp, event: &Event<'_>) -> Result<(), Error> {
        let start = self.bytes.len();
        let encoded = encode(&mut self.bytes, (&mut self.second, &mut self.names), time, event);
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

    /// Returns an empty batch for a session, whose names it encodes once. Their events have to borrow this very `who`.
    #[must_use]
    pub fn of_session(who: Arc<Who>) -> Self {
        let mut batch = Self::new();
        batch.lines.names.of = Some(who);
        batch
    }

    /// Frees its memory; all records in it are dropped.
    pub fn release(&mut self) {
        let of = self.lines.names.of.take();
        *self = Self::new();
        self.lines.names.of = of;
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
fn encode(
    out: &mut Vec<u8>,
    (second, names): (&mut FormattedSecond, &mut FormattedNames),
    time: Timestamp,
    event: &Event<'_>,
) -> Result<(), Error> {
    out.extend_from_slice(br#""time":""#);
    second.write(out, time);
    out.push(b'"');
    match event {
        Event::Statement(statement) => encode_statement(out, names, statement)?,
        Event::Outcome(outcome) => encode_outcome(out, names, outcome)?,
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

/// Appends `,"event":"statement",…}`: what serde would write, byte by byte, in a third of the time (see `benches`).
fn encode_statement(out: &mut Vec<u8>, names: &mut FormattedNames, statement: &Statement<'_>) -> Result<(), Error> {
    out.extend_from_slice(br#","event":"statement""#);
    names.write(out, &statement.who)?;
    number(out, br#","statement":"#, statement.statement);
    out.extend_from_slice(br#","kind":""#);
    out.extend_from_slice(statement.kind.as_str().as_bytes());
    out.push(b'"');
    if let Some(SqlText {
        text,
        length,
        sha256,
        hmac_sha256,
        cut,
        redacted,
        scs,
        encoding,
        converted,
        escaped,
        unclear,
    }) = &statement.sql
    {
        string(out, br#","sql":{"text":"#, &text.0)?;
        optional(out, br#","length":"#, *length);
        optional_string(out, br#","sha256":"#, sha256.as_deref())?;
        optional_string(out, br#","hmac_sha256":"#, hmac_sha256.as_deref())?;
        flag(out, br#","cut":true"#, *cut);
        optional(out, br#","redacted":"#, (*redacted != 0).then_some(u64::from(*redacted)));
        // The session's settings for the text that differ from the defaults.
        out.extend_from_slice(match scs {
            Backslashes::Ordinary => b"",
            Backslashes::Escape => br#","scs":"off""#,
            Backslashes::Unsettled => br#","scs":"unsettled""#,
        });
        let encoding = (*encoding != Encoding::default()).then(|| encoding.name());
        optional_string(out, br#","encoding":"#, encoding)?;
        flag(out, br#","converted":true"#, *converted);
        optional(out, br#","escaped":"#, (*escaped != 0).then_some(u64::from(*escaped)));
        flag(out, br#","unclear":true"#, *unclear);
        out.push(b'}');
    }
    optional_string(out, br#","prepared":"#, statement.prepared.as_ref().map(|name| &*name.0))?;
    optional_string(out, br#","portal":"#, statement.portal.as_ref().map(|name| &*name.0))?;
    flag(out, br#","with_parse":true"#, statement.with_parse);
    flag(out, br#","text_uncertain":true"#, statement.text_uncertain);
    flag(out, br#","continued":true"#, statement.continued);
    flag(out, br#","opaque":true"#, statement.opaque);
    for (index, parameter) in statement.parameters.iter().enumerate() {
        let before: &[u8] = if index == 0 { br#","parameters":["# } else { b"," };
        parameter_value(out, before, parameter)?;
    }
    if !statement.parameters.is_empty() {
        out.push(b']');
    }
    optional(out, br#","parameter_count":"#, statement.parameter_count.map(u64::from));
    optional(out, br#","function":"#, statement.function.map(u64::from));
    out.push(b'}');
    Ok(())
}

/// Appends `,"event":"outcome",…}`, like [`encode_statement`].
fn encode_outcome(out: &mut Vec<u8>, names: &mut FormattedNames, outcome: &StatementOutcome<'_>) -> Result<(), Error> {
    out.extend_from_slice(br#","event":"outcome""#);
    names.write(out, &outcome.who)?;
    number(out, br#","statement":"#, outcome.statement);
    out.extend_from_slice(match outcome.result {
        StatementResult::Completed => br#","result":"completed""#,
        StatementResult::Failed => br#","result":"failed""#,
        StatementResult::Suspended => br#","result":"suspended""#,
        StatementResult::Skipped => br#","result":"skipped""#,
        StatementResult::Unknown => br#","result":"unknown""#,
    });
    optional_string(out, br#","sqlstate":"#, outcome.sqlstate.as_ref().map(|code| &*code.0))?;
    optional_string(out, br#","rule":"#, outcome.rule.as_ref().map(|rule| &*rule.0))?;
    for (index, tag) in outcome.tags.iter().enumerate() {
        let before: &[u8] = if index == 0 { br#","tags":["# } else { b"," };
        string(out, before, &tag.0)?;
    }
    if !outcome.tags.is_empty() {
        out.push(b']');
    }
    number(out, br#","rows":"#, outcome.rows);
    optional(
        out,
        br#","rows_sent":"#,
        (outcome.rows_sent != 0).then_some(outcome.rows_sent),
    );
    optional(out, br#","portal_rows_sent":"#, outcome.portal_rows_sent);
    number(out, br#","bytes":"#, outcome.bytes);
    optional(out, br#","copy_in_bytes":"#, outcome.copy_in_bytes);
    optional(out, br#","copy_out_bytes":"#, outcome.copy_out_bytes);
    optional(out, br#","first_byte_us":"#, outcome.first_byte_us);
    number(out, br#","duration_us":"#, outcome.duration_us);
    out.extend_from_slice(match outcome.transaction {
        None => b"",
        Some(TransactionStatus::Idle) => br#","transaction":"idle""#,
        Some(TransactionStatus::Open) => br#","transaction":"open""#,
        Some(TransactionStatus::Failed) => br#","transaction":"failed""#,
    });
    flag(out, br#","parse_failed":true"#, outcome.parse_failed);
    out.push(b'}');
    Ok(())
}

fn who(out: &mut Vec<u8>, who: &Who) -> Result<(), Error> {
    for (key, value) in [
        (&br#","session":"#[..], who.session.as_str()),
        (br#","grant":"#, who.grant.as_str()),
        (br#","identity":"#, who.identity.as_str()),
        (br#","target":"#, who.target.as_str()),
    ] {
        string(out, key, value)?;
    }
    optional_string(out, br#","profile":"#, who.profile.as_ref().map(ProfileName::as_str))
}

fn number(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    decimal(out, value);
}

fn flag(out: &mut Vec<u8>, field: &[u8], is_set: bool) {
    if is_set {
        out.extend_from_slice(field);
    }
}

fn optional_string(out: &mut Vec<u8>, key: &[u8], text: Option<&str>) -> Result<(), Error> {
    text.map_or(Ok(()), |text| string(out, key, text))
}

fn optional(out: &mut Vec<u8>, key: &[u8], value: Option<u64>) {
    if let Some(value) = value {
        number(out, key, value);
    }
}

#[expect(
    clippy::needless_bitwise_bool,
    reason = "without branches the compiler looks at many bytes at once"
)]
fn string(out: &mut Vec<u8>, key: &[u8], text: &str) -> Result<(), Error> {
    out.extend_from_slice(key);
    // Printable ASCII without quote and backslash is the common case.
    let plain = text.bytes().fold(true, |plain, byte| {
        plain & matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\')
    });
    if plain {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return Ok(());
    }
    text.serialize(&mut Serializer::with_formatter(out, EscapingFormatter))
}

fn parameter_value(out: &mut Vec<u8>, before: &[u8], parameter: &ParameterValue<'_>) -> Result<(), Error> {
    out.extend_from_slice(before);
    match parameter {
        ParameterValue::Text(text) => {
            string(out, br#"{"text":"#, &text.0)?;
            out.push(b'}');
            Ok(())
        }
        other => other.serialize(&mut Serializer::with_formatter(out, EscapingFormatter)),
    }
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

/// Names of one session as its lines have them: a third of an outcome, and the same each time.
#[derive(Debug, Default)]
struct FormattedNames {
    of: Option<Arc<Who>>,
    text: Vec<u8>,
}

impl FormattedNames {
    /// Appends names as [`who`] does.
    fn write(&mut self, out: &mut Vec<u8>, names: &Who) -> Result<(), Error> {
        if self.of.as_deref().is_none_or(|of| !std::ptr::eq(of, names)) {
            return who(out, names);
        }
        if self.text.is_empty() {
            let mut text = Vec::new();
            who(&mut text, names)?;
            self.text = text;
        }
        out.extend_from_slice(&self.text);
        Ok(())
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
