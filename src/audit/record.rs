//! Record as read back: an event with its number and time, and accessors that all kinds of events have.
//!
//! This module does not find records (the reader does) and does not choose them (the filter does).

use std::str::FromStr;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Serialize};

use super::chain::{LinkMark, open, seal_as};
use super::encode::LineBuffer;
use super::event::{Event, Who};
use super::text::TIME_BYTES;
use crate::model::ids::{GrantId, SessionId};
use crate::model::names::{IdentityName, ProfileName, TargetName, Vocabulary as _, vocabulary};

mod one_pass;

/// Version of the line format that this program writes and reads.
pub const VERSION: u32 = 2;

/// Line of the log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogRecord {
    /// Version of the line format.
    pub v: u32,
    /// Sequence number: one more than that of the record before.
    pub seq: u64,
    /// Time of the event, in gate time.
    pub time: Timestamp,
    /// Event itself.
    #[serde(flatten)]
    pub event: Event<'static>,
    /// Mark of the chain.
    pub chain: LinkMark,
}

/// Version of a line, which determines its format.
#[derive(Deserialize)]
struct LineVersion {
    v: u32,
}

/// Part of a line that all events have.
#[derive(Deserialize)]
struct RecordHead {
    v: u32,
    seq: u64,
    time: Timestamp,
    chain: LinkMark,
}

/// Returns the name of a line's event, read from its first bytes without parsing the line; `None` if it does not begin like a
/// record.
#[must_use]
pub(super) fn name_of(line: &[u8]) -> Option<&str> {
    let (_, rest) = time_of(line)?;
    std::str::from_utf8(event_of(rest)?.0).ok()
}

/// Returns the name of the event, and the rest after it, from the part of a line after its time.
pub(super) fn event_of(behind_time: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = behind_time.strip_prefix(br#"","event":""#)?;
    rest.split_at_checked(rest.iter().position(|byte| *byte == b'"')?)
}

/// Returns the text of a line's time, and the rest after it, like [`name_of`].
pub(super) fn time_of(line: &[u8]) -> Option<(&str, &[u8])> {
    let (_, rest) = open(line)?;
    let (time, rest) = rest.strip_prefix(br#","time":""#)?.split_at_checked(TIME_BYTES)?;
    Some((std::str::from_utf8(time).ok()?, rest))
}

/// The value of the first such string field in a part of a line: `key` has the quotes around the name, the colon and the quote behind it.
/// In strings quotes are escaped, so what is found is a field. Escapes in the value stay as they are.
pub(super) fn string_field<'l>(line: &'l [u8], key: &[u8]) -> Option<&'l str> {
    let value = line.get(memchr::memmem::find(line, key)? + key.len()..)?;
    str::from_utf8(value.get(..memchr::memchr(b'"', value)?)?).ok()
}

/// The digits of the first such number field in a part of a line: `key` has all up to the first digit.
pub(super) fn digits_field<'l>(line: &'l [u8], key: &[u8]) -> Option<&'l [u8]> {
    let value = line.get(memchr::memmem::find(line, key)? + key.len()..)?;
    value.get(..value.iter().position(|byte| !byte.is_ascii_digit())?)
}

/// The value of the first such number field, as [`digits_field`] finds it.
pub(super) fn number_field(line: &[u8], key: &[u8]) -> Option<u64> {
    str::from_utf8(digits_field(line, key)?).ok()?.parse().ok()
}

/// Error of a line that is not a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The line is not JSON, or not of the form of any event.
    #[error(transparent)]
    Malformed(#[from] serde_json::Error),
    /// The line was written by another version of the program.
    #[error("unknown record version {0}; use a newer tidegate")]
    Version(u32),
}

/// Number of bytes from which a line must be a statement's: a gate writes no other event of that length.
const MAX_SHORT_LINE_BYTES: usize = 1 << 20;
/// Number of values of a long line: it is long because of its texts, and has no more values than a statement can have
/// parameters.
const MAX_LONG_LINE_VALUES: usize = 1 << 17;

/// Refuses lines that would take many times their own length in memory to parse.
fn is_modest(line: &[u8]) -> Result<(), RecordError> {
    if line.len() <= MAX_SHORT_LINE_BYTES {
        return Ok(());
    }
    if name_of(line) != Some(EventName::Statement.as_str()) {
        return Err(serde_json::Error::custom("longer than any record of its kind").into());
    }
    if separators(line) > MAX_LONG_LINE_VALUES {
        return Err(serde_json::Error::custom("more values than any record has").into());
    }
    Ok(())
}

/// Returns the number of commas outside of strings.
fn separators(json: &[u8]) -> usize {
    let (mut count, mut inside, mut escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b',' if !inside => count += 1,
            _ => {}
        }
    }
    count
}

impl LogRecord {
    /// Parses a line (without its newline). Does not check the chain.
    pub fn parse(line: &[u8]) -> Result<Self, RecordError> {
        is_modest(line)?;
        let record = one_pass::parse(line).map_or_else(|| Self::parse_tagged(line), Ok)?;
        // It would be displayed as another line.
        if record.time.subsec_nanosecond() % 1_000 != 0 {
            return Err(serde_json::Error::custom("a time finer than the microseconds of a record").into());
        }
        Ok(record)
    }

    /// Parses a line by the tag of its event, as serde does.
    fn parse_tagged(line: &[u8]) -> Result<Self, RecordError> {
        // A line that begins like a record has the right version.
        if open(line).is_none() {
            let LineVersion { v } = serde_json::from_slice(line)?;
            if v != VERSION {
                return Err(RecordError::Version(v));
            }
        }
        let RecordHead { v, seq, time, chain } = serde_json::from_slice(line)?;
        let event = serde_json::from_slice(line)?;
        Ok(Self {
            v,
            seq,
            time,
            event,
            chain,
        })
    }

    /// Returns the record as one line of JSON without the newline, as in the file: safe to display.
    #[must_use]
    pub fn json(&self) -> String {
        let mut out = Vec::new();
        RecordEncoder::default().push(&mut out, self);
        out.pop();
        String::from_utf8(out).unwrap_or_default()
    }
}

/// Encoder of records as lines of JSON, one after the other.
#[derive(Debug, Default)]
pub struct RecordEncoder(LineBuffer);

impl RecordEncoder {
    /// Appends a record with its newline, as in the file: safe to display.
    pub fn push(&mut self, out: &mut Vec<u8>, record: &LogRecord) {
        self.0.clear();
        // This cannot fail for an event; if it did, there would be no line.
        let _ = self.0.push(record.time, &record.event);
        self.0.iter().for_each(|line| seal_as(out, record.seq, line, record.chain));
    }
}

macro_rules! names {
    ($($variant:ident = $text:literal,)+) => {
        vocabulary! {
            /// Name of an event, as in the field `event` of a line.
            #[expect(missing_docs, reason = "described at the variants of Event")]
            pub enum EventName { $($variant = $text,)+ }
        }

        impl Event<'_> {
            /// Returns the name of the event.
            #[must_use]
            pub fn name(&self) -> EventName {
                match self { $(Event::$variant { .. } => EventName::$variant,)+ }
            }
        }
    };
}

names! {
    GateStarted = "gate_started",
    GateStopped = "gate_stopped",
    Reloaded = "reloaded",
    ClockSet = "clock_set",
    JournalHealed = "journal_healed",
    SegmentBegan = "segment_began",
    Checkpoint = "checkpoint",
    KeyChanged = "key_changed",
    SegmentsRemoved = "segments_removed",
    Refused = "refused",
    RefusalsCounted = "refusals_counted",
    CancelRequested = "cancel_requested",
    GrantChanged = "grant_changed",
    GrantJoined = "grant_joined",
    RequestChanged = "request_changed",
    DecisionMade = "decision_made",
    RoleChanged = "role_changed",
    CopyChanged = "copy_changed",
    LineChanged = "line_changed",
    UserChanged = "user_changed",
    SignInChanged = "sign_in_changed",
    IdentityRefused = "identity_refused",
    PolicyLoaded = "policy_loaded",
    SessionStarted = "session_started",
    SessionEnded = "session_ended",
    BackendGone = "backend_gone",
    Statement = "statement",
    Outcome = "outcome",
    TransactionChanged = "transaction_changed",
    RowsChanged = "rows_changed",
}

/// Error for a text that is not the name of an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown event {text:?}; known events: {}", names())]
pub struct EventNameError {
    text: String,
}

fn names() -> String {
    let all: Vec<_> = EventName::ALL.iter().map(|name| name.as_str()).collect();
    all.join(", ")
}

impl FromStr for EventName {
    type Err = EventNameError;

    fn from_str(text: &str) -> Result<Self, EventNameError> {
        Self::from_name(text).ok_or_else(|| EventNameError { text: text.to_owned() })
    }
}

impl Event<'_> {
    /// Returns session, grant, identity and target, for events that have them all.
    #[must_use]
    pub fn who(&self) -> Option<&Who> {
        match self {
            Self::CancelRequested(event) => event.who.as_ref(),
            Self::SessionStarted(event) => Some(&event.who),
            Self::SessionEnded(event) => Some(&event.who),
            Self::BackendGone(event) => Some(&event.who),
            Self::Statement(event) => Some(&event.who),
            Self::Outcome(event) => Some(&event.who),
            Self::TransactionChanged(event) => Some(&event.who),
            _ => None,
        }
    }

    /// Returns the session that it belongs to.
    #[must_use]
    pub fn session(&self) -> Option<&SessionId> {
        match self {
            Self::RowsChanged(event) => event.session.as_ref(),
            _ => self.who().map(|who| &who.session),
        }
    }

    /// Returns the profile that it concerns: that of a session, a grant or a request.
    #[must_use]
    pub fn profile(&self) -> Option<&ProfileName> {
        match self {
            Self::GrantChanged(event) => event.profile.as_ref(),
            Self::GrantJoined(event) => event.profile.as_ref(),
            Self::LineChanged(event) => event.profile.as_ref(),
            Self::RequestChanged(event) => Some(&event.profile),
            Self::RowsChanged(event) => event.profile.as_ref(),
            _ => self.who()?.profile.as_ref(),
        }
    }

    /// Returns the grant that it belongs to.
    #[must_use]
    pub fn grant(&self) -> Option<&GrantId> {
        match self {
            Self::Refused(event) => event.grant.as_ref(),
            Self::GrantChanged(event) => Some(&event.grant),
            Self::GrantJoined(event) => Some(&event.grant),
            Self::RequestChanged(event) => event.grant.as_ref(),
            Self::RoleChanged(event) => Some(&event.grant),
            Self::CopyChanged(event) => Some(&event.grant),
            Self::LineChanged(event) => Some(&event.grant),
            Self::RowsChanged(event) => event.grant.as_ref(),
            _ => self.who().map(|who| &who.grant),
        }
    }

    /// Returns the identity under whose name it is recorded.
    #[must_use]
    pub fn identity(&self) -> Option<&IdentityName> {
        match self {
            Self::Refused(event) => event.identity.as_ref(),
            Self::GrantChanged(event) => Some(&event.identity),
            Self::GrantJoined(event) => Some(&event.identity),
            Self::LineChanged(event) => Some(&event.identity),
            Self::RequestChanged(event) => Some(&event.identity),
            Self::DecisionMade(event) => Some(&event.identity),
            Self::UserChanged(event) => Some(&event.identity),
            Self::SignInChanged(event) => Some(&event.identity),
            Self::RowsChanged(event) => event.identity.as_ref(),
            _ => self.who().map(|who| &who.identity),
        }
    }

    /// Returns the target that it concerns.
    #[must_use]
    pub fn target(&self) -> Option<&TargetName> {
        match self {
            Self::GrantChanged(event) => Some(&event.target),
            Self::GrantJoined(event) => Some(&event.target),
            Self::RequestChanged(event) => Some(&event.target),
            Self::RoleChanged(event) => Some(&event.target),
            Self::CopyChanged(event) => Some(&event.target),
            Self::LineChanged(event) => Some(&event.target),
            Self::RowsChanged(event) => Some(&event.target),
            _ => self.who().map(|who| &who.target),
        }
    }

    /// Returns the SQLSTATE that it ended with.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Refused(event) => Some(&event.sqlstate),
            Self::SessionEnded(event) => Some(&event.sqlstate),
            Self::Outcome(event) => event.sqlstate.as_ref().map(|code| code.0.as_ref()),
            Self::TransactionChanged(event) => event.rolled_back.as_ref().map(|undone| undone.sqlstate.0.as_ref()),
            _ => None,
        }
    }
}
