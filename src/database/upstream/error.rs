//! Errors of connections to a target, and the endings that clients get for them.
//!
//! This module does not log: the caller that gets an error writes it to the gate's log, where the operator finds the reason.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::base::tls::TlsMode;
use crate::model::ending::{Ending, TargetRefusal};
use crate::model::names::TargetName;
use crate::protocol::scram::ScramError;

/// Error of a connection to a target. The texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The permit is for another target.
    #[error("the permit is for target `{permitted}`, not for `{target}`")]
    NotPermitted {
        /// Target of the permit.
        permitted: TargetName,
        /// Target of the connection.
        target: TargetName,
    },
    /// The account belongs to another grant.
    #[error("the account `{0}` does not belong to this grant")]
    OtherGrant(String),
    /// The host name has no address.
    #[error("cannot resolve host `{host}`")]
    Resolve {
        /// Host name.
        host: String,
        /// Cause.
        source: io::Error,
    },
    /// No connection was accepted at any of the addresses.
    #[error("cannot connect to {address}")]
    Unreachable {
        /// Last address tried.
        address: SocketAddr,
        /// Cause.
        source: io::Error,
    },
    /// All steps together took longer than `connect_timeout`.
    #[error("no answer within connect_timeout ({limit:?}), at the step: {step}")]
    Timeout {
        /// Step at which the limit was reached.
        step: &'static str,
        /// Time limit.
        limit: Duration,
    },
    /// The connection broke.
    #[error("the connection failed at the step: {step}")]
    Io {
        /// Step at which it broke.
        step: &'static str,
        /// Cause.
        source: io::Error,
    },
    /// The target closed the connection without an error message.
    #[error("the server closed the connection without an error message, at the step: {0}")]
    Closed(&'static str),
    /// The target does not offer TLS, at least not to the gate.
    #[error("the server does not offer TLS, but sslmode is {0}")]
    TlsRefused(TlsMode),
    /// The host is not a name that TLS can verify.
    #[error("`{0}` is neither a DNS name nor an IP address, so TLS is impossible")]
    TlsName(String),
    /// The TLS handshake failed; this includes a certificate that is not trusted.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    /// Bytes came in clear text where TLS begins: a man in the middle may have inserted them (CVE-2021-23222).
    #[error("the server sent unencrypted data behind its answer to the SSLRequest")]
    BytesBehindTls,
    /// The target violated the protocol.
    #[error("the server violated the protocol: {0}")]
    Protocol(&'static str),
    /// The target asks for an authentication method that the operator did not allow.
    #[error("the server asks for {0} authentication, which is not among the target's `auth`")]
    NotAllowed(&'static str),
    /// The target asks for an authentication method that is not supported.
    #[error("the server asks for {0} authentication, which is not supported")]
    Unsupported(&'static str),
    /// The target asks for the password in clear text, and the connection does not use TLS.
    #[error("the server asks for the password in clear on a connection without TLS")]
    CleartextWithoutTls,
    /// The target asks for a password and none is configured.
    #[error("the server asks for a password, and the target has none configured")]
    NoPassword,
    /// The SCRAM exchange failed.
    #[error("SCRAM with the server failed")]
    Scram(#[from] ScramError),
    /// The operating system's random generator or a worker thread failed.
    #[error("an internal step failed: {0}")]
    Internal(&'static str),
    /// The target refused, with a message that is not meant for the client.
    #[error("the server refused: {message} ({code})")]
    Refused {
        /// SQLSTATE.
        code: String,
        /// Message; control characters are escaped.
        message: String,
        /// Routine of the server that raised it, if reported.
        routine: Option<String>,
    },
    /// The target refused a setting of the client. The client gets this message unchanged.
    #[error("the server refused a startup parameter of the client: {message} ({code})")]
    Startup {
        /// Complete ErrorResponse.
        frame: Bytes,
        /// SQLSTATE.
        code: String,
        /// Message; control characters are escaped.
        message: String,
    },
}

impl ConnectError {
    /// Returns the server's SQLSTATE, if the server refused.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Returns true if the account's connection limit is reached, as opposed to a limit of the database or the server: only
    /// `InitializeSessionUserId` (utils/init/miscinit.c) reports that.
    #[must_use]
    pub fn is_account_limit(&self) -> bool {
        matches!(self, Self::Refused { code, routine: Some(routine), .. }
            if code == "53300" && routine == "InitializeSessionUserId")
    }

    /// Returns the ending of the session. For [`ConnectError::Startup`] the client has already got the frame, so no other message
    /// follows.
    #[must_use]
    pub fn ending(&self, target: &TargetName) -> Ending {
        let target = target.clone();
        match self {
            Self::Resolve { .. } | Self::Unreachable { .. } | Self::Timeout { .. } | Self::Io { .. } | Self::Closed(_) => {
                Ending::TargetUnreachable { target }
            }
            // admin_shutdown, crash_shutdown: available again in a moment.
            Self::Refused { code, .. } if matches!(code.as_str(), "57P01" | "57P02") => Ending::TargetUnreachable { target },
            Self::Refused { code, message, .. } => match TargetRefusal::of(code) {
                Some(refusal) => refusal.ending(target, message),
                None => Ending::TargetRefused { target },
            },
            Self::Startup { code, message, .. } => Ending::TargetClosed {
                sqlstate: code.clone(),
                message: message.clone(),
            },
            _ => Ending::TargetRefused { target },
        }
    }
}

/// ErrorResponse of the server.
pub(super) struct ServerRejection {
    /// Complete message.
    pub(super) frame: Bytes,
    /// SQLSTATE; XX000 if it is missing (code that relied on its presence caused CVE-2026-6666 in pgbouncer).
    pub(super) code: String,
    /// Text of the message, control characters escaped.
    pub(super) message: String,
    /// Routine of the server that raised it, if reported; unlike the message, it is never translated.
    pub(super) routine: Option<String>,
    /// True if it came after the authentication.
    pub(super) authenticated: bool,
}
