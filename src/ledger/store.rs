//! SQLite file of the ledger, on a thread of its own.
//!
//! This module does not know what a change means. Changes of grants are synced to the disk (`synchronous=FULL`), sessions only
//! reach the operating system; changes of sessions that wait together share a transaction.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::cache::{GrantEntry, RequestEntry, StoredUser};
use super::migrations::MIGRATIONS;
use super::record::LogPast;
use super::replay;
use super::sign_in_cache::StoredSignIn;
use super::sqlite::{BUSY_TIMEOUT, StoreError, durable};
use super::{OpenSession, row};
use crate::audit::event::Event;
use crate::base::supervision::{self, ThreadEnd};
use crate::model::ids::SessionId;

/// Contents of the store at start.
pub(super) struct LoadedStore {
    /// Grants that have not ended.
    pub(super) grants: Vec<GrantEntry>,
    /// Requests that are pending.
    pub(super) requests: Vec<RequestEntry>,
    pub(super) users: Vec<StoredUser>,
    /// Sign-ins that have not ended.
    pub(super) sign_ins: Vec<StoredSignIn>,
    /// Events of stored changes that still have to be put on record.
    pub(super) unrecorded: Vec<(i64, Event<'static>)>,
    pub(super) mock_key: [u8; 32],
}

/// Change of the sessions in the store.
pub(super) enum SessionChange {
    Opened(OpenSession),
    Closed(SessionId),
}

/// Handle of the store's thread, which ends when this is dropped.
pub(super) struct Store {
    jobs: mpsc::Sender<StoreJob>,
    pub(super) thread_end: ThreadEnd,
    /// The last write failed.
    failing: Arc<AtomicBool>,
}

type StoreReply = oneshot::Sender<Result<(), StoreError>>;

enum StoreJob {
    Call(Box<dyn FnOnce(&mut Connection) + Send>),
    Session(SessionChange, StoreReply),
}

/// Number of session changes in one transaction.
const MAX_BATCHED_CHANGES: usize = 512;

impl Store {
    /// Opens the file and starts the thread. Loads all that may still matter at `now`.
    pub(super) fn open(
        path: &Path,
        now: Timestamp,
        fresh_key: [u8; 32],
        past: Option<&LogPast>,
    ) -> Result<(Self, LoadedStore), StoreError> {
        let unusable = |source| StoreError::File {
            path: path.display().to_string(),
            source: Arc::new(source),
        };
        private_file(path).map_err(unusable)?;
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        durable(&connection, true)?;
        migrate(&mut connection)?;
        connection.execute(
            "INSERT INTO gate SELECT ?1, 0 WHERE NOT EXISTS (SELECT 1 FROM gate)",
            [&fresh_key],
        )?;
        let mock_key = connection.query_row("SELECT mock_key FROM gate", [], |row| row.get(0))?;
        replay::catch_up(&connection, past, now)?;
        let loaded = LoadedStore {
            grants: row::load(&connection, now)?,
            requests: row::requests::load_pending(&connection, now)?,
            users: row::load_users(&connection)?,
            sign_ins: row::sign_ins::load(&connection, now)?,
            unrecorded: row::unrecorded(&connection)?,
            mock_key,
        };
        durable(&connection, false)?;
        let (jobs, queue) = mpsc::channel();
        let (_, thread_end) = supervision::thread("ledger", move || work(connection, &queue)).map_err(unusable)?;
        let store = Self {
            jobs,
            thread_end,
            failing: Arc::default(),
        };
        Ok((store, loaded))
    }

    /// Makes its thread panic.
    #[cfg(test)]
    pub(super) fn break_thread(&self) {
        let _ = self.jobs.send(StoreJob::Call(Box::new(|_| panic!("as a test wants it"))));
    }

    /// Runs `job` on the store's thread.
    pub(super) async fn call<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    {
        // If the caller has gone, the work is done all the same.
        let call = |reply: oneshot::Sender<_>| StoreJob::Call(Box::new(move |connection| drop(reply.send(job(connection)))));
        self.ask(call).await
    }

    /// Runs a `job` that writes, and notes whether it succeeded.
    pub(super) async fn write<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let written = self.call(job).await;
        let failed = matches!(written, Err(StoreError::Sqlite(_) | StoreError::Stopped));
        self.failing.store(failed, Ordering::Release);
        written
    }

    /// Reports whether the last write failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// Stores the change of a session, together with other session changes that wait.
    pub(super) async fn session(&self, change: SessionChange) -> Result<(), StoreError> {
        self.ask(|reply| StoreJob::Session(change, reply)).await
    }

    /// Gives the thread a job, and waits for the reply.
    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> StoreJob) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply)).map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    let found: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for (_, migration) in (0..).zip(MIGRATIONS).filter(|(version, _)| *version >= found) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    Ok(transaction.commit()?)
}

/// Creates the file readable for its owner only, because it holds verifiers. SQLite gives its companions (`-wal`, `-shm`) the
/// same mode.
fn private_file(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

fn work(mut connection: Connection, queue: &mpsc::Receiver<StoreJob>) {
    let mut next = None;
    while let Some(job) = next.take().or_else(|| queue.recv().ok()) {
        match job {
            StoreJob::Call(job) => job(&mut connection),
            StoreJob::Session(change, reply) => {
                let mut changes = vec![change];
                let mut replies = vec![reply];
                while changes.len() < MAX_BATCHED_CHANGES {
                    match queue.try_recv() {
                        Ok(StoreJob::Session(change, reply)) => {
                            changes.push(change);
                            replies.push(reply);
                        }
                        other => {
                            next = other.ok();
                            break;
                        }
                    }
                }
                let written = write_sessions(&mut connection, &changes);
                for reply in replies {
                    let _ = reply.send(written.clone());
                }
            }
        }
    }
}

fn write_sessions(connection: &mut Connection, changes: &[SessionChange]) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for change in changes {
        match change {
            SessionChange::Opened(session) => row::insert_session(&transaction, session)?,
            SessionChange::Closed(session) => row::delete_session(&transaction, session)?,
        }
    }
    Ok(transaction.commit()?)
}
