//! Work done in the current transaction, which may be undone later: the statements of a pipeline are one transaction up to its
//! Sync (protocol: "Pipelining"), and a deferred constraint or a conflict fails only at its end.
//!
//! It does not cover transactions that clients roll back themselves: their `ROLLBACK` is a statement on record.

use crate::audit::event::StatementResult;
use crate::protocol::wire::backend::TransactionState;

/// Statements that were recorded as run, and that a later error undid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::gate::session) struct RolledBackRange {
    pub(in crate::gate::session) first: u64,
    pub(in crate::gate::session) last: u64,
    pub(in crate::gate::session) sqlstate: Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct TransactionWork {
    /// First and last statement that ran since the last end of a transaction.
    done: Option<(u64, u64)>,
    /// First error since the last ReadyForQuery.
    error: Option<Vec<u8>>,
    undone: Option<RolledBackRange>,
}

impl TransactionWork {
    /// Notes the outcome of a statement; `committed` if it ended the transaction.
    pub(super) fn settled(&mut self, statement: u64, done: StatementResult, committed: bool) {
        if committed {
            self.done = None;
        } else if done.ran() {
            self.done = Some((self.done.map_or(statement, |(first, _)| first), statement));
        }
    }

    pub(super) fn failed(&mut self, sqlstate: Option<&[u8]>) {
        self.error = self.error.take().or(sqlstate.map(<[u8]>::to_vec));
    }

    /// Notes that the server is ready: if no transaction is open any more and there was an error, the work done in it is undone.
    pub(super) fn ready(&mut self, transaction: TransactionState) {
        let error = self.error.take();
        if transaction == TransactionState::Idle
            && let (Some((first, last)), Some(sqlstate)) = (self.done.take(), error)
        {
            self.undone = Some(RolledBackRange { first, last, sqlstate });
        }
    }

    pub(super) fn undone(&mut self) -> Option<RolledBackRange> {
        self.undone.take()
    }
}
