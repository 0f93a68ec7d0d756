//! SQLite file with the messages that are still to be delivered, on a thread of its own.
//!
//! This module does not look at what a message contains. Delivered messages are remembered for a while, without their text, so
//! that none is sent twice.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
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

/// Message that is to be kept for a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewMessage {
    pub(super) hook: String,
    /// Person that it is for; `None` if it is for everybody.
    pub(super) person: Option<String>,
    /// Id of the notice.
    pub(super) id: String,
    pub(super) body: String,
}

/// Message that is to be delivered to a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OutboxMessage {
    pub(super) seq: i64,
    /// Person that it was made for; `None` if it was made for everybody.
    pub(super) person: Option<String>,
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
    CREATE INDEX IF NOT EXISTS messages_made ON messages (made_at);
";
/// Addition to an outbox of an older version, whose messages are for everybody.
const PERSON_COLUMN: &str = "ALTER TABLE messages ADD COLUMN person TEXT";

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
        if !connection.column_exists(None, "messages", "person")? {
            connection.execute_batch(PERSON_COLUMN)?;
        }
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

    /// Stores messages in one transaction; those that are already there are not added again. Returns those whose hook has too
    /// many waiting: they are remembered without their text, so that each is missed once.
    pub(super) async fn add(&self, messages: Vec<NewMessage>, now: Timestamp) -> Result<Vec<NewMessage>, OutboxError> {
        self.call(move |connection| {
            let at = now.as_microsecond();
            let transaction = connection.transaction()?;
            let old = now.saturating_sub(NOTICE_RETENTION).unwrap_or(Timestamp::MIN);
            transaction.execute("DELETE FROM messages WHERE made_at < ?1", [old.as_microsecond()])?;
            let mut waiting: HashMap<String, i64> = HashMap::new();
            let mut missed = Vec::new();
            for message in messages {
                let NewMessage { hook, person, id, body } = &message;
                let waiting = match waiting.entry(hook.clone()) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => unknown.insert(count_waiting(&transaction, hook)?),
                };
                let body = (*waiting < MAX_WAITING_MESSAGES).then_some(body);
                let mut insertion = transaction.prepare_cached(
                    "INSERT INTO messages (hook, person, id, body, made_at, next_at) VALUES (?1, ?2, ?3, ?4, ?5, ?5) \
                     ON CONFLICT (hook, id) DO NOTHING",
                )?;
                let is_new = insertion.execute(params![hook, person, id, body, at])? == 1;
                match body {
                    _ if !is_new => {}
                    Some(_) => *waiting += 1,
                    None => missed.push(message),
                }
            }
            transaction.commit()?;
            Ok(missed)
        })
        .await
    }

    /// Returns the oldest message that a hook has not received.
    pub(super) async fn first(&self, hook: String) -> Result<Option<OutboxMessage>, OutboxError> {
        self.call(move |connection| {
            let mut query = connection.prepare_cached(
                "SELECT seq, person, id, body, made_at, attempts, next_at FROM messages \
                 WHERE hook = ?1 AND body IS NOT NULL ORDER BY seq LIMIT 1",
            )?;
            let time = |micros| Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MIN);
            let first = query.query_row([hook], |row| {
                Ok(OutboxMessage {
                    seq: row.get(0)?,
                    person: row.get(1)?,
                    id: row.get(2)?,
                    body: row.get(3)?,
                    made_at: time(row.get(4)?),
                    attempts: row.get(5)?,
                    next_at: time(row.get(6)?),
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

fn count_waiting(connection: &Connection, hook: &str) -> rusqlite::Result<i64> {
    let sql = "SELECT count(*) FROM messages WHERE hook = ?1 AND body IS NOT NULL";
    connection.query_row(sql, [hook], |row| row.get(0))
}
