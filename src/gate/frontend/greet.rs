//! Beginning of a connection, up to the startup packet: TLS if requested, then the client's first packet.
//!
//! This module does not authenticate the client.
//!
//! INVARIANT: exactly the packets that are answered are read, and no byte more, so that no bytes sent in clear text can be taken
//! for bytes sent under TLS (CVE-2021-23214), and no read bytes are left over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::budget::HandshakeBudget;
use super::error::HandshakeError;
use super::refuse::{refuse, reject};
use super::{Authenticated, FailedHandshake, HandshakeSettings, Hello, PendingCancel, TokenInClear};
use crate::access::strangers::ConnectionPermit;
use crate::base::tls::{ALPN, ServerTls, Transport};
use crate::model::ending::Ending;
use crate::protocol::wire::startup::{self, FirstPacket, StartupMessage};

/// Client that sent its startup packet and is not authenticated.
pub struct GreetedClient {
    pub(super) transport: Transport,
    pub(super) client: SocketAddr,
    pub(super) startup: StartupMessage,
    /// Certificate of this connection, if it uses TLS.
    pub(super) certificate: Option<Arc<ServerTls>>,
    pub(super) budget: HandshakeBudget,
}

impl GreetedClient {
    /// Returns the startup packet. None of it is proved.
    #[must_use]
    pub fn startup(&self) -> &StartupMessage {
        &self.startup
    }

    /// Returns the client's address.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Refuses the client for a reason found outside (the grants cannot be read, the gate is draining), and closes. Takes at most
    /// 2 s.
    pub async fn refuse(self, ending: &Ending) {
        refuse(self.transport, ending).await;
    }

    /// Returns what comes before the gate's first request: the negotiation of the protocol's version, if there is one.
    pub(super) fn hello(&self) -> BytesMut {
        let mut hello = BytesMut::new();
        self.startup.negotiate(&mut hello);
        hello
    }

    /// Returns true if the client may send a token over this connection; `clear` names the clients that may without TLS.
    pub(super) fn may_send_token(&self, clear: TokenInClear) -> bool {
        self.transport.is_tls() || (clear == TokenInClear::Loopback && self.client.ip().is_loopback())
    }

    /// Returns the client as one that has proved what it had to.
    pub(super) fn admit(self) -> Authenticated {
        let failed_before = self.budget.permit.proof().failures_before(&self.startup.user);
        Authenticated {
            transport: self.transport,
            client: self.client,
            startup: self.startup,
            deadline: self.budget.deadline,
            failed_before,
        }
    }

    /// Refuses the client as [`reject`] does.
    pub(super) async fn reject(self, error: HandshakeError) -> Box<FailedHandshake> {
        Box::pin(reject(
            Some(self.transport),
            self.client,
            Some(self.startup),
            self.budget,
            error,
        ))
        .await
    }
}

/// First byte of a TLS record with a ClientHello (RFC 8446, section 5.1). As the first byte of a length it would mean 350 MB.
const TLS_HANDSHAKE: u8 = 0x16;

const STARTUP_STEP: &str = "the startup packet";

/// Handles a connection just accepted; it needs a task of its own. If this fails, the client has got its error and the connection
/// is closed; that takes at most 2 s beyond the handshake's limit.
pub async fn greet(
    mut tcp: TcpStream,
    client: SocketAddr,
    permit: ConnectionPermit,
    settings: &HandshakeSettings,
) -> Result<Hello, Box<FailedHandshake>> {
    // Without it small answers wait for an acknowledgement; a failure has no other effect.
    let _ = tcp.set_nodelay(true);
    let mut budget = HandshakeBudget::new(&settings.clock, settings.handshake, permit);
    let mut certificate = None;
    let (transport, packet) = match budget.spend(STARTUP_STEP, plain_packets(&mut tcp)).await {
        Ok(PlainStart::Gone) => return Ok(Hello::Gone),
        Ok(PlainStart::Tls(start)) => {
            let current = certificate.insert(settings.tls.current());
            let accepting = Box::pin(accept(tcp, current, start));
            match budget.spend("the TLS handshake", accepting).await {
                Ok(mut transport) => {
                    let packet = budget.spend(STARTUP_STEP, packet(&mut transport)).await;
                    (transport, packet)
                }
                // The client cannot get another message: rustls has sent its alert.
                Err(error) => return Err(Box::pin(reject(None, client, None, budget, error)).await),
            }
        }
        Ok(PlainStart::Packet(packet)) => (Transport::Plain(tcp), Ok(packet)),
        Err(error) => (Transport::Plain(tcp), Err(error)),
    };
    let (startup, error) = match packet {
        Ok(FirstPacket::Startup(startup)) if certificate.is_some() || settings.plaintext.allows(client) => {
            return Ok(Hello::Session(Box::new(GreetedClient {
                transport,
                client,
                startup,
                certificate,
                budget,
            })));
        }
        Ok(FirstPacket::Cancel(request)) => {
            return Ok(Hello::Cancel(PendingCancel {
                transport,
                client,
                request,
                permit: budget.permit,
            }));
        }
        Ok(FirstPacket::Startup(startup)) => (Some(startup), HandshakeError::TlsRequired),
        Ok(FirstPacket::Ssl | FirstPacket::Gss) => (None, HandshakeError::SecondRequest),
        Err(error) => (None, error),
    };
    Err(Box::pin(reject(Some(transport), client, startup, budget, error)).await)
}

/// Way in which TLS began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TlsStart {
    /// TLS from the first byte.
    Direct,
    /// TLS after an SSLRequest.
    Asked,
}

async fn accept(tcp: TcpStream, certificate: &ServerTls, first: TlsStart) -> Result<Transport, HandshakeError> {
    let stream = TlsAcceptor::from(certificate.config())
        .accept(tcp)
        .await
        .map_err(HandshakeError::Tls)?;
    // Without the ALPN check a browser could be made to send requests to the gate (ALPACA); a client that sent an SSLRequest
    // speaks PostgreSQL anyway. rustls has already sent its alert (no_application_protocol) to a client that offers only other
    // protocols.
    if first == TlsStart::Direct && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(HandshakeError::NoAlpn);
    }
    Ok(Transport::Tls(Box::new(stream.into())))
}

/// Result of the bytes sent in clear text.
enum PlainStart {
    /// The client closed without sending any.
    Gone,
    Tls(TlsStart),
    Packet(FirstPacket),
}

async fn plain_packets(tcp: &mut TcpStream) -> Result<PlainStart, HandshakeError> {
    match first_byte(tcp).await? {
        None => return Ok(PlainStart::Gone),
        Some(TLS_HANDSHAKE) => return Ok(PlainStart::Tls(TlsStart::Direct)),
        Some(_) => {}
    }
    let mut refused_gss = false;
    loop {
        match packet(tcp).await? {
            FirstPacket::Ssl => {
                if more_is_here(tcp).await {
                    return Err(HandshakeError::UnencryptedData);
                }
                tcp.write_all(b"S").await?;
                return Ok(PlainStart::Tls(TlsStart::Asked));
            }
            FirstPacket::Gss if refused_gss => return Err(HandshakeError::SecondRequest),
            FirstPacket::Gss => {
                tcp.write_all(b"N").await?;
                refused_gss = true;
            }
            packet => return Ok(PlainStart::Packet(packet)),
        }
    }
}

async fn packet(stream: &mut (impl AsyncRead + Unpin)) -> Result<FirstPacket, HandshakeError> {
    let bytes = read(stream, STARTUP_STEP, |held| Ok(startup::missing(held)?)).await?;
    Ok(FirstPacket::parse(&bytes)?)
}

/// Maximum number of bytes allocated before they have arrived.
const INITIAL_BUFFER_BYTES: usize = 1024;

/// Reads until `missing` returns 0, and not a byte more.
async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    step: &'static str,
    missing: impl Fn(&[u8]) -> Result<usize, HandshakeError>,
) -> Result<Vec<u8>, HandshakeError> {
    let mut held = Vec::new();
    loop {
        let wanted = missing(&held)?;
        if wanted == 0 {
            return Ok(held);
        }
        // Exact: a vector that doubles could allocate twice the bytes received.
        held.reserve_exact(wanted.min(INITIAL_BUFFER_BYTES));
        let mut exactly = (&mut *stream).take(u64::try_from(wanted).unwrap_or(0));
        if exactly.read_buf(&mut held).await? == 0 {
            return Err(HandshakeError::Closed { step });
        }
    }
}

/// Returns the first byte without consuming it; `None` if the client closed without sending one.
async fn first_byte(tcp: &TcpStream) -> Result<Option<u8>, HandshakeError> {
    let mut byte = [0];
    match tcp.peek(&mut byte).await {
        Ok(0) => Ok(None),
        Ok(_) => Ok(byte.first().copied()),
        // A load balancer's check may also end in a reset.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns true if the client has sent bytes before the gate's answer, which it should not. Bytes that arrive after this check go
/// to the TLS handshake, where they do no harm.
async fn more_is_here(tcp: &TcpStream) -> bool {
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    std::future::poll_fn(|context| {
        let peeked = tcp.poll_peek(context, &mut buffer);
        Poll::Ready(matches!(peeked, Poll::Ready(Ok(count)) if count > 0))
    })
    .await
}
