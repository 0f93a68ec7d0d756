//! The journal: the one way into the log.
//!
//! It does not decide what is recorded, and does not read the log. Sessions submit intents (and forward only when they are
//! written) and defer outcomes (which nobody waits for).
//!
//! The law: a submission that is `Done(Ok)` is written as [`super::Durability`] says. In the uncontended case submitting is
//! a short lock and one `write`, on the caller's thread, with no allocation and no hand-over.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

use super::desk::Errand;
use super::encode::{Batch, Lines};
use super::event::Event;
use super::key::PublicKey;
use super::queue::{Queued, Shared};
use super::writer::Writer;
use super::{AuditError, RememberedTip, Settings, SignedTip, Written};
use crate::clock::Clock;
use crate::ids::LogId;
use crate::supervision::{self, ThreadEnd};

/// The journal. Cheap to clone; clones are the same journal. When the last is dropped, what is deferred is written.
#[derive(Debug, Clone)]
pub struct Journal(Arc<Owner>);

#[derive(Debug)]
struct Owner {
    log: LogId,
    gap: Option<String>,
    shared: Arc<Shared>,
    settings: Settings,
    thread: Mutex<Option<JoinHandle<()>>>,
    thread_end: ThreadEnd,
}

/// Whether records can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// The last write succeeded.
    Good,
    /// The last write failed. It is tried again with each submission, and several times a second without one.
    Failed {
        /// For lack of space.
        disk_full: bool,
    },
}

/// What became of a submission.
#[derive(Debug)]
#[must_use = "a statement may be forwarded only when its record is written"]
pub enum Submission {
    /// It is written, or failed.
    Done(Result<(), AuditError>),
    /// Somebody else is writing and takes it along.
    Waiting(Waiting),
}

impl Submission {
    /// Waits until it is written or has failed.
    pub async fn wait(self) -> Result<(), AuditError> {
        match self {
            Self::Done(answer) => answer,
            Self::Waiting(waiting) => waiting.await,
        }
    }
}

/// Resolves when the submission is written or has failed. Dropping it does not take the submission back.
#[derive(Debug)]
pub struct Waiting(oneshot::Receiver<Result<(), AuditError>>);

impl Future for Waiting {
    type Output = Result<(), AuditError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A sender that is gone without a word: not written as far as anybody knows.
        Pin::new(&mut self.0)
            .poll(context)
            .map(|answer| answer.unwrap_or(Err(AuditError::Closed)))
    }
}

impl Journal {
    /// Opens the log's folder (making it, 0700, if need be), takes it for this process, cuts off an unfinished last line,
    /// and goes on with the chain. What it finds to be wrong with the log it puts on record.
    pub fn open(settings: &Settings, clock: Clock) -> Result<Self, AuditError> {
        Self::open_remembered(settings, &RememberedTip::NotAsked, clock)
    }

    /// The same for a log whose end a ledger remembers. What is missing of it does not keep the journal from going on: it is the first
    /// thing on record.
    pub fn open_remembered(settings: &Settings, remembered: &RememberedTip, clock: Clock) -> Result<Self, AuditError> {
        let mut first = Lines::default();
        let writer = Writer::open(settings, remembered, clock.now(), &mut first)?;
        let (log, gap) = (writer.log().clone(), writer.gap().map(str::to_owned));
        let shared = Arc::new(Shared::new(writer, settings.durability, clock, first));
        let work = Arc::clone(&shared);
        let (thread, thread_end) =
            supervision::thread("audit", move || work.run()).map_err(|error| AuditError::open(&settings.dir, error))?;
        Ok(Self(Arc::new(Owner {
            shared,
            log,
            gap,
            settings: settings.clone(),
            thread: Mutex::new(Some(thread)),
            thread_end,
        })))
    }

    /// Which log this is: the same for as long as the gate's log folder is.
    #[must_use]
    pub fn log(&self) -> &LogId {
        &self.0.log
    }

    /// What this start found to be missing of the log, in words.
    #[must_use]
    pub fn gap(&self) -> Option<&str> {
        self.0.gap.as_deref()
    }

    /// Submits intents: records of what is about to happen. The batch is empty afterwards, whatever the answer.
    ///
    /// Only when the answer is `Ok` may that happen. An error means that none of the batch is in the log.
    pub fn submit(&self, batch: &mut Batch) -> Submission {
        if cfg!(feature = "unlogged") {
            batch.clear();
            return Submission::Done(Ok(()));
        }
        let submission = if batch.incomplete {
            Submission::Done(Err(AuditError::Encode))
        } else {
            match self.0.shared.submit(&batch.lines) {
                Queued::Done(answer) => Submission::Done(answer),
                Queued::Waiting(receiver) => Submission::Waiting(Waiting(receiver)),
            }
        };
        batch.clear();
        submission
    }

    /// Hands over records of what has already happened: written with the next submission, or soon (20 ms). When the log
    /// cannot be written they are kept until it can, up to a limit; beyond it they are counted, and the count is recorded.
    pub fn defer(&self, batch: &mut Batch) {
        if !cfg!(feature = "unlogged") {
            self.0.shared.defer(&batch.lines);
        }
        batch.clear();
    }

    /// Records one event, at this moment, and waits until it is written. The journal's thread writes it: a disk that hangs holds up
    /// who waits for this answer, and not the thread that serves others.
    pub async fn record(&self, event: &Event<'_>) -> Result<(), AuditError> {
        let mut batch = Batch::new();
        batch.push(self.0.shared.clock.now(), event);
        if cfg!(feature = "unlogged") {
            return Ok(());
        }
        if batch.incomplete {
            return Err(AuditError::Encode);
        }
        match self.0.shared.leave(&batch.lines) {
            Queued::Done(answer) => answer,
            Queued::Waiting(receiver) => Waiting(receiver).await,
        }
    }

    /// Hands over a record of what has happened, at this moment, and waits for nothing; see [`Journal::defer`].
    pub fn note(&self, event: &Event<'_>) {
        let mut batch = Batch::new();
        batch.push(self.0.shared.clock.now(), event);
        if !cfg!(feature = "unlogged") {
            self.0.shared.keep(&batch.lines);
        }
    }

    /// The same for a thread that may block.
    pub(super) fn record_blocking(&self, event: &Event<'_>) -> Result<(), AuditError> {
        let mut batch = Batch::new();
        batch.push(self.0.shared.clock.now(), event);
        match self.submit(&mut batch) {
            Submission::Done(answer) => answer,
            Submission::Waiting(Waiting(receiver)) => receiver.blocking_recv().unwrap_or(Err(AuditError::Closed)),
        }
    }

    /// Signs what is not signed yet and gives the line of the latest checkpoint; none if nothing was ever written in this run.
    pub async fn checkpoint(&self) -> Result<Option<String>, AuditError> {
        let (done, answer) = oneshot::channel();
        self.0.shared.ask(Errand::Checkpoint(done));
        answer.await.unwrap_or(Err(AuditError::Closed))
    }

    /// The same for a thread that may block.
    pub(super) fn checkpoint_blocking(&self) -> Result<Option<String>, AuditError> {
        let (done, answer) = oneshot::channel();
        self.0.shared.ask(Errand::Checkpoint(done));
        answer.blocking_recv().unwrap_or(Err(AuditError::Closed))
    }

    /// Signs with a new key from now on, for which the old one vouches on record; returns the new one. On an error the old one
    /// goes on.
    pub async fn rotate_key(&self, by: &str) -> Result<PublicKey, AuditError> {
        let (done, answer) = oneshot::channel();
        let by = by.to_owned();
        self.0.shared.ask(Errand::RotateKey { by, done });
        answer.await.unwrap_or(Err(AuditError::Closed))
    }

    /// Returns the end of its thread. It comes with the journal's own; earlier, nothing can be relied on to be written any more.
    #[must_use]
    pub fn thread_end(&self) -> ThreadEnd {
        self.0.thread_end.clone()
    }

    /// Makes its thread panic.
    #[cfg(test)]
    pub(crate) fn break_thread(&self) {
        self.0.shared.ask(Errand::Panic);
    }

    /// What was written so far.
    #[must_use]
    pub fn written(&self) -> Written {
        self.0.shared.tally.now()
    }

    /// The place that the newest checkpoint of this run signs; none before the first write.
    #[must_use]
    pub fn signed_tip(&self) -> Option<SignedTip> {
        self.0.shared.tally.signed_tip()
    }

    /// The settings it was opened with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Whether records can be written, and news of it.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.0.shared.health.subscribe()
    }

    /// Writes what is deferred, syncs the file and gives the folder free. Submissions after it fail with
    /// [`AuditError::Closed`].
    pub async fn close(&self) {
        // The sender is dropped when the journal is closed already: just as good.
        let _ = self.0.shared.close().await;
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.shared.close());
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Its result would only say whether it panicked, which the panic hook has told.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
