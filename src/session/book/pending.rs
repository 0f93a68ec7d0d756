//! The messages of a client that the server has to answer, and the records that come of the answers.
//!
//! It does not know in which order they are answered.

use std::sync::Arc;

use tokio::time::Instant;

use super::answer::{Answer, Failing, Settled};
use crate::audit::event::{Done, Kind};
use crate::rails::Refused;
use crate::session::statement::{Portal, Prepared};

/// A message of the client that the server has to answer.
#[derive(Debug)]
pub(super) enum Pending {
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
        prepared: Arc<Prepared>,
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
        /// The portal or statement of this name.
        portal: bool,
        name: Box<[u8]>,
        prepared: Option<Arc<Prepared>>,
    },
    CloseStatement {
        since: Instant,
        name: Box<[u8]>,
    },
    ClosePortal {
        since: Instant,
        name: Box<[u8]>,
    },
    /// A message that the server is bound to refuse.
    Malformed {
        since: Instant,
        kind: Kind,
    },
    Sync {
        /// It came in a COPY from the client, or right before one: the server has either passed over it as a part of the COPY or
        /// answered it, and if the COPY fails nobody can tell which.
        perhaps: bool,
    },
    /// CopyDone or CopyFail: no answer of its own, but Syncs sent before it are part of the COPY.
    CopyEnd,
    /// A Parse (which is a statement) or a Bind that a limit refuses. The server gets it in a form that it cannot read, so it
    /// defines nothing and gives nothing up, and nothing of it is kept here.
    Refused {
        statement: Option<u64>,
        since: Instant,
        refused: Arc<Refused>,
    },
}

impl Pending {
    /// The number of the statement it is on record as.
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

    /// When it was forwarded.
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

    /// Whether the server executes something for it.
    pub(super) fn executes(&self) -> bool {
        matches!(self, Self::Query { .. } | Self::Call { .. } | Self::Execute { .. })
    }

    /// Whether nothing, or nothing more, answers it.
    pub(super) fn has_no_answer(&self) -> bool {
        matches!(self, Self::CopyEnd | Self::Sync { perhaps: true })
    }
}

/// The record of an answered message, if it is a statement, or failed. A Parse that succeeds has none: nothing was executed.
pub(super) fn settle(
    head: &Pending,
    done: Done,
    failing: Option<Box<Failing>>,
    mut answer: Answer,
    copy_in_bytes: &mut u64,
) -> Option<Settled> {
    let (statement, since) = match head {
        Pending::Query { statement, since } | Pending::Call { statement, since } | Pending::Execute { statement, since, .. } => {
            (*statement, *since)
        }
        Pending::Parse { statement, since, .. }
        | Pending::Refused {
            statement: Some(statement),
            since,
            ..
        } if done != Done::Completed => (*statement, *since),
        _ if failing.is_some() => (0, head.since()?),
        _ => return None,
    };
    let copy_in = answer.copy_in.then(|| std::mem::take(copy_in_bytes));
    let (rows, rows_sent) = answer.rows();
    Some(Settled {
        statement,
        failing,
        done,
        rule: answer.rule,
        sqlstate: if done == Done::Failed { answer.error } else { None },
        tags: answer.tags,
        rows,
        rows_sent,
        portal_rows_sent: match head {
            Pending::Execute { portal, .. } => portal
                .as_ref()
                .and_then(|portal| portal.sent(rows_sent, done == Done::Suspended)),
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
