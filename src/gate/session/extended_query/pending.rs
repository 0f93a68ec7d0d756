//! Client messages that the server has to answer, the answer to the first of them so far, and the record that results.
//!
//! This module does not know the order of the answers.

use std::sync::Arc;

use tokio::time::Instant;

use crate::audit::event::{OutsideText, StatementKind, StatementResult};
use crate::gate::session::statement::{Portal, PreparedStatement};
use crate::gate::sql_filter::{FilterRule, StatementRefusal};
use crate::protocol::wire::backend::TransactionStatus;
use crate::protocol::wire::frontend::Fields;

/// Client message that the server has to answer.
#[derive(Debug)]
pub(super) struct PendingMessage {
    pub(super) kind: PendingKind,
    /// Number of the statement in its record, if it is one. A Parse and an Execute with one record have one number.
    pub(super) statement: Option<u64>,
    /// Time at which it was forwarded.
    pub(super) since: Instant,
    /// Refusal by the guard rails or a limit: the server gets it in a form that must fail.
    pub(super) refused: Option<Arc<StatementRefusal>>,
}

/// Kind of a message, with the parts that its answer gives a meaning to.
#[derive(Debug)]
pub(in crate::gate::session) enum PendingKind {
    Query {
        /// Name of the prepared statement that its text deallocates.
        deallocates: Option<Box<[u8]>>,
    },
    Call,
    Parse {
        name: Box<[u8]>,
        prepared: Arc<PreparedStatement>,
    },
    Bind {
        name: Box<[u8]>,
        portal: Arc<Portal>,
    },
    Execute(Option<Arc<Portal>>),
    Describe(NamedObject, Option<Arc<PreparedStatement>>),
    Close(NamedObject),
    /// A message that the server is certain to refuse.
    Malformed(StatementKind),
    Sync {
        /// True if it came in a COPY from the client, or directly before one: the server has either ignored it as a part of the
        /// COPY or answered it, and if the COPY fails it is unknown which.
        perhaps: bool,
    },
    /// CopyDone or CopyFail: no answer of its own, but Syncs sent before it are part of the COPY.
    CopyEnd,
    /// A Parse (which is a statement) or a Bind that a limit refuses. The server gets it in a form that it cannot parse, so it
    /// defines and deallocates nothing, and no part of it is kept here.
    OverLimit,
}

/// Statement or portal that a Describe or Close names.
#[derive(Debug)]
pub(in crate::gate::session) struct NamedObject {
    /// True for a portal of this name, false for a prepared statement.
    pub(in crate::gate::session) portal: bool,
    pub(in crate::gate::session) name: Box<[u8]>,
}

impl NamedObject {
    /// Reads the body of a Describe or Close.
    pub(in crate::gate::session) fn of(body: &[u8]) -> Option<Self> {
        let (kind, rest) = body.split_first()?;
        Some(Self {
            portal: *kind == b'P',
            name: server_name(Fields::of(rest).text_or_rest()).into(),
        })
    }
}

/// Cuts a name to the length that the server distinguishes: it keeps names in tables of fixed-length strings (`HASH_STRINGS` with
/// `NAMEDATALEN`, commands/prepare.c and utils/mmgr/portalmem.c), so two long names may be the same one.
pub(in crate::gate::session) fn server_name(name: &[u8]) -> &[u8] {
    name.get(..63).unwrap_or(name)
}

impl PendingKind {
    /// Returns true if the server executes something for it.
    pub(super) fn executes(&self) -> bool {
        matches!(self, Self::Query { .. } | Self::Call | Self::Execute(_))
    }

    /// Returns true if no (further) answer belongs to it.
    pub(super) fn has_no_answer(&self) -> bool {
        matches!(self, Self::CopyEnd | Self::Sync { perhaps: true })
    }
}

/// Answered (or skipped) statement, or another message that failed.
#[derive(Debug)]
pub(in crate::gate::session) struct SettledStatement {
    /// Number of the statement in the session; 0 for a message that has a record only because it failed.
    pub(in crate::gate::session) statement: u64,
    /// Details of a message that is not a statement and failed.
    pub(in crate::gate::session) failing: Option<Box<FailingMessage>>,
    pub(in crate::gate::session) done: StatementResult,
    /// True if it is an Execute and its Parse, which have one record, and the Parse failed.
    pub(in crate::gate::session) parse_failed: bool,
    pub(in crate::gate::session) since: Instant,
    /// Number of rows sent by all Executes of its portal, if there are several.
    pub(in crate::gate::session) portal_rows_sent: Option<u64>,
    pub(in crate::gate::session) answer: AnswerState,
}

/// Message that is not a statement by itself, and failed.
#[derive(Debug)]
pub(in crate::gate::session) struct FailingMessage {
    pub(in crate::gate::session) kind: StatementKind,
    /// Name of the portal that it creates or refers to.
    pub(in crate::gate::session) portal_name: Option<Box<[u8]>>,
    /// Portal that it creates.
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

/// Answer to a message, while it arrives and when it is complete.
#[derive(Debug, Default)]
pub(in crate::gate::session) struct AnswerState {
    /// True if something other than ReadyForQuery has arrived.
    pub(super) begun: bool,
    /// Time of the first byte.
    pub(in crate::gate::session) first: Option<Instant>,
    /// Transaction status of the ReadyForQuery that ends the answer.
    pub(in crate::gate::session) transaction: Option<TransactionStatus>,
    /// SQLSTATE of the error, if it failed.
    pub(in crate::gate::session) sqlstate: Option<Vec<u8>>,
    /// Guard rail or limit that refused the message, if the error belongs to a refusal.
    pub(in crate::gate::session) rule: Option<FilterRule>,
    /// True if the server could not read a refused message, and did not even do the work that precedes the processing of any text.
    pub(super) unread: bool,
    /// True if one of its commands has committed or prepared a transaction.
    pub(super) committed: bool,
    pub(in crate::gate::session) tags: Vec<OutsideText<'static>>,
    /// Number of rows of the commands that have ended: the number in their tags, or that of the rows sent if it is larger.
    pub(in crate::gate::session) rows: u64,
    /// Number of rows sent to the client.
    pub(in crate::gate::session) rows_sent: u64,
    /// Number of rows sent by commands that have ended.
    rows_ended: u64,
    /// Number of messages of the current COPY to the client: each is a row, except the header and the end that some formats have.
    pub(super) rows_copied: u64,
    pub(in crate::gate::session) bytes: u64,
    pub(in crate::gate::session) copy_in: Option<u64>,
    pub(in crate::gate::session) copy_out: Option<u64>,
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

    /// Ends the answer, wherever its command was.
    pub(super) fn end(&mut self) {
        self.rows_sent += std::mem::take(&mut self.rows_copied);
        self.rows = self.rows.saturating_add(self.rows_sent - self.rows_ended);
    }

    /// Replaces the error by the one for a refusal.
    pub(super) fn refused(&mut self, rule: FilterRule) {
        self.sqlstate = Some(rule.sqlstate().into());
        self.rule = Some(rule);
    }
}
