//! Number of statements at the server, and whether their answers are certain to be sent.
//!
//! This module does not know the statements themselves.

use crate::gate::session::pace::{ForwardingPace, MAX_STATEMENTS_IN_FLIGHT};

/// Unanswered statements of a session.
#[derive(Debug, Default)]
pub(super) struct InFlightCount {
    statements: usize,
    /// True if so many were in flight that the client waits until half of them are answered. Then it continues with many at once
    /// instead of one for each answer.
    crowded: bool,
    /// True if an Execute is unanswered and no later message makes the server send its answers.
    pub(super) unflushed: bool,
}

impl InFlightCount {
    /// Counts a statement sent to the server; `unflushed` if the server does not send its answer without being asked.
    pub(super) fn begin(&mut self, unflushed: bool) {
        self.statements += 1;
        self.unflushed = unflushed;
    }

    /// Counts a statement that is answered or skipped.
    pub(super) fn end(&mut self) {
        self.statements = self.statements.saturating_sub(1);
        // The answer that a Flush was needed for has arrived.
        self.unflushed &= self.statements > 0;
    }

    pub(super) fn statements(&self) -> usize {
        self.statements
    }

    /// Returns true if no more statements may be sent now.
    pub(super) fn is_full(&mut self) -> bool {
        let most = if self.crowded {
            MAX_STATEMENTS_IN_FLIGHT / 2 + 1
        } else {
            MAX_STATEMENTS_IN_FLIGHT
        };
        self.crowded = self.statements >= most;
        self.crowded
    }

    /// Returns true if the next statement will wait for an answer that nothing makes the server send.
    pub(super) fn needs_flush(&self, pace: ForwardingPace) -> bool {
        self.unflushed && (pace != ForwardingPace::Pipelined || self.statements >= MAX_STATEMENTS_IN_FLIGHT)
    }
}
