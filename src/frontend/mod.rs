//! A TCP stranger becomes a named, authenticated client, or is refused properly.
//!
//! It knows neither grants nor identities: it is handed a verifier, or a judge of tokens, and whether the client may have a
//! session is decided after it. It does not send AuthenticationOk: that goes out with the session's welcome, or when a login
//! begins to wait.
//!
//! INVARIANT: until the secret is proved a connection has one deadline, a bounded number of bytes (less than 40 KiB without
//! TLS) and a permit that can be taken away; and nothing it is told depends on whether the user it names exists.

mod authenticate;
mod budget;
mod error;
mod greet;
mod parameters;
mod refuse;
mod token;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Clock;
use crate::ending::Ending;
use crate::strangers::{ConnectionPermit, FailedLogins};
use crate::tls::{ServerTlsCell, Transport};
use crate::wire::startup::{CancelRequest, Startup};

pub use authenticate::authenticate;
pub use error::HandshakeError;
pub use greet::{Greeted, greet};
pub use parameters::allowed;
pub use refuse::{close, refuse};
pub use token::{TokenRefused, identify, names_grant};

/// What every handshake needs. Cheap to clone.
#[derive(Clone)]
pub struct Settings {
    /// The certificate in force.
    pub tls: ServerTlsCell,
    /// Who may speak without TLS.
    pub plaintext: Plaintext,
    /// Who may send a token without TLS; beyond that they must be allowed to speak without it at all.
    pub token_in_clear: TokenInClear,
    /// From accept to the proof of the secret, in all; 10 to 15 s is usual.
    pub handshake: Duration,
    /// Tells the deadline.
    pub clock: Clock,
}

/// Who may have a session without TLS. (A CancelRequest may always come in clear: libpq before 17 sends it so.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plaintext {
    /// Nobody.
    Refuse,
    /// Clients on this machine, by loopback address.
    Loopback,
    /// Everybody.
    Allow,
}

/// Who may log in with a token without TLS. (A grant's secret never crosses the network, with TLS or without.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenInClear {
    /// Nobody.
    Never,
    /// Clients on this machine, by loopback address.
    Loopback,
}

/// What a stranger turned out to want.
pub enum Hello {
    /// A session: to be authenticated next.
    Session(Box<Greeted>),
    /// Another connection's statement cancelled.
    Cancel(Cancelling),
    /// Nothing: it closed before it sent a byte, as health checks do. Not worth a record.
    Gone,
}

/// A CancelRequest. Whatever becomes of it, the answer is [`close`] and nothing else, after it was handed on: libpq takes the
/// end of this connection as "the cancel was sent".
pub struct Cancelling {
    /// The connection to close.
    pub transport: Transport,
    /// Where it came from.
    pub client: SocketAddr,
    /// What it asks.
    pub request: CancelRequest,
    /// Its permit, given back when this is dropped.
    pub permit: ConnectionPermit,
}

/// A client that proved its secret or its token. It has not read AuthenticationOk yet.
pub struct Authenticated {
    /// The connection; nothing of the client's next message has been read.
    pub transport: Transport,
    /// Where it came from.
    pub client: SocketAddr,
    /// What it asked for; `user` is the grant or the identity it proved to be.
    pub startup: Startup,
    /// The deadline of the handshake, should what follows be bounded by it too.
    pub deadline: Instant,
    /// What failed before under the name, or from the address, and is to be told.
    pub failed_before: Option<FailedLogins>,
}

/// A connection that came to nothing. The client has been told what it may know, and the connection is closed.
#[derive(Debug)]
pub struct Rejected {
    /// Why, in the terms of the log.
    pub ending: Ending,
    /// Where it came from.
    pub client: SocketAddr,
    /// What it asked for, if it came that far. Nothing in it is proved.
    pub startup: Option<Startup>,
    /// More for the operator (its Display); not for the client.
    pub error: HandshakeError,
}

#[cfg(test)]
mod tests;
