//! Write time limit of a connection: it is broken off if its peer reads nothing for too long.
//!
//! A slow peer is no problem, as long as it reads a little.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Longest time that a peer may read nothing of the data written to it.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Connection with that limit on its writes.
#[derive(Debug)]
pub(super) struct StallLimit<T> {
    io: T,
    /// Timer that runs while a write is blocked.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> StallLimit<T> {
    pub(super) fn new(io: T) -> Self {
        Self { io, stalled: None }
    }

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

impl<T: AsyncRead + Unpin> AsyncRead for StallLimit<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for StallLimit<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.limited(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(cx);
        self.limited(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(cx);
        self.limited(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_broken_off_and_who_reads_slowly_is_waited_for() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut limited = StallLimit::new(near);
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
