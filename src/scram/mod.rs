//! Either side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, one message at a time.
//!
//! It does not read sockets, clocks or random numbers: nonces, salts and the channel binding are arguments. It does not know
//! which grant or target a login is for.
//!
//! The law it keeps: a client is let in only with a proof made from the password behind the verifier, over exactly the messages
//! exchanged (RFC 5802 section 3) and bound to our own TLS certificate where the client can do that; a server is believed
//! only with a signature that shows it knows the verifier. Nothing a peer sends makes it panic or work without limit.

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
pub use verifier::{InvalidVerifier, Verifier};

/// Rounds of PBKDF2 in the verifiers we make: PostgreSQL's default (`scram_iterations`), RFC 7677 section 4's minimum.
pub const ITERATIONS: u32 = 4096;

/// Length of the salts in the verifiers we make; the fake ones are as long. PostgreSQL's SCRAM_DEFAULT_SALT_LEN.
pub const SALT_BYTES: usize = 16;

/// The most rounds a server may ask us for. A hostile one would otherwise keep us busy for hours.
pub const MAX_ITERATIONS: u32 = 100_000;

/// The longest SASL message either side takes: PG_MAX_SASL_MESSAGE_LENGTH of PostgreSQL's auth-sasl.h.
pub const MAX_MESSAGE: usize = 1024;

/// Which of the two mechanisms an exchange uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// Without channel binding.
    ScramSha256,
    /// Bound to the TLS certificate of the server (`tls-server-end-point`, RFC 5929).
    ScramSha256Plus,
}

impl Mechanism {
    /// The name in SASL messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
        }
    }

    /// The mechanism of that name.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        [Self::ScramSha256, Self::ScramSha256Plus]
            .into_iter()
            .find(|mechanism| mechanism.name().as_bytes() == name)
    }
}

/// Why an exchange failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// The peer's message is not what RFC 5802 section 7 allows.
    #[error("malformed SCRAM message: {what}")]
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The message is longer than [`MAX_MESSAGE`].
    #[error("a SCRAM message has {length} bytes; at most {MAX_MESSAGE} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The client asks for something we do not do.
    #[error("not supported in SCRAM: {what}")]
    Unsupported {
        /// What it asked for.
        what: &'static str,
    },
    /// The client would do channel binding but was made to believe that we do not: somebody is in the middle (RFC 5802 section 6).
    #[error("the client did not see the offer of channel binding; the messages were changed on the way")]
    Downgrade,
    /// The client is bound to another TLS connection than this one: somebody is in the middle.
    #[error("SCRAM channel binding does not match this TLS connection")]
    BindingMismatch,
    /// The client does not know the secret.
    #[error("wrong password")]
    BadProof,
    /// The server asks for more work than [`MAX_ITERATIONS`], or for none.
    #[error("the server asks for {got} PBKDF2 iterations; 1 to {MAX_ITERATIONS} are allowed")]
    Iterations {
        /// What it asks for.
        got: u64,
    },
    /// The server's nonce does not begin with ours, or adds nothing to it.
    #[error("the server's SCRAM nonce does not extend ours")]
    Nonce,
    /// The server ended the exchange with an error of its own.
    #[error("the server ended the SCRAM exchange with an error")]
    ServerError,
    /// The server could not show that it knows the verifier: it is not the server the password is for.
    #[error("the server's SCRAM signature is invalid: it does not know the password")]
    BadSignature,
}
