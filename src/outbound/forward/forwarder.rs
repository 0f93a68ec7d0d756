//! Delivers the lines of the log to the receiver, over one connection after the other, until it is dropped.
//!
//! This module does not look at what a line contains. Lines that wait stay on the disk: at most one parcel is in memory.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::position::{self, LogPosition};
use super::syslog::{self, SyslogOrigin};
use super::tailer::LogTailer;
use super::{ForwardPace, ForwardState, SyslogReceiver};
use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;
use crate::base::tls::CollectorTls;

/// Limits of a parcel: it is sent when it has `LINES` lines or `BYTES` bytes.
const MAX_BATCH_LINES: usize = 512;
const MAX_BATCH_BYTES: usize = 256 * 1024;
/// Size of the socket's send buffer, in bytes. The smaller it is, the earlier a dead receiver is noticed.
const MAX_UNACKED_BYTES: usize = 128 * 1024;

/// Sender of the log, with all that a delivery needs.
pub(super) struct LogForwarder {
    pub(super) receiver: SyslogReceiver,
    pub(super) tls: Option<CollectorTls>,
    pub(super) origin: SyslogOrigin,
    pub(super) dir: PathBuf,
    /// Path of the file with the position.
    pub(super) position: PathBuf,
    pub(super) clock: Clock,
    pub(super) pace: ForwardPace,
    pub(super) state: Arc<ForwardState>,
}

/// Framed lines that are sent together.
struct ForwardBatch {
    frames: Vec<u8>,
    count: u64,
    /// Time at which the first of these lines was written.
    since: Option<Timestamp>,
    /// Position after the last of these lines.
    position: LogPosition,
}

/// State of one connection: lines that were sent and the position that was saved.
struct InFlight {
    /// Positions that were sent and do not count as received yet, each with the time of sending.
    sent: VecDeque<(Timestamp, LogPosition)>,
    saved_at: Timestamp,
    saved: LogPosition,
    /// True if the log has a message that the receiver is behind.
    told: bool,
}

trait ForwardStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ForwardStream for T {}

impl LogForwarder {
    /// Sends lines until it is dropped; reconnects with back-off after an error.
    pub(super) async fn run(&self) {
        let file = self.position.clone();
        let loaded = tokio::task::spawn_blocking(move || position::load(&file)).await;
        // The runtime is shutting down.
        let Ok(mut settled) = loaded else { return };
        self.state.received_to.store(settled.seq, Ordering::Relaxed);
        let mut backoff = self.pace.backoff;
        loop {
            let (begun, before) = (self.state.sent.load(Ordering::Relaxed), settled);
            let Err(error) = self.deliver(&mut settled).await;
            if settled != before {
                self.save(settled).await;
            }
            if self.state.sent.load(Ordering::Relaxed) > begun {
                backoff = self.pace.backoff;
            }
            *self.state.failure.lock() = Some((self.clock.now(), display_chain(&error)));
            let (receiver, lag) = (
                format!("{}:{}", self.receiver.host, self.receiver.port),
                self.state.lag(self.clock.now()),
            );
            tracing::warn!(receiver, error = %display_chain(&error), behind_seconds = lag.as_secs(), "cannot forward the audit log; will retry");
            sleep(backoff.next_wait()).await;
        }
    }

    /// Sends the lines after `received`, and new ones as they are written, over one connection; advances `received`.
    async fn deliver(&self, received: &mut LogPosition) -> Result<std::convert::Infallible, io::Error> {
        let mut tailer = LogTailer::new(&self.dir, *received);
        // This reads before it connects, so that the lag is known even when the receiver cannot be reached.
        let mut next = self.load(&mut tailer).await?;
        let stream = timeout(self.pace.patience, self.connect())
            .await
            .map_err(|_| timed_out("no connection"))??;
        let (reader, mut writer) = tokio::io::split(stream);
        let mut closed = pin!(drain(reader));
        let mut in_flight = InFlight {
            sent: VecDeque::new(),
            saved_at: self.clock.now(),
            saved: *received,
            told: false,
        };
        loop {
            if let Some(batch) = next {
                tokio::select! {
                    error = &mut closed => return Err(error),
                    sent = send(&mut writer, &batch.frames, self.pace.patience) => sent?,
                }
                self.state.sent.fetch_add(batch.count, Ordering::Relaxed);
                in_flight.sent.push_back((self.clock.now(), batch.position));
                self.tell(&mut in_flight, false);
            } else {
                self.tell(&mut in_flight, true);
                self.state.at_end.notify_waiters();
                tokio::select! {
                    error = &mut closed => return Err(error),
                    () = sleep(self.pace.poll) => {}
                }
            }
            self.settle(&mut in_flight, received).await;
            next = self.load(&mut tailer).await?;
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn ForwardStream>> {
        let receiver = &self.receiver;
        let tcp = TcpStream::connect((&*receiver.host, receiver.port)).await?;
        let socket = SockRef::from(&tcp);
        // If the other machine acknowledges nothing for that long, the connection fails and the lines are sent again.
        socket.set_tcp_user_timeout(Some(self.pace.patience))?;
        socket.set_send_buffer_size(MAX_UNACKED_BYTES)?;
        tcp.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Box::new(tcp)),
            Some(tls) => Ok(Box::new(tls.connect(tcp, &receiver.host).await?)),
        }
    }

    /// Returns the next lines, framed; `None` at the end of the log.
    async fn load(&self, tailer: &mut LogTailer) -> io::Result<Option<ForwardBatch>> {
        let (origin, mut reading) = (self.origin.clone(), std::mem::take(tailer));
        let turn = tokio::task::spawn_blocking(move || {
            let batch = pack(&origin, &mut reading);
            (reading, batch)
        });
        let (read, batch) = turn.await.map_err(io::Error::other)?;
        *tailer = read;
        let batch = batch?;
        if let Some((first, last)) = tailer.gap() {
            let lines = last - first + 1;
            self.state.missed.fetch_add(lines, Ordering::Relaxed);
            tracing::error!(first, last, "audit records were removed before they were forwarded");
        }
        self.state.waits_since(batch.as_ref().and_then(|batch| batch.since));
        Ok(batch)
    }

    /// Advances `received` past the lines that were sent long enough ago, and saves it from time to time.
    async fn settle(&self, in_flight: &mut InFlight, received: &mut LogPosition) {
        let now = self.clock.now();
        while let Some((at, position)) = in_flight.sent.front()
            && older(now, *at, self.pace.settle)
        {
            *received = *position;
            in_flight.sent.pop_front();
        }
        self.state.received_to.store(received.seq, Ordering::Relaxed);
        if *received != in_flight.saved && older(now, in_flight.saved_at, self.pace.save) {
            (in_flight.saved, in_flight.saved_at) = (*received, now);
            self.save(*received).await;
        }
    }

    async fn save(&self, position: LogPosition) {
        let file = self.position.clone();
        let saved = tokio::task::spawn_blocking(move || position::save(&file, position)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(error = %display_chain(&error), "cannot save the forwarding position; after a restart some audit records are sent twice");
        }
    }

    /// Logs once that the receiver is far behind, and once that it has caught up.
    fn tell(&self, in_flight: &mut InFlight, at_end: bool) {
        let lag = self.state.lag(self.clock.now());
        if at_end && in_flight.told {
            in_flight.told = false;
            tracing::info!("the receiver of the audit log has all records again");
        } else if lag > self.pace.behind && !in_flight.told {
            in_flight.told = true;
            tracing::warn!(behind_seconds = lag.as_secs(), "the receiver of the audit log is behind");
        }
    }
}

/// Reads and frames the next lines. Blocks.
fn pack(origin: &SyslogOrigin, tailer: &mut LogTailer) -> io::Result<Option<ForwardBatch>> {
    let (mut batch, mut line) = (None::<ForwardBatch>, Vec::new());
    while let Some(position) = tailer.next(&mut line)? {
        let batch = batch.get_or_insert_with(|| ForwardBatch {
            frames: Vec::with_capacity(MAX_BATCH_BYTES),
            count: 0,
            since: None,
            position,
        });
        origin.frame(&mut batch.frames, &line);
        batch.since = batch.since.or_else(|| syslog::time_of(&line));
        batch.position = position;
        batch.count += 1;
        if batch.count >= MAX_BATCH_LINES as u64 || batch.frames.len() >= MAX_BATCH_BYTES {
            break;
        }
    }
    Ok(batch)
}

/// Writes all bytes. Fails if the receiver accepts none of them within `patience`.
async fn send(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8], patience: Duration) -> io::Result<()> {
    let stuck = || timed_out("the receiver takes nothing");
    let mut rest = bytes;
    while !rest.is_empty() {
        let taken = timeout(patience, writer.write(rest)).await.map_err(|_| stuck())??;
        if taken == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        rest = rest.get(taken..).unwrap_or_default();
    }
    timeout(patience, writer.flush()).await.map_err(|_| stuck())?
}

/// Reads from the receiver, which sends nothing in this protocol, to notice that it closed the connection.
async fn drain(mut reader: impl AsyncRead + Unpin) -> io::Error {
    let mut buffer = [0; 256];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return io::Error::new(io::ErrorKind::ConnectionReset, "the receiver closed the connection"),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

fn older(now: Timestamp, at: Timestamp, than: Duration) -> bool {
    now.duration_since(at) >= SignedDuration::try_from(than).unwrap_or(SignedDuration::MAX)
}
