//! Lines of the log as syslog messages (RFC 5424) in frames with a byte count (RFC 6587, 3.4.1; RFC 5425, 4.3). Pure.
//!
//! This module sends nothing. The text of a message is the line as it stands in the file, byte by byte, so that a receiver that
//! has all lines can verify the log; the header and the structured data are for receivers that sort without reading JSON.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;

use crate::audit::EventName;

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

    /// Appends a line as a framed message; returns the time of its record, if it is one.
    pub(super) fn frame(&self, out: &mut Vec<u8>, line: &[u8]) -> Option<Timestamp> {
        let head = serde_json::from_slice::<SyslogFields<'_>>(line).ok();
        let time = head.as_ref().map(|head| head.time);
        let message = self.header(head.as_ref());
        // The count includes the space between header and text.
        let length = message.len() + 1 + line.len();
        out.extend_from_slice(length.to_string().as_bytes());
        out.push(b' ');
        out.extend_from_slice(message.as_bytes());
        out.push(b' ');
        out.extend_from_slice(line);
        time
    }

    /// Returns everything before the text. A line that is no record gets severity "error" and no structured data.
    fn header(&self, head: Option<&SyslogFields<'_>>) -> String {
        let Some(head) = head else {
            return format!("<{}>1 - {} - -", FACILITY * 8 + SEVERITY_ERROR, self.words);
        };
        let severity = match head.event.parse() {
            Ok(EventName::JournalHealed) => SEVERITY_ERROR,
            Ok(EventName::Refused | EventName::IdentityRefused) => SEVERITY_WARNING,
            _ => SEVERITY_INFORMATIONAL,
        };
        let (priority, event) = (FACILITY * 8 + severity, printable(&head.event, MAX_MSGID_BYTES));
        // Microseconds, as in the log; the standard allows up to six digits.
        let mut text = format!(
            "<{priority}>1 {:.6} {} {event} [{STRUCTURED_DATA_ID} seq=\"{}\"",
            head.time, self.words, head.seq
        );
        for (name, value) in [
            ("session", &head.session),
            ("grant", &head.grant),
            ("identity", &head.identity),
            ("target", &head.target),
        ] {
            if let Some(value) = value {
                text.extend([" ", name, "=\"", &escaped(value), "\""]);
            }
        }
        text.push(']');
        text
    }
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
