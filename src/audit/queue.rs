//! Queue of the group commit: it decides which thread writes next, and turns lines of many sessions into few writes.
//!
//! This module does not touch the file (the writer does) and is private to the journal.
//!
//! The desk (writer and buffers) is a token: the thread that takes it is the leader, writes outside the lock, and puts it back.
//! Other threads leave their lines in the queue as followers; the leader's next round writes them all at once.
//!
//! INVARIANT: lines in `intents` always have a thread that will write them: a leader in its rounds, or the journal's thread,
//! which was woken. Deferred lines are written before intents, so an outcome never comes after a later intent of its session.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::desk::{Answer, Desk, Errand, Order, Outage};
use super::encode::Lines;
use super::event::Fault;
use super::tally::Tally;
use super::writer::Writer;
use super::{AuditError, Durability, Health};
use crate::causes::in_one_line;
use crate::clock::Clock;
use lease::Lease;
use threads_end::ThreadsEnd;

mod lease;
mod threads_end;

/// Number of bytes from which deferred lines are written at once.
const DEFERRED: usize = 64 * 1024;
/// Number of bytes of deferred lines that are kept while nothing can be written; further ones are counted and dropped.
const RETAINED: usize = 2 * 1024 * 1024;
/// Number of times that a leader writes for others before it hands over: it is a session's task, too.
const ROUNDS: u32 = 3;
/// Interval of the journal's thread. Lines deferred before one tick and still there at the next are written, so after 20 ms at
/// the latest.
const TICK: Duration = Duration::from_millis(10);
/// Retry interval while writing fails and no thread submits.
const RETRY: Duration = Duration::from_millis(250);
/// Age from which unsigned lines are signed: a checkpoint is at most this much older than the newest line.
const UNSIGNED: Duration = Duration::from_secs(1);
/// Number of ticks between two checks of the file (see [`Writer::check_in_place`]).
const CHECK_TICKS: u32 = 10;

/// State that the journal's clones and its thread share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Wakes the journal's thread.
    wake: Condvar,
    pub(super) health: watch::Sender<Health>,
    pub(super) clock: Clock,
    pub(super) tally: Arc<Tally>,
    durability: Durability,
}

#[derive(Debug, Default)]
struct State {
    deferred: Lines,
    intents: Lines,
    /// Submissions that wait for `intents`.
    waiting: Vec<oneshot::Sender<Answer>>,
    /// Tasks for the thread.
    errands: Vec<Errand>,
    /// Writer and buffers; absent while a thread leads, and after the end.
    desk: Option<Box<Desk>>,
    outage: Option<Outage>,
    /// Number of deferred lines that were dropped in an outage.
    lost: u64,
    /// Number of times that `deferred` was taken for writing.
    drains: u64,
    /// True if the thread waits until it is woken, or until lines have to be signed.
    asleep: bool,
    /// True if the next leader checks the file first.
    check_due: bool,
    /// True if the next leader writes a checkpoint after its lines.
    sign_due: bool,
    /// Time at which the oldest line that no checkpoint covers was written.
    unsigned_since: Option<Instant>,
    life: Life,
    closers: Vec<oneshot::Sender<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Life {
    #[default]
    Open,
    /// Accepts no more lines; those accepted are being written.
    Closing,
    Closed,
}

/// State of a submission that was handed over.
#[derive(Debug)]
pub(super) enum Queued {
    Done(Answer),
    Waiting(oneshot::Receiver<Answer>),
}

impl Shared {
    pub(super) fn new(writer: Writer, durability: Durability, clock: Clock, first: Lines) -> Self {
        let tally = Arc::clone(&writer.tally);
        let desk = Box::new(Desk::new(writer));
        Self {
            state: Mutex::new(State {
                deferred: first,
                desk: Some(desk),
                ..State::default()
            }),
            wake: Condvar::new(),
            health: watch::Sender::new(Health::Good),
            clock,
            tally,
            durability,
        }
    }

    /// Writes lines at once if no other thread is writing; otherwise queues them for the leader.
    pub(super) fn submit(&self, lines: &Lines) -> Queued {
        if lines.is_empty() {
            return Queued::Done(Ok(()));
        }
        let mut state = self.state.lock();
        if state.is_closing() {
            return Queued::Done(Err(AuditError::Closed));
        }
        let inline = self.durability == Durability::Process && state.intents.is_empty();
        if inline && let Some(mut desk) = state.desk.take() {
            let order = state.hand_over(&mut desk);
            drop(state);
            return Queued::Done(Lease::of(self, desk).lead(order, lines));
        }
        self.queue(state, lines)
    }

    /// Queues lines for the leader, or for the journal's thread.
    pub(super) fn leave(&self, lines: &Lines) -> Queued {
        if lines.is_empty() {
            return Queued::Done(Ok(()));
        }
        let state = self.state.lock();
        if state.is_closing() {
            return Queued::Done(Err(AuditError::Closed));
        }
        self.queue(state, lines)
    }

    fn queue(&self, mut state: MutexGuard<'_, State>, lines: &Lines) -> Queued {
        let (sender, receiver) = oneshot::channel();
        state.intents.append(lines);
        state.waiting.push(sender);
        // A leader that is writing will see them; otherwise the thread must be woken.
        let idle = state.desk.is_some();
        drop(state);
        if idle {
            self.wake.notify_one();
        }
        Queued::Waiting(receiver)
    }

    /// Keeps lines for the next write, without ever writing on the caller's thread.
    pub(super) fn keep(&self, lines: &Lines) {
        let mut state = self.state.lock();
        if Self::take_over(&mut state, lines) {
            let wake = std::mem::take(&mut state.asleep) || state.desk.is_some();
            drop(state);
            if wake {
                self.wake.notify_one();
            }
        }
    }

    /// Takes over deferred lines; returns false, and counts them as lost, if there is no room.
    fn take_over(state: &mut State, lines: &Lines) -> bool {
        if state.is_closing() || (state.outage.is_some() && state.deferred.size() + lines.size() > RETAINED) {
            state.lost += lines.count() as u64;
            return false;
        }
        state.deferred.append(lines);
        true
    }

    /// Keeps lines for the next write; writes them at once if too many wait.
    pub(super) fn defer(&self, lines: &Lines) {
        let mut state = self.state.lock();
        if !Self::take_over(&mut state, lines) {
            return;
        }
        let full = state.deferred.size() >= DEFERRED && state.outage.is_none();
        let inline = full && self.durability == Durability::Process;
        if inline && let Some(mut desk) = state.desk.take() {
            let order = state.hand_over(&mut desk);
            drop(state);
            // After a failure the lines are kept, and `health` reports it.
            let _ = Lease::of(self, desk).lead(order, &Lines::default());
            return;
        }
        let wake = std::mem::take(&mut state.asleep) || (full && state.desk.is_some());
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Queues a task for the thread. After the end it is dropped, and with it the sender of its answer.
    pub(super) fn ask(&self, errand: Errand) {
        let mut state = self.state.lock();
        if !state.is_closing() {
            state.errands.push(errand);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Stops accepting lines; the receiver is notified when all accepted lines are written and the file is closed.
    pub(super) fn close(&self) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        if state.life != Life::Closed {
            state.life = Life::Closing;
            state.closers.push(done);
        }
        drop(state);
        self.wake.notify_one();
        receiver
    }

    /// Runs the journal's thread, which writes the lines that no other thread writes, until the end.
    pub(super) fn run(&self) {
        let _end = ThreadsEnd(self);
        let mut seen = 0;
        let mut ticks = 0_u32;
        let mut state = self.state.lock();
        loop {
            if !state.errands.is_empty()
                && let Some(desk) = state.desk.take()
            {
                let errands = std::mem::take(&mut state.errands);
                drop(state);
                Lease::of(self, desk).run(errands);
                state = self.state.lock();
            }
            let overdue = !state.deferred.is_empty() && state.drains == seen;
            state.sign_due |= state.is_closing() || self.is_signature_due(&state);
            let due = !state.intents.is_empty() || overdue || state.sign_due || state.outage.is_some() || state.is_closing();
            seen = state.drains;
            if due && let Some(mut desk) = state.desk.take() {
                let order = state.hand_over(&mut desk);
                let closing = state.is_closing();
                drop(state);
                let _ = Lease::of(self, desk).lead(order, &Lines::default());
                state = self.state.lock();
                if closing && state.intents.is_empty() {
                    return state.end();
                }
                if !state.intents.is_empty() {
                    continue;
                }
            }
            // Tasks may have come while the lock was released.
            if !state.errands.is_empty() && state.desk.is_some() {
                continue;
            }
            ticks = ticks.wrapping_add(1);
            state.check_due |= ticks.is_multiple_of(CHECK_TICKS);
            state = self.rest(state);
        }
    }

    fn is_signature_due(&self, state: &State) -> bool {
        let waited = state
            .unsigned_since
            .map(|since| self.clock.moment().instant.saturating_duration_since(since));
        waited.is_some_and(|waited| waited >= UNSIGNED)
    }

    /// Waits until there may be work.
    fn rest<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let pause = match (&state.outage, state.desk.is_some()) {
            (Some(_), true) if !state.is_closing() => Some(RETRY),
            _ if !state.deferred.is_empty() || state.is_closing() || state.desk.is_none() => Some(TICK),
            _ => {
                // A thread with lines wakes it; until then there may only be lines to sign.
                state.asleep = true;
                state.check_due = true;
                state.unsigned_since.map(|_| UNSIGNED)
            }
        };
        match pause {
            Some(pause) => _ = self.wake.wait_for(&mut state, pause),
            None => self.wake.wait(&mut state),
        }
        state.asleep = false;
        state
    }
}

impl State {
    fn is_closing(&self) -> bool {
        self.life != Life::Open
    }

    /// Gives the leader all lines that wait to be written.
    fn hand_over(&mut self, desk: &mut Desk) -> Order {
        std::mem::swap(&mut self.deferred, &mut desk.deferred);
        std::mem::swap(&mut self.intents, &mut desk.intents);
        std::mem::swap(&mut self.waiting, &mut desk.waiting);
        self.drains += 1;
        Order {
            outage: self.outage,
            lost: std::mem::take(&mut self.lost),
            check: std::mem::take(&mut self.check_due),
            sign: std::mem::take(&mut self.sign_due),
        }
    }

    /// Closes the file after the last write and notifies the callers of `close`.
    fn end(&mut self) {
        if let Some(desk) = self.desk.take()
            && let Err(error) = desk.writer.sync()
        {
            tracing::error!(error = %in_one_line(&error), "the audit log could not be synced at its end");
        }
        let unwritten = self.deferred.count() as u64 + self.lost;
        if unwritten > 0 {
            tracing::error!(
                records = unwritten,
                "records were lost: the audit log could not be written at its end"
            );
        }
        self.life = Life::Closed;
        self.errands.clear();
        for closer in self.closers.drain(..) {
            // The caller may have gone.
            let _ = closer.send(());
        }
    }

    /// Notes the result of a write.
    fn settle(&mut self, desk: &mut Desk, order: Order, answer: &Answer, refused: u64, shared: &Shared) {
        match answer {
            Ok(()) => {
                if desk.writer.unsigned() == 0 {
                    self.unsigned_since = None;
                } else if self.unsigned_since.is_none() {
                    self.unsigned_since = Some(shared.clock.moment().instant);
                    // The thread signs them in time.
                    if std::mem::take(&mut self.asleep) {
                        shared.wake.notify_one();
                    }
                }
                if let Some(outage) = self.outage.take() {
                    tracing::info!(refused = outage.refused, since = %outage.since, "the audit log can be written again");
                    shared.health.send_replace(Health::Good);
                }
            }
            Err(error) => {
                // Lines that came meanwhile follow those that could not be written.
                desk.deferred.append(&self.deferred);
                std::mem::swap(&mut self.deferred, &mut desk.deferred);
                self.lost += order.lost;
                self.sign_due |= order.sign;
                let disk_full = error.disk_full();
                if self.outage.is_none() {
                    tracing::error!(error = %in_one_line(error), "the audit log cannot be written: statements are refused until it can");
                    // The thread retries if no other thread submits.
                    shared.wake.notify_one();
                }
                let fault = if disk_full { Fault::DiskFull } else { Fault::WriteFailed };
                let since = shared.clock.now();
                self.outage
                    .get_or_insert(Outage {
                        since,
                        fault,
                        refused: 0,
                    })
                    .refused += refused;
                let health = Health::Failed { disk_full };
                shared.health.send_if_modified(|old| std::mem::replace(old, health) != health);
            }
        }
        desk.deferred.clear();
        desk.intents.clear();
    }
}
