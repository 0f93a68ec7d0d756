//! What is recorded of a statement: its intent, its outcome, and where transactions change between.
//!
//! It holds what it is given: texts are cut and secrets taken out before.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Who;
use super::text::{Sql, Text, is_default};

/// A statement is about to be forwarded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statement<'a> {
    /// Who.
    #[serde(flatten)]
    pub who: Cow<'a, Who>,
    /// Counts the statements of a session from 1; its outcome has the same number.
    pub statement: u64,
    /// How it came.
    pub kind: Kind,
    /// Its text, as far as it is kept; absent for a function call and for a name the gate has seen no text for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<Sql<'a>>,
    /// The name of the prepared statement (empty: the unnamed one).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared: Option<Text<'a>>,
    /// The portal executed (empty: the unnamed one).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portal: Option<Text<'a>>,
    /// The text may be another: SQL (`PREPARE`, `DEALLOCATE`, `DISCARD`) may have given the name away since it was parsed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub text_uncertain: bool,
    /// This Execute goes on with a portal that was executed in part before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continued: bool,
    /// What it does is not in its text: `DO`, `CALL`, SQL's `EXECUTE`; `PREPARE`, for what it names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opaque: bool,
    /// The parameters of the Bind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter<'a>>,
    /// How many parameters there were, when not all are listed: there were too many, or the target's policy lists none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter_count: Option<u32>,
    /// The function's OID, for a function call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<u32>,
}

/// How a statement came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A Query message (simple protocol): one or more commands in one text.
    Query,
    /// A Parse message: prepared, not executed.
    Parse,
    /// A Bind message that failed: the server reads its values, and plans. One that did not has no record of its own, its values are
    /// in those of its Executes.
    Bind,
    /// A Describe message that failed.
    Describe,
    /// An Execute message (extended protocol).
    Execute,
    /// A Close message that failed.
    Close,
    /// A FunctionCall message.
    FunctionCall,
}

impl Kind {
    /// All there are.
    pub const ALL: [Self; 7] = [
        Self::Query,
        Self::Parse,
        Self::Bind,
        Self::Describe,
        Self::Execute,
        Self::Close,
        Self::FunctionCall,
    ];

    /// Returns whether the server executes a statement of this kind: what is only prepared, bound or described did nothing.
    #[must_use]
    pub fn executes(self) -> bool {
        matches!(self, Self::Query | Self::Execute | Self::FunctionCall)
    }

    /// Returns its name in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Parse => "parse",
            Self::Bind => "bind",
            Self::Describe => "describe",
            Self::Execute => "execute",
            Self::Close => "close",
            Self::FunctionCall => "function_call",
        }
    }
}

/// A parameter's value as recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parameter<'a> {
    /// SQL NULL.
    Null,
    /// A secret by its place. In older records also a value that gives one away.
    Redacted,
    /// A value that gives a secret away, or is too long to tell.
    Blanked {
        /// Its length in bytes.
        length: u64,
        /// HMAC-SHA-256 of it under the log's value key, in hexadecimal.
        hmac_sha256: Cow<'a, str>,
    },
    /// The value as text: sent as text, or a binary one that was decoded.
    Text(Text<'a>),
    /// HMAC-SHA-256 of the value as text under a key of this log (its first 16 bytes, in hexadecimal).
    Hashed(Cow<'a, str>),
    /// A binary value of a type that is not decoded, or one sent as text that is none in the session's encoding: hexadecimal.
    Binary {
        /// The type's OID, 0 if not known.
        oid: u32,
        /// The bytes in hexadecimal.
        hex: Cow<'a, str>,
    },
    /// A value too long to keep: its beginning, its length and the SHA-256 of the whole.
    Long {
        /// The beginning.
        start: Text<'a>,
        /// The whole length in bytes.
        length: u64,
        /// SHA-256 of the whole, in hexadecimal.
        sha256: Cow<'a, str>,
    },
}

impl<'a> Parameter<'a> {
    /// The same, its own.
    #[must_use]
    pub fn into_owned(self) -> Parameter<'static> {
        let own = |text: Text<'_>| Text(Cow::Owned(text.0.into_owned()));
        match self {
            Self::Null => Parameter::Null,
            Self::Redacted => Parameter::Redacted,
            Self::Blanked { length, hmac_sha256 } => Parameter::Blanked {
                length,
                hmac_sha256: Cow::Owned(hmac_sha256.into_owned()),
            },
            Self::Text(text) => Parameter::Text(own(text)),
            Self::Hashed(hash) => Parameter::Hashed(Cow::Owned(hash.into_owned())),
            Self::Binary { oid, hex } => Parameter::Binary {
                oid,
                hex: Cow::Owned(hex.into_owned()),
            },
            Self::Long { start, length, sha256 } => Parameter::Long {
                start: own(start),
                length,
                sha256: Cow::Owned(sha256.into_owned()),
            },
        }
    }

    /// The same, borrowed.
    #[must_use]
    pub fn borrowed(&'a self) -> Self {
        match self {
            Self::Null => Self::Null,
            Self::Redacted => Self::Redacted,
            Self::Blanked { length, hmac_sha256 } => Self::Blanked {
                length: *length,
                hmac_sha256: Cow::Borrowed(hmac_sha256),
            },
            Self::Text(text) => Self::Text(Text(Cow::Borrowed(&text.0))),
            Self::Hashed(hash) => Self::Hashed(Cow::Borrowed(hash)),
            Self::Binary { oid, hex } => Self::Binary {
                oid: *oid,
                hex: Cow::Borrowed(hex),
            },
            Self::Long { start, length, sha256 } => Self::Long {
                start: Text(Cow::Borrowed(&start.0)),
                length: *length,
                sha256: Cow::Borrowed(sha256),
            },
        }
    }
}

/// What became of a statement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome<'a> {
    /// Who.
    #[serde(flatten)]
    pub who: Cow<'a, Who>,
    /// The statement's number in its session.
    pub statement: u64,
    /// What happened.
    pub result: Done,
    /// The SQLSTATE of the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<Text<'a>>,
    /// The guard rail that refused it: then nothing of it was executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Text<'a>>,
    /// The command tags of a simple query, or the one of an Execute (`SELECT 1`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Text<'a>>,
    /// Rows returned or changed: of each command what its tag counts, or the rows that were sent, where those are more.
    pub rows: u64,
    /// Rows sent to the client, also where no tag counts them: those of a portal executed in part, of a statement that failed later.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rows_sent: u64,
    /// The same over all Executes of the portal until now, where there is more than this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portal_rows_sent: Option<u64>,
    /// Bytes of the answer.
    pub bytes: u64,
    /// COPY data from the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_in_bytes: Option<u64>,
    /// COPY data to the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_out_bytes: Option<u64>,
    /// Microseconds from forwarding to the first byte of the answer; absent where none came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
    /// Microseconds from forwarding to the last byte of the answer.
    pub duration_us: u64,
    /// The transaction after it, where the server says so for each statement (simple protocol); for pipelined ones see
    /// [`TransactionChanged`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<TransactionStatus>,
}

impl Outcome<'_> {
    /// Returns the rows returned or changed, of a portal those of all its Executes until now.
    #[must_use]
    pub fn rows_in_all(&self) -> u64 {
        self.rows.max(self.portal_rows_sent.unwrap_or(0))
    }

    /// Returns whether anything of the statement was executed, or may have been.
    #[must_use]
    pub fn was_executed(&self) -> bool {
        self.rule.is_none() && self.result != Done::Skipped
    }
}

/// The transaction's status as the server told it at a Sync, where it is another than before; and where a transaction ended with
/// an error that undid statements which had run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransactionChanged<'a> {
    /// Who.
    #[serde(flatten)]
    pub who: Cow<'a, Who>,
    /// The number of the last statement before it.
    pub statement: u64,
    /// What it is now.
    pub transaction: TransactionStatus,
    /// What was undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBack<'a>>,
}

/// Statements that ran (their outcome says so) and were undone, for their transaction failed later: at a commit that was not
/// asked for by a statement (a deferred constraint, a serialization failure at a Sync), or at a later statement of the same
/// pipeline. What commits by itself among them (`VACUUM`, a procedure's `COMMIT`) stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack<'a> {
    /// The number of the first of them.
    pub first: u64,
    /// The number of the last of them.
    pub last: u64,
    /// The SQLSTATE of the error.
    pub sqlstate: Text<'a>,
}

/// The status of a session's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionStatus {
    /// No transaction is open.
    Idle,
    /// One is open.
    Open,
    /// One is open, has failed, and can only be rolled back.
    Failed,
}

/// What happened to a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// It ran to its end. Its transaction may come to nothing later: see [`TransactionChanged`].
    Completed,
    /// It failed, with an SQLSTATE.
    Failed,
    /// A portal delivered its rows in part and can be executed further.
    Suspended,
    /// It was not executed: a statement before it in the pipeline failed, or the session's time was over before it could be
    /// forwarded.
    Skipped,
    /// The session ended before an answer came.
    Unknown,
}

impl Done {
    /// Whether it did what it was to do, all or a part of it.
    #[must_use]
    pub fn ran(self) -> bool {
        matches!(self, Self::Completed | Self::Suspended)
    }
}
