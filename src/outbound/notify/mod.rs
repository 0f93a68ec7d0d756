//! Notifications about requests and grants: signed webhooks from a durable outbox.
//!
//! This module decides nothing, and nothing waits for it: it subscribes to the changes of the ledger. A receiver that is slow
//! or down delays neither a decision nor another receiver.
//!
//! INVARIANT: a notice that was accepted is on the disk before [`Notifier::enqueue`] returns. Each receiver gets its messages
//! in order; a message is retried until it is received, is refused for good, or is a day old. It goes only to those for whom it
//! was made, also when its receiver changes hands. A notice has the same id at each
//! attempt, so receivers can recognise duplicates.

mod agenda;
mod audience;
mod buttons;
mod deliver;
mod grant_notice;
mod grant_payload;
mod grants;
mod notice;
mod outbox;
mod payload;
mod teams;
#[cfg(test)]
mod tests;

pub use audience::{Audience, Notice};
pub use grant_notice::{GrantEvent, GrantNotice};
pub use notice::{EventKind, RequestNotice};
pub use outbox::OutboxError;
#[cfg(test)]
pub(crate) use payload::body as message;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinSet;

use crate::base::backoff::Backoff;
use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;
use crate::base::secret::Secret;
use crate::base::supervision::restarted;
use crate::ledger::{ChangedSubject, Ledger, RequestFilter};
use crate::model::ids::LogId;
use deliver::WebhookSender;
use outbox::{NewMessage, Outbox};

/// Settings of `[notify]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotifySettings {
    /// Receivers of notices.
    pub hooks: Vec<Webhook>,
    /// Base address of the pages with requests and grants; `/requests/ID` or `/grants/ID` is appended.
    pub link: Option<String>,
    /// True if people can answer in a chat, by buttons of its messages.
    pub buttons: bool,
}

/// Receiver of notices: `[[notify.webhooks]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Name of the receiver in the outbox and in log messages.
    pub name: String,
    /// Address. Secret because chat services put a token into it.
    pub url: Secret<String>,
    /// Key with which the messages are signed.
    pub secret: Secret<String>,
    /// Format of its messages.
    pub format: MessageFormat,
    /// People that it belongs to.
    pub audience: Audience,
    /// Events that are sent to it.
    pub events: BTreeSet<EventKind>,
}

/// Format of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageFormat {
    /// An object with the event and the request or the grant.
    Json,
    /// Message for Slack and compatible services.
    Slack,
    /// Message with an adaptive card for Microsoft Teams.
    Teams,
}

/// Limits and intervals of delivery.
#[derive(Debug, Clone, Copy)]
struct DeliveryPace {
    /// Waits between attempts.
    backoff: Backoff,
    /// Age from which a message is given up.
    give_up: SignedDuration,
    /// Limit for an attempt, from connecting to the response.
    timeout: Duration,
}

const PACE: DeliveryPace = DeliveryPace {
    backoff: Backoff::new(Duration::from_secs(1), Duration::from_mins(5)),
    give_up: SignedDuration::from_hours(24),
    timeout: Duration::from_secs(10),
};

/// Age up to which changes are notified after a start.
const NEWS: SignedDuration = SignedDuration::from_hours(24);
/// Number of requests that are read again after a start, or when changes were missed.
const READ_AGAIN: usize = 1000;
/// Number of notices that are put into the outbox at once: deliveries wait meanwhile.
const MAX_BATCH_NOTICES: usize = 200;

/// Handle that accepts notices and delivers them. Cheap to clone; deliveries stop when the last clone is dropped.
#[derive(Clone)]
pub struct Notifier(Arc<NotifierInner>);

struct NotifierInner {
    outbox: Outbox,
    clock: Clock,
    pace: DeliveryPace,
    now: Mutex<WebhookReceivers>,
    lost: Arc<AtomicU64>,
}

#[derive(Default)]
struct WebhookReceivers {
    settings: Arc<NotifySettings>,
    /// Wake-up signals by the name of the webhook, notified when there is a message for it.
    bells: BTreeMap<String, Arc<Notify>>,
    tasks: JoinSet<()>,
}

impl Notifier {
    /// Opens the outbox and starts to deliver the messages that it holds. Needs a tokio runtime.
    pub fn start(path: &Path, settings: NotifySettings, clock: Clock) -> Result<Self, OutboxError> {
        Self::with_pace(path, settings, clock, PACE)
    }

    fn with_pace(path: &Path, settings: NotifySettings, clock: Clock, pace: DeliveryPace) -> Result<Self, OutboxError> {
        let notifier = Self(Arc::new(NotifierInner {
            outbox: Outbox::open(path)?,
            clock,
            pace,
            now: Mutex::default(),
            lost: Arc::default(),
        }));
        notifier.renew(settings);
        Ok(notifier)
    }

    /// Replaces the receivers, for a reload. A message that is being sent may be delivered twice, with the same id.
    pub fn renew(&self, settings: NotifySettings) {
        let mut now = self.0.now.lock();
        let mut receivers = WebhookReceivers::default();
        for hook in &settings.hooks {
            let bell = Arc::new(Notify::new());
            receivers.bells.insert(hook.name.clone(), Arc::clone(&bell));
            let sender = WebhookSender {
                hook: hook.clone(),
                outbox: self.0.outbox.clone(),
                clock: self.0.clock.clone(),
                pace: self.0.pace,
                bell,
                lost: Arc::clone(&self.0.lost),
            };
            receivers
                .tasks
                .spawn(async move { restarted("a webhook", async || sender.run().await).await });
        }
        receivers.settings = Arc::new(settings);
        // Dropping the former receivers ends their tasks.
        *now = receivers;
    }

    /// Puts a notice into the outbox, for every receiver that wants it; it is on the disk when this returns. A notice that is
    /// already there is not added again. A message that cannot be kept is logged and counted.
    pub async fn enqueue(&self, notice: &RequestNotice) {
        self.tell(&[Notice::Request(notice.clone())]).await;
    }

    /// Puts notices into the outbox like [`Self::enqueue`], in their order.
    async fn tell(&self, notices: &[Notice]) {
        for batch in notices.chunks(MAX_BATCH_NOTICES) {
            let settings = Arc::clone(&self.0.now.lock().settings);
            let link = settings.link.as_deref();
            let message = |hook: &Webhook, notice: &Notice| {
                let body = match notice {
                    Notice::Request(notice) => payload::body(notice, &hook.audience, hook.format, link, settings.buttons),
                    Notice::Grant(notice) => grant_payload::body(notice, hook.format, link, settings.buttons),
                };
                hook.message(notice.id(), body)
            };
            let mut messages = Vec::new();
            for notice in batch {
                let wanted = |hook: &&Webhook| hook.events.contains(&notice.kind()) && hook.audience.is_told(notice);
                messages.extend(settings.hooks.iter().filter(wanted).map(|hook| message(hook, notice)));
            }
            self.put(messages).await;
        }
    }

    /// Enqueues a checkpoint of the audit log: its line, the id of the log, the sequence number of the line it covers, and the
    /// time of signing.
    pub async fn checkpoint(&self, line: &str, log: &LogId, covers: u64, at: Timestamp) {
        let settings = Arc::clone(&self.0.now.lock().settings);
        let id = format!("{log}.{covers}.{}", EventKind::Checkpoint);
        let wanted = settings
            .hooks
            .iter()
            .filter(|hook| hook.events.contains(&EventKind::Checkpoint));
        let message = |hook: &Webhook| hook.message(id.clone(), payload::checkpoint(line, &id, at, hook.format));
        self.put(wanted.map(message).collect()).await;
    }

    async fn put(&self, messages: Vec<NewMessage>) {
        let Some(first) = messages.first().map(|message| message.id.clone()) else {
            return;
        };
        let count = messages.len();
        let lost = match self.0.outbox.add(messages, self.0.clock.now()).await {
            Ok(missed) => {
                for NewMessage { hook, id, .. } in &missed {
                    tracing::warn!(hook, notice = %id, "a receiver is so far behind that it is not told of this");
                }
                missed.len()
            }
            Err(error) => {
                tracing::error!(%first, count, error = %display_chain(&error), "messages cannot be kept, so nobody is told of their notices");
                count
            }
        };
        self.0
            .lost
            .fetch_add(u64::try_from(lost).unwrap_or(u64::MAX), Ordering::Relaxed);
        for bell in self.0.now.lock().bells.values() {
            bell.notify_one();
        }
    }

    /// Returns the number of messages, since the start, that could not be kept or were given up.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Enqueues a notice for every request that changes, until the ledger is closed. `changes` is [`Ledger::changes`],
    /// subscribed to before the first request can arrive. Changes may be missed (before the start, or when too many come at
    /// once); the newest requests are then read again, and the outbox recognises notices that it already has by their ids.
    pub async fn run(self, ledger: Ledger, mut changes: broadcast::Receiver<ChangedSubject>) {
        self.catch_up(&ledger).await;
        loop {
            match changes.recv().await {
                Ok(ChangedSubject::Request(request)) => self.told_of(RequestNotice::of(&request)).await,
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
                self.told_of(oldest_first.flat_map(|view| RequestNotice::of(&Arc::new(view.request))))
                    .await;
            }
            Err(error) => {
                tracing::error!(error = %display_chain(&error), "requests cannot be read: somebody may not be told of one");
            }
        }
    }

    /// Enqueues those notices that are not older than [`NEWS`].
    async fn told_of(&self, oldest_first: impl IntoIterator<Item: Into<Notice>>) {
        let now = self.0.clock.now();
        let notices = oldest_first.into_iter().map(Into::into);
        let news: Vec<Notice> = notices.filter(|notice| now.duration_since(notice.at()) < NEWS).collect();
        self.tell(&news).await;
    }
}

impl Webhook {
    fn message(&self, id: String, body: String) -> NewMessage {
        NewMessage {
            hook: self.name.clone(),
            person: self.audience.person().map(str::to_owned),
            id,
            body,
        }
    }
}
