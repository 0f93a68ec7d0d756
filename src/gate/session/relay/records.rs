//! Records of the relay on their way to the log: intents before their bytes are forwarded, outcomes deferred.

use tokio::time::sleep_until;

use super::up::IntentsState;
use super::{Relay, RelayStop};
use crate::audit::SubmissionResult;

impl Relay {
    /// Submits the intents, and clears the bytes that they cover.
    pub(super) fn submit(&mut self) -> Result<(), RelayStop> {
        self.defer_outcomes();
        if self.recorder.intents.is_empty() {
            self.up.cleared = self.clear_to();
            return Ok(());
        }
        self.live.note(self.recorder.totals.statements, true);
        self.charge(self.recorder.intents.size());
        match self.journal.submit(&mut self.recorder.intents) {
            SubmissionResult::Done(Ok(())) => self.written(),
            SubmissionResult::Done(Err(error)) => return Err(RelayStop::Audit(error)),
            SubmissionResult::Waiting(waiting) => self.up.intents = IntentsState::Underway(waiting),
        }
        Ok(())
    }

    /// Passes the current outcomes to the journal, which writes them soon.
    pub(super) fn defer_outcomes(&mut self) {
        if !self.recorder.outcomes.is_empty() {
            self.charge(self.recorder.outcomes.size());
            self.journal.defer(&mut self.recorder.outcomes);
        }
    }

    /// Counts bytes of the log for the identity. If there are too many, the client has to wait: no record is omitted.
    pub(in crate::gate::session) fn charge(&mut self, bytes: usize) {
        if let Some(until) = self.quota.log(bytes, self.clock.moment().instant) {
            self.pause = Some(Box::pin(sleep_until(until)));
        }
    }

    /// Notes that the log has the intents: the statements that they announce may be forwarded.
    pub(super) fn written(&mut self) {
        self.recorder.written();
        self.defer_outcomes();
        self.up.cleared = self.clear_to();
    }

    /// Returns the position up to which the client's bytes may be written: all that were inspected, except the last byte of a
    /// held message.
    pub(super) fn clear_to(&self) -> usize {
        self.up.seen - usize::from(self.recorder.holds() && self.up.seen > 0)
    }
}
