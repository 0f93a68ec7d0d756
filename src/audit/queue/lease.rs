//! Leadership: the desk in use by a thread, from taking it out of the queue to putting it back.
//!
//! This module does not decide which thread leads (the queue does).

use super::{Answer, AuditError, Desk, Errand, Lines, Order, ROUNDS, Shared};

/// Desk in use by a leader; it goes back even if the leader panics.
pub(super) struct Lease<'a> {
    shared: &'a Shared,
    desk: Option<Box<Desk>>,
}

impl<'a> Lease<'a> {
    pub(super) fn of(shared: &'a Shared, desk: Box<Desk>) -> Self {
        Self {
            shared,
            desk: Some(desk),
        }
    }

    /// Runs the tasks of the journal's thread.
    pub(super) fn run(&mut self, errands: Vec<Errand>) {
        if let Some(desk) = self.desk.as_mut() {
            for errand in errands {
                desk.run(errand, &self.shared.clock);
            }
        }
    }

    /// Writes the lines that were handed over and `own` (the leader's lines, which are not in the queue), then the lines that
    /// others queued meanwhile; returns the result of the first write.
    pub(super) fn lead(&mut self, order: Order, own: &Lines) -> Answer {
        let Some(desk) = self.desk.as_mut() else {
            return Err(AuditError::Closed);
        };
        let mut order = order;
        let mut first = None;
        let mut state;
        let mut round = 0;
        let none = Lines::default();
        loop {
            let own = if round == 0 { own } else { &none };
            let answer = desk.write(order, own, &self.shared.clock);
            let refused = (own.count() + desk.intents.count()) as u64;
            desk.waiting.drain(..).for_each(|waiting| drop(waiting.send(answer.clone())));
            state = self.shared.state.lock();
            state.settle(desk, order, &answer, refused, self.shared);
            first.get_or_insert(answer);
            round += 1;
            if state.intents.is_empty() || round > ROUNDS {
                break;
            }
            order = state.hand_over(desk);
            drop(state);
        }
        let more = !state.intents.is_empty();
        state.desk = self.desk.take();
        drop(state);
        if more {
            self.shared.wake.notify_one();
        }
        first.unwrap_or(Err(AuditError::Closed))
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(mut desk) = self.desk.take() {
            // The desk has lines only after a panic: their submitters get an error, because the sender is dropped.
            desk.waiting.clear();
            desk.intents.clear();
            self.shared.state.lock().desk = Some(desk);
        }
    }
}
