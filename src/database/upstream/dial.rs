//! Opens the connection to a target, up to and including TLS.
//!
//! This module does not send a startup packet.
//!
//! INVARIANT: the connection has the encryption that the mode requires, or there is none; the answer to an SSLRequest is one
//! byte.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::TlsStream;

use super::error::ConnectError;
use super::target::Target;
use crate::base::tls::{ClientTls, TlsMode, Transport};

/// Keepalive settings by which a target's lost machine is detected on an idle connection: after 30 s + 3 × 10 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// One time limit for all steps together.
pub(super) struct ConnectDeadline {
    timer: Pin<Box<Sleep>>,
    limit: Duration,
}

impl ConnectDeadline {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            timer: Box::pin(tokio::time::sleep(limit)),
            limit,
        }
    }

    /// Runs a step. Returns an error that names the step if the limit is reached in it.
    pub(super) async fn within<T, E: From<ConnectError>>(
        &mut self,
        step: &'static str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        tokio::select! {
            biased;
            done = work => done,
            () = &mut self.timer => Err(ConnectError::Timeout { step, limit: self.limit }.into()),
        }
    }
}

pub(super) async fn dial(target: &Target, deadline: &mut ConnectDeadline) -> Result<Transport, ConnectError> {
    let tcp = deadline.within("connecting", connect_tcp(target)).await?;
    if target.tls.mode() == TlsMode::Disable {
        return Ok(Transport::Plain(tcp));
    }
    deadline
        .within("TLS handshake", start_tls(&target.tls, &target.host, tcp))
        .await
}

async fn connect_tcp(target: &Target) -> Result<TcpStream, ConnectError> {
    let resolve = |source| ConnectError::Resolve {
        host: target.host.clone(),
        source,
    };
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((target.host.as_str(), target.port))
        .await
        .map_err(resolve)?
        .collect();
    // Each address gets a share, so that a first one that drops packets leaves time for the others.
    let share = target.connect_timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut failed = None;
    for address in addresses {
        let source = match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return prepare(tcp),
            Ok(Err(source)) => source,
            Err(_) => std::io::ErrorKind::TimedOut.into(),
        };
        failed = Some(ConnectError::Unreachable { address, source });
    }
    Err(failed.unwrap_or_else(|| resolve(std::io::ErrorKind::NotFound.into())))
}

fn prepare(tcp: TcpStream) -> Result<TcpStream, ConnectError> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    tcp.set_nodelay(true)
        .and_then(|()| SockRef::from(&tcp).set_tcp_keepalive(&keepalive))
        .map_err(|source| ConnectError::Io {
            step: "connecting",
            source,
        })?;
    Ok(tcp)
}

pub(super) async fn start_tls(settings: &ClientTls, host: &str, mut tcp: TcpStream) -> Result<Transport, ConnectError> {
    let io = |source| ConnectError::Io {
        step: "SSLRequest",
        source,
    };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    tcp.write_all(&request).await.map_err(io)?;
    let mut answer = [0];
    match tcp.read(&mut answer).await.map_err(io)? {
        0 => return Err(ConnectError::Closed("SSLRequest")),
        _ => nothing_behind(&tcp)?,
    }
    match (&answer, settings.mode()) {
        (b"S", _) => {}
        (b"N", TlsMode::Prefer) => return Ok(Transport::Plain(tcp)),
        (b"N", mode) => return Err(ConnectError::TlsRefused(mode)),
        // An ErrorResponse here came in clear text and may be forged, so it is not read (CVE-2024-10977).
        (b"E", _) => {
            return Err(ConnectError::Protocol("an error instead of an answer to the SSLRequest"));
        }
        _ => {
            return Err(ConnectError::Protocol("neither S nor N to the SSLRequest"));
        }
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::TlsName(host.to_owned()))?;
    let tls = settings.connector().connect(name, tcp).await.map_err(ConnectError::Tls)?;
    Ok(Transport::Tls(Box::new(TlsStream::Client(tls))))
}

/// Checks that no bytes follow the answer, after which the server must wait for the client. Such bytes would otherwise fail in
/// the handshake with a less clear error; bytes read in clear text are never treated as received over TLS.
fn nothing_behind(tcp: &TcpStream) -> Result<(), ConnectError> {
    match tcp.try_read(&mut [0]) {
        Ok(read) if read > 0 => Err(ConnectError::BytesBehindTls),
        _ => Ok(()),
    }
}
