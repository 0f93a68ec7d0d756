//! Delivers the messages of one webhook, one after the other.
//!
//! This module does not look at what a message contains. Log messages name the webhook and not its address, which may contain a
//! secret.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, StatusCode, Url};
use sha2::Sha256;
use tokio::sync::Notify;

use super::outbox::{Outbox, OutboxError, OutboxMessage};
use super::retry_after::retry_after;
use super::{DeliveryPace, Webhook};
use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;
use crate::base::tls::{web_address, web_client};

/// Delivery task of one webhook.
pub(super) struct WebhookSender {
    pub(super) hook: Webhook,
    pub(super) outbox: Outbox,
    pub(super) clock: Clock,
    pub(super) pace: DeliveryPace,
    pub(super) bell: Arc<Notify>,
    /// Counter of messages that were given up.
    pub(super) lost: Arc<AtomicU64>,
}

enum DeliveryError {
    /// Failure that may pass; the next attempt is not before `retry_after`, if the receiver sent it.
    Passing { reason: String, retry_after: Option<Duration> },
    /// Permanent refusal of this message.
    Lasting(String),
}

impl DeliveryError {
    fn passing(reason: String) -> Self {
        Self::Passing {
            reason,
            retry_after: None,
        }
    }
}

impl WebhookSender {
    /// Delivers messages until it is dropped.
    pub(super) async fn run(&self) {
        let mut way = None;
        loop {
            if let Err(error) = self.next(&mut way).await {
                tracing::error!(hook = self.hook.name, error = %display_chain(&error), "the outbox cannot be used; trying again");
                tokio::time::sleep(self.pace.backoff.max()).await;
            }
        }
    }

    async fn next(&self, way: &mut Option<(Client, Url)>) -> Result<(), OutboxError> {
        let Some(message) = self.outbox.first(self.hook.name.clone()).await? else {
            self.bell.notified().await;
            return Ok(());
        };
        if message.next_at > self.clock.now() {
            self.clock.sleep_until(message.next_at).await;
        }
        let trouble = match self.deliver(way, &message).await {
            Ok(()) => return self.outbox.done(message.seq).await,
            Err(trouble) => trouble,
        };
        let (hook, notice, now) = (&self.hook.name, &message.id, self.clock.now());
        match trouble {
            DeliveryError::Lasting(reason) => tracing::error!(hook, %notice, reason, "a webhook was refused and is given up"),
            DeliveryError::Passing { reason, retry_after } => {
                let wait = self.wait(message.attempts, retry_after);
                let next_at = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
                if next_at.duration_since(message.made_at) <= self.pace.give_up {
                    tracing::warn!(hook, %notice, reason, "a webhook cannot be delivered; trying again");
                    return self.outbox.failed(message.seq, next_at).await;
                }
                tracing::error!(hook, %notice, reason, "a webhook cannot be delivered and is given up");
            }
        }
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.outbox.done(message.seq).await
    }

    async fn deliver(&self, way: &mut Option<(Client, Url)>, message: &OutboxMessage) -> Result<(), DeliveryError> {
        let (client, url) = match way {
            Some((client, url)) => (client.clone(), url.clone()),
            None => way.insert(self.find_way().await.map_err(DeliveryError::passing)?).clone(),
        };
        let response = client
            .post(url)
            .header("Content-Type", "application/json")
            .header("Tidegate-Id", &message.id)
            .header(
                "Tidegate-Signature",
                signature(&self.hook, self.clock.now().as_second(), &message.body),
            )
            .body(message.body.clone())
            .send()
            .await;
        let response = response.map_err(|error| DeliveryError::passing(display_chain(&error.without_url())))?;
        match response.status() {
            status if status.is_success() => Ok(()),
            // These statuses say that the message was understood and refused. All others, even 404, may be a passing problem of
            // the receiver.
            status @ (StatusCode::BAD_REQUEST
            | StatusCode::GONE
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY) => Err(DeliveryError::Lasting(format!("it answers {status}"))),
            status => Err(DeliveryError::Passing {
                reason: format!("it answers {status}"),
                retry_after: retry_after(status, response.headers(), self.clock.now()),
            }),
        }
    }

    async fn find_way(&self) -> Result<(Client, Url), String> {
        let url = web_address(self.hook.url.expose())?;
        let timeout = self.pace.timeout;
        let client = {
            let url = url.clone();
            tokio::task::spawn_blocking(move || web_client(&url, timeout)).await
        };
        let client = client
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        Ok((client, url))
    }

    /// Returns the wait that the receiver asked for, but no less than the one after a first failure; without one, the back-off.
    fn wait(&self, attempts: u32, retry_after: Option<Duration>) -> SignedDuration {
        let Some(asked) = retry_after else {
            return self.backoff(attempts);
        };
        SignedDuration::try_from(asked).map_or_else(|_| self.backoff(attempts), |asked| asked.max(self.backoff(0)))
    }

    /// Returns the back-off: it is drawn from the upper half of its wait, so that many gates do not retry at the same time.
    fn backoff(&self, attempts: u32) -> SignedDuration {
        let wait = self.pace.backoff.after(attempts);
        let mut random = [0];
        // If there is no randomness, the full time is used.
        let part = getrandom::fill(&mut random).map_or(256, |()| 128 + u32::from(random[0] / 2));
        let wait = wait.checked_mul(part).map_or(wait, |wait| wait / 256);
        SignedDuration::try_from(wait.max(Duration::from_millis(1))).unwrap_or(SignedDuration::MAX)
    }
}

/// Returns `t=SECONDS,v1=HEX`: HMAC-SHA256 over the seconds, a dot, and the body.
pub(super) fn signature(hook: &Webhook, seconds: i64, body: &str) -> String {
    // An HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(hook.secret.expose().as_bytes()) else {
        return String::new();
    };
    mac.update(format!("{seconds}.{body}").as_bytes());
    format!("t={seconds},v1={}", HEXLOWER.encode(&mac.finalize().into_bytes()))
}
