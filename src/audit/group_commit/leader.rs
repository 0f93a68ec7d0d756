//! Leadership: the desk in use by a thread, from taking it out of the queue to putting it back.
//!
//! This module does not decide which thread leads (the queue does).

use super::{AuditError, CommitTask, CommitWriter, GroupCommit, LineBuffer, MAX_LEADER_ROUNDS, WriteResult, WriterCommand};

/// Desk in use by a leader; it goes back even if the leader panics.
pub(super) struct CommitLeader<'a> {
    shared: &'a GroupCommit,
    commit: Option<Box<CommitWriter>>,
}

impl<'a> CommitLeader<'a> {
    pub(super) fn of(shared: &'a GroupCommit, commit: Box<CommitWriter>) -> Self {
        Self {
            shared,
            commit: Some(commit),
        }
    }

    /// Runs the tasks of the journal's thread.
    pub(super) fn run(&mut self, commands: Vec<WriterCommand>) {
        if let Some(commit) = self.commit.as_mut() {
            for command in commands {
                commit.run(command, &self.shared.clock);
            }
        }
    }

    /// Writes the lines that were handed over and `own` (the leader's lines, which are not in the queue), then the lines that
    /// others queued meanwhile; returns the result of the first write.
    pub(super) fn lead(&mut self, order: CommitTask, own: &LineBuffer) -> WriteResult {
        let Some(commit) = self.commit.as_mut() else {
            return Err(AuditError::Closed);
        };
        let mut order = order;
        let mut first = None;
        let mut state;
        let mut round = 0;
        let none = LineBuffer::default();
        loop {
            let own = if round == 0 { own } else { &none };
            let answer = commit.write(order, own, &self.shared.clock);
            let refused = (own.count() + commit.intents.count()) as u64;
            commit
                .waiting
                .drain(..)
                .for_each(|waiting| drop(waiting.send(answer.clone())));
            state = self.shared.state.lock();
            state.settle(commit, order, &answer, refused, self.shared);
            first.get_or_insert(answer);
            round += 1;
            if state.intents.is_empty() || round > MAX_LEADER_ROUNDS {
                break;
            }
            order = state.hand_over(commit);
            drop(state);
        }
        let more = !state.intents.is_empty();
        state.commit = self.commit.take();
        drop(state);
        if more {
            self.shared.wake.notify_one();
        }
        first.unwrap_or(Err(AuditError::Closed))
    }
}

impl Drop for CommitLeader<'_> {
    fn drop(&mut self) {
        if let Some(mut commit) = self.commit.take() {
            // The desk has lines only after a panic: their submitters get an error, because the sender is dropped.
            commit.waiting.clear();
            commit.intents.clear();
            self.shared.state.lock().commit = Some(commit);
        }
    }
}
