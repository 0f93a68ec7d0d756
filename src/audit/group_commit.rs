//! Group commit: turns the lines of many sessions into few writes, and decides which thread writes next.
//!
//! This module does not touch the file (the writer does) and is private to the journal.
//!
//! The writer with its buffers is a token: the thread that takes it is the leader, writes outside the lock, and puts it back.
//! Other threads leave their lines in the queue as followers; the leader's next round writes them all at once.
//!
//! INVARIANT: queued intents always have a thread that will write them: a leader in its rounds, or the journal's thread,
//! which was woken. Deferred lines are written before intents, so an outcome never comes after a later intent of its session.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::encode::{LineBuffer, RecordBatch};
use super::event::{Event, JournalFault, JournalHealed};
use super::stats::Stats;
use super::writer::SegmentWriter;
use super::{AuditError, Durability};
use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;

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

/// State of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalHealth {
    /// The last write succeeded.
    Good,
    /// The last write failed. Each submission retries it, and so does the journal several times a second.
    Failed {
        /// True if the disk is full.
        disk_full: bool,
    },
}

/// State of a submission.
#[derive(Debug)]
#[must_use = "a statement may be forwarded only when its record is written"]
pub enum SubmissionResult {
    /// It is written, or failed.
    Done(Result<(), AuditError>),
    /// Another thread is writing and includes it.
    Waiting(SubmissionFuture),
}

impl SubmissionResult {
    /// Waits until it is written or has failed.
    pub async fn wait(self) -> Result<(), AuditError> {
        match self {
            Self::Done(answer) => answer,
            Self::Waiting(waiting) => waiting.await,
        }
    }
}

/// Future of a submission that is being written, or of another task of the journal's thread. Dropping it does not cancel the
/// task.
#[derive(Debug)]
pub struct SubmissionFuture<T = ()>(oneshot::Receiver<Result<T, AuditError>>);

impl<T> SubmissionFuture<T> {
    /// Waits for the answer on a thread that may block.
    pub(super) fn wait_blocking(self) -> Result<T, AuditError> {
        self.0.blocking_recv().unwrap_or(Err(AuditError::Closed))
    }
}

impl<T> Future for SubmissionFuture<T> {
    type Output = Result<T, AuditError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A sender that is dropped without an answer counts as not written.
        Pin::new(&mut self.0)
            .poll(context)
            .map(|answer| answer.unwrap_or(Err(AuditError::Closed)))
    }
}

/// State that the journal's clones and its thread share.
pub(super) struct GroupCommit {
    queue: Mutex<CommitQueue>,
    /// Wakes the journal's thread.
    wake: Condvar,
    pub(super) health: watch::Sender<JournalHealth>,
    pub(super) clock: Clock,
    pub(super) stats: Arc<Mutex<Stats>>,
    durability: Durability,
}

#[derive(Default)]
struct CommitQueue {
    next: WriteBatch,
    /// Tasks for the thread.
    commands: Vec<WriterCommand>,
    /// Writer and buffers; absent while a thread leads, and after the end.
    commit: Option<Box<CommitWriter>>,
    outage: Option<WriteOutage>,
    /// Number of times that a batch was taken for writing.
    drains: u64,
    /// True if the thread waits until it is woken, or until lines have to be signed.
    asleep: bool,
    /// Time at which the oldest line that no checkpoint covers was written.
    unsigned_since: Option<Instant>,
    life: QueueLife,
    closers: Vec<oneshot::Sender<()>>,
}

/// Lines of one write, and what else it does.
#[derive(Default)]
struct WriteBatch {
    deferred: LineBuffer,
    intents: LineBuffer,
    /// Submissions that wait for `intents`.
    waiting: Vec<oneshot::Sender<Result<(), AuditError>>>,
    /// Number of deferred lines that were dropped in an outage.
    lost: u64,
    /// True if the file is checked first.
    check: bool,
    /// True if a checkpoint follows the lines.
    sign: bool,
}

/// Task of the journal's thread other than writing.
type WriterCommand = Box<dyn FnOnce(&mut SegmentWriter, Timestamp) + Send>;

/// Right to write, with the buffers for it.
struct CommitWriter {
    writer: SegmentWriter,
    note: LineBuffer,
    batch: WriteBatch,
    /// Outage in which the batch was taken.
    outage: Option<WriteOutage>,
}

/// Time since which no record can be written, with the cause.
#[derive(Clone, Copy)]
struct WriteOutage {
    since: Timestamp,
    fault: JournalFault,
    refused: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum QueueLife {
    #[default]
    Open,
    /// Accepts no more lines; those accepted are being written.
    Closing,
    Closed,
}

impl GroupCommit {
    pub(super) fn new(writer: SegmentWriter, durability: Durability, clock: Clock, first: LineBuffer) -> Self {
        let stats = Arc::clone(&writer.stats);
        let commit = Box::new(CommitWriter {
            writer,
            note: LineBuffer::default(),
            batch: WriteBatch::default(),
            outage: None,
        });
        Self {
            queue: Mutex::new(CommitQueue {
                next: WriteBatch {
                    deferred: first,
                    ..WriteBatch::default()
                },
                commit: Some(commit),
                ..CommitQueue::default()
            }),
            wake: Condvar::new(),
            health: watch::Sender::new(JournalHealth::Good),
            clock,
            stats,
            durability,
        }
    }

    /// Queues lines for the leader, or for the journal's thread. With `inline`, writes them at once if no other thread is
    /// writing and they need no sync.
    pub(super) fn submit(&self, batch: &RecordBatch, inline: bool) -> SubmissionResult {
        let lines = &batch.lines;
        if batch.incomplete {
            return SubmissionResult::Done(Err(AuditError::Encode));
        }
        if lines.is_empty() {
            return SubmissionResult::Done(Ok(()));
        }
        let mut queue = self.queue.lock();
        if queue.is_closing() {
            return SubmissionResult::Done(Err(AuditError::Closed));
        }
        let inline = inline && self.durability == Durability::Process && queue.next.intents.is_empty();
        if inline && let Some(commit) = queue.commit.take() {
            return SubmissionResult::Done(CommitLeader::of(self, commit).lead(queue, lines));
        }
        let (sender, receiver) = oneshot::channel();
        queue.next.intents.append(lines);
        queue.next.waiting.push(sender);
        // A leader that is writing will see them; otherwise the thread must be woken.
        let idle = queue.commit.is_some();
        drop(queue);
        if idle {
            self.wake.notify_one();
        }
        SubmissionResult::Waiting(SubmissionFuture(receiver))
    }

    /// Keeps lines for the next write. With `inline`, writes them at once if too many wait; without, wakes the thread for them.
    pub(super) fn defer(&self, lines: &LineBuffer, inline: bool) {
        if lines.is_empty() {
            return;
        }
        let mut queue = self.queue.lock();
        let size = queue.next.deferred.size();
        if queue.is_closing() || (queue.outage.is_some() && size + lines.size() > MAX_RETAINED_BYTES) {
            queue.next.lost += lines.count() as u64;
            return;
        }
        queue.next.deferred.append(lines);
        let full = size + lines.size() >= MAX_DEFERRED_BYTES && queue.outage.is_none();
        if full
            && inline
            && self.durability == Durability::Process
            && let Some(commit) = queue.commit.take()
        {
            // After a failure the lines are kept, and `health` reports it.
            let _ = CommitLeader::of(self, commit).lead(queue, &LineBuffer::default());
            return;
        }
        let wake = std::mem::take(&mut queue.asleep) || ((full || !inline) && queue.commit.is_some());
        drop(queue);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Queues a task for the thread. After the end it is dropped, and with it the sender of its answer.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(&mut SegmentWriter, Timestamp) -> Result<T, AuditError> + Send + 'static,
    ) -> SubmissionFuture<T> {
        let (done, receiver) = oneshot::channel();
        let mut queue = self.queue.lock();
        if !queue.is_closing() {
            // Its caller may have gone.
            queue.commands.push(Box::new(move |writer: &mut SegmentWriter, now| {
                drop(done.send(command(writer, now)));
            }));
        }
        drop(queue);
        self.wake.notify_one();
        SubmissionFuture(receiver)
    }

    /// Stops accepting lines; the receiver is notified when all accepted lines are written and the file is closed.
    pub(super) fn close(&self) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        let mut queue = self.queue.lock();
        if queue.life != QueueLife::Closed {
            queue.life = QueueLife::Closing;
            queue.closers.push(done);
        }
        drop(queue);
        self.wake.notify_one();
        receiver
    }

    /// Runs the journal's thread, which writes the lines that no other thread writes, until the end.
    pub(super) fn run(&self) {
        let _end = ThreadsEnd(self);
        let mut seen = 0;
        let mut ticks = 0_u32;
        let mut queue = self.queue.lock();
        loop {
            if !queue.commands.is_empty()
                && let Some(commit) = queue.commit.take()
            {
                let commands = std::mem::take(&mut queue.commands);
                drop(queue);
                CommitLeader::of(self, commit).run(commands);
                queue = self.queue.lock();
            }
            let overdue = !queue.next.deferred.is_empty() && queue.drains == seen;
            queue.next.sign |= queue.is_closing() || self.is_signature_due(&queue);
            let due =
                !queue.next.intents.is_empty() || overdue || queue.next.sign || queue.outage.is_some() || queue.is_closing();
            seen = queue.drains;
            if due && let Some(commit) = queue.commit.take() {
                let closing = queue.is_closing();
                let _ = CommitLeader::of(self, commit).lead(queue, &LineBuffer::default());
                queue = self.queue.lock();
                if closing && queue.next.intents.is_empty() {
                    return queue.end();
                }
                if !queue.next.intents.is_empty() {
                    continue;
                }
            }
            // Tasks may have come while the lock was released.
            if !queue.commands.is_empty() && queue.commit.is_some() {
                continue;
            }
            ticks = ticks.wrapping_add(1);
            queue.next.check |= ticks.is_multiple_of(TICKS_PER_CHECK);
            self.rest(&mut queue);
        }
    }

    fn is_signature_due(&self, queue: &CommitQueue) -> bool {
        let waited = queue
            .unsigned_since
            .map(|since| self.clock.moment().instant.saturating_duration_since(since));
        waited.is_some_and(|waited| waited >= MAX_UNSIGNED_AGE)
    }

    /// Waits until there may be work.
    fn rest(&self, queue: &mut MutexGuard<'_, CommitQueue>) {
        let pause = match (&queue.outage, queue.commit.is_some()) {
            (Some(_), true) if !queue.is_closing() => Some(RETRY_INTERVAL),
            _ if !queue.next.deferred.is_empty() || queue.is_closing() || queue.commit.is_none() => Some(TICK_INTERVAL),
            _ => {
                // A thread with lines wakes it; until then there may only be lines to sign.
                queue.asleep = true;
                queue.next.check = true;
                queue.unsigned_since.map(|_| MAX_UNSIGNED_AGE)
            }
        };
        match pause {
            Some(pause) => _ = self.wake.wait_for(queue, pause),
            None => self.wake.wait(queue),
        }
        queue.asleep = false;
    }
}

impl CommitQueue {
    fn is_closing(&self) -> bool {
        self.life != QueueLife::Open
    }

    /// Gives the leader all lines that wait to be written.
    fn hand_over(&mut self, commit: &mut CommitWriter) {
        std::mem::swap(&mut self.next, &mut commit.batch);
        commit.outage = self.outage;
        self.drains += 1;
    }

    /// Notes the result of a write that `refused` so many submissions if it failed.
    fn settle(&mut self, commit: &mut CommitWriter, answer: &Result<(), AuditError>, refused: u64, shared: &GroupCommit) {
        let CommitWriter { writer, batch, .. } = commit;
        match answer {
            Ok(()) => {
                if writer.unsigned() == 0 {
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
                batch.deferred.append(&self.next.deferred);
                std::mem::swap(&mut self.next.deferred, &mut batch.deferred);
                self.next.lost += batch.lost;
                self.next.sign |= batch.sign;
                let disk_full = error.disk_full();
                if self.outage.is_none() {
                    tracing::error!(error = %display_chain(error), "cannot write the audit log; refusing statements until it is writable");
                    // The thread retries if no other thread submits.
                    shared.wake.notify_one();
                }
                let outage = self.outage.get_or_insert_with(|| WriteOutage {
                    since: shared.clock.now(),
                    fault: if disk_full {
                        JournalFault::DiskFull
                    } else {
                        JournalFault::WriteFailed
                    },
                    refused: 0,
                });
                outage.refused += refused;
                let health = JournalHealth::Failed { disk_full };
                shared.health.send_if_modified(|old| std::mem::replace(old, health) != health);
            }
        }
        batch.deferred.clear();
        batch.intents.clear();
        (batch.lost, batch.check, batch.sign) = (0, false, false);
    }

    /// Closes the file after the last write and notifies the callers of `close`.
    fn end(&mut self) {
        if let Some(commit) = self.commit.take()
            && let Err(error) = commit.writer.sync()
        {
            tracing::error!(error = %display_chain(&error), "cannot sync the audit log before the stop");
        }
        let unwritten = self.next.deferred.count() as u64 + self.next.lost;
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
}

/// Closes the journal when its thread ends, for whatever reason, because no thread is left that would write waiting lines.
struct ThreadsEnd<'a>(&'a GroupCommit);

impl Drop for ThreadsEnd<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        if queue.life == QueueLife::Closed {
            return;
        }
        // Waiting submitters are notified by the end of their channels.
        queue.life = QueueLife::Closed;
        queue.next.waiting.clear();
        queue.commands.clear();
        queue.closers.clear();
        drop(queue);
        self.0.health.send_replace(JournalHealth::Failed { disk_full: false });
    }
}

/// Writer in use by a thread; it goes back to the queue even if the thread panics.
struct CommitLeader<'a> {
    shared: &'a GroupCommit,
    commit: Option<Box<CommitWriter>>,
}

impl<'a> CommitLeader<'a> {
    fn of(shared: &'a GroupCommit, commit: Box<CommitWriter>) -> Self {
        Self {
            shared,
            commit: Some(commit),
        }
    }

    /// Runs tasks of the journal's thread.
    fn run(&mut self, commands: Vec<WriterCommand>) {
        if let Some(commit) = self.commit.as_mut() {
            for command in commands {
                command(&mut commit.writer, self.shared.clock.now());
            }
        }
    }

    /// Writes the queued lines and `own` (the leader's lines, which are not in the queue), then the lines that others queued
    /// meanwhile; returns the result of the first write.
    fn lead(mut self, mut queue: MutexGuard<'a, CommitQueue>, own: &LineBuffer) -> Result<(), AuditError> {
        let Some(commit) = self.commit.as_mut() else {
            return Err(AuditError::Closed);
        };
        let none = LineBuffer::default();
        let (mut own, mut first, mut round) = (own, None, 0);
        loop {
            queue.hand_over(commit);
            drop(queue);
            let answer = commit.write(own, &self.shared.clock);
            let refused = (own.count() + commit.batch.intents.count()) as u64;
            let waiting = commit.batch.waiting.drain(..);
            waiting.for_each(|waiting| drop(waiting.send(answer.clone())));
            queue = self.shared.queue.lock();
            queue.settle(commit, &answer, refused, self.shared);
            first.get_or_insert(answer);
            (own, round) = (&none, round + 1);
            if queue.next.intents.is_empty() || round > MAX_LEADER_ROUNDS {
                break;
            }
        }
        let more = !queue.next.intents.is_empty();
        queue.commit = self.commit.take();
        drop(queue);
        if more {
            self.shared.wake.notify_one();
        }
        first.unwrap_or(Err(AuditError::Closed))
    }
}

impl Drop for CommitLeader<'_> {
    fn drop(&mut self) {
        if let Some(mut commit) = self.commit.take() {
            // It has lines only after a panic: their submitters get an error, because the sender is dropped.
            commit.batch.waiting.clear();
            commit.batch.intents.clear();
            self.shared.queue.lock().commit = Some(commit);
        }
    }
}

impl CommitWriter {
    /// Writes once: a note about earlier faults, deferred lines, the followers' lines, the leader's own, and a checkpoint if
    /// one is due.
    fn write(&mut self, own: &LineBuffer, clock: &Clock) -> Result<(), AuditError> {
        self.note.clear();
        let now = clock.now();
        if self.outage.is_some() || self.batch.lost > 0 {
            let outage = self.outage;
            self.remark(
                now,
                JournalHealed {
                    since: outage.map(|outage| outage.since),
                    refused: outage.map_or(0, |outage| outage.refused),
                    lost: self.batch.lost,
                    ..JournalHealed::of(outage.map_or(JournalFault::WriteFailed, |outage| outage.fault))
                },
            );
        }
        if self.batch.check && !self.writer.check_in_place() {
            tracing::error!("the open audit segment was removed, replaced or truncated; starting a new one");
            self.remark(now, JournalHealed::of(JournalFault::FileLost));
        }
        let WriteBatch {
            deferred, intents, sign, ..
        } = &self.batch;
        self.writer.write(&[&self.note, deferred, intents, own], *sign, now)
    }

    fn remark(&mut self, now: Timestamp, healed: JournalHealed) {
        // Encoding this event cannot fail; if it did, the records themselves would still have to be written.
        let _ = self.note.push(now, &Event::JournalHealed(healed));
    }
}
