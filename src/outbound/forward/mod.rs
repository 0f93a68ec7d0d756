//! Forwards the audit log, as it grows, to a syslog receiver, and checkpoints to webhooks.
//!
//! Forwarding only reads the files of the log. Sessions and the journal do not depend on it, so a receiver that is slow, hangs
//! or is down delays none of them.
//!
//! INVARIANT: every line is sent in order, byte by byte as it stands in the file, at least once; lines that can no longer be
//! sent because their segment was removed are reported. Syslog has no acknowledgement: a line that the receiver took from the
//! network and then lost is lost. A line therefore counts as sent only when its connection is still good 15 seconds later;
//! after a failure or a restart, forwarding continues after the last such line.

mod forwarder;
mod position;
mod syslog;
mod tailer;
#[cfg(test)]
mod tests;

pub use syslog::{SyslogOrigin, hostname};

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::audit::verify::SavedCheckpoint;
use crate::base::backoff::Backoff;
use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;
use crate::base::supervision::restarted;
use crate::base::tls::{CollectorTls, TlsError};
use crate::outbound::notify::Notifier;
use forwarder::LogForwarder;

/// Settings of `[audit.forward]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardSettings {
    /// Receiver of the log.
    pub receiver: SyslogReceiver,
    /// Host name of this gate in the messages.
    pub hostname: String,
}

/// Syslog receiver to which the log is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyslogReceiver {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// CAs of TLS; `None`: unencrypted, to this machine only.
    pub tls: Option<CaFile>,
}

/// PEM file with the trusted CAs; `None`: the CAs that this machine trusts.
pub type CaFile = Option<PathBuf>;

/// Limits and intervals of forwarding.
#[derive(Debug, Clone, Copy)]
struct ForwardPace {
    /// Waits after failures.
    backoff: Backoff,
    /// Limit for connecting including the TLS handshake, and for a receiver that accepts no bytes.
    patience: Duration,
    /// Time after which a line that was sent counts as received, if its connection is still good.
    settle: Duration,
    /// Interval at which the end of the log is read again.
    poll: Duration,
    /// Interval at which the position is saved.
    save: Duration,
    /// Lag from which a warning is logged.
    behind: Duration,
}

const PACE: ForwardPace = ForwardPace {
    backoff: Backoff::new(Duration::from_secs(1), Duration::from_mins(1)),
    patience: Duration::from_secs(10),
    // Longer than bytes may wait in the socket unacknowledged (`patience`).
    settle: Duration::from_secs(15),
    poll: Duration::from_millis(100),
    save: Duration::from_secs(5),
    behind: Duration::from_mins(1),
};

/// Task that forwards the log to a receiver; ends when dropped.
#[derive(Debug)]
pub struct ForwarderHandle {
    receiver: String,
    state: Arc<ForwardState>,
    clock: Clock,
    task: JoinHandle<()>,
}

/// State of forwarding that is visible from outside: counters and lag.
#[derive(Debug, Default)]
struct ForwardState {
    sent: AtomicU64,
    /// Time at which the oldest line that is not sent was written, in microseconds since the epoch; 0: all lines are sent.
    waiting_since: AtomicI64,
    missed: AtomicU64,
    /// Last line that counts as received.
    received_to: AtomicU64,
    failure: Mutex<Option<(Timestamp, String)>>,
    /// Notified each time the end of the log is reached with everything sent.
    at_end: Notify,
}

impl ForwarderHandle {
    /// Starts to send the log in `dir` from the position in the position file; without one, from the beginning. Needs a tokio
    /// runtime.
    pub fn start(settings: &ForwardSettings, dir: PathBuf, position: PathBuf, clock: Clock) -> Result<Self, TlsError> {
        Self::with_pace(settings, dir, position, clock, PACE)
    }

    fn with_pace(
        settings: &ForwardSettings,
        dir: PathBuf,
        position: PathBuf,
        clock: Clock,
        pace: ForwardPace,
    ) -> Result<Self, TlsError> {
        let receiver = &settings.receiver;
        let tls = receiver.tls.as_ref().map(|ca| CollectorTls::new(ca.as_deref())).transpose()?;
        let state = Arc::new(ForwardState::default());
        let forwarder = LogForwarder {
            receiver: receiver.clone(),
            tls,
            origin: SyslogOrigin::new(&settings.hostname, std::process::id()),
            dir,
            position,
            clock: clock.clone(),
            pace,
            state: Arc::clone(&state),
        };
        let task = tokio::spawn(async move { restarted("forwarding the audit log", async || forwarder.run().await).await });
        Ok(Self {
            receiver: format!("{}:{}", receiver.host, receiver.port),
            state,
            clock,
            task,
        })
    }

    /// Returns the time that the oldest line that is not sent has waited.
    #[must_use]
    pub fn lag(&self) -> Duration {
        self.state.lag(self.clock.now())
    }

    /// Returns the number of lines sent since the start; a line that was sent twice counts twice.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::Relaxed)
    }

    /// Returns the number of lines, since the start, that were removed before they could be sent.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.state.missed.load(Ordering::Relaxed)
    }

    /// Returns the host and port of the receiver.
    #[must_use]
    pub fn receiver(&self) -> &str {
        &self.receiver
    }

    /// Returns the number of the last line that counts as received.
    #[must_use]
    pub fn received_to(&self) -> u64 {
        self.state.received_to.load(Ordering::Relaxed)
    }

    /// Returns the last failure since the start, with its time.
    #[must_use]
    pub fn failure(&self) -> Option<(Timestamp, String)> {
        self.state.failure.lock().clone()
    }

    /// Waits until all lines have been sent, at most for `limit`.
    pub async fn finish(&self, limit: Duration) {
        let sent = async {
            // The current pass may have begun before the last line was written; the next one did not.
            self.state.at_end.notified().await;
            self.state.at_end.notified().await;
        };
        if tokio::time::timeout(limit, sent).await.is_err() {
            tracing::warn!("cannot forward the last audit records in time; the next start forwards them");
        }
    }
}

impl ForwardState {
    fn lag(&self, now: Timestamp) -> Duration {
        match self.waiting_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_micros(u64::try_from(now.as_microsecond().saturating_sub(since)).unwrap_or(0)),
        }
    }

    fn waits_since(&self, time: Option<Timestamp>) {
        let micros = time.map_or(0, |time| time.as_microsecond().max(1));
        self.waiting_since.store(micros, Ordering::Relaxed);
    }
}

impl Drop for ForwarderHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads the newest checkpoint that the journal keeps beside the log every `every`, and enqueues it for the webhooks that want
/// checkpoints, so that it can be kept elsewhere. The outbox remembers what was sent, so each one is sent once. Returns only when
/// the runtime shuts down.
pub async fn checkpoints(dir: PathBuf, every: Duration, notifier: Notifier) {
    let mut clock = tokio::time::interval(every);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first tick fires at once: a gate that stops early has then sent at least the checkpoint of its last start.
    loop {
        clock.tick().await;
        let folder = dir.clone();
        let Ok(found) = tokio::task::spawn_blocking(move || SavedCheckpoint::beside(&folder)).await else {
            return;
        };
        match found {
            // No checkpoint has been signed yet.
            Ok(None) => {}
            Ok(Some(kept)) => {
                let checkpoint = &kept.checkpoint;
                notifier
                    .checkpoint(&kept.line, &checkpoint.log, checkpoint.covers, kept.time)
                    .await;
            }
            Err(error) => tracing::warn!(folder = %dir.display(), error = %display_chain(&error), "cannot forward a checkpoint"),
        }
    }
}
