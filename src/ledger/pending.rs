//! Restrictions that are in effect and not durable yet: they are stored and put on record as soon as possible.
//!
//! This module restricts nothing itself ([`super::restrict`] does, in memory, at once) and never takes a change back.
//!
//! INVARIANT: each item is retried until it is stored and on record, in the order in which the items took effect. The store
//! comes first; a store that fails or is slow does not delay the record, nor does a failing log delay the store. Until then the
//! grant, request or user concerned is given nothing. Each change is stored with a row in `unrecorded`, so that a gate that
//! crashes in between records it at its next start; [`super::replay`] finds a record without a change in the store at the next
//! start.

#[cfg(test)]
mod breaks;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::effect::ChangeEffect;
use super::row::restrict::{self, RestrictWrite};
use super::sqlite::together;
use super::{GrantEntry, LedgerInner, requests};
use crate::audit::event::Event;
use crate::base::error_chain::display_chain;
use crate::base::supervision::restarted;
use crate::model::grant::Grant;
use crate::model::ids::{GrantId, RequestId};
use crate::model::names::IdentityName;

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

/// Object of a restriction.
#[derive(Clone)]
pub(super) enum ChangeSubject {
    Grant(Arc<GrantEntry>),
    Request(Arc<requests::RequestEntry>),
    User,
    /// Object of a restriction of a former run: only the record is missing.
    Past,
}

/// Identifier of a [`ChangeSubject`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SubjectKey {
    Grant(GrantId),
    Request(RequestId),
    User(IdentityName),
}

/// Restriction that is in effect.
pub(super) struct PendingChange {
    subject: ChangeSubject,
    key: Option<SubjectKey>,
    write: Option<RestrictWrite>,
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

    fn effect(self) -> ChangeEffect {
        ChangeEffect {
            in_effect: true,
            stored: self.stored,
            recorded: self.recorded,
        }
    }
}

impl PendingChange {
    /// Returns the item of a restriction that leaves the grant as `less`.
    pub(super) fn about_grant(entry: &Arc<GrantEntry>, less: Grant, event: Event<'static>, since: Instant) -> Arc<Self> {
        let key = SubjectKey::Grant(less.id().clone());
        Self::keyed(
            ChangeSubject::Grant(Arc::clone(entry)),
            key,
            RestrictWrite::Grant(less),
            event,
            since,
        )
    }

    pub(super) fn keyed(
        subject: ChangeSubject,
        key: SubjectKey,
        write: RestrictWrite,
        event: Event<'static>,
        since: Instant,
    ) -> Arc<Self> {
        Arc::new(Self {
            subject,
            key: Some(key),
            write: Some(write),
            event,
            since,
            progress: watch::Sender::default(),
        })
    }

    /// Returns the item of a change that a former run has stored.
    pub(super) fn unrecorded(row: i64, event: Event<'static>, since: Instant) -> Arc<Self> {
        let progress = ChangeProgress {
            store_tried: true,
            stored: true,
            row: Some(row),
            ..ChangeProgress::default()
        };
        Arc::new(Self {
            subject: ChangeSubject::Past,
            key: None,
            write: None,
            event,
            since,
            progress: watch::Sender::new(progress),
        })
    }

    /// Waits until it is stored and on record, or until each has failed once.
    pub(super) async fn tried(&self) {
        let mut progress = self.progress.subscribe();
        let tried = progress
            .wait_for(|progress| (progress.stored || progress.store_tried) && (progress.recorded || progress.record_tried));
        // The sender lives as long as `self`.
        let _ = tried.await;
    }

    pub(super) fn effect(&self) -> ChangeEffect {
        self.progress().effect()
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
    pub(super) breaks: breaks::TestPanics,
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

    /// Returns the newest change that is pending for `key`.
    pub(super) fn latest(&self, key: &SubjectKey) -> Option<Arc<PendingChange>> {
        let queue = self.queue.lock();
        queue.items.iter().rev().find(|item| item.key.as_ref() == Some(key)).cloned()
    }

    /// Waits up to [`SETTLE_WAIT`] until nothing is pending for `key`; returns false if something still is.
    pub(super) async fn is_settled(&self, key: &SubjectKey) -> bool {
        self.settles(SETTLE_WAIT, || {
            self.queue.lock().items.iter().all(|item| item.key.as_ref() != Some(key))
        })
        .await
    }

    /// Waits up to [`SETTLE_WAIT`] until nothing is pending; returns false if something still is.
    pub(super) async fn is_all_settled(&self) -> bool {
        self.settles(SETTLE_WAIT, || self.is_empty()).await
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
    pub(super) fn queue_pending(&self, item: Arc<PendingChange>) {
        self.pending.queue.lock().items.push_back(item);
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
    async fn record_in_turn(&self, item: &PendingChange) -> Result<(), crate::audit::AuditError> {
        match &item.subject {
            ChangeSubject::Grant(entry) => {
                let _turn = timeout(TURN_WAIT, entry.committing.lock()).await;
                self.recorder.record(&item.event).await
            }
            ChangeSubject::Request(entry) => {
                let _turn = timeout(TURN_WAIT, entry.stepping.lock()).await;
                self.recorder.record(&item.event).await
            }
            ChangeSubject::User => {
                let _turn = timeout(TURN_WAIT, self.users_turn.write()).await;
                self.recorder.record(&item.event).await
            }
            ChangeSubject::Past => self.recorder.record(&item.event).await,
        }
    }
}

/// Stores changes together with the events that are not on record yet, all or none, and removes the events that are on record
/// by now. Returns for each item its remaining row.
fn write(connection: &Connection, items: &[Arc<PendingChange>]) -> Result<Vec<Option<i64>>, super::StoreError> {
    together(connection, |connection| {
        let mut rows = Vec::with_capacity(items.len());
        for item in items {
            let progress = item.progress();
            let row = match &item.write {
                Some(write) if !progress.stored => {
                    restrict::apply(connection, write)?;
                    let missing = !progress.recorded;
                    missing
                        .then(|| restrict::put_unrecorded(connection, &item.event))
                        .transpose()?
                }
                _ => {
                    progress
                        .row
                        .map(|row| restrict::remove_unrecorded(connection, row))
                        .transpose()?;
                    None
                }
            };
            rows.push(row);
        }
        Ok(rows)
    })
}
