//! Changes that took rights away and are not durable yet: what is in effect is stored and put on record as soon as it can be.
//!
//! It takes nothing away itself ([`super::restrict`] does, in memory, at once) and never takes a change back.
//!
//! INVARIANT: what is in here is tried again until it is stored and on record, in the order it took effect. The store comes first; a
//! store that fails or takes long does not hold up the record, nor a log that fails the store. Until then nothing is given to whom or
//! what it concerns. A row of `unrecorded` is written with each change, so that a gate that dies in between records it at its next
//! start; a record without a change in the store is found at the next start by [`super::replay`].

#[cfg(test)]
mod breaks;
mod effect;

pub use effect::Effect;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::row::restrict::{self, Write};
use super::{Entry, Inner, requests};
use crate::audit::event::Event;
use crate::causes::in_one_line;
use crate::grant::Grant;
use crate::ids::{GrantId, RequestId};
use crate::names::IdentityName;
use crate::supervision::restarted;

/// The longest that an answer waits to be able to say more than "in effect".
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// The longest that a record waits for the store to have been tried.
const STORE_FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest that a record waits for a change of the same thing that was on its way before, and keeps its place in the log.
const TURN_WAIT: Duration = Duration::from_secs(3);
/// The time between two tries of what failed.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// The longest that whoever gives something waits for what is pending there.
const SETTLE_WAIT: Duration = Duration::from_secs(2);
/// Pending for longer than this is told as trouble: an untroubled store and log need a few milliseconds.
const TROUBLE_AFTER: Duration = Duration::from_secs(1);

/// The thing that something was taken from.
#[derive(Clone)]
pub(super) enum Subject {
    Grant(Arc<Entry>),
    Request(Arc<requests::Entry>),
    User,
    /// Of a former run: only its record is missing.
    Past,
}

/// Names a [`Subject`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Grant(GrantId),
    Request(RequestId),
    User(IdentityName),
}

/// One change that is in effect.
pub(super) struct Item {
    subject: Subject,
    key: Option<Key>,
    write: Option<Write>,
    event: Event<'static>,
    since: Instant,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Clone, Copy, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and is waited for by itself"
)]
struct Progress {
    store_tried: bool,
    stored: bool,
    record_tried: bool,
    recorded: bool,
    /// The row of `unrecorded` that is to be removed, once there is one.
    row: Option<i64>,
}

impl Progress {
    fn is_over(self) -> bool {
        self.stored && self.recorded && self.row.is_none()
    }

    fn effect(self) -> Effect {
        Effect {
            in_effect: true,
            stored: self.stored,
            recorded: self.recorded,
        }
    }
}

impl Item {
    /// A change that takes from a grant and makes it `less`.
    pub(super) fn about_grant(entry: &Arc<Entry>, less: Grant, event: Event<'static>, since: Instant) -> Arc<Self> {
        let key = Key::Grant(less.id().clone());
        Self::keyed(Subject::Grant(Arc::clone(entry)), key, Write::Grant(less), event, since)
    }

    pub(super) fn keyed(subject: Subject, key: Key, write: Write, event: Event<'static>, since: Instant) -> Arc<Self> {
        Arc::new(Self {
            subject,
            key: Some(key),
            write: Some(write),
            event,
            since,
            progress: watch::Sender::default(),
        })
    }

    /// One whose change a former run has stored.
    pub(super) fn unrecorded(row: i64, event: Event<'static>, since: Instant) -> Arc<Self> {
        let progress = Progress {
            store_tried: true,
            stored: true,
            row: Some(row),
            ..Progress::default()
        };
        Arc::new(Self {
            subject: Subject::Past,
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
        // Its sender lives as long as this.
        let _ = tried.await;
    }

    pub(super) fn effect(&self) -> Effect {
        self.progress().effect()
    }

    fn progress(&self) -> Progress {
        *self.progress.borrow()
    }
}

/// All of them, in the order they took effect.
#[derive(Default)]
pub(super) struct Pending {
    queue: Mutex<Queue>,
    /// Counts what was settled.
    settled: watch::Sender<u64>,
    #[cfg(test)]
    pub(super) breaks: breaks::Breaks,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Arc<Item>>,
    storing: bool,
    recording: bool,
}

impl Pending {
    /// Whether nothing is pending.
    pub(super) fn is_empty(&self) -> bool {
        self.queue().items.is_empty()
    }

    #[cfg(test)]
    pub(super) fn all_recorded(&self) -> bool {
        self.queue().items.iter().all(|item| item.progress().recorded)
    }

    /// How many changes have been pending for longer than they should.
    pub(super) fn overdue(&self, now: Instant) -> usize {
        let overdue = |item: &&Arc<Item>| now.saturating_duration_since(item.since) > TROUBLE_AFTER;
        self.queue().items.iter().filter(overdue).count()
    }

    /// The newest change that is pending for `key`.
    pub(super) fn latest(&self, key: &Key) -> Option<Arc<Item>> {
        let queue = self.queue();
        queue.items.iter().rev().find(|item| item.key.as_ref() == Some(key)).cloned()
    }

    /// Waits a little until nothing is pending for `key`; false if there still is.
    pub(super) async fn is_settled(&self, key: &Key) -> bool {
        self.settles(SETTLE_WAIT, || {
            self.queue().items.iter().all(|item| item.key.as_ref() != Some(key))
        })
        .await
    }

    /// Waits a little until nothing is pending; false if something still is.
    pub(super) async fn is_all_settled(&self) -> bool {
        self.settles(SETTLE_WAIT, || self.is_empty()).await
    }

    /// Waits until `settled` holds, at most so long.
    pub(super) async fn settles(&self, limit: Duration, settled: impl Fn() -> bool) -> bool {
        let mut news = self.settled.subscribe();
        let until = async {
            // Its sender lives as long as this.
            while !settled() && news.changed().await.is_ok() {}
        };
        timeout(limit, until).await.is_ok()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The changes the store is to be told of now; none ends the lane.
    fn for_the_store(&self) -> Vec<Arc<Item>> {
        #[cfg(test)]
        self.breaks.break_store();
        let mut queue = self.queue();
        queue.items.retain(|item| !item.progress().is_over());
        let wanted = |item: &&Arc<Item>| {
            let progress = item.progress();
            !progress.stored || (progress.recorded && progress.row.is_some())
        };
        let wanted: Vec<_> = queue.items.iter().filter(wanted).cloned().collect();
        queue.storing = !wanted.is_empty();
        wanted
    }

    /// The next change to be put on record; none ends the lane.
    fn for_the_log(&self) -> Option<Arc<Item>> {
        #[cfg(test)]
        self.breaks.break_log();
        let mut queue = self.queue();
        let next = queue.items.iter().find(|item| !item.progress().recorded).cloned();
        queue.recording = next.is_some();
        next
    }

    fn tell(&self) {
        self.queue().items.retain(|item| !item.progress().is_over());
        self.settled.send_modify(|settled| *settled += 1);
    }
}

impl Inner {
    /// Queues a change that takes effect now. Waits for nothing, so it may be called where the change is made.
    pub(super) fn queue_pending(&self, item: Arc<Item>) {
        self.pending.queue().items.push_back(item);
    }

    /// Sees to it that what is queued is stored and put on record.
    pub(super) fn pursue(self: &Arc<Self>) {
        let (store, log) = {
            let mut queue = self.pending.queue();
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
                        tracing::error!(error = %in_one_line(&error), changes = batch.len(), "revocations are in effect but cannot be stored yet; free disk space for the state folder, or look for a process that locks ledger.sqlite");
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
                    // There may be a row to remove.
                    self.pursue();
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(error = %in_one_line(&error), "revocations are in effect but cannot be written to the audit log yet; free disk space for it, or repair its folder");
                    }
                    item.progress.send_modify(|progress| progress.record_tried = true);
                    sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    /// Behind the record of a change of the same thing that was on its way before.
    async fn record_in_turn(&self, item: &Item) -> Result<(), crate::audit::AuditError> {
        match &item.subject {
            Subject::Grant(entry) => {
                let _turn = timeout(TURN_WAIT, entry.committing.lock()).await;
                self.recorder.record(&item.event).await
            }
            Subject::Request(entry) => {
                let _turn = timeout(TURN_WAIT, entry.stepping.lock()).await;
                self.recorder.record(&item.event).await
            }
            Subject::User => {
                let _turn = timeout(TURN_WAIT, self.users_turn.write()).await;
                self.recorder.record(&item.event).await
            }
            Subject::Past => self.recorder.record(&item.event).await,
        }
    }
}

/// Stores changes and the events that are still to be put on record, all or none; removes those that have been. Returns for each item
/// the row that is still there.
fn write(connection: &Connection, items: &[Arc<Item>]) -> Result<Vec<Option<i64>>, super::StoreError> {
    restrict::together(connection, |connection| {
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
