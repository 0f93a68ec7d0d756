//! Tells others what happens to requests: signed webhooks, from a durable outbox.
//!
//! It decides nothing and nothing waits for it: it listens to the ledger, and a receiver that is slow or gone holds up neither a
//! decision nor another receiver.
//!
//! The law: a notice that was taken is on the disk before [`Notifier::enqueue`] returns, goes to each receiver in order, and again
//! and again until it is received or a day old. The same notice has the same id each time, so receivers can tell.

mod deliver;
mod notice;
mod outbox;
mod payload;
mod retry_after;
#[cfg(test)]
mod tests;

pub use notice::{EventKind, Notice};
pub use outbox::OutboxError;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinSet;

use crate::causes::in_one_line;
use crate::clock::Clock;
use crate::ids::LogId;
use crate::ledger::{Changed, Ledger, RequestFilter};
use crate::secret::Secret;
use crate::supervision::restarted;
use deliver::Courier;
use outbox::Outbox;

/// `[notify]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotifySettings {
    /// Who is told.
    pub hooks: Vec<Hook>,
    /// Where requests can be seen and approved; `/requests/ID` is put behind it.
    pub link: Option<String>,
}

/// One receiver: `[[notify.webhooks]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Its name, for the outbox and the gate's messages.
    pub name: String,
    /// Where to. Chat services put a secret into it.
    pub url: Secret<String>,
    /// What its messages are signed with.
    pub secret: Secret<String>,
    /// In which form.
    pub format: Format,
    /// Of what it is told.
    pub events: BTreeSet<EventKind>,
}

/// The form of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An object with the event and the request.
    Json,
    /// What Slack, and what is compatible with it, shows.
    Slack,
}

/// How messages are tried again.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// After the first failure; twice as long after each further one.
    first: Duration,
    /// At most that.
    most: Duration,
    /// Older ones are given up.
    give_up: SignedDuration,
    /// From dialling to the answer.
    timeout: Duration,
}

const PACE: Pace = Pace {
    first: Duration::from_secs(1),
    most: Duration::from_mins(5),
    give_up: SignedDuration::from_hours(24),
    timeout: Duration::from_secs(10),
};

/// Requests that changed longer ago are no news when the gate starts.
const NEWS: SignedDuration = SignedDuration::from_hours(24);
/// So many requests are read again after a start, or when changes were missed.
const READ_AGAIN: usize = 1000;

/// Takes notices and delivers them. Cheap to clone; deliveries stop when the last clone is dropped.
#[derive(Clone)]
pub struct Notifier(Arc<Inner>);

struct Inner {
    outbox: Outbox,
    clock: Clock,
    pace: Pace,
    now: Mutex<Receivers>,
    lost: Arc<AtomicU64>,
}

#[derive(Default)]
struct Receivers {
    settings: Arc<NotifySettings>,
    /// Rung when there is something for the hook of that name.
    bells: BTreeMap<String, Arc<Notify>>,
    tasks: JoinSet<()>,
}

impl Notifier {
    /// Opens the outbox and starts to deliver what was left in it. Needs a tokio runtime.
    pub fn start(path: &Path, settings: NotifySettings, clock: Clock) -> Result<Self, OutboxError> {
        Self::with_pace(path, settings, clock, PACE)
    }

    fn with_pace(path: &Path, settings: NotifySettings, clock: Clock, pace: Pace) -> Result<Self, OutboxError> {
        let notifier = Self(Arc::new(Inner {
            outbox: Outbox::open(path)?,
            clock,
            pace,
            now: Mutex::default(),
            lost: Arc::default(),
        }));
        notifier.renew(settings);
        Ok(notifier)
    }

    /// Other receivers from now on: for a reload. A message on its way may go twice, with the same id.
    pub fn renew(&self, settings: NotifySettings) {
        let mut now = self.0.now.lock().unwrap_or_else(PoisonError::into_inner);
        let mut receivers = Receivers::default();
        for hook in &settings.hooks {
            let bell = Arc::new(Notify::new());
            receivers.bells.insert(hook.name.clone(), Arc::clone(&bell));
            let courier = Courier {
                hook: hook.clone(),
                outbox: self.0.outbox.clone(),
                clock: self.0.clock.clone(),
                pace: self.0.pace,
                bell,
                lost: Arc::clone(&self.0.lost),
            };
            receivers
                .tasks
                .spawn(async move { restarted("a webhook", async || courier.run().await).await });
        }
        receivers.settings = Arc::new(settings);
        // The tasks of the former receivers end with them.
        *now = receivers;
    }

    /// Puts a notice into the outbox, for every receiver that wants it; it is on the disk when this returns. One that was put
    /// there before is not put there again. What cannot be kept is logged and counted.
    pub async fn enqueue(&self, notice: &Notice) {
        let body = |hook: &Hook, link: Option<&str>| payload::body(notice, hook.format, link);
        self.put(notice.event, notice.id(), body).await;
    }

    /// The same for a checkpoint of the audit log: its line, the log, the number of the line it covers, and when it was signed.
    pub async fn checkpoint(&self, line: &str, log: &LogId, covers: u64, at: Timestamp) {
        let id = format!("{log}.{covers}.{}", EventKind::Checkpoint.name());
        let body = |hook: &Hook, _: Option<&str>| payload::checkpoint(line, &id, at, hook.format);
        self.put(EventKind::Checkpoint, id.clone(), body).await;
    }

    async fn put(&self, event: EventKind, id: String, body: impl Fn(&Hook, Option<&str>) -> String) {
        let settings = Arc::clone(&self.0.now.lock().unwrap_or_else(PoisonError::into_inner).settings);
        let messages: Vec<(String, String)> = settings
            .hooks
            .iter()
            .filter(|hook| hook.events.contains(&event))
            .map(|hook| (hook.name.clone(), body(hook, settings.link.as_deref())))
            .collect();
        if messages.is_empty() {
            return;
        }
        let count = u64::try_from(messages.len()).unwrap_or(u64::MAX);
        let lost = match self.0.outbox.add(id.clone(), messages, self.0.clock.now()).await {
            Ok(0) => 0,
            Ok(full) => {
                tracing::warn!(notice = %id, "receivers are so far behind that they are not told of this");
                full
            }
            Err(error) => {
                tracing::error!(notice = %id, error = %in_one_line(&error), "a notice cannot be kept, so nobody is told of it");
                count
            }
        };
        self.0.lost.fetch_add(lost, Ordering::Relaxed);
        for bell in self.0.now.lock().unwrap_or_else(PoisonError::into_inner).bells.values() {
            bell.notify_one();
        }
    }

    /// Messages that could not be kept or were given up, since the start.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Enqueues a notice for every request that changes, until the ledger is gone. `changes` is [`Ledger::changes`], taken before
    /// anybody can ask for anything. Changes may be missed (before the start, or when too many come at once): then the newest
    /// requests are read again; those that were told of before are known by their ids.
    pub async fn run(self, ledger: Ledger, mut changes: broadcast::Receiver<Changed>) {
        self.catch_up(&ledger).await;
        loop {
            match changes.recv().await {
                Ok(Changed::Request(request)) => self.told_of(Notice::of(&request)).await,
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => self.catch_up(&ledger).await,
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    async fn catch_up(&self, ledger: &Ledger) {
        let filter = RequestFilter {
            limit: READ_AGAIN,
            ..RequestFilter::default()
        };
        match ledger.requests(filter).await {
            Ok(requests) => {
                let oldest_first = requests.into_iter().rev();
                self.told_of(oldest_first.flat_map(|view| Notice::of(&Arc::new(view.request))))
                    .await;
            }
            Err(error) => {
                tracing::error!(error = %in_one_line(&error), "requests cannot be read: somebody may not be told of one");
            }
        }
    }

    /// Old ones are no news.
    async fn told_of(&self, oldest_first: impl Iterator<Item = Notice>) {
        let now = self.0.clock.now();
        for notice in oldest_first.filter(|notice| now.duration_since(notice.at) < NEWS) {
            self.enqueue(&notice).await;
        }
    }
}
