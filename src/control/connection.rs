//! Connection of a caller as the server of HTTP sees it: broken off if its peer reads nothing for too long, and with a last word
//! if it gives way to a newer one.
//!
//! It decides nothing about the latter: the strangers' limits do. A slow peer is no problem, as long as it reads a little.
//!
//! INVARIANT: no peer that does not read is waited for, so a crowd of them holds no connection beyond its limit.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::problem::ApiError;
use crate::access::strangers::Displaced;

/// Longest time that a peer may read nothing of the data written to it.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// One line of the gate's own messages in that time, whatever a crowd does.
const MESSAGE_INTERVAL: Duration = Duration::from_mins(1);

/// An answer that the caller waits for and that has not begun: that to its request, or its first one. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Owed(Arc<AtomicBool>);

impl Default for Owed {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Owed {
    /// Notes that a request has come.
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns the connection, watched for the beginning of an answer.
    pub(super) fn watch<T>(&self, io: T) -> CallerConnection<T> {
        CallerConnection {
            io,
            owed: self.clone(),
            stalled: None,
        }
    }
}

/// Connection that notes when an answer begins, with a limit on the time that a write is blocked.
#[derive(Debug)]
pub(super) struct CallerConnection<T> {
    io: T,
    owed: Owed,
    /// Timer that runs while a write is blocked.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> CallerConnection<T> {
    /// Ends the connection: with an answer where one is owed, without a word in the middle of one.
    pub(super) async fn give_way(mut self, displaced: Displaced) {
        if !self.owed.0.load(Ordering::Relaxed) {
            return;
        }
        let answer = answer(&ApiError::Displaced(displaced));
        let last_word = async {
            self.io.write_all(answer.as_bytes()).await?;
            self.io.shutdown().await?;
            // What lies unread at the end would make a reset of it, which takes the answer along.
            tokio::io::copy(&mut (&mut self.io).take(1 << 20), &mut tokio::io::sink()).await
        };
        // As far as it goes at once.
        let _ = timeout(Duration::ZERO, last_word).await;
    }
}

impl<T> CallerConnection<T> {
    fn limited<R>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL_TIMEOUT)));
        stalled
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the caller does not read its answer")))
    }
}

/// The whole answer, as the API gives it for such an error.
fn answer(error: &ApiError) -> String {
    let problem = error.problem();
    let body = serde_json::to_string(&problem).unwrap_or_default();
    let retry_after = error.retry_after().unwrap_or(1);
    format!(
        "HTTP/1.1 {} Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nretry-after: {retry_after}\r\nconnection: close\r\n\r\n{body}",
        problem.status,
        body.len()
    )
}

impl<T: AsyncRead + Unpin> AsyncRead for CallerConnection<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for CallerConnection<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.owed.0.store(false, Ordering::Relaxed);
        }
        self.limited(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.limited(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.io).poll_shutdown(cx);
        self.limited(cx, closed)
    }
}

/// Connections that gave way, for the gate's own messages.
#[derive(Debug, Default)]
pub(super) struct Displacements {
    unsaid: u64,
    last: Option<Instant>,
}

impl Displacements {
    /// Says it, or counts it for the next line.
    pub(super) fn say(&mut self, displaced: Displaced, now: Instant) {
        self.unsaid += 1;
        if self.last.is_some_and(|last| now.duration_since(last) < MESSAGE_INTERVAL) {
            return;
        }
        self.last = Some(now);
        let connections = std::mem::take(&mut self.unsaid);
        tracing::warn!(
            connections,
            limit = displaced.limit,
            of_one_address = displaced.of_address,
            "the control API is crowded: connections that had not proved who they are gave way to newer ones (503 where no answer had begun)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISPLACED: Displaced = Displaced {
        limit: 128,
        of_address: true,
    };

    async fn read_after(first: &[u8], begin: bool) -> String {
        let (near, mut far) = tokio::io::duplex(4096);
        let owed = Owed::default();
        let mut watched = owed.watch(near);
        watched.write_all(first).await.unwrap();
        if begin {
            owed.begin();
        }
        watched.give_way(DISPLACED).await;
        let mut read = String::new();
        far.read_to_string(&mut read).await.unwrap();
        read
    }

    #[tokio::test]
    async fn an_answer_that_is_owed_is_given_and_one_that_has_begun_stays_as_it_is() {
        for read in [read_after(b"", false).await, read_after(b"", true).await] {
            assert!(read.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{read}");
            assert!(read.contains("\r\nretry-after: 1\r\n"), "{read}");
            assert!(read.contains("at most 128") && read.contains("from one address"), "{read}");
        }
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(read_after(whole.as_bytes(), false).await, whole);
        let next = read_after(whole.as_bytes(), true).await;
        assert!(next.starts_with(&format!("{whole}HTTP/1.1 503 ")), "{next}");
    }

    #[tokio::test]
    async fn nobody_is_waited_for() {
        let (near, _far) = tokio::io::duplex(16);
        let watched = Owed::default().watch(near);
        timeout(Duration::from_secs(10), watched.give_way(DISPLACED)).await.unwrap();
    }

    #[test]
    fn a_crowd_is_one_line_a_minute() {
        let mut displacements = Displacements::default();
        let now = Instant::now();
        for _ in 0..1_000 {
            displacements.say(DISPLACED, now);
        }
        assert_eq!(displacements.unsaid, 999);
        displacements.say(DISPLACED, now + MESSAGE_INTERVAL);
        assert_eq!(displacements.unsaid, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_broken_off_and_who_reads_slowly_is_waited_for() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut limited = Owed::default().watch(near);
        let reading = tokio::spawn(async move {
            let mut byte = [0; 8];
            for _ in 0..10 {
                sleep(STALL_TIMEOUT / 2).await;
                far.read_exact(&mut byte).await.unwrap();
            }
            far
        });
        limited.write_all(&[1; 80]).await.unwrap();
        let _far = reading.await.unwrap();
        limited.write_all(&[1; 16]).await.unwrap();
        let began = Instant::now();
        let error = limited.write_all(&[1; 16]).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed()), (io::ErrorKind::TimedOut, STALL_TIMEOUT));
    }
}
