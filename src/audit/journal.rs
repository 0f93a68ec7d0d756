//! Journal: the only writer of the log.
//!
//! This module does not decide what is recorded, and does not read the log. Sessions submit intents (and forward a statement
//! only after its intent is written) and defer outcomes (for which they do not wait).
//!
//! INVARIANT: a submission that is `Done(Ok)` is written as [`super::Durability`] says. Without contention, a submission is a
//! short lock and one `write`, on the caller's thread, without allocation and without a switch of threads.

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::encode::{LineBuffer, RecordBatch};
use super::event::Event;
use super::group_commit::{GroupCommit, JournalHealth, SubmissionResult};
use super::key::PublicKey;
use super::saved_checkpoint::RememberedTip;
use super::stats::{SignedTip, StatsSnapshot};
use super::writer::SegmentWriter;
use super::{AuditError, JournalSettings};
use crate::base::clock::Clock;
use crate::base::supervision::{self, ThreadEnd};
use crate::model::ids::LogId;

/// Handle of the journal. Cheap to clone; clones share one journal. When the last one is dropped, deferred records are written.
#[derive(Clone)]
pub struct Journal(Arc<JournalOwner>);

struct JournalOwner {
    log: LogId,
    gap: Option<String>,
    shared: Arc<GroupCommit>,
    settings: JournalSettings,
    thread: Option<JoinHandle<()>>,
    thread_end: ThreadEnd,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Journal").field(&self.0.log).finish()
    }
}

impl Journal {
    /// Opens the log's folder (created with mode 0700 if needed), locks it for this process, cuts off an unfinished last line,
    /// and continues the chain. Faults that it finds in the log are recorded.
    pub fn open(settings: &JournalSettings, clock: Clock) -> Result<Self, AuditError> {
        Self::open_remembered(settings, &RememberedTip::NotAsked, clock)
    }

    /// Opens a log whose end a ledger remembers. Missing lines do not keep the journal from going on: they are the first thing
    /// that it records.
    pub fn open_remembered(settings: &JournalSettings, remembered: &RememberedTip, clock: Clock) -> Result<Self, AuditError> {
        Self::start(settings, remembered, clock, GroupCommit::run)
    }

    /// Opens the log without the thread of the journal: deferred records are written with the next submission only.
    #[cfg(test)]
    pub(crate) fn open_without_thread(settings: &JournalSettings, clock: Clock) -> Result<Self, AuditError> {
        Self::start(settings, &RememberedTip::NotAsked, clock, |_| {})
    }

    fn start(
        settings: &JournalSettings,
        remembered: &RememberedTip,
        clock: Clock,
        work: impl FnOnce(&GroupCommit) + Send + 'static,
    ) -> Result<Self, AuditError> {
        let mut first = LineBuffer::default();
        let writer = SegmentWriter::open(settings, remembered, clock.now(), &mut first)?;
        let (log, gap) = (writer.log.clone(), writer.gap.clone());
        let shared = Arc::new(GroupCommit::new(writer, settings.durability, clock, first));
        let of_thread = Arc::clone(&shared);
        let (thread, thread_end) =
            supervision::thread("audit", move || work(&of_thread)).map_err(|error| AuditError::open(&settings.dir, error))?;
        Ok(Self(Arc::new(JournalOwner {
            shared,
            log,
            gap,
            settings: settings.clone(),
            thread: Some(thread),
            thread_end,
        })))
    }

    /// Returns the id of the log, which stays the same for the life of the log folder.
    #[must_use]
    pub fn log(&self) -> &LogId {
        &self.0.log
    }

    /// Returns a description of the lines that this start found to be missing.
    #[must_use]
    pub fn gap(&self) -> Option<&str> {
        self.0.gap.as_deref()
    }

    /// Submits intents: records of what is about to happen. The batch is empty afterwards, whatever the result.
    ///
    /// The caller may act only if the result is `Ok`. An error means that no record of the batch is in the log.
    pub fn submit(&self, batch: &mut RecordBatch) -> SubmissionResult {
        let submission = self.0.shared.submit(batch, true);
        batch.clear();
        submission
    }

    /// Hands over records of what has already happened: they are written with the next submission, or within 20 ms. If the log
    /// cannot be written they are kept until it can, up to a limit; beyond it they are counted, and the count is recorded.
    pub fn defer(&self, batch: &mut RecordBatch) {
        self.0.shared.defer(&batch.lines, true);
        batch.clear();
    }

    /// Records one event with the current time, and waits until it is written. The journal's thread writes it: a disk that
    /// hangs delays the caller of this function and not the thread that serves other sessions.
    pub async fn record(&self, event: &Event<'_>) -> Result<(), AuditError> {
        let submission = self.0.shared.submit(&self.batch(event), false);
        submission.wait().await
    }

    /// Hands over a record of an event with the current time, without waiting; see [`Journal::defer`].
    pub fn note(&self, event: &Event<'_>) {
        self.0.shared.defer(&self.batch(event).lines, false);
    }

    /// Records one event, on a thread that may block.
    pub(super) fn record_blocking(&self, event: &Event<'_>) -> Result<(), AuditError> {
        match self.0.shared.submit(&self.batch(event), true) {
            SubmissionResult::Done(answer) => answer,
            SubmissionResult::Waiting(waiting) => waiting.wait_blocking(),
        }
    }

    /// Returns a batch of one event with the current time.
    fn batch(&self, event: &Event<'_>) -> RecordBatch {
        let mut batch = RecordBatch::new();
        batch.push(self.0.shared.clock.now(), event);
        batch
    }

    /// Signs the unsigned lines and returns the line of the latest checkpoint; `None` if nothing was written in this run.
    pub async fn checkpoint(&self) -> Result<Option<String>, AuditError> {
        self.0.shared.ask(SegmentWriter::checkpoint).await
    }

    /// Signs like [`Journal::checkpoint`], on a thread that may block.
    pub(super) fn checkpoint_blocking(&self) -> Result<Option<String>, AuditError> {
        self.0.shared.ask(SegmentWriter::checkpoint).wait_blocking()
    }

    /// Replaces the signing key by a new one, for which the old one vouches on record; returns the new one. After an error the
    /// old one stays in use.
    pub async fn rotate_key(&self, by: &str) -> Result<PublicKey, AuditError> {
        let by = by.to_owned();
        self.0.shared.ask(move |writer, now| writer.rotate_key(&by, now)).await
    }

    /// Returns a handle for the end of the journal's thread. It ends with the journal; if it ends earlier, records may not be
    /// written any more.
    #[must_use]
    pub fn thread_end(&self) -> ThreadEnd {
        self.0.thread_end.clone()
    }

    /// Makes its thread panic.
    #[cfg(test)]
    pub(crate) fn break_thread(&self) {
        drop(self.0.shared.ask::<()>(|_, _| panic!("as a test wants it")));
    }

    /// Returns counters of what was written so far.
    #[must_use]
    pub fn written(&self) -> StatsSnapshot {
        self.0.shared.stats.lock().counts
    }

    /// Returns the tip that the newest checkpoint of this run signs; `None` before the first write.
    #[must_use]
    pub fn signed_tip(&self) -> Option<SignedTip> {
        self.0.shared.stats.lock().signed_tip.clone()
    }

    /// Returns the settings with which it was opened.
    #[must_use]
    pub fn settings(&self) -> &JournalSettings {
        &self.0.settings
    }

    /// Returns the state of writing, and its changes.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<JournalHealth> {
        self.0.shared.health.subscribe()
    }

    /// Writes deferred records, syncs the file and unlocks the folder. Later submissions fail with
    /// [`AuditError::Closed`].
    pub async fn close(&self) {
        // The sender is dropped if the journal is closed already, which is fine.
        let _ = self.0.shared.close().await;
    }
}

impl Drop for JournalOwner {
    fn drop(&mut self) {
        drop(self.shared.close());
        if let Some(thread) = self.thread.take() {
            // Its result only says whether it panicked, which the panic hook has logged.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
