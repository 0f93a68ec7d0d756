//! Parser of the messages that a server sends after login (protocol: "Message Formats", marked B).
//!
//! It reads the fields that the audit record needs: tags, codes, states. It never looks into rows.

use crate::model::names::vocabulary;

use super::frame::MAX_MESSAGE_BYTES;
use super::frontend::Fields;

/// Returns the maximum length of a message body in bytes: PostgreSQL never sends more. Any letter or digit is accepted as a type,
/// because a newer server may have messages this gate does not know; any other byte does not come from PostgreSQL.
#[must_use]
pub fn limit(tag: u8) -> Option<u32> {
    (tag.is_ascii_alphabetic() || tag.is_ascii_digit()).then_some(MAX_MESSAGE_BYTES)
}

/// Returns the severity, SQLSTATE and message of an ErrorResponse or NoticeResponse body. The severity is the untranslated one
/// (`V`).
#[must_use]
pub fn error_code(body: &[u8]) -> ErrorCode<'_> {
    let mut fields = Fields::of(body);
    let mut code = ErrorCode {
        fatal: false,
        sqlstate: b"XX000",
        message: b"",
    };
    while let Some(text) = fields.text() {
        match text.split_first() {
            Some((b'V', severity)) => code.fatal = severity == b"FATAL" || severity == b"PANIC",
            Some((b'C', sqlstate)) => code.sqlstate = sqlstate,
            Some((b'M', message)) => code.message = message,
            Some(_) => {}
            None => break,
        }
    }
    code
}

/// Severity, SQLSTATE and message of an error or notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode<'a> {
    /// True if the server ends the session with this error.
    pub fatal: bool,
    /// SQLSTATE.
    pub sqlstate: &'a [u8],
    /// Its message, in the session's encoding and language.
    pub message: &'a [u8],
}

/// Returns the command tag of a CommandComplete body.
#[must_use]
pub fn command_tag(body: &[u8]) -> &[u8] {
    Fields::of(body).text_or_rest()
}

/// Returns the number of rows in a command tag: its last word, if that is a number (`SELECT 5`, `INSERT 0 5`, `COPY 5`).
#[must_use]
pub fn tag_rows(tag: &[u8]) -> u64 {
    let digits = tag.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let start = tag.len() - digits;
    let separate = start > 0 && tag.get(start - 1) == Some(&b' ');
    if !separate {
        return 0;
    }
    tag.get(start..)
        .unwrap_or_default()
        .iter()
        .fold(0_u64, |n, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0')))
}

vocabulary! {
    /// Transaction status of a session, in a ReadyForQuery body and in records.
    #[derive(Default)]
    pub enum TransactionStatus {
        /// No transaction is open.
        #[default]
        Idle = "idle",
        /// A transaction is open.
        Open = "open",
        /// A transaction is open, has failed, and waits for its end (COMMIT or ROLLBACK).
        Failed = "failed",
    }
}

impl TransactionStatus {
    /// Reads the status byte. An unknown status counts as an open transaction, which is the cautious choice.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        match body {
            [b'I', ..] => Self::Idle,
            [b'E', ..] => Self::Failed,
            _ => Self::Open,
        }
    }
}

/// Returns the parameter types of a ParameterDescription body, four bytes each.
#[must_use]
pub fn parameter_types(body: &[u8]) -> &[u8] {
    Fields::of(body).oids()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_of_tags() {
        for (tag, rows) in [
            ("SELECT 5", 5),
            ("INSERT 0 12", 12),
            ("COPY 500000", 500_000),
            ("BEGIN", 0),
            ("CREATE TABLE", 0),
            ("5", 0),
            ("", 0),
        ] {
            assert_eq!(tag_rows(tag.as_bytes()), rows, "{tag}");
        }
    }

    #[test]
    fn error_fields() {
        let code = error_code(b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0");
        assert_eq!(
            code,
            ErrorCode {
                fatal: true,
                sqlstate: b"57P01",
                message: b"terminating"
            }
        );
        assert_eq!(
            error_code(b""),
            ErrorCode {
                fatal: false,
                sqlstate: b"XX000",
                message: b""
            }
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = (error_code(&body), tag_rows(command_tag(&body)), TransactionStatus::of(&body), parameter_types(&body));
        }
    }
}
