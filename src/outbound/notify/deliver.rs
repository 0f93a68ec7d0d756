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
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use sha2::Sha256;
use tokio::sync::Notify;

use super::outbox::{Outbox, OutboxError, OutboxMessage};
use super::{DeliveryPace, Webhook};
use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;
use crate::base::tls::{web_address, web_client};

/// Longest wait that a receiver can ask for. A longer one would hold up its other messages for too long.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

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
    /// Failure that may pass, with its reason; the next attempt is not before the time that the receiver asks for, if it does.
    Passing(String, Option<Duration>),
    /// Permanent refusal of this message, with its reason.
    Lasting(String),
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
        let (hook, notice) = (&self.hook.name, &message.id);
        if self.hook.audience.person() != message.person.as_deref() {
            tracing::warn!(hook, %notice, "a message was for those to whom this webhook belonged before, and is given up");
            return self.given_up(&message).await;
        }
        self.wait_until_due(&message).await;
        let trouble = match self.deliver(way, &message).await {
            Ok(()) => return self.outbox.done(message.seq).await,
            Err(trouble) => trouble,
        };
        match trouble {
            DeliveryError::Lasting(reason) => tracing::error!(hook, %notice, reason, "a webhook was refused and is given up"),
            DeliveryError::Passing(reason, retry_after) => {
                let wait = self.wait(message.attempts, retry_after);
                let next_at = self.clock.now().saturating_add(wait).unwrap_or(Timestamp::MAX);
                if next_at.duration_since(message.made_at) <= self.pace.give_up {
                    tracing::warn!(hook, %notice, reason, "a webhook cannot be delivered; trying again");
                    return self.outbox.failed(message.seq, next_at).await;
                }
                tracing::error!(hook, %notice, reason, "a webhook cannot be delivered and is given up");
            }
        }
        self.given_up(&message).await
    }

    async fn given_up(&self, message: &OutboxMessage) -> Result<(), OutboxError> {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.outbox.done(message.seq).await
    }

    /// Waits until a retry is due; a first attempt is at once. The wait is monotonic: gate time may be set back meanwhile.
    async fn wait_until_due(&self, message: &OutboxMessage) {
        if message.attempts > 0 {
            tokio::time::sleep(retry_wait(message.next_at, self.clock.now())).await;
        }
    }

    async fn deliver(&self, way: &mut Option<(Client, Url)>, message: &OutboxMessage) -> Result<(), DeliveryError> {
        let passing = |reason| DeliveryError::Passing(reason, None);
        let (client, url) = match way {
            Some((client, url)) => (client.clone(), url.clone()),
            None => way.insert(self.find_way().await.map_err(passing)?).clone(),
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
        let response = response.map_err(|error| passing(display_chain(&error.without_url())))?;
        match response.status() {
            status if status.is_success() => Ok(()),
            // These statuses say that the message was understood and refused. All others, even 404, may be a passing problem of
            // the receiver.
            status @ (StatusCode::BAD_REQUEST
            | StatusCode::GONE
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY) => Err(DeliveryError::Lasting(format!("it answers {status}"))),
            status => {
                let retry_after = retry_after(status, response.headers(), self.clock.now());
                Err(DeliveryError::Passing(format!("it answers {status}"), retry_after))
            }
        }
    }

    async fn find_way(&self) -> Result<(Client, Url), String> {
        let url = web_address(self.hook.url.expose())?;
        let timeout = self.pace.timeout;
        let find = move || web_client(&url, timeout).map(|client| (client, url));
        let found = tokio::task::spawn_blocking(find).await.map_err(|error| error.to_string())?;
        found.map_err(|error| error.to_string())
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

/// Returns the wait for a retry, no longer than a receiver can ask for: its time may be from before gate time was set back.
fn retry_wait(next_at: Timestamp, now: Timestamp) -> Duration {
    let wait = Duration::try_from(next_at.duration_since(now)).unwrap_or_default();
    wait.min(MAX_RETRY_AFTER)
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

/// Returns the wait that an overloaded receiver asks for (`Retry-After`, RFC 9110 section 10.2.3), if the status is one that may
/// carry it (429, 503).
///
/// An HTTP date is compared with the `Date` header of the same response, if there is one, else with the local clock.
fn retry_after(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        // A number that is too large to parse counts as the longest wait.
        text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let at = time(text)?;
        let sent_at = headers.get(DATE).and_then(|date| time(date.to_str().ok()?));
        let wait = at.duration_since(sent_at.unwrap_or(now));
        Duration::try_from(wait.max(SignedDuration::ZERO)).ok()?
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn time(date: &str) -> Option<Timestamp> {
    Timestamp::try_from(httpdate::parse_http_date(date).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderName;

    use super::*;

    fn asked(status: u16, headers: &[(HeaderName, &str)]) -> Option<u64> {
        let now = "2026-11-28T12:00:00Z".parse().unwrap();
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        let wait = retry_after(StatusCode::from_u16(status).unwrap(), &headers.collect(), now);
        wait.map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_and_dates_within_bounds() {
        for (value, expected) in [
            ("20", Some(20)),
            (" 0 ", Some(0)),
            ("86400", Some(3_600)),
            ("99999999999999999999999", Some(3_600)),
            ("Sat, 28 Nov 2026 12:00:45 GMT", Some(45)),
            // The two older forms of a date.
            ("Saturday, 28-Nov-26 12:00:45 GMT", Some(45)),
            ("Sat Nov 28 12:00:45 2026", Some(45)),
            ("Sat, 28 Nov 2026 11:00:00 GMT", Some(0)),
            ("Sat, 28 Nov 2099 11:00:00 GMT", Some(3_600)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
        ] {
            assert_eq!(asked(429, &[(RETRY_AFTER, value)]), expected, "{value:?}");
            assert_eq!(asked(503, &[(RETRY_AFTER, value)]), expected, "{value:?}");
        }
        assert_eq!(asked(500, &[(RETRY_AFTER, "20")]), None);
        assert_eq!(asked(429, &[]), None);
    }

    #[test]
    fn a_clock_that_was_set_back_puts_off_no_retry_for_long() {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        for (seconds, expected) in [(-5, 0), (0, 0), (300, 300), (21_600, 3_600)] {
            let wait = retry_wait(now + SignedDuration::from_secs(seconds), now);
            assert_eq!(wait.as_secs(), expected, "{seconds}");
        }
    }

    #[test]
    fn a_date_is_one_of_the_receivers_clock() {
        let headers = [
            (RETRY_AFTER, "Sat, 28 Nov 2026 15:00:30 GMT"),
            (DATE, "Sat, 28 Nov 2026 15:00:00 GMT"),
        ];
        assert_eq!(asked(503, &headers), Some(30));
    }
}
