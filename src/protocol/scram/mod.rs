//! Client and server side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, one message at a time.
//!
//! This module does not read sockets, clocks or random numbers: nonces, salts and the channel binding are arguments. It does not
//! know which grant or target a login is for.
//!
//! INVARIANT: a client is admitted only with a proof made from the password that the verifier was derived from, over exactly the
//! messages exchanged (RFC 5802 section 3), and bound to the gate's own TLS certificate if the client supports that. A server is
//! accepted only with a signature that proves that it knows the verifier. No message of a peer causes a panic or unbounded work.

mod client;
mod keys;
mod message;
mod server;
mod verifier;

#[cfg(test)]
mod tests;

pub use client::{Answered, Challenged, ClientExchange, client_start};
pub use keys::ClientKeys;
pub use server::{ServerExchange, server_start};
pub use verifier::{Verifier, VerifierError};

/// Rounds of PBKDF2 in the verifiers that the gate makes: PostgreSQL's default (`scram_iterations`), the minimum of RFC 7677
/// section 4.
pub const ITERATIONS: u32 = 4096;

/// Length of the salts in the verifiers that the gate makes, in bytes; mock verifiers have the same. PostgreSQL's
/// SCRAM_DEFAULT_SALT_LEN.
pub const SALT_BYTES: usize = 16;

/// Maximum number of rounds that a server may ask for. A hostile server could otherwise keep the gate busy for hours.
pub const MAX_ITERATIONS: u32 = 100_000;

/// Maximum length of a SASL message in either direction, in bytes: PG_MAX_SASL_MESSAGE_LENGTH of PostgreSQL's auth-sasl.h.
pub const MAX_MESSAGE: usize = 1024;

/// SASL mechanism of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// Without channel binding.
    ScramSha256,
    /// Bound to the TLS certificate of the server (`tls-server-end-point`, RFC 5929).
    ScramSha256Plus,
}

impl Mechanism {
    /// Returns the mechanism's name in SASL messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
        }
    }

    /// Returns the mechanism with this name.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        [Self::ScramSha256, Self::ScramSha256Plus]
            .into_iter()
            .find(|mechanism| mechanism.name().as_bytes() == name)
    }
}

/// Error of a failed exchange.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// The peer's message does not follow RFC 5802 section 7.
    #[error("malformed SCRAM message: {what}")]
    Malformed {
        /// Description of the violation.
        what: &'static str,
    },
    /// The message is longer than [`MAX_MESSAGE`].
    #[error("a SCRAM message has {length} bytes; at most {MAX_MESSAGE} are allowed")]
    TooLong {
        /// Length of the message in bytes.
        length: usize,
    },
    /// The client asks for something that is not supported.
    #[error("not supported in SCRAM: {what}")]
    Unsupported {
        /// Name of the unsupported feature.
        what: &'static str,
    },
    /// The client supports channel binding but saw no offer of it, although there was one: its messages were changed by a man in
    /// the middle (RFC 5802 section 6).
    #[error("the client did not see the offer of channel binding; the messages were changed on the way")]
    Downgrade,
    /// The client is bound to another TLS connection than this one: a man in the middle.
    #[error("SCRAM channel binding does not match this TLS connection")]
    BindingMismatch,
    /// The client does not know the secret.
    #[error("wrong password")]
    BadProof,
    /// The server asks for more work than [`MAX_ITERATIONS`], or for none.
    #[error("the server asks for {got} PBKDF2 iterations; 1 to {MAX_ITERATIONS} are allowed")]
    Iterations {
        /// Number of rounds that the server asks for.
        got: u64,
    },
    /// The server's nonce does not begin with ours, or adds nothing to it.
    #[error("the server's SCRAM nonce does not extend ours")]
    Nonce,
    /// The server ended the exchange with its own error.
    #[error("the server ended the SCRAM exchange with an error")]
    ServerError,
    /// The server could not prove that it knows the verifier: it is not the server that the password belongs to.
    #[error("the server's SCRAM signature is invalid: it does not know the password")]
    BadSignature,
}
