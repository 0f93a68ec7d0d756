//! Handshake with a client: a new TCP connection becomes an authenticated client, or is refused with an error.
//!
//! This module does not depend on grants or identities: it gets a verifier, or a function that judges tokens, and the decision on
//! the session comes afterwards. It does not send AuthenticationOk: that is sent with the start of the session, or when a login
//! begins to wait.
//!
//! INVARIANT: until the secret is proved a connection has one deadline, a bounded number of bytes (less than 40 KiB without TLS)
//! and a permit that can be taken away; and no answer depends on whether the named user exists.

mod authenticate;
mod bearer;
mod budget;
mod error;
mod exchange;
mod greet;
mod identify;
mod mechanism;
mod parameters;
mod refuse;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::access::strangers::{ConnectionPermit, FailedLogins};
use crate::base::clock::Clock;
use crate::base::tls::{ServerTlsCell, Transport};
use crate::model::ending::Ending;
use crate::protocol::wire::startup::{CancelRequest, StartupMessage};

pub use crate::protocol::oauth_bearer::Discovery;
pub use authenticate::authenticate;
pub use error::{HandshakeError, TokenRefusalError};
pub use greet::{GreetedClient, greet};
pub use identify::{TokenExchange, identify};
pub use mechanism::OauthLogins;
pub use parameters::allowed;
pub use refuse::{close, refuse};
pub use token::names_grant;

/// Settings of every handshake. Cheap to clone.
#[derive(Clone)]
pub struct HandshakeSettings {
    /// Current certificate.
    pub tls: ServerTlsCell,
    /// Clients that may connect without TLS.
    pub plaintext: Plaintext,
    /// Clients that may send a token without TLS; `plaintext` must allow them to connect without it as well.
    pub token_in_clear: TokenInClear,
    /// Names whose clients sign in at an issuer.
    pub oauth: Arc<OauthLogins>,
    /// Time limit from accept to the proof of the secret, in total; 10 to 15 s is usual.
    pub handshake: Duration,
    /// Clock for the deadline.
    pub clock: Clock,
}

/// Clients that may have a session without TLS. (A CancelRequest is always allowed in clear text: libpq before 17 sends it so.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plaintext {
    /// No client.
    Refuse,
    /// Clients on this machine, by loopback address.
    Loopback,
    /// All clients.
    Allow,
}

impl Plaintext {
    fn allows(self, client: SocketAddr) -> bool {
        match self {
            Self::Refuse => false,
            Self::Loopback => client.ip().is_loopback(),
            Self::Allow => true,
        }
    }
}

/// Clients that may log in with a token without TLS. (A grant's secret never crosses the network, with or without TLS.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenInClear {
    /// No client.
    Never,
    /// Clients on this machine, by loopback address.
    Loopback,
}

/// Request of a new connection.
pub enum Hello {
    /// A session: the client is to be authenticated next.
    Session(Box<GreetedClient>),
    /// A cancel of another connection's statement.
    Cancel(PendingCancel),
    /// None: the client closed before it sent a byte, as health checks do. It needs no record.
    Gone,
}

/// CancelRequest. The only answer to it is [`close`], after it was forwarded, whatever its result: libpq takes the end of this
/// connection as "the cancel was sent".
pub struct PendingCancel {
    /// Connection to close.
    pub transport: Transport,
    /// Address of the client.
    pub client: SocketAddr,
    /// Request as received.
    pub request: CancelRequest,
    /// Permit of the connection, returned when this is dropped.
    pub permit: ConnectionPermit,
}

/// Client that proved its secret or its token. It has not got AuthenticationOk yet.
pub struct Authenticated {
    /// Connection; none of the client's next message has been read.
    pub transport: Transport,
    /// Address of the client.
    pub client: SocketAddr,
    /// Startup packet; `user` is the grant or the identity that was proved, or the name under which anybody signs in.
    pub startup: StartupMessage,
    /// Deadline of the handshake, for later steps that it limits too.
    pub deadline: Instant,
    /// Earlier failures under the name or from the address, to be reported to the client.
    pub failed_before: Option<FailedLogins>,
}

/// Connection that was refused. The client has got the error it may have, and the connection is closed.
#[derive(Debug)]
pub struct FailedHandshake {
    /// Ending for the log.
    pub ending: Ending,
    /// Address of the client.
    pub client: SocketAddr,
    /// Startup packet, if the client sent one. Nothing in it is proved.
    pub startup: Option<StartupMessage>,
    /// Details for the operator (its Display); not for the client.
    pub error: HandshakeError,
}

#[cfg(test)]
mod tests;
