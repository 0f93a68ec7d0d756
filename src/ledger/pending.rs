//! Restrictions that are in effect and not durable yet: they are stored and put on record as soon as possible.
//!
//! This module restricts nothing itself ([`super::restrict`] does, in memory, at once) and never takes a change back.
//!
//! INVARIANT: each item is retried until it is stored and on record, in the order in which the items took effect. The store
//! comes first; a store that fails or is slow does not delay the record, nor does a failing log delay the store. Until then the
//! grant, request or user concerned is given nothing. Each change is stored with a row in `unrecorded`, so that a gate that
//! crashes in between records it at its next start; [`super::replay`] finds a record without a change in the store at the next
//! start.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::cache::{GrantEntry, RequestEntry, StoredUser};
use super::sqlite::together;
use super::views::ChangeEffect;
use super::{LedgerError, LedgerInner, StoreError, row};
use crate::audit::AuditError;
use crate::audit::event::Event;
use crate::base::error_chain::display_chain;
use crate::base::supervision::restarted;
use crate::model::grant::Grant;
use crate::model::request::Request;
use crate::model::sign_in::SignIn;

/// Longest time that an answer waits to report more than "in effect".
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// Longest time that a record waits for the first attempt to store.
const STORE_FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest time that a record waits for an earlier change of the same object that is in progress and comes first in the log.
const TURN_WAIT: Duration = Duration::from_secs(3);
/// Time between two attempts after a failure.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// Longest time that a change that gives rights waits for pending restrictions of the same object.
const SETTLE_WAIT: Duration = Duration::from_secs(2);
/// Time after which a pending restriction is reported as trouble: a healthy store and log need a few milliseconds.
const TROUBLE_AFTER: Duration = Duration::from_secs(1);

/// Object of a restriction, as the restriction leaves it. Its entry stays in memory until that is stored and on record.
pub(super) enum ChangeSubject {
    Grant(Arc<GrantEntry>, Grant),
    Request(Arc<RequestEntry>, Request),
    User(StoredUser),
    SignIn(Box<SignIn>),
    /// Restriction of a former run, which has stored it: only the record is missing.
    Past,
}

/// Restriction that is in effect.
pub(super) struct PendingChange {
    subject: ChangeSubject,
    event: Event<'static>,
    since: Instant,
    progress: watch::Sender<ChangeProgress>,
}

#[derive(Debug, Clone, Copy, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and is waited for by itself"
)]
struct ChangeProgress {
    store_tried: bool,
    stored: bool,
    record_tried: bool,
    recorded: bool,
    /// Row of `unrecorded` that has to be removed, once there is one.
    row: Option<i64>,
}

impl ChangeProgress {
    fn is_over(self) -> bool {
        self.stored && self.recorded && self.row.is_none()
    }
}

impl ChangeSubject {
    fn store(&self, connection: &Connection) -> Result<(), StoreError> {
        match self {
            Self::Grant(_, less) => row::restrict(connection, less),
            Self::Request(_, settled) => row::requests::settle(connection, settled),
            Self::User(less) => row::put_user(connection, less),
            Self::SignIn(ended) => match &ended.ended {
                Some(end) => row::sign_ins::end(connection, &ended.id, end).map(drop),
                None => Ok(()),
            },
            Self::Past => Ok(()),
        }
    }
}

impl PendingChange {
    /// Waits until it is stored and on record, or until each has failed once.
    pub(super) async fn tried(&self) {
        let mut progress = self.progress.subscribe();
        let tried = progress
            .wait_for(|progress| (progress.stored || progress.store_tried) && (progress.recorded || progress.record_tried));
        // The sender lives as long as `self`.
        let _ = tried.await;
    }

    pub(super) fn effect(&self) -> ChangeEffect {
        let ChangeProgress { stored, recorded, .. } = self.progress();
        ChangeEffect {
            in_effect: true,
            stored,
            recorded,
        }
    }

    fn progress(&self) -> ChangeProgress {
        *self.progress.borrow()
    }
}

/// Pending restrictions, in the order in which they took effect.
#[derive(Default)]
pub(super) struct PendingChanges {
    queue: Mutex<PendingQueue>,
    /// Counter that changes whenever items were stored or recorded.
    settled: watch::Sender<u64>,
    #[cfg(test)]
    pub(super) breaks: super::tests::TestPanics,
}

#[derive(Default)]
struct PendingQueue {
    items: VecDeque<Arc<PendingChange>>,
    storing: bool,
    recording: bool,
}

impl PendingChanges {
    /// Returns true if nothing is pending.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.lock().items.is_empty()
    }

    #[cfg(test)]
    pub(super) fn all_recorded(&self) -> bool {
        self.queue.lock().items.iter().all(|item| item.progress().recorded)
    }

    /// Returns the number of restrictions that have been pending for longer than [`TROUBLE_AFTER`].
    pub(super) fn overdue(&self, now: Instant) -> usize {
        let overdue = |item: &&Arc<PendingChange>| now.saturating_duration_since(item.since) > TROUBLE_AFTER;
        self.queue.lock().items.iter().filter(overdue).count()
    }

    /// Returns the newest change of a subject that `concerns` accepts.
    pub(super) fn latest(&self, concerns: impl Fn(&ChangeSubject) -> bool) -> Option<Arc<PendingChange>> {
        let queue = self.queue.lock();
        queue.items.iter().rev().find(|item| concerns(&item.subject)).cloned()
    }

    /// Waits up to [`SETTLE_WAIT`] until no subject that `concerns` accepts is pending; fails if one still is.
    pub(super) async fn is_settled(&self, concerns: impl Fn(&ChangeSubject) -> bool) -> Result<(), LedgerError> {
        let settled = || !self.queue.lock().items.iter().any(|item| concerns(&item.subject));
        self.settles(SETTLE_WAIT, settled)
            .await
            .then_some(())
            .ok_or(LedgerError::Unsettled)
    }

    /// Waits until `settled` holds, at most for `limit`.
    pub(super) async fn settles(&self, limit: Duration, settled: impl Fn() -> bool) -> bool {
        let mut news = self.settled.subscribe();
        let until = async {
            // The sender lives as long as `self`.
            while !settled() && news.changed().await.is_ok() {}
        };
        timeout(limit, until).await.is_ok()
    }

    /// Returns the items that have to be written to the store now; none ends the task.
    fn for_the_store(&self) -> Vec<Arc<PendingChange>> {
        #[cfg(test)]
        self.breaks.break_store();
        let mut queue = self.queue.lock();
        queue.items.retain(|item| !item.progress().is_over());
        let wanted = |item: &&Arc<PendingChange>| {
            let progress = item.progress();
            !progress.stored || (progress.recorded && progress.row.is_some())
        };
        let wanted: Vec<_> = queue.items.iter().filter(wanted).cloned().collect();
        queue.storing = !wanted.is_empty();
        wanted
    }

    /// Returns the next item to be put on record; none ends the task.
    fn for_the_log(&self) -> Option<Arc<PendingChange>> {
        #[cfg(test)]
        self.breaks.break_log();
        let mut queue = self.queue.lock();
        let next = queue.items.iter().find(|item| !item.progress().recorded).cloned();
        queue.recording = next.is_some();
        next
    }

    fn tell(&self) {
        self.queue.lock().items.retain(|item| !item.progress().is_over());
        self.settled.send_modify(|settled| *settled += 1);
    }
}

impl LedgerInner {
    /// Queues a change that takes effect now. It does not block, so it may be called where the change is made.
    pub(super) fn queue_pending(&self, subject: ChangeSubject, event: Event<'static>, since: Instant) -> Arc<PendingChange> {
        self.queue_with(subject, event, since, ChangeProgress::default())
    }

    /// Queues a change that a former run has stored, with the event in this row.
    pub(super) fn queue_unrecorded(&self, row: i64, event: Event<'static>, since: Instant) {
        let progress = ChangeProgress {
            store_tried: true,
            stored: true,
            row: Some(row),
            ..ChangeProgress::default()
        };
        self.queue_with(ChangeSubject::Past, event, since, progress);
    }

    fn queue_with(
        &self,
        subject: ChangeSubject,
        event: Event<'static>,
        since: Instant,
        progress: ChangeProgress,
    ) -> Arc<PendingChange> {
        let item = Arc::new(PendingChange {
            subject,
            event,
            since,
            progress: watch::Sender::new(progress),
        });
        self.pending.queue.lock().items.push_back(Arc::clone(&item));
        item
    }

    /// Starts the tasks that store and record the queue, if they do not run.
    pub(super) fn pursue(self: &Arc<Self>) {
        let (store, log) = {
            let mut queue = self.pending.queue.lock();
            (
                !std::mem::replace(&mut queue.storing, true),
                !std::mem::replace(&mut queue.recording, true),
            )
        };
        if store {
            let inner = Arc::clone(self);
            tokio::spawn(restarted("storing what was taken away", move || {
                Arc::clone(&inner).store_pending()
            }));
        }
        if log {
            let inner = Arc::clone(self);
            tokio::spawn(restarted("recording what was taken away", move || {
                Arc::clone(&inner).record_pending()
            }));
        }
    }

    async fn store_pending(self: Arc<Self>) {
        let mut told = false;
        loop {
            let batch = self.pending.for_the_store();
            if batch.is_empty() {
                return;
            }
            let items = batch.clone();
            match self.store.write(move |connection| write(connection, &items)).await {
                Ok(rows) => {
                    for (item, row) in batch.iter().zip(rows) {
                        item.progress.send_modify(|progress| {
                            (progress.store_tried, progress.stored, progress.row) = (true, true, row);
                        });
                    }
                    self.pending.tell();
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(error = %display_chain(&error), changes = batch.len(), "revocations are in effect but cannot be stored yet; free disk space for the state folder, or look for a process that locks ledger.sqlite");
                    }
                    for item in &batch {
                        item.progress.send_modify(|progress| progress.store_tried = true);
                    }
                    sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    async fn record_pending(self: Arc<Self>) {
        let mut told = false;
        while let Some(item) = self.pending.for_the_log() {
            let mut progress = item.progress.subscribe();
            let tried = progress.wait_for(|progress| progress.stored || progress.store_tried);
            let _ = timeout(STORE_FIRST_WAIT, tried).await;
            match self.record_in_turn(&item).await {
                Ok(()) => {
                    item.progress.send_modify(|progress| {
                        (progress.record_tried, progress.recorded) = (true, true);
                    });
                    self.pending.tell();
                    // The store may have a row to remove.
                    self.pursue();
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(error = %display_chain(&error), "revocations are in effect but cannot be written to the audit log yet; free disk space for it, or repair its folder");
                    }
                    item.progress.send_modify(|progress| progress.record_tried = true);
                    sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    /// Records an item after earlier changes of the same object that are in progress.
    async fn record_in_turn(&self, item: &PendingChange) -> Result<(), AuditError> {
        let (_turn, _users_turn) = match &item.subject {
            ChangeSubject::Grant(entry, _) => (timeout(TURN_WAIT, entry.turn.lock()).await.ok(), None),
            ChangeSubject::Request(entry, _) => (timeout(TURN_WAIT, entry.turn.lock()).await.ok(), None),
            ChangeSubject::User(_) => (None, timeout(TURN_WAIT, self.users_turn.write()).await.ok()),
            // Its beginning is on record before it can end.
            ChangeSubject::SignIn(_) | ChangeSubject::Past => (None, None),
        };
        self.recorder.record(&item.event).await
    }
}

/// Stores changes together with the events that are not on record yet, all or none, and removes the events that are on record
/// by now. Returns for each item its remaining row.
fn write(connection: &Connection, items: &[Arc<PendingChange>]) -> Result<Vec<Option<i64>>, StoreError> {
    let write = |connection: &Connection, item: &PendingChange| {
        let progress = item.progress();
        if let Some(row) = progress.row {
            row::remove_unrecorded(connection, row)?;
        }
        if !progress.stored {
            item.subject.store(connection)?;
        }
        let missing = !progress.stored && !progress.recorded;
        missing.then(|| row::put_unrecorded(connection, &item.event)).transpose()
    };
    together(connection, |connection| {
        items.iter().map(|item| write(connection, item)).collect()
    })
}
