//! Parser of statements and outcomes, which are most of a log, in one pass over the line.
//!
//! [`Event`] is read by its tag and has flattened fields, for which serde copies a line before it makes an event of the copy. Here the
//! fields of the line, of the session and of the event stand side by side.
//!
//! INVARIANT: the result is what serde makes of [`Event`] (but that values of unknown fields of an SQL text are not checked). A line
//! that is not parsed here may still be a record.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;

use super::{EventName, LogRecord, name_of};
use crate::audit::chain::LinkMark;
use crate::audit::event::{
    Event, OutsideText, ParameterValue, SqlText, Statement, StatementKind, StatementOutcome, StatementResult, TransactionStatus,
    Who,
};
use crate::model::ids::{GrantId, SessionId};
use crate::model::names::{IdentityName, ProfileName, TargetName};

/// Defines the line of an event of a session: the fields that all such lines have, and those of the event.
macro_rules! session_line {
    ($(#[$doc:meta])* $Line:ident, $Event:ident, $Variant:ident { $($(#[$attribute:meta])* $field:ident: $Type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $Line {
            v: u32,
            seq: u64,
            time: Timestamp,
            /// The event's name may stand elsewhere in a forged line than where [`name_of`] reads it.
            event: EventName,
            session: SessionId,
            grant: GrantId,
            identity: IdentityName,
            target: TargetName,
            profile: Option<ProfileName>,
            $($(#[$attribute])* $field: $Type,)+
            chain: LinkMark,
        }

        impl $Line {
            fn into_record(self) -> Option<LogRecord> {
                let $Line { v, seq, time, event, session, grant, identity, target, profile, $($field,)+ chain } = self;
                let who = Cow::Owned(Who { session, grant, identity, target, profile });
                let record = LogRecord { v, seq, time, event: Event::$Variant($Event { who, $($field,)+ }), chain };
                (event == record.event.name()).then_some(record)
            }
        }
    };
}

session_line!(
    /// Line of a statement.
    StatementLine, Statement, Statement {
        statement: u64,
        kind: StatementKind,
        sql: Option<SqlText<'static>>,
        prepared: Option<OutsideText<'static>>,
        portal: Option<OutsideText<'static>>,
        #[serde(default)]
        with_parse: bool,
        #[serde(default)]
        text_uncertain: bool,
        #[serde(default)]
        continued: bool,
        #[serde(default)]
        opaque: bool,
        #[serde(default)]
        parameters: Cow<'static, [ParameterValue<'static>]>,
        parameter_count: Option<u32>,
        function: Option<u32>,
    }
);

session_line!(
    /// Line of an outcome.
    OutcomeLine, StatementOutcome, Outcome {
        statement: u64,
        result: StatementResult,
        sqlstate: Option<OutsideText<'static>>,
        rule: Option<OutsideText<'static>>,
        #[serde(default)]
        tags: Vec<OutsideText<'static>>,
        rows: u64,
        #[serde(default)]
        rows_sent: u64,
        portal_rows_sent: Option<u64>,
        bytes: u64,
        copy_in_bytes: Option<u64>,
        copy_out_bytes: Option<u64>,
        first_byte_us: Option<u64>,
        duration_us: u64,
        transaction: Option<TransactionStatus>,
        #[serde(default)]
        parse_failed: bool,
    }
);

/// Parses a line that begins like one of this version, if it is a statement's or an outcome's.
pub(super) fn parse(line: &[u8]) -> Option<LogRecord> {
    let text = std::str::from_utf8(line).ok()?;
    match name_of(line)? {
        "statement" => serde_json::from_str::<StatementLine>(text).ok()?.into_record(),
        "outcome" => serde_json::from_str::<OutcomeLine>(text).ok()?.into_record(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
