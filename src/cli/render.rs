//! Output of the commands: tables and sentences for people, JSON for scripts.
//!
//! It is the only module of the command line that writes to standard output.
//!
//! INVARIANT: no control character from a client, a database or a log reaches the terminal; such characters are made visible.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::args::{OutputFormat, RemoteArgs};
use super::speech;
use super::table::width;
use super::terminal;
use super::zone::zone;
use crate::base::duration;
use crate::base::times;
use crate::base::visible;
pub(super) use crate::base::visible::visible;

/// Writes a command's output. A reader that has gone away (`| head`) is no error.
pub(super) fn print(text: &str) -> io::Result<()> {
    write(&visible::lines(text))
}

fn write(text: &str) -> io::Result<()> {
    match write_line(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn write_line(text: &str) -> io::Result<()> {
    write_out(format!("{text}\n").as_bytes())
}

fn write_out(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Size in bytes from which lines are written that were kept to be written together.
const MAX_KEPT_BYTES: usize = 64 << 10;

/// Lines that are written to standard output together. They are shown at [`KeptLines::show`] at the latest.
#[derive(Debug, Default)]
pub(super) struct KeptLines(Vec<u8>);

impl KeptLines {
    /// Adds one line; returns false if standard output is closed.
    pub(super) fn line(&mut self, text: &str) -> bool {
        self.safe(|lines| {
            lines.extend_from_slice(visible::lines(text).as_bytes());
            lines.push(b'\n');
        })
    }

    /// The same for a line that people read, as [`print_words`] has it.
    pub(super) fn words(&mut self, text: &str) -> bool {
        self.line(&for_reader(text))
    }

    /// The same for whole lines that are safe to show, which `push` adds.
    pub(super) fn safe(&mut self, push: impl FnOnce(&mut Vec<u8>)) -> bool {
        push(&mut self.0);
        self.0.len() < MAX_KEPT_BYTES || self.show()
    }

    /// Writes the lines; returns false if standard output is closed.
    pub(super) fn show(&mut self) -> bool {
        let shown = self.0.is_empty() || write_out(&self.0).is_ok();
        self.0.clear();
        shown
    }
}

/// Writes one line; returns false if standard output is closed.
pub(super) fn print_line(text: &str) -> bool {
    write_line(&visible::lines(text)).is_ok()
}

/// The same for a line that people read: no wider than the terminal, where there is one.
pub(super) fn print_words(text: &str) -> bool {
    print_line(&for_reader(text))
}

/// Returns a line that people read, with breaks between words where a terminal is too narrow for it.
fn for_reader(text: &str) -> Cow<'_, str> {
    match width() {
        Some(columns) => Cow::Owned(terminal::wrapped(text, columns, terminal::CONTINUATION_INDENT)),
        None => Cow::Borrowed(text),
    }
}

/// Writes `value` as JSON, or as `text` makes of it.
pub(super) fn show<T: Serialize>(output: OutputFormat, value: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
    match output {
        OutputFormat::Json => print(&json(value)?)?,
        OutputFormat::Table => write(&speech::in_colour(visible::lines(&text(value)).into_owned()))?,
    }
    Ok(())
}

impl RemoteArgs {
    /// Writes the gate's answer in the chosen format.
    pub(super) fn show<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        show(self.printing.output, value, text)
    }
}

/// Returns a value as JSON on several lines, safe to show on a terminal.
pub(super) fn json<T: Serialize>(value: &T) -> serde_json::Result<String> {
    serde_json::to_string_pretty(value).map(|text| visible::json(&text).into_owned())
}

/// Returns a table and, if there is another page, the option for it: `next` is the value of `--before`.
#[must_use]
pub(super) fn page(table: String, next: Option<&impl Display>) -> String {
    match next {
        Some(next) => format!("{table}\n\nFor the next page, add --before {next}"),
        None => table,
    }
}

/// Formats a time: to the second, in the reader's zone, with its offset.
#[must_use]
pub(super) fn time(time: Timestamp) -> String {
    times::seconds(time, &zone())
}

/// Formats a time relative to `now`, as `in 4m12s` or `3h ago`.
pub(super) fn relative(time: Timestamp, now: Timestamp) -> String {
    if time >= now {
        format!("in {}", left(time, now))
    } else {
        format!("{} ago", left(now, time))
    }
}

/// Formats the time that is left until `time`, without seconds if there are hours.
pub(super) fn left(time: Timestamp, now: Timestamp) -> String {
    let left: SignedDuration = time.duration_since(now);
    let left = Duration::try_from(left).unwrap_or_default();
    let secs = left.as_secs();
    duration::show(Duration::from_secs(if secs >= 3_600 { secs / 60 * 60 } else { secs }))
}

/// Returns the texts of several things as one.
pub(super) fn joined<T: Display>(things: impl IntoIterator<Item = T>, between: &str) -> String {
    let texts: Vec<String> = things.into_iter().map(|thing| thing.to_string()).collect();
    texts.join(between)
}

/// Returns named values, one on a line.
pub(super) fn list(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    joined(rows.iter().map(|(name, value)| format!("{name:width$}  {value}")), "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_lines_are_safe_and_wait_to_be_shown() {
        let mut lines = KeptLines::default();
        assert!(lines.line("a\u{1b}[2J\u{202e}") && lines.safe(|out| out.extend_from_slice(b"{}\n")) && lines.line("b"));
        assert_eq!(lines.0, b"a\\u{1b}[2J\\u{202e}\n{}\nb\n");
        let long = "x".repeat(MAX_KEPT_BYTES);
        assert!(lines.line(&long) && lines.0.is_empty(), "they are not kept without end");
    }
}
