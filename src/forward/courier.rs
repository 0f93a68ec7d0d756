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

use super::position::{Position, PositionFile};
use super::syslog::Origin;
use super::tail::Tail;
use super::{Pace, Receiver, State};
use crate::causes::in_one_line;
use crate::clock::Clock;
use crate::tls::CollectorTls;

/// Limits of a parcel: it is sent when it has `LINES` lines or `BYTES` bytes.
const LINES: usize = 512;
const BYTES: usize = 256 * 1024;
/// Size of the socket's send buffer, in bytes. The smaller it is, the earlier a dead receiver is noticed.
const IN_FLIGHT: usize = 128 * 1024;

/// Sender of the log, with all that a delivery needs.
pub(super) struct Courier {
    pub(super) receiver: Receiver,
    pub(super) tls: Option<CollectorTls>,
    pub(super) origin: Origin,
    pub(super) dir: PathBuf,
    pub(super) position: PositionFile,
    pub(super) clock: Clock,
    pub(super) pace: Pace,
    pub(super) state: Arc<State>,
}

/// Framed lines that are sent together.
struct Parcel {
    frames: Vec<u8>,
    count: u64,
    /// Time at which the first of these lines was written.
    since: Option<Timestamp>,
    /// Position after the last of these lines.
    position: Position,
}

/// State of one connection: lines that were sent and the position that was saved.
struct Journey {
    /// Positions that were sent and do not count as received yet, each with the time of sending.
    sent: VecDeque<(Timestamp, Position)>,
    saved_at: Timestamp,
    saved: Position,
    /// True if the log has a message that the receiver is behind.
    told: bool,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Courier {
    /// Sends lines until it is dropped; reconnects with back-off after an error.
    pub(super) async fn run(&self) {
        let file = self.position.clone();
        let loaded = tokio::task::spawn_blocking(move || file.load()).await;
        // The runtime is shutting down.
        let Ok(mut settled) = loaded else { return };
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
            let (receiver, lag) = (
                format!("{}:{}", self.receiver.host, self.receiver.port),
                self.state.lag(self.clock.now()),
            );
            tracing::warn!(receiver, error = %in_one_line(&error), behind_seconds = lag.as_secs(), "the audit log cannot be forwarded; trying again");
            sleep(backoff.next_wait()).await;
        }
    }

    /// Sends the lines after `received`, and new ones as they are written, over one connection; advances `received`.
    async fn deliver(&self, received: &mut Position) -> Result<std::convert::Infallible, io::Error> {
        let mut tail = Tail::new(&self.dir, *received);
        // This reads before it connects, so that the lag is known even when the receiver cannot be reached.
        let mut next = self.load(&mut tail).await?;
        let stream = timeout(self.pace.patience, self.connect())
            .await
            .map_err(|_| timed_out("no connection"))??;
        let (reader, mut writer) = tokio::io::split(stream);
        let mut closed = pin!(drain(reader));
        let mut journey = Journey {
            sent: VecDeque::new(),
            saved_at: self.clock.now(),
            saved: *received,
            told: false,
        };
        loop {
            if let Some(parcel) = next {
                tokio::select! {
                    error = &mut closed => return Err(error),
                    sent = send(&mut writer, &parcel.frames, self.pace.patience) => sent?,
                }
                self.state.sent.fetch_add(parcel.count, Ordering::Relaxed);
                journey.sent.push_back((self.clock.now(), parcel.position));
                self.tell(&mut journey, false);
            } else {
                self.tell(&mut journey, true);
                self.state.at_end.notify_waiters();
                tokio::select! {
                    error = &mut closed => return Err(error),
                    () = sleep(self.pace.poll) => {}
                }
            }
            self.settle(&mut journey, received).await;
            next = self.load(&mut tail).await?;
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let receiver = &self.receiver;
        let tcp = TcpStream::connect((&*receiver.host, receiver.port)).await?;
        let socket = SockRef::from(&tcp);
        // If the other machine acknowledges nothing for that long, the connection fails and the lines are sent again.
        socket.set_tcp_user_timeout(Some(self.pace.patience))?;
        socket.set_send_buffer_size(IN_FLIGHT)?;
        tcp.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Box::new(tcp)),
            Some(tls) => Ok(Box::new(tls.connect(tcp, &receiver.host).await?)),
        }
    }

    /// Returns the next lines, framed; `None` at the end of the log.
    async fn load(&self, tail: &mut Tail) -> io::Result<Option<Parcel>> {
        let (origin, mut reading) = (self.origin.clone(), std::mem::take(tail));
        let turn = tokio::task::spawn_blocking(move || {
            let parcel = pack(&origin, &mut reading);
            (reading, parcel)
        });
        let (read, parcel) = turn.await.map_err(io::Error::other)?;
        *tail = read;
        let parcel = parcel?;
        if let Some((first, last)) = tail.gap() {
            let lines = last - first + 1;
            self.state.missed.fetch_add(lines, Ordering::Relaxed);
            tracing::error!(
                first,
                last,
                "records of the audit log were removed before they could be forwarded"
            );
        }
        self.state.waits_since(parcel.as_ref().and_then(|parcel| parcel.since));
        Ok(parcel)
    }

    /// Advances `received` past the lines that were sent long enough ago, and saves it from time to time.
    async fn settle(&self, journey: &mut Journey, received: &mut Position) {
        let now = self.clock.now();
        while let Some((at, position)) = journey.sent.front()
            && older(now, *at, self.pace.settle)
        {
            *received = *position;
            journey.sent.pop_front();
        }
        if *received != journey.saved && older(now, journey.saved_at, self.pace.save) {
            (journey.saved, journey.saved_at) = (*received, now);
            self.save(*received).await;
        }
    }

    async fn save(&self, position: Position) {
        let file = self.position.clone();
        let saved = tokio::task::spawn_blocking(move || file.save(position)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(error = %in_one_line(&error), "the position of the log's forwarding cannot be kept: after a restart more is sent twice");
        }
    }

    /// Logs once that the receiver is far behind, and once that it has caught up.
    fn tell(&self, journey: &mut Journey, at_end: bool) {
        let lag = self.state.lag(self.clock.now());
        if at_end && journey.told {
            journey.told = false;
            tracing::info!("the receiver of the audit log has caught up");
        } else if lag > self.pace.behind && !journey.told {
            journey.told = true;
            tracing::warn!(behind_seconds = lag.as_secs(), "the receiver of the audit log is behind");
        }
    }
}

/// Reads and frames the next lines. Blocks.
fn pack(origin: &Origin, tail: &mut Tail) -> io::Result<Option<Parcel>> {
    let mut parcel: Option<Parcel> = None;
    while let Some(line) = tail.next()? {
        let parcel = parcel.get_or_insert_with(|| Parcel {
            frames: Vec::new(),
            count: 0,
            since: None,
            position: line.position,
        });
        let time = origin.frame(&mut parcel.frames, &line.bytes);
        parcel.since = parcel.since.or(time);
        parcel.position = line.position;
        parcel.count += 1;
        if parcel.count >= LINES as u64 || parcel.frames.len() >= BYTES {
            break;
        }
    }
    Ok(parcel)
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
