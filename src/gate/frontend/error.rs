//! Errors of handshakes for the operator, and the endings that clients get for them.
//!
//! This module does not send anything to the client: [`mod@super::refuse`] does.

use std::io;
use std::time::Duration;

use crate::access::strangers::Displaced;
use crate::base::visible;
use crate::model::ending::{Ending, HeldBack, LimitScope, OptionsFault, TokenForm};
use crate::protocol::oauth_bearer::OauthBearerError;
use crate::protocol::scram::ScramError;
use crate::protocol::wire::startup::{OptionsError, StartupError};

/// Error of a failed handshake. Its Display is for the operator's log.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client closed, or its connection broke.
    #[error("the client closed the connection during {step}")]
    Closed {
        /// Step of the handshake.
        step: &'static str,
    },
    /// Reading or writing failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The first packet is invalid.
    #[error(transparent)]
    Packet(#[from] StartupError),
    /// A request for encryption at a point where none is allowed.
    #[error("the client requested encryption twice")]
    SecondRequest,
    /// Bytes in clear text after the SSLRequest: a man in the middle may have inserted them (CVE-2021-23214).
    #[error("the client sent unencrypted data after the SSLRequest")]
    UnencryptedData,
    /// The TLS handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Tls(#[source] io::Error),
    /// TLS from the first byte, but without ALPN for PostgreSQL's protocol.
    #[error("the client used direct TLS without ALPN \"postgresql\"")]
    NoAlpn,
    /// A session without TLS although it is required.
    #[error("the client sent a startup packet without TLS")]
    TlsRequired,
    /// The deadline passed.
    #[error("{step} took longer than {limit:?}")]
    Timeout {
        /// Step that was not completed.
        step: &'static str,
        /// Time limit of the whole handshake.
        limit: Duration,
    },
    /// A newer connection took this one's permit.
    #[error("too many unfinished logins; closed to admit a newer connection")]
    Displaced(Displaced),
    /// A message other than a SASL response.
    #[error("expected a SASL response, got message type {got:#04x}")]
    NotAResponse {
        /// Type byte as sent.
        got: u8,
    },
    /// A SASL message whose length is impossible or above the limit.
    #[error("a SASL message of length {length}")]
    ResponseLength {
        /// Length as sent, including the length word itself.
        length: u32,
    },
    /// A malformed SASLInitialResponse.
    #[error("malformed SASLInitialResponse")]
    InitialResponse,
    /// A mechanism that was not offered.
    #[error("the client chose a SASL mechanism that was not offered")]
    Mechanism,
    /// The SCRAM exchange failed.
    #[error(transparent)]
    Scram(#[from] ScramError),
    /// A login with a token without TLS although TLS is required.
    #[error("the client tried to log in with a token without TLS")]
    TokenInClear,
    /// A message other than a password.
    #[error("expected a password, got message type {got:#04x}")]
    NotAPassword {
        /// Type byte as sent.
        got: u8,
    },
    /// A password message whose length is impossible or above the limit.
    #[error("a password message of length {length}")]
    PasswordLength {
        /// Length as sent, including the length word itself.
        length: u32,
    },
    /// A password without its terminator, or with one inside.
    #[error("malformed password message")]
    PasswordLayout,
    /// The token, sent as a password, is not accepted.
    #[error(transparent)]
    Token(TokenRefusalError),
    /// The token, sent by OAUTHBEARER, is not accepted.
    #[error(transparent)]
    Bearer(TokenRefusalError),
    /// A message of OAUTHBEARER is malformed.
    #[error(transparent)]
    BearerMessage(#[from] OauthBearerError),
    /// The client had no token and asked where to get one. It comes again with one.
    #[error("the client asked where to sign in")]
    Discovery,
    /// The operating system returned no random bytes.
    #[error("the operating system's random generator failed: {0}")]
    Random(#[from] getrandom::Error),
}

/// Reason why a token is refused, for the operator; the client gets the same answer in every case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusalError {
    /// An unknown token, or one that is no longer valid.
    #[error("the token is not accepted: {why}")]
    NotAccepted {
        /// Reason for the record.
        why: String,
    },
    /// A valid token, but not of the named user.
    #[error("the token belongs to another identity than the user name")]
    AnotherIdentity,
    /// A valid token sent by OAUTHBEARER, but not of an issuer that clients sign in at.
    #[error(
        "the token is not of an issuer that clients sign in at: set wire = \"oauth\" for the issuer, or send the token as a password"
    )]
    AnotherIssuer,
}

impl HandshakeError {
    /// Returns the ending for the log and the client; `user` as the client gave it, `held` if the answer was delayed.
    #[must_use]
    pub fn ending(&self, user: &str, held: Option<HeldBack>) -> Ending {
        match self {
            Self::Closed { .. } | Self::Io(_) | Self::Random(_) => Ending::Disconnected,
            Self::Packet(error) => of_packet(error),
            Self::SecondRequest => malformed("a second request for encryption is not allowed"),
            // PostgreSQL's own text, which its tests look for.
            Self::UnencryptedData => malformed("received unencrypted data after SSL request"),
            Self::Tls(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ending::Disconnected,
            Self::Tls(_) => malformed("the TLS handshake failed"),
            Self::NoAlpn => malformed("received direct SSL connection request without ALPN protocol negotiation extension"),
            Self::TlsRequired => Ending::TlsRequired,
            Self::Timeout { step, limit } => Ending::HandshakeTimeout { step, limit: *limit },
            Self::Displaced(displaced) => Ending::TooMany {
                scope: if displaced.of_address {
                    LimitScope::UnfinishedOfAddress
                } else {
                    LimitScope::Unfinished
                },
                limit: displaced.limit,
            },
            Self::NotAResponse { .. } => malformed("expected SASL response"),
            Self::ResponseLength { .. } | Self::PasswordLength { .. } => malformed("invalid message length"),
            Self::InitialResponse => malformed("malformed SASLInitialResponse message"),
            Self::Mechanism => malformed("client selected an invalid SASL authentication mechanism"),
            Self::Scram(error) => of_scram(error, user, held),
            Self::TokenInClear => Ending::TokenInClear,
            Self::NotAPassword { .. } => malformed("expected password response"),
            Self::PasswordLayout => malformed("invalid password packet size"),
            Self::Token(_) => bad_token(user, TokenForm::Password, held),
            Self::Bearer(_) | Self::Discovery => bad_token(user, TokenForm::Bearer, held),
            Self::BearerMessage(OauthBearerError::Malformed { .. }) => malformed("malformed OAUTHBEARER message"),
            Self::BearerMessage(OauthBearerError::AuthorizationIdentity) => {
                malformed("client uses authorization identity, but it is not supported")
            }
        }
    }

    /// Returns true if a wrong secret or token was tried: guesses must be expensive.
    pub(super) fn is_guess(&self) -> bool {
        matches!(self, Self::Scram(ScramError::BadProof) | Self::Token(_) | Self::Bearer(_))
    }

    /// Returns true if the client tried nothing: a newer one took its place, or it only asked where to sign in.
    #[must_use]
    pub fn is_no_attempt(&self) -> bool {
        matches!(self, Self::Displaced(_) | Self::Discovery)
    }

    /// Returns true if the client gets the error, false if the connection is only closed. PostgreSQL also only closes it if the
    /// peer does not seem to speak the protocol, could not read an answer, or must not get one (CancelRequest).
    pub(super) fn told(&self) -> bool {
        !matches!(
            self,
            Self::Closed { .. }
                | Self::Io(_)
                | Self::Random(_)
                | Self::Packet(StartupError::Length { .. } | StartupError::CancelKey { .. })
                | Self::Tls(_)
                | Self::NoAlpn
                | Self::Displaced(_)
        )
    }
}

fn malformed(what: &'static str) -> Ending {
    Ending::Malformed { what }
}

fn bad_token(user: &str, form: TokenForm, held: Option<HeldBack>) -> Ending {
    Ending::BadToken {
        user: user.to_owned(),
        form,
        held,
    }
}

fn of_packet(error: &StartupError) -> Ending {
    match error {
        StartupError::Length { .. } => malformed("invalid length of startup packet"),
        StartupError::CancelKey { .. } => malformed("invalid length of cancel request"),
        StartupError::Version { major, minor } => Ending::ProtocolUnsupported {
            major: *major,
            minor: *minor,
        },
        StartupError::Layout => malformed("invalid startup packet layout: expected terminator as last byte"),
        StartupError::Twice { .. } => malformed("a startup parameter is given twice"),
        StartupError::TooMany { .. } => malformed("too many startup parameters"),
        StartupError::NotUtf8 => malformed("a startup parameter is not UTF-8"),
        StartupError::NoUser => Ending::NoUser,
        StartupError::Replication => malformed("invalid value for startup parameter \"replication\""),
        StartupError::Options(error) => of_options(error),
    }
}

fn of_options(error: &OptionsError) -> Ending {
    /// Maximum number of characters of a word that are repeated to the client.
    const MAX_WORD_CHARS: usize = 63;
    let (word, fault) = match error {
        OptionsError::NotNameValue { word } => (word, OptionsFault::NotNameValue),
        OptionsError::Switch { word } if word.starts_with('-') => (word, OptionsFault::Switch),
        OptionsError::Switch { word } => (word, OptionsFault::StrayWord),
    };
    Ending::OptionsUnreadable {
        word: visible::start(word, MAX_WORD_CHARS),
        fault,
    }
}

fn of_scram(error: &ScramError, user: &str, held: Option<HeldBack>) -> Ending {
    match error {
        ScramError::BadProof => Ending::BadSecret {
            user: user.to_owned(),
            held,
        },
        ScramError::Downgrade | ScramError::BindingMismatch => Ending::BindingFailed,
        ScramError::Malformed { what } | ScramError::Unsupported { what } => malformed(what),
        _ => malformed("malformed SCRAM message"),
    }
}
