//! Records of a statement, built from the recorder's data.
//!
//! This module observes nothing and writes nothing.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use crate::audit::RecordBatch;
use crate::audit::event::{
    Event, OutsideText, RolledBack, Statement, StatementKind, StatementOutcome, StatementResult, TransactionChanged, Who,
};
use crate::base::clock::Moment;
use crate::gate::session::extended_query::{FailingMessage, RolledBackRange, SettledStatement};
use crate::gate::session::micros;
use crate::gate::session::statement::{Portal, PreparedStatement, ReadText};
use crate::protocol::lexer::Encoding;
use crate::protocol::wire::backend::{self, TransactionStatus};

/// Maximum number of bytes that are kept of a target's last message.
const MAX_LAST_WORD_BYTES: usize = 1024;

/// Message by which a target ends a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::gate::session) struct TargetLastWord {
    /// True for a FATAL, which a client takes as the end; false for the warning of a server that stops at once.
    pub(in crate::gate::session) fatal: bool,
    pub(in crate::gate::session) sqlstate: String,
    pub(in crate::gate::session) message: String,
}

impl TargetLastWord {
    /// Returns it for an ErrorResponse that ends the session.
    pub(super) fn of_error(body: &[u8], encoding: Encoding) -> Option<Self> {
        let error = backend::error_code(body);
        error.fatal.then(|| Self {
            fatal: true,
            ..Self::of(error, encoding)
        })
    }

    /// Returns it for a NoticeResponse of a server that stops at once, or has to after a crash: it sends no further message
    /// (`quickdie`, tcop/postgres.c).
    pub(super) fn of_notice(body: &[u8], encoding: Encoding) -> Option<Self> {
        let at_once = body.len() < MAX_LAST_WORD_BYTES && memchr::memmem::find(body, b"C57P0").is_some();
        let notice = at_once.then(|| backend::error_code(body))?;
        matches!(notice.sqlstate, b"57P01" | b"57P02").then(|| Self::of(notice, encoding))
    }

    fn of(error: backend::ErrorCode<'_>, encoding: Encoding) -> Self {
        let message = error.message.get(..MAX_LAST_WORD_BYTES).unwrap_or(error.message);
        Self {
            fatal: false,
            sqlstate: String::from_utf8_lossy(error.sqlstate.get(..5).unwrap_or(error.sqlstate)).into_owned(),
            message: OutsideText::of_encoded(message, encoding).0.into_owned(),
        }
    }
}

pub(super) fn record(outcomes: &mut RecordBatch, who: &Who, settled: SettledStatement, now: Moment) {
    let SettledStatement { answer, since, .. } = settled;
    let outcome = StatementOutcome {
        result: settled.done,
        sqlstate: answer.sqlstate.as_deref().map(OutsideText::of),
        rule: answer.rule.map(|rule| OutsideText(Cow::Borrowed(rule.name()))),
        tags: answer.tags,
        rows: answer.rows,
        rows_sent: answer.rows_sent,
        portal_rows_sent: settled.portal_rows_sent,
        bytes: answer.bytes,
        copy_in_bytes: answer.copy_in,
        copy_out_bytes: answer.copy_out,
        first_byte_us: answer.first.map(|first| micros(since, first)),
        duration_us: micros(since, now.instant),
        transaction: answer.transaction,
        parse_failed: settled.parse_failed,
        ..no_outcome(who, settled.statement)
    };
    outcomes.push(now.time, &Event::Outcome(outcome));
}

/// Records a message that failed and has no other record, before its outcome.
pub(super) fn failing(
    outcomes: &mut RecordBatch,
    who: &Who,
    (number, failing): (u64, &FailingMessage),
    encoding: Encoding,
    now: Moment,
) {
    let mut statement = blank(who, number, failing.kind);
    if let Some(portal) = &failing.portal {
        of_portal(&mut statement, portal, encoding);
    } else {
        statement.sql = failing.prepared.as_ref().map(|prepared| prepared.read.sql.borrowed());
        statement.opaque = failing.prepared.as_ref().is_some_and(|prepared| prepared.read.opaque);
        statement.prepared = failing.name.as_deref().map(|name| OutsideText::of_encoded(name, encoding));
    }
    statement.portal = failing
        .portal_name
        .as_deref()
        .map(|name| OutsideText::of_encoded(name, encoding));
    outcomes.push(now.time, &Event::Statement(statement));
}

/// Parse whose record is not written yet.
pub(super) struct ParseIntent {
    pub(super) number: u64,
    pub(super) time: Timestamp,
    /// Name as the client sent it.
    pub(super) name: Box<[u8]>,
    pub(super) prepared: Arc<PreparedStatement>,
}

impl ParseIntent {
    /// Returns true if the record of an Execute of this portal has all that the Parse's has.
    pub(super) fn is_in(&self, portal: &Portal) -> bool {
        let is_same = |prepared| Arc::ptr_eq(prepared, &self.prepared);
        portal.name == self.name && portal.prepared.as_ref().is_some_and(is_same)
    }
}

/// Returns the intent of a Parse that no Execute has a record with.
pub(super) fn of_parse<'p>(
    who: &'p Who,
    number: u64,
    (name, encoding): (&'p [u8], Encoding),
    read: &'p ReadText<'_>,
) -> Statement<'p> {
    Statement {
        sql: Some(read.sql.borrowed()),
        opaque: read.opaque,
        prepared: Some(OutsideText::of_encoded(name, encoding)),
        ..blank(who, number, StatementKind::Parse)
    }
}

/// Fills in the known data of a portal.
pub(super) fn of_portal<'p>(statement: &mut Statement<'p>, portal: &'p Portal, encoding: Encoding) {
    statement.sql = portal.prepared.as_ref().map(|prepared| prepared.read.sql.borrowed());
    statement.opaque = portal.prepared.as_ref().is_some_and(|prepared| prepared.read.opaque);
    statement.prepared = Some(OutsideText::of_encoded(&portal.name, encoding));
    statement.text_uncertain = portal.uncertain.load(Ordering::Relaxed);
    statement.parameters = Cow::Borrowed(&portal.parameters);
    statement.parameter_count = portal.parameter_count;
}

/// Records the transaction status after the statement, and the statements that were undone, if any.
pub(super) fn transaction(
    outcomes: &mut RecordBatch,
    who: &Who,
    (statement, transaction): (u64, TransactionStatus),
    undone: Option<&RolledBackRange>,
    now: Moment,
) {
    let changed = TransactionChanged {
        who: Cow::Borrowed(who),
        statement,
        transaction,
        rolled_back: undone.map(|undone| RolledBack {
            first: undone.first,
            last: undone.last,
            sqlstate: OutsideText::of(&undone.sqlstate),
        }),
    };
    outcomes.push(now.time, &Event::TransactionChanged(changed));
}

pub(super) fn no_outcome(who: &Who, statement: u64) -> StatementOutcome<'_> {
    StatementOutcome {
        who: Cow::Borrowed(who),
        statement,
        result: StatementResult::Unknown,
        sqlstate: None,
        rule: None,
        tags: Vec::new(),
        rows: 0,
        rows_sent: 0,
        portal_rows_sent: None,
        bytes: 0,
        copy_in_bytes: None,
        copy_out_bytes: None,
        first_byte_us: None,
        duration_us: 0,
        transaction: None,
        parse_failed: false,
    }
}

pub(super) fn blank(who: &Who, statement: u64, kind: StatementKind) -> Statement<'_> {
    Statement {
        who: Cow::Borrowed(who),
        statement,
        kind,
        sql: None,
        prepared: None,
        portal: None,
        with_parse: false,
        text_uncertain: false,
        continued: false,
        opaque: false,
        parameters: Cow::Borrowed(&[]),
        parameter_count: None,
        function: None,
    }
}
