//! What has been done in the transaction at work, for it may turn out to have come to nothing: a pipeline's statements are one
//! transaction up to its Sync (protocol: "Pipelining"), and a deferred constraint or a conflict fails only where it ends.
//!
//! It does not know of transactions that people roll back themselves: their `ROLLBACK` is a statement on record.

use crate::audit::event::Done;
use crate::wire::backend::Transaction;

/// Statements whose outcome says that they ran, and which an error undid afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session) struct Undone {
    pub(in crate::session) first: u64,
    pub(in crate::session) last: u64,
    pub(in crate::session) sqlstate: Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct Work {
    /// The first and last statement that ran since the last end of a transaction.
    done: Option<(u64, u64)>,
    /// The first error since the last ReadyForQuery.
    error: Option<Vec<u8>>,
    undone: Option<Undone>,
}

impl Work {
    /// What came of a statement; `committed` if it ended the transaction.
    pub(super) fn settled(&mut self, statement: u64, done: Done, committed: bool) {
        if committed {
            self.done = None;
        } else if done.ran() {
            self.done = Some((self.done.map_or(statement, |(first, _)| first), statement));
        }
    }

    pub(super) fn failed(&mut self, sqlstate: Option<&[u8]>) {
        self.error = self.error.take().or(sqlstate.map(<[u8]>::to_vec));
    }

    /// The server is ready: where no transaction is open any more, and there was an error, what was done in it is undone.
    pub(super) fn ready(&mut self, transaction: Transaction) {
        let error = self.error.take();
        if transaction == Transaction::Idle
            && let (Some((first, last)), Some(sqlstate)) = (self.done.take(), error)
        {
            self.undone = Some(Undone { first, last, sqlstate });
        }
    }

    pub(super) fn undone(&mut self) -> Option<Undone> {
        self.undone.take()
    }
}
