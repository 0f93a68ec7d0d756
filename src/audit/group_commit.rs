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

use super::commit_writer::{CommitTask, CommitWriter, WriteOutage, WriteResult, WriterCommand};
use super::encode::LineBuffer;
use super::event::JournalFault;
use super::stats::Stats;
use super::writer::SegmentWriter;
use super::{AuditError, Durability, JournalHealth};
use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;
use leader::CommitLeader;
use threads_end::ThreadsEnd;

mod leader;
mod threads_end;

/// Number of bytes from which deferred lines are written at once.
const MAX_DEFERRED_BYTES: usize = 64 * 1024;
/// Number of bytes of deferred lines that are kept while nothing can be written; further ones are counted and dropped.
const MAX_RETAINED_BYTES: usize = 2 * 1024 * 1024;
/// Number of times that a leader writes for others before it hands over: it is a session's task, too.
const MAX_LEADER_ROUNDS: u32 = 3;
/// Interval of the journal's thread. Lines deferred before one tick and still there at the next are written, so after 20 ms at
/// the latest.
const TICK_INTERVAL: Duration = Duration::from_millis(10);
/// Retry interval while writing fails and no thread submits.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// Age from which unsigned lines are signed: a checkpoint is at most this much older than the newest line.
const MAX_UNSIGNED_AGE: Duration = Duration::from_secs(1);
/// Number of ticks between two checks of the file (see [`SegmentWriter::check_in_place`]).
const TICKS_PER_CHECK: u32 = 10;

/// State that the journal's clones and its thread share.
#[derive(Debug)]
pub(super) struct GroupCommit {
    state: Mutex<QueueState>,
    /// Wakes the journal's thread.
    wake: Condvar,
    pub(super) health: watch::Sender<JournalHealth>,
    pub(super) clock: Clock,
    pub(super) stats: Arc<Stats>,
    durability: Durability,
}

#[derive(Debug, Default)]
struct QueueState {
    deferred: LineBuffer,
    intents: LineBuffer,
    /// Submissions that wait for `intents`.
    waiting: Vec<oneshot::Sender<WriteResult>>,
    /// Tasks for the thread.
    commands: Vec<WriterCommand>,
    /// Writer and buffers; absent while a thread leads, and after the end.
    commit: Option<Box<CommitWriter>>,
    outage: Option<WriteOutage>,
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
    life: QueueLife,
    closers: Vec<oneshot::Sender<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum QueueLife {
    #[default]
    Open,
    /// Accepts no more lines; those accepted are being written.
    Closing,
    Closed,
}

/// State of a submission that was handed over.
#[derive(Debug)]
pub(super) enum QueuedSubmission {
    Done(WriteResult),
    Waiting(oneshot::Receiver<WriteResult>),
}

impl GroupCommit {
    pub(super) fn new(writer: SegmentWriter, durability: Durability, clock: Clock, first: LineBuffer) -> Self {
        let stats = Arc::clone(&writer.stats);
        let commit = Box::new(CommitWriter::new(writer));
        Self {
            state: Mutex::new(QueueState {
                deferred: first,
                commit: Some(commit),
                ..QueueState::default()
            }),
            wake: Condvar::new(),
            health: watch::Sender::new(JournalHealth::Good),
            clock,
            stats,
            durability,
        }
    }

    /// Writes lines at once if no other thread is writing; otherwise queues them for the leader.
    pub(super) fn submit(&self, lines: &LineBuffer) -> QueuedSubmission {
        if lines.is_empty() {
            return QueuedSubmission::Done(Ok(()));
        }
        let mut state = self.state.lock();
        if state.is_closing() {
            return QueuedSubmission::Done(Err(AuditError::Closed));
        }
        let inline = self.durability == Durability::Process && state.intents.is_empty();
        if inline && let Some(mut commit) = state.commit.take() {
            let order = state.hand_over(&mut commit);
            drop(state);
            return QueuedSubmission::Done(CommitLeader::of(self, commit).lead(order, lines));
        }
        self.queue(state, lines)
    }

    /// Queues lines for the leader, or for the journal's thread.
    pub(super) fn leave(&self, lines: &LineBuffer) -> QueuedSubmission {
        if lines.is_empty() {
            return QueuedSubmission::Done(Ok(()));
        }
        let state = self.state.lock();
        if state.is_closing() {
            return QueuedSubmission::Done(Err(AuditError::Closed));
        }
        self.queue(state, lines)
    }

    fn queue(&self, mut state: MutexGuard<'_, QueueState>, lines: &LineBuffer) -> QueuedSubmission {
        let (sender, receiver) = oneshot::channel();
        state.intents.append(lines);
        state.waiting.push(sender);
        // A leader that is writing will see them; otherwise the thread must be woken.
        let idle = state.commit.is_some();
        drop(state);
        if idle {
            self.wake.notify_one();
        }
        QueuedSubmission::Waiting(receiver)
    }

    /// Keeps lines for the next write, without ever writing on the caller's thread.
    pub(super) fn keep(&self, lines: &LineBuffer) {
        let mut state = self.state.lock();
        if Self::take_over(&mut state, lines) {
            let wake = std::mem::take(&mut state.asleep) || state.commit.is_some();
            drop(state);
            if wake {
                self.wake.notify_one();
            }
        }
    }

    /// Takes over deferred lines; returns false, and counts them as lost, if there is no room.
    fn take_over(state: &mut QueueState, lines: &LineBuffer) -> bool {
        if state.is_closing() || (state.outage.is_some() && state.deferred.size() + lines.size() > MAX_RETAINED_BYTES) {
            state.lost += lines.count() as u64;
            return false;
        }
        state.deferred.append(lines);
        true
    }

    /// Keeps lines for the next write; writes them at once if too many wait.
    pub(super) fn defer(&self, lines: &LineBuffer) {
        let mut state = self.state.lock();
        if !Self::take_over(&mut state, lines) {
            return;
        }
        let full = state.deferred.size() >= MAX_DEFERRED_BYTES && state.outage.is_none();
        let inline = full && self.durability == Durability::Process;
        if inline && let Some(mut commit) = state.commit.take() {
            let order = state.hand_over(&mut commit);
            drop(state);
            // After a failure the lines are kept, and `health` reports it.
            let _ = CommitLeader::of(self, commit).lead(order, &LineBuffer::default());
            return;
        }
        let wake = std::mem::take(&mut state.asleep) || (full && state.commit.is_some());
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Queues a task for the thread. After the end it is dropped, and with it the sender of its answer.
    pub(super) fn ask(&self, command: WriterCommand) {
        let mut state = self.state.lock();
        if !state.is_closing() {
            state.commands.push(command);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Stops accepting lines; the receiver is notified when all accepted lines are written and the file is closed.
    pub(super) fn close(&self) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        if state.life != QueueLife::Closed {
            state.life = QueueLife::Closing;
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
            if !state.commands.is_empty()
                && let Some(commit) = state.commit.take()
            {
                let commands = std::mem::take(&mut state.commands);
                drop(state);
                CommitLeader::of(self, commit).run(commands);
                state = self.state.lock();
            }
            let overdue = !state.deferred.is_empty() && state.drains == seen;
            state.sign_due |= state.is_closing() || self.is_signature_due(&state);
            let due = !state.intents.is_empty() || overdue || state.sign_due || state.outage.is_some() || state.is_closing();
            seen = state.drains;
            if due && let Some(mut commit) = state.commit.take() {
                let order = state.hand_over(&mut commit);
                let closing = state.is_closing();
                drop(state);
                let _ = CommitLeader::of(self, commit).lead(order, &LineBuffer::default());
                state = self.state.lock();
                if closing && state.intents.is_empty() {
                    return state.end();
                }
                if !state.intents.is_empty() {
                    continue;
                }
            }
            // Tasks may have come while the lock was released.
            if !state.commands.is_empty() && state.commit.is_some() {
                continue;
            }
            ticks = ticks.wrapping_add(1);
            state.check_due |= ticks.is_multiple_of(TICKS_PER_CHECK);
            state = self.rest(state);
        }
    }

    fn is_signature_due(&self, state: &QueueState) -> bool {
        let waited = state
            .unsigned_since
            .map(|since| self.clock.moment().instant.saturating_duration_since(since));
        waited.is_some_and(|waited| waited >= MAX_UNSIGNED_AGE)
    }

    /// Waits until there may be work.
    fn rest<'a>(&self, mut state: MutexGuard<'a, QueueState>) -> MutexGuard<'a, QueueState> {
        let pause = match (&state.outage, state.commit.is_some()) {
            (Some(_), true) if !state.is_closing() => Some(RETRY_INTERVAL),
            _ if !state.deferred.is_empty() || state.is_closing() || state.commit.is_none() => Some(TICK_INTERVAL),
            _ => {
                // A thread with lines wakes it; until then there may only be lines to sign.
                state.asleep = true;
                state.check_due = true;
                state.unsigned_since.map(|_| MAX_UNSIGNED_AGE)
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

impl QueueState {
    fn is_closing(&self) -> bool {
        self.life != QueueLife::Open
    }

    /// Gives the leader all lines that wait to be written.
    fn hand_over(&mut self, commit: &mut CommitWriter) -> CommitTask {
        std::mem::swap(&mut self.deferred, &mut commit.deferred);
        std::mem::swap(&mut self.intents, &mut commit.intents);
        std::mem::swap(&mut self.waiting, &mut commit.waiting);
        self.drains += 1;
        CommitTask {
            outage: self.outage,
            lost: std::mem::take(&mut self.lost),
            check: std::mem::take(&mut self.check_due),
            sign: std::mem::take(&mut self.sign_due),
        }
    }

    /// Closes the file after the last write and notifies the callers of `close`.
    fn end(&mut self) {
        if let Some(commit) = self.commit.take()
            && let Err(error) = commit.writer.sync()
        {
            tracing::error!(error = %display_chain(&error), "cannot sync the audit log before the stop");
        }
        let unwritten = self.deferred.count() as u64 + self.lost;
        if unwritten > 0 {
            tracing::error!(
                records = unwritten,
                "cannot write the last records of the audit log; they are lost"
            );
        }
        self.life = QueueLife::Closed;
        self.commands.clear();
        for closer in self.closers.drain(..) {
            // The caller may have gone.
            let _ = closer.send(());
        }
    }

    /// Notes the result of a write.
    fn settle(&mut self, commit: &mut CommitWriter, order: CommitTask, answer: &WriteResult, refused: u64, shared: &GroupCommit) {
        match answer {
            Ok(()) => {
                if commit.writer.unsigned() == 0 {
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
                    shared.health.send_replace(JournalHealth::Good);
                }
            }
            Err(error) => {
                // Lines that came meanwhile follow those that could not be written.
                commit.deferred.append(&self.deferred);
                std::mem::swap(&mut self.deferred, &mut commit.deferred);
                self.lost += order.lost;
                self.sign_due |= order.sign;
                let disk_full = error.disk_full();
                if self.outage.is_none() {
                    tracing::error!(error = %display_chain(error), "cannot write the audit log; refusing statements until it is writable");
                    // The thread retries if no other thread submits.
                    shared.wake.notify_one();
                }
                let fault = if disk_full {
                    JournalFault::DiskFull
                } else {
                    JournalFault::WriteFailed
                };
                let since = shared.clock.now();
                self.outage
                    .get_or_insert(WriteOutage {
                        since,
                        fault,
                        refused: 0,
                    })
                    .refused += refused;
                let health = JournalHealth::Failed { disk_full };
                shared.health.send_if_modified(|old| std::mem::replace(old, health) != health);
            }
        }
        commit.deferred.clear();
        commit.intents.clear();
    }
}
