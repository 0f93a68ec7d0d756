//! Lines of the log as syslog messages (RFC 5424) in frames with a byte count (RFC 6587, 3.4.1; RFC 5425, 4.3). Pure.
//!
//! This module sends nothing. The text of a message is the line as it stands in the file, byte by byte, so that a receiver that
//! has all lines can verify the log; the header and the structured data are for receivers that sort without reading JSON.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;

use crate::audit::EventName;
use crate::audit::session_line::SessionLine;
use crate::audit::text::decimal;

/// Facility "log audit" (RFC 5424, table 1).
const FACILITY: u8 = 13;
/// Severities (RFC 5424, table 2).
const SEVERITY_ERROR: u8 = 3;
const SEVERITY_WARNING: u8 = 4;
const SEVERITY_INFORMATIONAL: u8 = 6;
/// Maximum length of host name and message id in characters (RFC 5424, section 6).
const MAX_HOSTNAME_BYTES: usize = 255;
const MAX_MSGID_BYTES: usize = 32;
/// Name of Tidegate's structured data. 32473 is the enterprise number for documentation (RFC 5612).
const STRUCTURED_DATA_ID: &str = "tidegate@32473";

/// Part of the header that is the same in every message and names the sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogOrigin {
    /// `HOSTNAME APP-NAME PROCID`.
    words: String,
}

impl SyslogOrigin {
    /// Returns the origin for this gate's host name and process id.
    #[must_use]
    pub fn new(hostname: &str, pid: u32) -> Self {
        Self {
            words: format!("{} tidegate {pid}", printable(hostname, MAX_HOSTNAME_BYTES)),
        }
    }

    /// Appends a line as a framed message.
    pub(super) fn frame(&self, out: &mut Vec<u8>, line: &[u8]) {
        let start = out.len();
        match SessionLine::of(line) {
            Some(of) => {
                let names = [of.session, of.grant, of.identity, of.target].map(Some);
                self.header(out, SEVERITY_INFORMATIONAL, (of.time, of.event, of.seq), names);
            }
            None => self.parsed_header(out, line),
        }
        out.push(b' ');
        out.extend_from_slice(line);
        // The count includes the space between header and text.
        let mut count = Vec::new();
        decimal(&mut count, (out.len() - start) as u64);
        count.push(b' ');
        out.splice(start..start, count);
    }

    /// Appends everything before the text. A line that is no record gets severity "error" and no structured data.
    fn parsed_header(&self, out: &mut Vec<u8>, line: &[u8]) {
        let Some(fields) = SyslogFields::of(line) else {
            let priority = FACILITY * 8 + SEVERITY_ERROR;
            out.extend_from_slice(format!("<{priority}>1 - {} - -", self.words).as_bytes());
            return;
        };
        let severity = match fields.event.parse() {
            Ok(EventName::JournalHealed) => SEVERITY_ERROR,
            Ok(EventName::Refused | EventName::IdentityRefused) => SEVERITY_WARNING,
            _ => SEVERITY_INFORMATIONAL,
        };
        let event = printable(&fields.event, MAX_MSGID_BYTES);
        // Microseconds, as in the log; the standard allows up to six digits.
        let time = format!("{:.6}", fields.time);
        let names = [&fields.session, &fields.grant, &fields.identity, &fields.target].map(Option::as_deref);
        self.header(out, severity, (&time, &event, fields.seq), names);
    }

    /// Appends the header and the structured data of a record.
    fn header(&self, out: &mut Vec<u8>, severity: u8, (time, event, seq): (&str, &str, u64), names: [Option<&str>; 4]) {
        out.push(b'<');
        decimal(out, u64::from(FACILITY * 8 + severity));
        for text in [">1 ", time, " ", &self.words, " ", event, " [", STRUCTURED_DATA_ID, " seq=\""] {
            out.extend_from_slice(text.as_bytes());
        }
        decimal(out, seq);
        out.push(b'"');
        for (name, value) in ["session", "grant", "identity", "target"].into_iter().zip(names) {
            let Some(value) = value else { continue };
            for text in [" ", name, "=\"", &escaped(value), "\""] {
                out.extend_from_slice(text.as_bytes());
            }
        }
        out.push(b']');
    }
}

/// Returns the time of a line's record; `None` if it is no record.
pub(super) fn time_of(line: &[u8]) -> Option<Timestamp> {
    SyslogFields::of(line).map(|fields| fields.time)
}

/// Fields of a record that become header and structured data.
#[derive(Deserialize)]
struct SyslogFields<'a> {
    seq: u64,
    time: Timestamp,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow, default)]
    session: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    grant: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    identity: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    target: Option<Cow<'a, str>>,
}

impl<'a> SyslogFields<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

/// Escapes a parameter's value: `"`, `\` and `]` get a backslash (RFC 5424, 6.3.3).
fn escaped(value: &str) -> Cow<'_, str> {
    if !value.contains(['"', '\\', ']']) {
        return Cow::Borrowed(value);
    }
    let mut text = String::with_capacity(value.len() + 8);
    for character in value.chars() {
        if matches!(character, '"' | '\\' | ']') {
            text.push('\\');
        }
        text.push(character);
    }
    Cow::Owned(text)
}

/// Reduces a text to a header field: printable ASCII without spaces, at most `longest` characters; `-` if none is left.
fn printable(text: &str, longest: usize) -> String {
    let word: String = text.chars().filter(char::is_ascii_graphic).take(longest).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

/// Returns this machine's host name.
#[must_use]
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(line: &str) -> String {
        let mut out = Vec::new();
        SyslogOrigin::new("gate.example.org", 42).frame(&mut out, line.as_bytes());
        String::from_utf8(out).unwrap()
    }

    /// A frame without its length, which must be right.
    fn message(line: &str) -> String {
        let frame = frame(line);
        let (length, message) = frame.split_once(' ').unwrap();
        assert_eq!(length.parse(), Ok(message.len()), "{frame}");
        message.to_owned()
    }

    #[test]
    fn a_record_has_its_names_before_it_and_stays_as_it_is() {
        let line = r#"{"v":2,"seq":7,"time":"2026-11-23T09:05:07.000042Z","event":"session_ended","session":"se_0123456789","grant":"gr_0123456789","identity":"ana@example.com","target":"orders","chain":"0123456789abcdef"}"#;
        assert_eq!(
            message(line),
            format!(
                "<110>1 2026-11-23T09:05:07.000042Z gate.example.org tidegate 42 session_ended \
                 [tidegate@32473 seq=\"7\" session=\"se_0123456789\" grant=\"gr_0123456789\" identity=\"ana@example.com\" \
                 target=\"orders\"] {line}"
            )
        );
    }

    /// A line that is taken apart without parsing it has the same header as one that is parsed.
    #[test]
    fn both_ways_to_a_header_are_the_same() {
        let origin = SyslogOrigin::new("gate", 42);
        for identity in ["ana@example.com", "d]é", "a b"] {
            let line = format!(
                r#"{{"v":2,"seq":7,"time":"2026-11-23T09:05:07.000042Z","event":"outcome","session":"se_0","grant":"gr_0","identity":"{identity}","target":"orders","statement":1,"rows":0,"chain":"0123456789abcdef"}}"#
            );
            assert!(SessionLine::of(line.as_bytes()).is_some());
            let (mut parsed, mut framed) = (Vec::new(), Vec::new());
            origin.parsed_header(&mut parsed, line.as_bytes());
            origin.frame(&mut framed, line.as_bytes());
            let [parsed, framed] = [parsed, framed].map(|bytes| String::from_utf8(bytes).unwrap());
            assert!(framed.contains(&parsed), "{framed} {parsed}");
        }
    }

    #[test]
    fn values_are_escaped_and_letters_are_counted_in_bytes() {
        let line = r#"{"v":2,"seq":1,"time":"2026-11-23T09:05:07.000000Z","event":"refused","identity":"a\"b\\c]dé","user":"é"}"#;
        let message = message(line);
        assert!(message.starts_with("<108>1 "), "{message}");
        assert!(message.contains(r#" identity="a\"b\\c\]dé"]"#), "{message}");
        assert!(message.ends_with(line));
    }

    #[test]
    fn what_is_no_record_is_sent_all_the_same() {
        assert_eq!(message("garbage"), "<107>1 - gate.example.org tidegate 42 - - garbage");
    }

    #[test]
    fn a_word_of_the_header_is_one_word() {
        assert_eq!(SyslogOrigin::new("my gate\n", 1).words, "mygate tidegate 1");
        assert_eq!(SyslogOrigin::new("é", 1).words, "- tidegate 1");
    }
}
