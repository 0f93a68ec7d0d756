//! Queries to the statement recorder besides messages: what waits, what runs, the fate of the transaction.
//!
//! This module does not process messages.

use super::StatementRecorder;
use super::answers::late_number;
use super::records::{failing, record};
use crate::model::ending::Fate;
use crate::protocol::wire::backend::TransactionState;

impl StatementRecorder {
    /// Returns the number of bytes of records that wait to be written.
    pub(in crate::gate::session) fn records_size(&self) -> usize {
        self.intents.size() + self.outcomes.size()
    }

    /// Returns true if a message of the client is held until the target has answered.
    pub(in crate::gate::session) fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Returns true if the target owes an answer.
    pub(in crate::gate::session) fn executing(&self) -> bool {
        self.extended.executing()
    }

    /// Returns true if a transaction is open, according to the target's last message on that.
    pub(in crate::gate::session) fn in_transaction(&self) -> bool {
        self.extended.transaction() != TransactionState::Idle
    }

    /// Starts to track whether the running statement completes.
    pub(in crate::gate::session) fn stopping(&mut self) {
        if self.extended.executing() {
            self.finished_since_stop = Some(false);
        }
    }

    /// Returns the fate of the transaction, judging by all messages until now. `cut` means that the target's last message was cut
    /// off: then the statement had not finished.
    pub(in crate::gate::session) fn fate(&self, cut: bool) -> Fate {
        let open = self.extended.transaction() != TransactionState::Idle;
        let undone = if open { Fate::RolledBack } else { Fate::Stopped };
        match self.finished_since_stop {
            None if open => Fate::RolledBack,
            None => Fate::None,
            Some(_) if self.target_said_fatal() || self.extended.failed() || cut => undone,
            Some(true) if open => Fate::RolledBack,
            Some(true) => Fate::Committed,
            Some(false) if self.extended.executing() => Fate::Unknown,
            // Answered with an error, and ready again.
            Some(false) => undone,
        }
    }

    /// Records the statements without an answer at the end of the session. A statement without a recorded intent was never
    /// forwarded: it is dropped and not counted.
    pub(in crate::gate::session) fn abandon(&mut self) {
        let now = self.clock.moment();
        self.skipped.clear();
        self.totals.statements -= std::mem::take(&mut self.unwritten);
        let Self {
            extended,
            outcomes,
            who,
            number,
            written,
            failed,
            totals,
            settings,
            ..
        } = self;
        extended.abandon(|mut settled| {
            if let Some(message) = settled.failing.take() {
                settled.statement = late_number(number, written, failed);
                failing(outcomes, who, (settled.statement, &message), settings.encoding(), now);
            } else if settled.statement > *written {
                return;
            }
            totals.add(&settled);
            record(outcomes, who, &settled, now);
        });
    }

    /// Returns true if the target has ended the session by a FATAL of its own.
    fn target_said_fatal(&self) -> bool {
        self.last_word.as_ref().is_some_and(|last| last.fatal)
    }
}
