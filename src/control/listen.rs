//! The connections of the control API: on TCP in clear on this machine, else on TLS with the gate's own certificate; and how long
//! each may keep silent.
//!
//! It knows no path and no caller. The law: handshakes have a deadline and hold nobody up, a connection that sends no whole
//! request is closed, and there are never more than [`MOST`] of them.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::serve::Listener;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::caller::Client;
use crate::tls::{ServerTlsCell, Transport};

/// Connections at once on one listener, and handshakes at once besides: people and pipelines that wait for something hold one
/// each.
pub const MOST: u32 = 1_000;
/// How long the head of a request may take, from the connection's begin or the answer before: a network that loses packets needs a
/// few seconds, and clients that keep a connection for later are used to its end.
pub(super) const SILENCE: Duration = Duration::from_secs(15);
/// From accept to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// When the system has no file descriptors left, accepting again at once would only spin.
const BREATH: Duration = Duration::from_millis(50);

/// Accepts connections, and shakes hands with many at once.
#[derive(Debug)]
pub(super) struct Front {
    /// Handshakes at once.
    pub(super) most: usize,
    tcp: TcpListener,
    tls: Option<ServerTlsCell>,
    shaking: JoinSet<Option<(Transport, SocketAddr)>>,
}

impl Front {
    /// With a certificate: on TLS.
    pub(super) fn new(tcp: TcpListener, tls: Option<ServerTlsCell>) -> Self {
        Self {
            most: MOST as usize,
            tcp,
            tls,
            shaking: JoinSet::new(),
        }
    }

    fn welcome(&mut self, tcp: TcpStream, client: SocketAddr) {
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
            Some((stream, client))
        });
    }
}

impl Listener for Front {
    type Io = Transport;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Transport, SocketAddr) {
        loop {
            let room = self.shaking.len() < self.most;
            tokio::select! {
                Some(shaken) = self.shaking.join_next() => if let Ok(Some(shaken)) = shaken {
                    return shaken;
                },
                accepted = self.tcp.accept(), if room => match accepted {
                    Ok((tcp, client)) => self.welcome(tcp, client),
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

/// Answers whoever connects, `most` at once, until `stopped`: then it lets nobody in, and returns when the answers under way are
/// given.
pub(super) async fn answer<L>(
    mut listener: L,
    most: usize,
    client: impl Fn(&L::Addr) -> Client,
    service: TowerToHyperService<Router>,
    stopped: watch::Receiver<bool>,
) where
    L: Listener,
{
    let places = Arc::new(Semaphore::new(most));
    let mut connections = JoinSet::new();
    loop {
        // With all places taken, the next wait with the operating system.
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            () = told(stopped.clone()) => break,
            ((io, address), place) = accept => {
                let (service, stopped, client) = (service.clone(), stopped.clone(), client(&address));
                connections.spawn(async move {
                    converse(io, client, service, stopped).await;
                    drop(place);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One connection, from its first byte to its end.
async fn converse(
    io: impl AsyncRead + AsyncWrite + Unpin,
    client: Client,
    service: TowerToHyperService<Router>,
    stopped: watch::Receiver<bool>,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(client));
        service.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(SILENCE);
    let mut connection = pin!(http.serve_connection(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told(stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(client = ?client.0, %error, "a connection to the control API broke off");
    }
}

async fn told(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
