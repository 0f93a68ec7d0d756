//! Who writes next, and what: lines from many sessions become few writes.
//!
//! It does not touch the file itself (the writer does) and is not seen outside (the journal is).
//!
//! The desk (writer and scratch buffers) is a token: whoever takes it is the leader, writes outside the lock, and puts it back.
//! Who comes meanwhile leaves lines in the queue as a follower; the leader's next round writes them all at once.
//!
//! INVARIANT: lines in `intents` always have somebody who will write them: a leader in its rounds, or the journal's thread, which
//! was woken. Deferred lines go in front of intents, so an outcome never stands behind a later intent of its session.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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

/// Deferred lines are written when they are more than this, at the latest.
const DEFERRED: usize = 64 * 1024;
/// While nothing can be written, deferred lines are kept up to this size; what comes then is counted, not kept.
const RETAINED: usize = 2 * 1024 * 1024;
/// A leader writes for others this many times before it hands over: it is a session's task, too.
const ROUNDS: u32 = 3;
/// Lines deferred before one tick and still there at the next are written: so after 20 ms at the latest.
const TICK: Duration = Duration::from_millis(10);
/// How often writing is tried again while it fails and nobody asks.
const RETRY: Duration = Duration::from_millis(250);
/// Lines are signed when they have been unsigned for so long: a checkpoint stands at most this far behind the newest line.
const UNSIGNED: Duration = Duration::from_secs(1);
/// Every so many ticks the file is looked after (see [`Writer::check_in_place`]).
const CHECK_TICKS: u32 = 10;

/// What the journal's clones and its thread share.
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
    /// Who waits for `intents`.
    waiting: Vec<oneshot::Sender<Answer>>,
    /// What the thread is to do.
    errands: Vec<Errand>,
    /// Absent while somebody leads, and after the end.
    desk: Option<Box<Desk>>,
    outage: Option<Outage>,
    /// Deferred lines given up in an outage.
    lost: u64,
    /// Counts how often `deferred` was taken for writing.
    drains: u64,
    /// The thread waits without a time limit.
    asleep: bool,
    /// The next leader looks after the file first.
    check_due: bool,
    /// The next leader puts a checkpoint behind what it writes.
    sign_due: bool,
    /// When the oldest line was written that no checkpoint covers.
    unsigned_since: Option<Instant>,
    life: Life,
    closers: Vec<oneshot::Sender<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Life {
    #[default]
    Open,
    /// Takes nothing more; what was taken is being written.
    Closing,
    Closed,
}

/// How a submission stands after it was handed over.
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

    /// Writes lines at once when nobody else is writing, or leaves them to who is.
    pub(super) fn submit(&self, lines: &Lines) -> Queued {
        if lines.is_empty() {
            return Queued::Done(Ok(()));
        }
        let mut state = self.lock();
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

    /// Leaves lines to who is writing, or to the journal's thread.
    pub(super) fn leave(&self, lines: &Lines) -> Queued {
        if lines.is_empty() {
            return Queued::Done(Ok(()));
        }
        let state = self.lock();
        if state.is_closing() {
            return Queued::Done(Err(AuditError::Closed));
        }
        self.queue(state, lines)
    }

    fn queue(&self, mut state: MutexGuard<'_, State>, lines: &Lines) -> Queued {
        let (sender, receiver) = oneshot::channel();
        state.intents.append(lines);
        state.waiting.push(sender);
        // A leader that is at work will see them; otherwise the thread must.
        let idle = state.desk.is_some();
        drop(state);
        if idle {
            self.wake.notify_one();
        }
        Queued::Waiting(receiver)
    }

    /// Keeps lines for the next write, which the caller never does itself.
    pub(super) fn keep(&self, lines: &Lines) {
        let mut state = self.lock();
        if Self::take_over(&mut state, lines) {
            let wake = std::mem::take(&mut state.asleep) || state.desk.is_some();
            drop(state);
            if wake {
                self.wake.notify_one();
            }
        }
    }

    /// Whether there was room for lines that were deferred.
    fn take_over(state: &mut State, lines: &Lines) -> bool {
        if state.is_closing() || (state.outage.is_some() && state.deferred.size() + lines.size() > RETAINED) {
            state.lost += lines.count() as u64;
            return false;
        }
        state.deferred.append(lines);
        true
    }

    /// Keeps lines for the next write.
    pub(super) fn defer(&self, lines: &Lines) {
        let mut state = self.lock();
        if !Self::take_over(&mut state, lines) {
            return;
        }
        let full = state.deferred.size() >= DEFERRED && state.outage.is_none();
        let inline = full && self.durability == Durability::Process;
        if inline && let Some(mut desk) = state.desk.take() {
            let order = state.hand_over(&mut desk);
            drop(state);
            // A failure keeps the lines and is told by the health.
            let _ = Lease::of(self, desk).lead(order, &Lines::default());
            return;
        }
        let wake = std::mem::take(&mut state.asleep) || (full && state.desk.is_some());
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Leaves the thread something to do. After the end it is dropped, and with it the sender of its answer.
    pub(super) fn ask(&self, errand: Errand) {
        let mut state = self.lock();
        if !state.is_closing() {
            state.errands.push(errand);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Takes no more lines; the receiver hears when all that were taken are written and the file is closed.
    pub(super) fn close(&self) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        let mut state = self.lock();
        if state.life != Life::Closed {
            state.life = Life::Closing;
            state.closers.push(done);
        }
        drop(state);
        self.wake.notify_one();
        receiver
    }

    /// The journal's thread: writes what nobody else writes, until the end.
    pub(super) fn run(&self) {
        let _end = ThreadsEnd(self);
        let mut seen = 0;
        let mut ticks = 0_u32;
        let mut state = self.lock();
        loop {
            if !state.errands.is_empty()
                && let Some(desk) = state.desk.take()
            {
                let errands = std::mem::take(&mut state.errands);
                drop(state);
                Lease::of(self, desk).run(errands);
                state = self.lock();
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
                state = self.lock();
                if closing && state.intents.is_empty() {
                    return state.end();
                }
                if !state.intents.is_empty() {
                    continue;
                }
            }
            // Those that came while the lock was given away.
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

    /// Waits until there may be something to do.
    fn rest<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let pause = match (&state.outage, state.desk.is_some()) {
            (Some(_), true) if !state.is_closing() => Some(RETRY),
            _ if !state.deferred.is_empty() || state.is_closing() || state.desk.is_none() => Some(TICK),
            _ => {
                // Whoever has something wakes it; until then there may only be something to sign.
                state.asleep = true;
                state.check_due = true;
                state.unsigned_since.map(|_| UNSIGNED)
            }
        };
        let mut state = match pause {
            Some(pause) => self.wake.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0,
            None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
        state.asleep = false;
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_closing(&self) -> bool {
        self.life != Life::Open
    }

    /// Gives the leader everything there is to write.
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

    /// After the last write: closes the file and tells who waits for that.
    fn end(&mut self) {
        if let Some(desk) = self.desk.take()
            && let Err(error) = desk.writer.sync()
        {
            tracing::error!(error = %in_one_line(&error), "cannot sync the audit log before the stop");
        }
        let unwritten = self.deferred.count() as u64 + self.lost;
        if unwritten > 0 {
            tracing::error!(
                records = unwritten,
                "cannot write the last records of the audit log; they are lost"
            );
        }
        self.life = Life::Closed;
        self.errands.clear();
        for closer in self.closers.drain(..) {
            // Who asked may have gone.
            let _ = closer.send(());
        }
    }

    /// Takes note of what became of it.
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
                    tracing::info!(refused = outage.refused, since = %outage.since, "the audit log is writable again");
                    shared.health.send_replace(Health::Good);
                }
            }
            Err(error) => {
                // Lines that came meanwhile stand behind those that could not be written.
                desk.deferred.append(&self.deferred);
                std::mem::swap(&mut self.deferred, &mut desk.deferred);
                self.lost += order.lost;
                self.sign_due |= order.sign;
                let disk_full = error.disk_full();
                if self.outage.is_none() {
                    tracing::error!(error = %in_one_line(error), "cannot write the audit log; refusing statements until it is writable");
                    // The thread tries again when nobody else does.
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
