//! Records of a statement: its intent, its outcome, and changes of the transaction; with the texts from outside in them.
//!
//! This module holds texts as they are given: they are cut and redacted before.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::Who;
use crate::model::names::vocabulary;
use crate::protocol::lexer::{Backslashes, Encoding};
pub use crate::protocol::wire::backend::TransactionStatus;

/// Intent record of a statement, written before it is forwarded.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statement<'a> {
    /// Session, grant, identity, target and profile.
    #[serde(flatten)]
    pub who: Cow<'a, Who>,
    /// Number of the statement within its session, from 1; its outcome has the same number.
    pub statement: u64,
    /// Message that carried it.
    pub kind: StatementKind,
    /// Text, as far as it is kept; absent for a function call and for a name without a text known to the gate.
    pub sql: Option<SqlText<'a>>,
    /// Name of the prepared statement (empty: the unnamed one).
    pub prepared: Option<OutsideText<'a>>,
    /// Name of the portal (empty: the unnamed one).
    pub portal: Option<OutsideText<'a>>,
    /// True for an Execute whose statement was parsed with it: the Parse has the same text and name, came directly before, and has no
    /// record of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_parse: bool,
    /// True if the text may be another one: SQL (`PREPARE`, `DEALLOCATE`, `DISCARD`) may have reassigned the name since it was
    /// parsed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub text_uncertain: bool,
    /// True if the Execute continues a portal that was executed in part before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continued: bool,
    /// True if the text does not show the effect: `DO`, `CALL`, SQL's `EXECUTE`; `PREPARE`, because of the statement it names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opaque: bool,
    /// Parameters of the Bind.
    #[serde(default, skip_serializing_if = "is_default")]
    pub parameters: Cow<'a, [ParameterValue<'a>]>,
    /// Number of parameters, if not all are listed: there were too many, or the target's policy lists none.
    pub parameter_count: Option<u32>,
    /// OID of the function, for a function call.
    pub function: Option<u32>,
}

vocabulary! {
    /// Message that carried a statement.
    pub enum StatementKind {
        /// Query (simple protocol): one or more commands in one text.
        Query = "query",
        /// Parse: prepared, not executed. One that came with its Execute is in the record of that ([`Statement::with_parse`]).
        Parse = "parse",
        /// Bind that failed: the server reads its values, and plans. A Bind that succeeded has no record of its own; its values
        /// are in the records of its Executes.
        Bind = "bind",
        /// Describe that failed.
        Describe = "describe",
        /// Execute (extended protocol).
        Execute = "execute",
        /// Close that failed.
        Close = "close",
        /// FunctionCall.
        FunctionCall = "function_call",
    }
}

impl Statement<'_> {
    /// Returns true if a message of this kind carried it, alone or with another.
    #[must_use]
    pub fn came_as(&self, kind: StatementKind) -> bool {
        self.kind == kind || (self.with_parse && kind == StatementKind::Parse)
    }
}

impl StatementKind {
    /// Returns true if the server executes a statement of this kind; one that is only prepared, bound or described has no
    /// effect.
    #[must_use]
    pub fn executes(self) -> bool {
        matches!(self, Self::Query | Self::Execute | Self::FunctionCall)
    }
}

/// Value of a parameter as recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParameterValue<'a> {
    /// SQL NULL.
    Null,
    /// Value in the place of a secret. In older records also a value that contains one.
    Redacted,
    /// Value that contains a secret, or is too long to tell.
    Blanked {
        /// Length in bytes.
        length: u64,
        /// HMAC-SHA-256 of the value under the log's value key, in hexadecimal.
        hmac_sha256: Cow<'a, str>,
    },
    /// Value as text: sent as text, or a decoded binary one.
    Text(OutsideText<'a>),
    /// HMAC-SHA-256 of the value as text under a key of this log (the first 16 bytes, in hexadecimal).
    Hashed(Cow<'a, str>),
    /// Value in hexadecimal: a binary one of a type that is not decoded, or one sent as text that is invalid in the session's
    /// encoding.
    Binary {
        /// OID of the type, 0 if unknown.
        oid: u32,
        /// Bytes in hexadecimal.
        hex: Cow<'a, str>,
    },
    /// Value that is too long to keep: its beginning, its length and its SHA-256.
    Long {
        /// Beginning of the value.
        start: OutsideText<'a>,
        /// Length of the whole value in bytes.
        length: u64,
        /// SHA-256 of the whole value, in hexadecimal.
        sha256: Cow<'a, str>,
    },
}

impl ParameterValue<'_> {
    /// Returns an owned copy.
    #[must_use]
    pub fn into_owned(self) -> ParameterValue<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        match self {
            Self::Null => ParameterValue::Null,
            Self::Redacted => ParameterValue::Redacted,
            Self::Blanked { length, hmac_sha256 } => ParameterValue::Blanked {
                length,
                hmac_sha256: own(hmac_sha256),
            },
            Self::Text(text) => ParameterValue::Text(text.into_owned()),
            Self::Hashed(hash) => ParameterValue::Hashed(own(hash)),
            Self::Binary { oid, hex } => ParameterValue::Binary { oid, hex: own(hex) },
            Self::Long { start, length, sha256 } => ParameterValue::Long {
                start: start.into_owned(),
                length,
                sha256: own(sha256),
            },
        }
    }
}

/// Outcome record of a statement.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatementOutcome<'a> {
    /// Session, grant, identity, target and profile.
    #[serde(flatten)]
    pub who: Cow<'a, Who>,
    /// Number of the statement within its session.
    pub statement: u64,
    /// Result of the statement.
    pub result: StatementResult,
    /// SQLSTATE of the error.
    pub sqlstate: Option<OutsideText<'a>>,
    /// Guard rail that refused it; it was then not executed at all.
    pub rule: Option<OutsideText<'a>>,
    /// Command tags of a simple query, or the one of an Execute (`SELECT 1`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<OutsideText<'a>>,
    /// Number of rows returned or changed: for each command the count of its tag, or the rows that were sent if those are more.
    pub rows: u64,
    /// Number of rows sent to the client, even if no tag counts them: those of a portal executed in part, or of a statement
    /// that failed later.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rows_sent: u64,
    /// Number of rows sent by all Executes of the portal so far, if there is more than this one.
    pub portal_rows_sent: Option<u64>,
    /// Number of bytes of the response.
    pub bytes: u64,
    /// Number of bytes of COPY data from the client.
    pub copy_in_bytes: Option<u64>,
    /// Number of bytes of COPY data to the client.
    pub copy_out_bytes: Option<u64>,
    /// Microseconds from forwarding to the first byte of the response; absent if none came.
    pub first_byte_us: Option<u64>,
    /// Microseconds from forwarding to the last byte of the response.
    pub duration_us: u64,
    /// Transaction status after it, if the server sends it for each statement (simple protocol); for pipelined ones see
    /// [`TransactionChanged`].
    pub transaction: Option<TransactionStatus>,
    /// True if the Parse of a statement that came with it failed ([`Statement::with_parse`]): nothing was executed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parse_failed: bool,
}

impl StatementOutcome<'_> {
    /// Returns the number of rows returned or changed; for a portal, by all its Executes so far.
    #[must_use]
    pub fn rows_in_all(&self) -> u64 {
        self.rows.max(self.portal_rows_sent.unwrap_or(0))
    }

    /// Returns the result of the execution: the server skips it if the Parse failed.
    #[must_use]
    pub fn execution(&self) -> StatementResult {
        if self.parse_failed {
            StatementResult::Skipped
        } else {
            self.result
        }
    }

    /// Returns true if any part of the statement was or may have been executed.
    #[must_use]
    pub fn was_executed(&self) -> bool {
        self.rule.is_none() && self.execution() != StatementResult::Skipped
    }
}

/// Change of the transaction status at a Sync; also a transaction that ended with an error which rolled back statements that
/// had run.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransactionChanged<'a> {
    /// Session, grant, identity, target and profile.
    #[serde(flatten)]
    pub who: Cow<'a, Who>,
    /// Number of the last statement before the change.
    pub statement: u64,
    /// New status.
    pub transaction: TransactionStatus,
    /// Statements that were rolled back.
    pub rolled_back: Option<RolledBack<'a>>,
}

/// Statements that ran (their outcomes say so) and were rolled back because their transaction failed later: at an implicit
/// commit (a deferred constraint, a serialization failure at a Sync), or at a later statement of the same pipeline. Statements
/// among them that commit by themselves (`VACUUM`, a procedure's `COMMIT`) stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack<'a> {
    /// Number of the first one.
    pub first: u64,
    /// Number of the last one.
    pub last: u64,
    /// SQLSTATE of the error.
    pub sqlstate: OutsideText<'a>,
}

vocabulary! {
    /// Result of a statement.
    pub enum StatementResult {
        /// It ran to its end. Its transaction may still be rolled back: see [`TransactionChanged`].
        Completed = "completed",
        /// It failed, with an SQLSTATE.
        Failed = "failed",
        /// A portal returned a part of its rows and can be executed further.
        Suspended = "suspended",
        /// It was not executed: a statement before it in the pipeline failed, or the session's time was over before it could be
        /// forwarded.
        Skipped = "skipped",
        /// The session ended before a response came.
        Unknown = "unknown",
    }
}

impl StatementResult {
    /// Returns true if the statement ran, as a whole or in part.
    #[must_use]
    pub fn ran(self) -> bool {
        matches!(self, Self::Completed | Self::Suspended)
    }
}

/// SQL text as recorded.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlText<'a> {
    /// Text as it came, or its beginning, with secrets blanked.
    pub text: OutsideText<'a>,
    /// Length of the original in bytes; set if anything is blanked or cut.
    pub length: Option<u64>,
    /// SHA-256 of the original, in hexadecimal; set if `text` is only the beginning and no word in the original hints at
    /// secrets.
    pub sha256: Option<Cow<'a, str>>,
    /// HMAC-SHA-256 of the original under the log's value key, in hexadecimal; set if anything is blanked or cut.
    pub hmac_sha256: Option<Cow<'a, str>>,
    /// True if `text` is only the beginning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Number of places where a secret was replaced by `***`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub redacted: u32,
    /// `standard_conforming_strings` of the session when the text came: `off`, or `unsettled` if an earlier statement without a
    /// response yet might have changed it. Absent if it was on, and for a text without a backslash.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scs: Backslashes,
    /// `client_encoding` of the session when the text came, under the server's name, or `unsettled` as above. Absent if it was
    /// UTF-8, and for a text of ASCII only.
    #[serde(default, skip_serializing_if = "is_default")]
    pub encoding: Encoding,
    /// True if `text` is what the server reads, although it came in that encoding: no statement in progress could have changed
    /// it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub converted: bool,
    /// Number of bytes that are invalid in the session's encoding and appear in `text` as `\xNN`. If there are none, such
    /// sequences in `text` are the client's own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub escaped: u32,
    /// True if the ends of literals could not be determined: everything that may be a literal is blanked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unclear: bool,
}

impl<'a> SqlText<'a> {
    /// Returns a text with nothing blanked or cut.
    #[must_use]
    pub fn whole(text: OutsideText<'a>) -> Self {
        Self { text, ..Self::default() }
    }

    /// Returns true if `text` is what came, byte by byte, and no setting matters to its meaning.
    #[must_use]
    pub fn is_verbatim(&self) -> bool {
        *self == SqlText::whole(OutsideText(Cow::Borrowed(&self.text.0)))
    }

    /// Returns true if `text` is only the beginning. Records from before there was a keyed hash show it by their length alone.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut || (self.length.is_some() && self.hmac_sha256.is_none())
    }

    /// Returns an owned copy.
    #[must_use]
    pub fn into_owned(self) -> SqlText<'static> {
        let own = |hash: Cow<'_, str>| Cow::Owned(hash.into_owned());
        SqlText {
            text: self.text.into_owned(),
            length: self.length,
            sha256: self.sha256.map(own),
            hmac_sha256: self.hmac_sha256.map(own),
            cut: self.cut,
            redacted: self.redacted,
            scs: self.scs,
            encoding: self.encoding,
            converted: self.converted,
            escaped: self.escaped,
            unclear: self.unclear,
        }
    }

    /// Returns a borrowing copy.
    #[must_use]
    pub fn borrowed(&'a self) -> Self {
        Self {
            text: OutsideText(Cow::Borrowed(&self.text.0)),
            sha256: self.sha256.as_deref().map(Cow::Borrowed),
            hmac_sha256: self.hmac_sha256.as_deref().map(Cow::Borrowed),
            ..*self
        }
    }
}

/// Text from outside, which may be any bytes: valid text in its encoding stays as it is; an invalid byte is written as `\xNN`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OutsideText<'a>(pub Cow<'a, str>);

impl<'a> OutsideText<'a> {
    /// Returns bytes as text, decoded as UTF-8.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        Self::of_encoded(bytes, Encoding::UTF8)
    }

    /// Returns bytes as text, decoded from this encoding.
    #[must_use]
    pub fn of_encoded(bytes: &'a [u8], encoding: Encoding) -> Self {
        Self(encoding.decode(bytes, true).text)
    }

    /// Returns an owned copy.
    #[must_use]
    pub fn into_owned(self) -> OutsideText<'static> {
        OutsideText(Cow::Owned(self.0.into_owned()))
    }
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
