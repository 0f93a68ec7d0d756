//! Connections of the control API: plain TCP on a loopback address, otherwise TLS with the gate's own certificate; with limits
//! on their number, on silence and on unread answers.
//!
//! It knows no path and no caller.
//!
//! INVARIANT: an unauthenticated TCP connection gives way to a newer one, so that no crowd keeps others out; handshakes have a
//! deadline and delay no other connection; a client that sends no whole request, or does not read, is disconnected.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
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
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::authenticate::CallOrigin;
use super::connection::{Displacements, Owed};
use crate::access::strangers::{ConnectionPermit, Displaced, StrangerLimits, Strangers, canonical};
use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;
use crate::base::tls::{ServerTlsCell, Transport};

/// Number of simultaneous connections per listener; a person or pipeline that waits for an event holds one.
pub const MAX_CONNECTIONS: u32 = 1_000;
/// Limits on unauthenticated TCP connections. Authenticated ones are counted by identity ([`super::long_poll`]).
const STRANGER_LIMITS: StrangerLimits = StrangerLimits {
    connections: 512,
    connections_per_address: 128,
    failure_delay: Duration::from_secs(2),
};
/// Maximum size of a request's head in bytes: twice the longest token.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// Time limit for the head of a request, from the start of the connection or from the previous answer. A network that loses
/// packets needs a few seconds, and clients that keep a connection open expect it to be closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Time limit from accept to the end of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept. Without file descriptors the next accept would fail at once, and the loop would spin.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Returns the limits on unauthenticated connections if no more than `callers` may be connected at once.
#[must_use]
pub fn strangers(callers: u32) -> StrangerLimits {
    StrangerLimits {
        connections: STRANGER_LIMITS.connections.min(callers),
        ..STRANGER_LIMITS
    }
}

/// TCP listener of the API.
#[derive(Debug)]
pub(super) struct TcpFront {
    pub(super) tcp: TcpListener,
    /// Certificate; `None`: without TLS.
    pub(super) tls: Option<ServerTlsCell>,
}

/// Service of the API for one listener, and its stop signal.
#[derive(Clone)]
pub(super) struct ServedListener {
    pub(super) service: TowerToHyperService<Router>,
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) clock: Clock,
}

/// Serves the Unix socket, which only the operator can open, with up to `most` connections at once. Once stopped it accepts no
/// connection, and returns when the answers in progress are complete.
pub(super) async fn answer_unix(mut listener: UnixListener, most: usize, served: ServedListener) {
    let places = Arc::new(Semaphore::new(most));
    let mut connections = JoinSet::new();
    loop {
        // With all places taken, further connections wait in the system's queue.
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (Listener::accept(&mut listener).await, place)
        };
        tokio::select! {
            () = told(served.stopped.clone()) => break,
            ((io, _), place) = accept => {
                let served = served.clone();
                connections.spawn(async move {
                    converse(io, CallOrigin::default(), served, pending()).await;
                    drop(place);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Does the same for the TCP address.
pub(super) async fn answer_tcp(front: TcpFront, strangers: Strangers, served: ServedListener) {
    let TcpFront { tcp: listener, tls } = front;
    let mut connections = JoinSet::new();
    let mut displacements = Displacements::default();
    loop {
        tokio::select! {
            () = told(served.stopped.clone()) => break,
            accepted = listener.accept() => match accepted {
                Ok((tcp, address)) => {
                    let address = canonical(address);
                    let permit = strangers.enter(address.ip());
                    connections.spawn(meet(tcp, address, permit, tls.clone(), served.clone()));
                }
                Err(error) => {
                    tracing::warn!(error = %display_chain(&error), "cannot accept a connection to the control API");
                    sleep(ACCEPT_RETRY_INTERVAL).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Ok(Some(displaced)) = ended {
                    displacements.say(displaced, served.clock.moment().instant);
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One connection over TCP, until it ends or, as a stranger's, gives way to a newer one: then it returns which limit that was.
async fn meet(
    tcp: TcpStream,
    address: SocketAddr,
    mut permit: ConnectionPermit,
    tls: Option<ServerTlsCell>,
    served: ServedListener,
) -> Option<Displaced> {
    // Answers are small and waited for.
    let _ = tcp.set_nodelay(true);
    let (proof, secure) = (permit.proof().clone(), tls.is_some());
    let shaken = tokio::select! {
        displaced = permit.taken() => return Some(displaced),
        shaken = shake(tcp, tls) => shaken,
    };
    match shaken {
        Ok(stream) => {
            converse(
                stream,
                CallOrigin::over_tcp(address.ip(), proof, secure),
                served,
                permit.taken(),
            )
            .await
        }
        Err(error) => {
            // Nobody waits for an answer that could be held back.
            let _ = proof.failed(None);
            tracing::debug!(client = %address, error = %display_chain(&error), "a TLS handshake at the control API failed");
            None
        }
    }
}

async fn shake(tcp: TcpStream, tls: Option<ServerTlsCell>) -> io::Result<Transport> {
    let Some(tls) = tls else {
        return Ok(Transport::Plain(tcp));
    };
    let acceptor = TlsAcceptor::from(tls.current().web());
    let stream = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await??;
    Ok(Transport::Tls(Box::new(TlsStream::Server(stream))))
}

/// One connection, from its first byte to its end, or until it has to give way: then it returns which limit that was.
async fn converse(
    io: impl AsyncRead + AsyncWrite + Unpin,
    client: CallOrigin,
    served: ServedListener,
    displaced: impl Future<Output = Displaced>,
) -> Option<Displaced> {
    let ServedListener { service, stopped, .. } = served;
    let address = client.address;
    let owed = Owed::default();
    let io = TokioIo::new(owed.watch(io));
    let service = service_fn(move |mut request: Request<Incoming>| {
        owed.begin();
        request.extensions_mut().insert(ConnectInfo(client.clone()));
        service.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES);
    let mut connection = http.serve_connection(io, service);
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = told(stopped) => None,
        displaced = displaced => {
            connection.into_parts().io.into_inner().give_way(displaced).await;
            return Some(displaced);
        }
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        Pin::new(&mut connection).graceful_shutdown();
        connection.await
    };
    if let Err(error) = ended {
        tracing::debug!(client = ?address, error = %display_chain(&error), "a connection to the control API failed");
    }
    None
}

async fn told(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
