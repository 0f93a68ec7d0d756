//! The messages of a client that the server has to answer, and the records that come of the answers.
//!
//! It does not know in which order they are answered.

use std::sync::Arc;

use tokio::time::Instant;

use super::answer::{Answer, Settled};
use crate::audit::event::Done;
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
        name: Box<[u8]>,
        portal: Arc<Portal>,
    },
    Execute {
        statement: u64,
        since: Instant,
        portal: Option<Arc<Portal>>,
    },
    Describe {
        prepared: Option<Arc<Prepared>>,
    },
    CloseStatement {
        name: Box<[u8]>,
    },
    ClosePortal {
        name: Box<[u8]>,
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

    /// Whether the server executes something for it.
    pub(super) fn executes(&self) -> bool {
        matches!(self, Self::Query { .. } | Self::Call { .. } | Self::Execute { .. })
    }

    /// Whether nothing, or nothing more, answers it.
    pub(super) fn has_no_answer(&self) -> bool {
        matches!(self, Self::CopyEnd | Self::Sync { perhaps: true })
    }
}

/// The record of an answered message, if it is a statement. A Parse that succeeds has none: nothing was executed.
pub(super) fn settle(head: &Pending, done: Done, answer: Answer, copy_in_bytes: &mut u64) -> Option<Settled> {
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
        _ => return None,
    };
    let copy_in = answer.copy_in.then(|| std::mem::take(copy_in_bytes));
    Some(Settled {
        statement,
        done,
        rule: answer.rule,
        sqlstate: if done == Done::Failed { answer.error } else { None },
        tags: answer.tags,
        rows: answer.rows,
        bytes: answer.bytes,
        copy_in,
        copy_out: answer.copy_out,
        since,
        first: answer.first,
        transaction: answer.ready,
    })
}
