//! Sends the log on as it grows, to a syslog receiver; and checkpoints to whoever keeps them elsewhere.
//!
//! It reads the log's files and nothing else: sessions and the journal do not know of it, so a receiver that is slow, hangs or is
//! gone slows nobody.
//!
//! The law: every line is sent in order, byte by byte as it stands in the file, at least once; what cannot be sent any more because
//! its segment was removed is said. Syslog has no receipt: what a receiver took from the network and lost is lost. So a line
//! counts as sent only when its connection has outlived it by a quarter of a minute; from there it goes on after a failure or a start.

mod checkpoints;
mod courier;
mod position;
mod syslog;
mod tail;
#[cfg(test)]
mod tests;

pub use checkpoints::checkpoints;
pub use syslog::{Origin, hostname};

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::supervision::restarted;
use crate::tls::{CollectorTls, TlsError};
use courier::Courier;
use position::PositionFile;

/// `[audit.forward]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardSettings {
    /// Where to.
    pub receiver: Receiver,
    /// What the receiver knows this gate as.
    pub hostname: String,
}

/// Where the log is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How it is encrypted and verified; `None`: in clear, to this machine only.
    pub tls: Option<CaFile>,
}

/// Which CAs are trusted: those in this PEM file, or the machine's.
pub type CaFile = Option<PathBuf>;

/// How long things take and are given.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// After the first failure; twice as long after each further one.
    first: Duration,
    /// At most that.
    most: Duration,
    /// From dialling to the end of the TLS handshake; and for a receiver that takes nothing.
    patience: Duration,
    /// So long after it was sent, a line counts as received if the connection is still good.
    settle: Duration,
    /// How often the end of the log is looked at.
    poll: Duration,
    /// How often the position is written down.
    save: Duration,
    /// A log line says so when the receiver is further behind.
    behind: Duration,
}

const PACE: Pace = Pace {
    first: Duration::from_secs(1),
    most: Duration::from_mins(1),
    patience: Duration::from_secs(10),
    // Longer than what is sent may go without the receiver's machine having it (`patience`).
    settle: Duration::from_secs(15),
    poll: Duration::from_millis(100),
    save: Duration::from_secs(5),
    behind: Duration::from_mins(1),
};

/// The log's way to a receiver; ends when dropped.
#[derive(Debug)]
pub struct Forwarder {
    state: Arc<State>,
    clock: Clock,
    task: JoinHandle<()>,
}

/// What can be seen of it from outside.
#[derive(Debug, Default)]
struct State {
    sent: AtomicU64,
    /// When the oldest line that is not sent was written, in microseconds; 0: there is none.
    waiting_since: AtomicI64,
    missed: AtomicU64,
    /// Rung each time the end of the log was reached with everything sent.
    at_end: Notify,
}

impl Forwarder {
    /// Begins to send the log in `dir`, from where the position file says that it was; without one, from its beginning. Needs a
    /// tokio runtime.
    pub fn start(settings: &ForwardSettings, dir: PathBuf, position: PathBuf, clock: Clock) -> Result<Self, TlsError> {
        Self::with_pace(settings, dir, position, clock, PACE)
    }

    fn with_pace(
        settings: &ForwardSettings,
        dir: PathBuf,
        position: PathBuf,
        clock: Clock,
        pace: Pace,
    ) -> Result<Self, TlsError> {
        let receiver = &settings.receiver;
        let tls = receiver.tls.as_ref().map(|ca| CollectorTls::new(ca.as_deref())).transpose()?;
        let state = Arc::new(State::default());
        let courier = Courier {
            receiver: receiver.clone(),
            tls,
            origin: Origin::new(&settings.hostname, std::process::id()),
            dir,
            position: PositionFile::at(position),
            clock: clock.clone(),
            pace,
            state: Arc::clone(&state),
        };
        let task = tokio::spawn(async move { restarted("forwarding the audit log", async || courier.run().await).await });
        Ok(Self { state, clock, task })
    }

    /// How long the oldest line that is not sent has waited.
    #[must_use]
    pub fn lag(&self) -> Duration {
        self.state.lag(self.clock.now())
    }

    /// Lines sent since the start; a line that was sent twice counts twice.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::Relaxed)
    }

    /// Lines that were removed before they could be sent, since the start.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.state.missed.load(Ordering::Relaxed)
    }

    /// Waits until the receiver has been sent all that there is, but not longer than `limit`.
    pub async fn finish(&self, limit: Duration) {
        let sent = async {
            // The look that is on its way may have begun before the last line; the one after it has not.
            self.state.at_end.notified().await;
            self.state.at_end.notified().await;
        };
        if tokio::time::timeout(limit, sent).await.is_err() {
            tracing::warn!("cannot forward the last audit records in time; the next start forwards them");
        }
    }
}

impl State {
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

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}
