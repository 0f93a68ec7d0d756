//! Line of a statement, an outcome or a transaction, taken apart without parsing it: these are most of a log, and a gate writes their
//! first fields always alike.
//!
//! This module checks no chain. A line that is not written exactly so has to be parsed.

use super::chain::{number, split};
use super::record::{event_of, time_of};

/// Fields of a line of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionLine<'l> {
    pub(crate) seq: u64,
    /// Time as it is written.
    pub(crate) time: &'l str,
    /// Name of the event.
    pub(crate) event: &'l str,
    pub(crate) session: &'l str,
    pub(crate) grant: &'l str,
    pub(crate) identity: &'l str,
    pub(crate) target: &'l str,
    /// Bytes in which these four stand.
    pub(super) names_text: &'l [u8],
    /// Number of the statement.
    pub(super) statement: u64,
    /// Bytes behind that number, up to the mark of the chain.
    pub(super) rest: &'l [u8],
}

/// Returns the text of a string field, as it is written, and the rest behind it; `key` has all up to the text.
pub(super) fn take_string<'l>(line: &'l [u8], key: &[u8]) -> Option<(&'l [u8], &'l [u8])> {
    let value = line.strip_prefix(key)?;
    let (value, behind) = value.split_at_checked(memchr::memchr(b'"', value)?)?;
    Some((value, behind.strip_prefix(b"\"")?))
}

impl<'l> SessionLine<'l> {
    /// Takes a line apart; `None` if it is of another kind, or not as a gate writes it.
    pub(crate) fn of(line: &'l [u8]) -> Option<Self> {
        let (body, _) = split(line)?;
        let (time, rest) = time_of(body)?;
        let (event, rest) = event_of(rest)?;
        let is_of_time = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'T' | b':' | b'.' | b'Z');
        if !time.ends_with('Z')
            || !time.bytes().all(is_of_time)
            || !matches!(event, b"statement" | b"outcome" | b"transaction_changed")
        {
            return None;
        }
        let start = rest.strip_prefix(b"\"")?;
        let mut rest = start;
        let mut name = |key: &[u8]| {
            let (value, behind) = take_string(rest, key)?;
            rest = behind;
            // With an escape it is not the value itself.
            str::from_utf8(value).ok().filter(|value| !value.contains('\\'))
        };
        let (session, grant) = (name(br#","session":""#)?, name(br#","grant":""#)?);
        let (identity, target) = (name(br#","identity":""#)?, name(br#","target":""#)?);
        let names_text = start.get(..start.len() - rest.len())?;
        if let Some((_, behind)) = take_string(rest, br#","profile":""#) {
            rest = behind;
        }
        let digits = rest.strip_prefix(br#","statement":"#)?;
        let (digits, rest) = digits.split_at_checked(digits.iter().position(|byte| !byte.is_ascii_digit())?)?;
        Some(Self {
            seq: number(line)?,
            time,
            event: str::from_utf8(event).ok()?,
            session,
            grant,
            identity,
            target,
            names_text,
            statement: str::from_utf8(digits).ok()?.parse().ok()?,
            rest,
        })
    }
}
