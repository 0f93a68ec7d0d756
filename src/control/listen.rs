//! The TCP listener of the control API: in clear on this machine, else on TLS with the gate's own certificate.
//!
//! It knows no HTTP. The law: handshakes have a deadline and hold nobody up, and strangers cannot use up more than
//! [`MOST`] connections.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::tls::{ServerTlsCell, Transport};

/// Connections at once: people and pipelines that wait for something hold one each.
const MOST: usize = 1_000;
/// From accept to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// When the system has no file descriptors left, accepting again at once would only spin.
const BREATH: Duration = Duration::from_millis(50);

/// Accepts connections, and shakes hands with many at once.
#[derive(Debug)]
pub(super) struct Front {
    tcp: TcpListener,
    tls: Option<ServerTlsCell>,
    places: Arc<Semaphore>,
    shaking: JoinSet<Option<(Connection, SocketAddr)>>,
}

impl Front {
    /// With a certificate: on TLS.
    pub(super) fn new(tcp: TcpListener, tls: Option<ServerTlsCell>) -> Self {
        Self {
            tcp,
            tls,
            places: Arc::new(Semaphore::new(MOST)),
            shaking: JoinSet::new(),
        }
    }

    fn welcome(&mut self, tcp: TcpStream, client: SocketAddr, place: OwnedSemaphorePermit) {
        // Answers are small and waited for.
        let _ = tcp.set_nodelay(true);
        let acceptor = self.tls.as_ref().map(|tls| TlsAcceptor::from(tls.current().web()));
        self.shaking.spawn(async move {
            let stream = match acceptor {
                None => Transport::Plain(tcp),
                Some(acceptor) => match timeout(HANDSHAKE, acceptor.accept(tcp)).await {
                    Ok(Ok(stream)) => Transport::Tls(Box::new(TlsStream::Server(stream))),
                    Ok(Err(error)) => {
                        tracing::debug!(%client, %error, "a caller of the control API did not get through the TLS handshake");
                        return None;
                    }
                    Err(_) => return None,
                },
            };
            Some((Connection { stream, _place: place }, client))
        });
    }
}

impl Listener for Front {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let places = Arc::clone(&self.places);
            // With all places taken, the next wait with the operating system.
            let accept = async {
                let place = places.acquire_owned().await.map_err(io::Error::other)?;
                let (tcp, client) = self.tcp.accept().await?;
                Ok::<_, io::Error>((tcp, client, place))
            };
            tokio::select! {
                Some(shaken) = self.shaking.join_next() => if let Ok(Some(connection)) = shaken {
                    return connection;
                },
                accepted = accept => match accepted {
                    Ok((tcp, client, place)) => self.welcome(tcp, client, place),
                    Err(error) => {
                        tracing::warn!(%error, "a connection to the control API could not be accepted");
                        sleep(BREATH).await;
                    }
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// One caller's connection, and the place it takes.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Transport,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
