//! SQLite file with the messages that are still to be delivered, on a thread of its own.
//!
//! This module does not look at what a message contains. Delivered messages are remembered for a while, without their text, so
//! that none is sent twice.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::oneshot;

use crate::base::supervision;

/// Error of the outbox.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The file cannot be opened, or the thread cannot be started.
    #[error("the outbox of notifications cannot be opened: {path}")]
    File {
        /// Path of the file.
        path: String,
        /// Cause.
        source: std::io::Error,
    },
    /// SQLite failed.
    #[error("the outbox of notifications: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The gate is shutting down.
    #[error("the outbox of notifications is closed")]
    Stopped,
}

/// Message that is to be delivered to a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OutboxMessage {
    pub(super) seq: i64,
    /// Id of the notice; the same at each attempt.
    pub(super) id: String,
    pub(super) body: String,
    pub(super) made_at: Timestamp,
    pub(super) attempts: u32,
    /// Time of the next attempt.
    pub(super) next_at: Timestamp,
}

/// Handle of the outbox thread, which ends with the last clone.
#[derive(Clone)]
pub(super) struct Outbox {
    jobs: mpsc::Sender<OutboxJob>,
}

type OutboxJob = Box<dyn FnOnce(&mut Connection) + Send>;

const OUTBOX_SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS messages (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        hook TEXT NOT NULL,
        id TEXT NOT NULL,
        body TEXT,
        made_at INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        next_at INTEGER NOT NULL,
        UNIQUE (hook, id)
    ) STRICT;
    CREATE INDEX IF NOT EXISTS messages_waiting ON messages (hook, seq) WHERE body IS NOT NULL;
";

/// Time that SQLite waits for another process that has locked the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Number of waiting messages of a receiver from which further ones are dropped.
const MAX_WAITING_MESSAGES: i64 = 10_000;
/// Age from which delivered and undelivered messages are deleted; longer than changes are notified after a start.
const NOTICE_RETENTION: SignedDuration = SignedDuration::from_hours(72);

impl Outbox {
    pub(super) fn open(path: &Path) -> Result<Self, OutboxError> {
        let told = |source| OutboxError::File {
            path: path.display().to_string(),
            source,
        };
        // The messages contain reasons and tickets: only the owner may read the file.
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(told)?;
        file.set_permissions(Permissions::from_mode(0o600)).map_err(told)?;
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(OUTBOX_SCHEMA)?;
        let (jobs, queue) = mpsc::channel::<OutboxJob>();
        let work = move || {
            while let Ok(job) = queue.recv() {
                // A panic fails that job: its transaction is rolled back, and the caller gets [`OutboxError::Stopped`].
                let _ = catch_unwind(AssertUnwindSafe(|| job(&mut connection)));
            }
        };
        supervision::thread("outbox", work).map_err(told)?;
        Ok(Self { jobs })
    }

    /// Stores a notice for these hooks, each with its text, in one transaction. Returns the number of hooks whose queue was
    /// full.
    pub(super) async fn add(&self, id: String, messages: Vec<(String, String)>, now: Timestamp) -> Result<u64, OutboxError> {
        self.call(move |connection| {
            let at = now.as_microsecond();
            let transaction = connection.transaction()?;
            let old = now.saturating_sub(NOTICE_RETENTION).unwrap_or(Timestamp::MIN);
            transaction.execute("DELETE FROM messages WHERE made_at < ?1", [old.as_microsecond()])?;
            let mut full = 0;
            for (hook, body) in messages {
                let waiting: i64 = transaction.query_row(
                    "SELECT count(*) FROM messages WHERE hook = ?1 AND body IS NOT NULL",
                    [&hook],
                    |row| row.get(0),
                )?;
                if waiting >= MAX_WAITING_MESSAGES {
                    full += 1;
                    continue;
                }
                transaction.execute(
                    "INSERT INTO messages (hook, id, body, made_at, next_at) VALUES (?1, ?2, ?3, ?4, ?4) \
                     ON CONFLICT (hook, id) DO NOTHING",
                    params![hook, id, body, at],
                )?;
            }
            transaction.commit()?;
            Ok(full)
        })
        .await
    }

    /// Returns the oldest message that a hook has not received.
    pub(super) async fn first(&self, hook: String) -> Result<Option<OutboxMessage>, OutboxError> {
        self.call(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT seq, id, body, made_at, attempts, next_at FROM messages \
                 WHERE hook = ?1 AND body IS NOT NULL ORDER BY seq LIMIT 1",
            )?;
            let time = |micros| Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MIN);
            let first = query.query_row([hook], |row| {
                Ok(OutboxMessage {
                    seq: row.get(0)?,
                    id: row.get(1)?,
                    body: row.get(2)?,
                    made_at: time(row.get(3)?),
                    attempts: row.get(4)?,
                    next_at: time(row.get(5)?),
                })
            });
            Ok(first.optional()?)
        })
        .await
    }

    /// Marks a message as delivered or given up.
    pub(super) async fn done(&self, seq: i64) -> Result<(), OutboxError> {
        self.call(move |connection| {
            connection.execute("UPDATE messages SET body = NULL WHERE seq = ?1", [seq])?;
            Ok(())
        })
        .await
    }

    /// Schedules the next attempt of a message.
    pub(super) async fn failed(&self, seq: i64, next_at: Timestamp) -> Result<(), OutboxError> {
        self.call(move |connection| {
            connection.execute(
                "UPDATE messages SET attempts = attempts + 1, next_at = ?2 WHERE seq = ?1",
                params![seq, next_at.as_microsecond()],
            )?;
            Ok(())
        })
        .await
    }

    async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, OutboxError> + Send + 'static,
    ) -> Result<T, OutboxError> {
        let (reply, answer) = oneshot::channel();
        let job: OutboxJob = Box::new(move |connection| {
            // If the caller has gone, the work is done all the same.
            let _ = reply.send(job(connection));
        });
        self.jobs.send(job).map_err(|_| OutboxError::Stopped)?;
        answer.await.map_err(|_| OutboxError::Stopped)?
    }
}
