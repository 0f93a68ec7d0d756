//! How many statements are at the server, and whether their answers are bound to come.
//!
//! It does not know which they are.

use crate::session::pace::{MAX_STATEMENTS_IN_FLIGHT, Pace};

/// The statements of a session that the server has not answered.
#[derive(Debug, Default)]
pub(super) struct Flight {
    statements: usize,
    /// So many were in flight that the client waits until half of them are answered: it goes on with many at once, not with one
    /// for each answer.
    crowded: bool,
    /// An Execute is unanswered behind which nothing makes the server send its answers.
    pub(super) unflushed: bool,
}

impl Flight {
    /// A statement goes to the server; `unflushed` where its answer does not come by itself.
    pub(super) fn begin(&mut self, unflushed: bool) {
        self.statements += 1;
        self.unflushed = unflushed;
    }

    /// One is answered, or skipped.
    pub(super) fn end(&mut self) {
        self.statements = self.statements.saturating_sub(1);
        // What was asked for it has come.
        self.unflushed &= self.statements > 0;
    }

    pub(super) fn statements(&self) -> usize {
        self.statements
    }

    /// Whether no more may join them now.
    pub(super) fn is_full(&mut self) -> bool {
        let most = if self.crowded {
            MAX_STATEMENTS_IN_FLIGHT / 2 + 1
        } else {
            MAX_STATEMENTS_IN_FLIGHT
        };
        self.crowded = self.statements >= most;
        self.crowded
    }

    /// Whether the next statement will wait for an answer that nothing makes the server send.
    pub(super) fn needs_flush(&self, pace: Pace) -> bool {
        self.unflushed && (pace != Pace::Pipelined || self.statements >= MAX_STATEMENTS_IN_FLIGHT)
    }
}
