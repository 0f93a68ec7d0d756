//! From the first byte to the startup packet: TLS if asked for, then what the client wants.
//!
//! It does not check who the client is.
//!
//! INVARIANT: reads exactly the packets it answers and not a byte more, so that nothing sent in clear can be taken for something
//! sent under TLS (CVE-2021-23214), and there is nothing left over to hand on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::budget::Budget;
use super::error::HandshakeError;
use super::{Cancelling, Hello, Plaintext, Rejected, Settings, refuse};
use crate::strangers::ConnectionPermit;
use crate::tls::{ALPN, ServerTls, Transport};
use crate::wire::startup::{self, Packet, Startup};

/// A client that said what it wants and who it claims to be.
pub struct Greeted {
    pub(super) transport: Transport,
    pub(super) client: SocketAddr,
    pub(super) startup: Startup,
    /// The certificate this connection is bound to, on TLS.
    pub(super) certificate: Option<Arc<ServerTls>>,
    pub(super) budget: Budget,
}

impl Greeted {
    /// What it asked for. Nothing of it is proved.
    #[must_use]
    pub fn startup(&self) -> &Startup {
        &self.startup
    }

    /// Where it came from.
    #[must_use]
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// Refuses it for a reason found outside (the grants cannot be read, the gate is draining), and closes. Takes at most 2 s.
    pub async fn refuse(self, ending: &crate::ending::Ending) {
        refuse(self.transport, ending).await;
    }
}

/// First byte of a TLS record with a ClientHello (RFC 8446, section 5.1). As the first byte of a length it would be 350 MB.
const TLS_HANDSHAKE: u8 = 0x16;

/// Meets a connection just accepted; to be run in a task of its own. On failure the client has been told and the connection
/// closed; that takes at most 2 s beyond the handshake's limit.
pub async fn greet(
    tcp: TcpStream,
    client: SocketAddr,
    permit: ConnectionPermit,
    settings: &Settings,
) -> Result<Hello, Box<Rejected>> {
    // Without it small answers wait for an acknowledgement; a failure costs only that.
    let _ = tcp.set_nodelay(true);
    let mut budget = Budget::new(&settings.clock, settings.handshake, permit);
    match budget.spend(STARTUP, first_byte(&tcp)).await {
        Ok(None) => Ok(Hello::Gone),
        Ok(Some(TLS_HANDSHAKE)) => greet_tls(tcp, client, budget, settings, First::Direct).await,
        Ok(Some(_)) => greet_plain(tcp, client, budget, settings).await,
        Err(error) => Err(Box::pin(reject(Some(Transport::Plain(tcp)), client, budget, error)).await),
    }
}

const STARTUP: &str = "the startup packet";

async fn greet_plain(
    mut tcp: TcpStream,
    client: SocketAddr,
    mut budget: Budget,
    settings: &Settings,
) -> Result<Hello, Box<Rejected>> {
    match budget.spend(STARTUP, plain_packets(&mut tcp)).await {
        Ok(Wish::Tls) => greet_tls(tcp, client, budget, settings, First::Asked).await,
        Ok(Wish::Cancel(request)) => Ok(Hello::Cancel(Cancelling {
            transport: Transport::Plain(tcp),
            client,
            request,
            permit: budget.permit,
        })),
        Ok(Wish::Session(startup)) => {
            let allowed = match settings.plaintext {
                Plaintext::Refuse => false,
                Plaintext::Loopback => client.ip().is_loopback(),
                Plaintext::Allow => true,
            };
            let transport = Transport::Plain(tcp);
            if !allowed {
                let mut rejected = Box::pin(reject(Some(transport), client, budget, HandshakeError::TlsRequired)).await;
                rejected.startup = Some(startup);
                return Err(rejected);
            }
            Ok(Hello::Session(Box::new(Greeted {
                transport,
                client,
                startup,
                certificate: None,
                budget,
            })))
        }
        Err(error) => Err(Box::pin(reject(Some(Transport::Plain(tcp)), client, budget, error)).await),
    }
}

/// How TLS began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    /// With the first byte.
    Direct,
    /// After an SSLRequest.
    Asked,
}

async fn greet_tls(
    tcp: TcpStream,
    client: SocketAddr,
    mut budget: Budget,
    settings: &Settings,
    first: First,
) -> Result<Hello, Box<Rejected>> {
    let certificate = settings.tls.current();
    let accepting = Box::pin(accept(tcp, &certificate, first));
    let mut transport = match budget.spend("the TLS handshake", accepting).await {
        Ok(transport) => transport,
        // There is no way left to tell: rustls has sent its alert.
        Err(error) => return Err(Box::pin(reject(None, client, budget, error)).await),
    };
    match budget.spend(STARTUP, packet(&mut transport)).await {
        Ok(Packet::Startup(startup)) => Ok(Hello::Session(Box::new(Greeted {
            transport,
            client,
            startup,
            certificate: Some(certificate),
            budget,
        }))),
        Ok(Packet::Cancel(request)) => Ok(Hello::Cancel(Cancelling {
            transport,
            client,
            request,
            permit: budget.permit,
        })),
        Ok(Packet::Ssl | Packet::Gss) => {
            Err(Box::pin(reject(Some(transport), client, budget, HandshakeError::SecondRequest)).await)
        }
        Err(error) => Err(Box::pin(reject(Some(transport), client, budget, error)).await),
    }
}

async fn accept(tcp: TcpStream, certificate: &ServerTls, first: First) -> Result<Transport, HandshakeError> {
    let stream = TlsAcceptor::from(certificate.config())
        .accept(tcp)
        .await
        .map_err(HandshakeError::Tls)?;
    // Without ALPN a browser could be made to speak to us (ALPACA); after an SSLRequest it is a PostgreSQL client anyway. A
    // client that offers only other protocols has already got its alert (no_application_protocol) from rustls.
    if first == First::Direct && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(HandshakeError::NoAlpn);
    }
    Ok(Transport::Tls(Box::new(stream.into())))
}

/// What packets in clear lead to.
enum Wish {
    Tls,
    Cancel(startup::CancelRequest),
    Session(Startup),
}

async fn plain_packets(tcp: &mut TcpStream) -> Result<Wish, HandshakeError> {
    let mut refused_gss = false;
    loop {
        match packet(tcp).await? {
            Packet::Ssl => {
                if more_is_here(tcp).await {
                    return Err(HandshakeError::UnencryptedData);
                }
                tcp.write_all(b"S").await?;
                return Ok(Wish::Tls);
            }
            Packet::Gss if refused_gss => return Err(HandshakeError::SecondRequest),
            Packet::Gss => {
                tcp.write_all(b"N").await?;
                refused_gss = true;
            }
            Packet::Cancel(request) => return Ok(Wish::Cancel(request)),
            Packet::Startup(startup) => return Ok(Wish::Session(startup)),
        }
    }
}

async fn packet(stream: &mut (impl AsyncRead + Unpin)) -> Result<Packet, HandshakeError> {
    let bytes = read(stream, STARTUP, |held| Ok(startup::missing(held)?)).await?;
    Ok(Packet::parse(&bytes)?)
}

/// Most bytes made room for before they have come.
const ROOM: usize = 1024;

/// Reads until `missing` says that nothing is, and not a byte more.
pub(super) async fn read(
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
        // Exact: a vector that doubles could hold twice what has come.
        held.reserve_exact(wanted.min(ROOM));
        let mut exactly = (&mut *stream).take(u64::try_from(wanted).unwrap_or(0));
        if exactly.read_buf(&mut held).await? == 0 {
            return Err(HandshakeError::Closed { step });
        }
    }
}

/// The first byte, left where it is; `None` when the client closed without one.
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

/// Whether the client has sent more than it should have before our answer. What comes later than this look goes to the TLS
/// handshake, where it can do no harm.
async fn more_is_here(tcp: &TcpStream) -> bool {
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    std::future::poll_fn(|context| {
        let peeked = tcp.poll_peek(context, &mut buffer);
        Poll::Ready(matches!(peeked, Poll::Ready(Ok(count)) if count > 0))
    })
    .await
}

/// Tells the client as much as it may know, closes, and says what it was; it counts against the client's address.
async fn reject(transport: Option<Transport>, client: SocketAddr, mut budget: Budget, error: HandshakeError) -> Box<Rejected> {
    let held = budget.failed(&error, None).await;
    let ending = error.ending("", held);
    if let Some(transport) = transport.filter(|_| error.told()) {
        Box::pin(refuse(transport, &ending)).await;
    }
    Box::new(Rejected {
        ending,
        client,
        startup: None,
        error,
    })
}
