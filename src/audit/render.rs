//! Records as short lines of a table that are safe for a terminal.
//!
//! This module prints nothing and redacts nothing: it shows the contents of the log, cut to the width.
//!
//! INVARIANT: the result has no character that controls a terminal or is invisible: all are shown as escapes.

mod events;

use std::time::Duration;

use jiff::tz::TimeZone;

use super::event::{Event, Who};
use super::record::{LogRecord, RecordEncoder};
use super::sql_analysis::AnalysisCache;
use crate::base::times;
use crate::base::visible;
use events::description;

/// Number of characters from which a short text is cut.
const MAX_SHORT_TEXT_CHARS: usize = 160;
/// Number of characters of an SQL text that are certain to be shown.
const MIN_SQL_CHARS: usize = 120;

/// Record in the five columns of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordColumns {
    /// Gate time in the reader's time zone, to the millisecond.
    pub time: String,
    /// Identity; empty if there is none.
    pub identity: String,
    /// Session, or else the grant; empty if there is none.
    pub session: String,
    /// Name of the event.
    pub event: &'static str,
    /// Short description of the event.
    pub text: String,
}

/// Returns a record in the columns of the table, with times in this zone; safe for a terminal.
#[must_use]
pub fn columns(record: &LogRecord, zone: &TimeZone) -> RecordColumns {
    let event = &record.event;
    let session = event.session().map(ToString::to_string);
    RecordColumns {
        time: times::millis(record.time, zone),
        identity: event.identity().map(ToString::to_string).unwrap_or_default(),
        session: session.or_else(|| event.grant().map(ToString::to_string)).unwrap_or_default(),
        event: event.name().as_str(),
        text: visible::start(&description(event, zone), MAX_SHORT_TEXT_CHARS),
    }
}

/// Returns a record on one line: time in this zone, identity, target and profile, session, event, short text; safe for a
/// terminal.
#[must_use]
pub fn line(record: &LogRecord, zone: &TimeZone) -> String {
    let shown = columns(record, zone);
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let target = record.event.target().map(|target| target.with(record.event.profile()));
    let (identity, session) = (or_dash(shown.identity), or_dash(shown.session));
    let (target, event) = (or_dash(target.unwrap_or_default()), shown.event);
    format!(
        "{}  {identity:<16}  {target:<18}  {session:<13}  {event:<15}  {}",
        shown.time, shown.text
    )
    .trim_end()
    .to_owned()
}

/// Encoder of records as lines of JSON; a statement has the analysis of its text in `reading`, in addition to the fields of the log.
#[derive(Debug, Default)]
pub struct AnalysedEncoder {
    encoder: RecordEncoder,
    readings: AnalysisCache,
}

impl AnalysedEncoder {
    /// Returns the analyses that it has made so far.
    pub fn readings(&mut self) -> &mut AnalysisCache {
        &mut self.readings
    }

    /// Appends a record with its newline; safe for a terminal.
    pub fn push(&mut self, out: &mut Vec<u8>, record: &LogRecord) {
        let start = out.len();
        self.encoder.push(out, record);
        let Event::Statement(statement) = &record.event else {
            return;
        };
        if let Ok(reading) = serde_json::to_string(&*self.readings.of_statement(statement))
            && out.get(start..).is_some_and(|line| line.ends_with(b"}\n"))
        {
            out.truncate(out.len() - 2);
            for part in [",\"reading\":", &visible::json(&reading), "}\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
    }
}

/// Returns a session's target, with its profile if it has one.
pub(super) fn place(who: &Who) -> String {
    who.target.with(who.profile.as_ref())
}

/// Returns the part of a long text that may be shown.
fn begin(text: &str) -> &str {
    let end = text
        .char_indices()
        .nth(MAX_SHORT_TEXT_CHARS + 1)
        .map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or(text)
}

/// Formats microseconds for people.
pub(super) fn span(micros: u64) -> String {
    let duration = Duration::from_micros(micros);
    match duration.as_secs() {
        0 => format!("{:.3} ms", duration.as_secs_f64() * 1000.0),
        1..120 => format!("{:.3} s", duration.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests;
