//! Result of a statement: collected while it is answered, and settled afterwards.
//!
//! This module does not know which message belongs to which statement.

use std::sync::Arc;

use tokio::time::Instant;

use crate::audit::event::{StatementKind, StatementResult};
use crate::gate::session::statement::{Portal, PreparedStatement};
use crate::gate::sql_filter::FilterRule;
use crate::protocol::wire::backend::TransactionState;

/// Answered (or skipped) statement, or another message that failed.
#[derive(Debug)]
pub(in crate::gate::session) struct SettledStatement {
    /// Number of the statement in the session; 0 for a message that has a record only because it failed.
    pub(in crate::gate::session) statement: u64,
    /// Details of a message that is not a statement and failed.
    pub(in crate::gate::session) failing: Option<Box<FailingMessage>>,
    pub(in crate::gate::session) done: StatementResult,
    pub(in crate::gate::session) sqlstate: Option<Vec<u8>>,
    /// Guard rail or limit that refused it.
    pub(in crate::gate::session) rule: Option<FilterRule>,
    pub(in crate::gate::session) tags: Vec<Vec<u8>>,
    /// Number of rows returned or changed.
    pub(in crate::gate::session) rows: u64,
    /// Number of rows sent to the client.
    pub(in crate::gate::session) rows_sent: u64,
    /// Number of rows sent by all Executes of its portal, if there are several.
    pub(in crate::gate::session) portal_rows_sent: Option<u64>,
    pub(in crate::gate::session) bytes: u64,
    pub(in crate::gate::session) copy_in: Option<u64>,
    pub(in crate::gate::session) copy_out: Option<u64>,
    pub(in crate::gate::session) since: Instant,
    /// Time of the answer's first byte.
    pub(in crate::gate::session) first: Option<Instant>,
    /// Transaction status after it, if its answer ends with that.
    pub(in crate::gate::session) transaction: Option<TransactionState>,
}

/// Message that is not a statement by itself, and failed.
#[derive(Debug)]
pub(in crate::gate::session) struct FailingMessage {
    pub(in crate::gate::session) kind: StatementKind,
    /// Name of the portal that it creates or refers to.
    pub(in crate::gate::session) portal_name: Option<Box<[u8]>>,
    /// That portal, if known.
    pub(in crate::gate::session) portal: Option<Arc<Portal>>,
    /// Name of the statement that it refers to.
    pub(in crate::gate::session) name: Option<Box<[u8]>>,
    /// That statement, if known.
    pub(in crate::gate::session) prepared: Option<Arc<PreparedStatement>>,
}

impl FailingMessage {
    /// Creates a message of which only the kind is known.
    pub(super) fn of(kind: StatementKind) -> Self {
        Self {
            kind,
            portal_name: None,
            portal: None,
            name: None,
            prepared: None,
        }
    }
}

/// Extent to which the server processed a message that it had to fail at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum FailureReach {
    /// It read the text, and did the work that precedes the processing of any text.
    #[default]
    Text,
    /// It could not read the message, and did none of that work.
    Nothing,
}

/// Answer so far to the message at the head.
#[derive(Debug, Default)]
pub(super) struct AnswerState {
    /// True if something other than ReadyForQuery has arrived.
    pub(super) begun: bool,
    /// Time of the first byte.
    pub(super) first: Option<Instant>,
    /// Transaction status of the ReadyForQuery that ends the answer.
    pub(super) ready: Option<TransactionState>,
    pub(super) error: Option<Vec<u8>>,
    /// Rule that refused the message, if the error belongs to a refusal.
    pub(super) rule: Option<FilterRule>,
    /// Extent to which the server processed a refused message.
    pub(super) reach: FailureReach,
    /// True if one of its commands has committed or prepared a transaction.
    pub(super) committed: bool,
    pub(super) tags: Vec<Vec<u8>>,
    /// Number of rows of the commands that have ended: the number in their tags, or that of the rows sent if it is larger.
    rows: u64,
    /// Number of rows sent to the client.
    pub(super) rows_sent: u64,
    /// Number of rows sent by commands that have ended.
    rows_ended: u64,
    /// Number of messages of the current COPY to the client: each is a row, except the header and the end that some formats have.
    pub(super) rows_copied: u64,
    pub(super) bytes: u64,
    pub(super) copy_in: bool,
    pub(super) copy_out: Option<u64>,
}

impl AnswerState {
    /// Ends a command whose tag counts `counted` rows.
    pub(super) fn command_ended(&mut self, counted: u64) {
        let sent = self.rows_sent - self.rows_ended;
        self.rows = self.rows.saturating_add(counted.max(sent));
        if std::mem::take(&mut self.rows_copied) > 0 {
            self.rows_sent = self.rows_sent.saturating_add(counted);
        }
        self.rows_ended = self.rows_sent;
    }

    /// Ends the answer, wherever its command was. Returns its rows, and those that were sent.
    pub(super) fn rows(&mut self) -> (u64, u64) {
        self.rows_sent += std::mem::take(&mut self.rows_copied);
        let sent = self.rows_sent - self.rows_ended;
        (self.rows.saturating_add(sent), self.rows_sent)
    }

    /// Replaces the error by the one for a refusal.
    pub(super) fn refused(&mut self, rule: FilterRule) {
        self.error = Some(rule.sqlstate().into());
        self.rule = Some(rule);
    }
}
