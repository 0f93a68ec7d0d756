//! Client messages that the server has to answer, and the records that result from the answers.
//!
//! This module does not know the order of the answers.

use std::sync::Arc;

use tokio::time::Instant;

use super::answer::{AnswerState, FailingMessage, SettledStatement};
use crate::audit::event::{StatementKind, StatementResult};
use crate::gate::session::statement::{Portal, PreparedStatement};
use crate::gate::sql_filter::StatementRefusal;

/// Client message that the server has to answer.
#[derive(Debug)]
pub(super) enum PendingMessage {
    Query {
        statement: u64,
        since: Instant,
    },
    Call {
        statement: u64,
        since: Instant,
    },
    Parse {
        statement: u64,
        since: Instant,
        name: Box<[u8]>,
        prepared: Arc<PreparedStatement>,
    },
    Bind {
        since: Instant,
        name: Box<[u8]>,
        portal: Arc<Portal>,
    },
    Execute {
        statement: u64,
        since: Instant,
        portal: Option<Arc<Portal>>,
    },
    Describe {
        since: Instant,
        /// True for a portal of this name, false for a prepared statement.
        portal: bool,
        name: Box<[u8]>,
        prepared: Option<Arc<PreparedStatement>>,
    },
    CloseStatement {
        since: Instant,
        name: Box<[u8]>,
    },
    ClosePortal {
        since: Instant,
        name: Box<[u8]>,
    },
    /// A message that the server is certain to refuse.
    Malformed {
        since: Instant,
        kind: StatementKind,
    },
    Sync {
        /// True if it came in a COPY from the client, or directly before one: the server has either ignored it as a part of the
        /// COPY or answered it, and if the COPY fails it is unknown which.
        perhaps: bool,
    },
    /// CopyDone or CopyFail: no answer of its own, but Syncs sent before it are part of the COPY.
    CopyEnd,
    /// A Parse (which is a statement) or a Bind that a limit refuses. The server gets it in a form that it cannot parse, so it
    /// defines and deallocates nothing, and no part of it is kept here.
    Refused {
        statement: Option<u64>,
        since: Instant,
        refused: Arc<StatementRefusal>,
    },
}

impl PendingMessage {
    /// Returns the number of the statement in its record.
    pub(super) fn statement(&self) -> Option<u64> {
        match self {
            Self::Query { statement, .. }
            | Self::Call { statement, .. }
            | Self::Parse { statement, .. }
            | Self::Execute { statement, .. } => Some(*statement),
            Self::Refused { statement, .. } => *statement,
            _ => None,
        }
    }

    /// Returns the time at which it was forwarded.
    fn since(&self) -> Option<Instant> {
        match self {
            Self::Query { since, .. }
            | Self::Call { since, .. }
            | Self::Parse { since, .. }
            | Self::Bind { since, .. }
            | Self::Execute { since, .. }
            | Self::Describe { since, .. }
            | Self::CloseStatement { since, .. }
            | Self::ClosePortal { since, .. }
            | Self::Malformed { since, .. }
            | Self::Refused { since, .. } => Some(*since),
            Self::Sync { .. } | Self::CopyEnd => None,
        }
    }

    /// Returns true if the server executes something for it.
    pub(super) fn executes(&self) -> bool {
        matches!(self, Self::Query { .. } | Self::Call { .. } | Self::Execute { .. })
    }

    /// Returns true if no (further) answer belongs to it.
    pub(super) fn has_no_answer(&self) -> bool {
        matches!(self, Self::CopyEnd | Self::Sync { perhaps: true })
    }
}

/// Returns the record of an answered message, if it is a statement or failed. A Parse that succeeds has none: nothing was
/// executed.
pub(super) fn settle(
    head: &PendingMessage,
    done: StatementResult,
    failing: Option<Box<FailingMessage>>,
    mut answer: AnswerState,
    copy_in_bytes: &mut u64,
) -> Option<SettledStatement> {
    let (statement, since) = match head {
        PendingMessage::Query { statement, since }
        | PendingMessage::Call { statement, since }
        | PendingMessage::Execute { statement, since, .. } => (*statement, *since),
        PendingMessage::Parse { statement, since, .. }
        | PendingMessage::Refused {
            statement: Some(statement),
            since,
            ..
        } if done != StatementResult::Completed => (*statement, *since),
        _ if failing.is_some() => (0, head.since()?),
        _ => return None,
    };
    let copy_in = answer.copy_in.then(|| std::mem::take(copy_in_bytes));
    let (rows, rows_sent) = answer.rows();
    Some(SettledStatement {
        statement,
        failing,
        done,
        rule: answer.rule,
        sqlstate: if done == StatementResult::Failed { answer.error } else { None },
        tags: answer.tags,
        rows,
        rows_sent,
        portal_rows_sent: match head {
            PendingMessage::Execute { portal, .. } => portal
                .as_ref()
                .and_then(|portal| portal.sent(rows_sent, done == StatementResult::Suspended)),
            _ => None,
        },
        bytes: answer.bytes,
        copy_in,
        copy_out: answer.copy_out,
        since,
        first: answer.first,
        transaction: answer.ready,
    })
}
