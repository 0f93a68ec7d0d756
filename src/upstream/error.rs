//! Why there is no connection to the target, and what a client is told of it.
//!
//! It does not log: whoever gets an error here writes it into the gate's log, where the operator finds the reason.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::target::AuthMethod;
use crate::ending::{Ending, TargetRefusal};
use crate::names::TargetName;
use crate::scram::ScramError;
use crate::tls::TlsMode;

/// Why a connection to a target could not be made. The texts are for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The permit is for another target.
    #[error("the permit is for target `{permitted}`, not for `{target}`")]
    NotPermitted {
        /// What it is for.
        permitted: TargetName,
        /// What was asked.
        target: TargetName,
    },
    /// The account is another grant's.
    #[error("the account `{user}` does not belong to this grant")]
    OtherGrant {
        /// Its user.
        user: String,
    },
    /// The host name has no address.
    #[error("cannot resolve host `{host}`")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// Nothing answers at any of the addresses.
    #[error("cannot connect to {address}")]
    Unreachable {
        /// The last address tried.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// All steps together took longer than `connect_timeout`.
    #[error("no answer within connect_timeout ({limit:?}), at the step: {step}")]
    Timeout {
        /// The step it was at.
        step: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The connection broke.
    #[error("the connection failed at the step: {step}")]
    Io {
        /// The step.
        step: &'static str,
        /// How.
        source: io::Error,
    },
    /// The target closed the connection without a word.
    #[error("the server closed the connection without an error message, at the step: {step}")]
    Closed {
        /// The step.
        step: &'static str,
    },
    /// The target has no TLS, or not for us.
    #[error("the server does not offer TLS, but sslmode is {mode}")]
    TlsRefused {
        /// The mode.
        mode: TlsMode,
    },
    /// The host is not a name TLS can verify.
    #[error("`{host}` is neither a DNS name nor an IP address, so TLS is impossible")]
    TlsName {
        /// The host.
        host: String,
    },
    /// The TLS handshake failed; a certificate that is not trusted is here too.
    #[error("the TLS handshake failed")]
    Tls {
        /// Why.
        source: io::Error,
    },
    /// Bytes came in clear where TLS begins: somebody in the middle may have put them there (CVE-2021-23222).
    #[error("the server sent unencrypted data behind its answer to the SSLRequest")]
    BytesBehindTls,
    /// The target does not speak the protocol.
    #[error("the server violated the protocol: {what}")]
    Protocol {
        /// What.
        what: &'static str,
    },
    /// The target asks for the password in a way the operator did not allow.
    #[error("the server asks for {method} authentication, which is not among the target's `auth`")]
    NotAllowed {
        /// Which way.
        method: AuthMethod,
    },
    /// The target asks for a way of authentication that we do not have.
    #[error("the server asks for {what} authentication, which is not supported")]
    Unsupported {
        /// Which way.
        what: &'static str,
    },
    /// The target asks for the password in clear, and the connection is not on TLS.
    #[error("the server asks for the password in clear on a connection without TLS")]
    CleartextWithoutTls,
    /// The target asks for a password and there is none.
    #[error("the server asks for a password, and the target has none configured")]
    NoPassword,
    /// The SCRAM exchange failed.
    #[error("SCRAM with the server failed")]
    Scram(#[from] ScramError),
    /// The operating system's random generator failed, or a worker thread did.
    #[error("an internal step failed: {what}")]
    Internal {
        /// Which.
        what: &'static str,
    },
    /// The target refused, in words not meant for the client.
    #[error("the server refused: {message} ({code})")]
    Refused {
        /// SQLSTATE.
        code: String,
        /// Its message; control characters are escaped.
        message: String,
        /// The routine of the server that raised it, if it says so.
        routine: Option<String>,
    },
    /// The target refused a setting that the client gave: the client gets this message as it is.
    #[error("the server refused a startup parameter of the client: {message} ({code})")]
    Startup {
        /// The whole ErrorResponse.
        frame: Bytes,
        /// Its SQLSTATE.
        code: String,
        /// Its message; control characters are escaped.
        message: String,
    },
}

impl ConnectError {
    /// What happened and why, in one line, for the gate's log.
    #[must_use]
    pub fn reason(&self) -> String {
        let mut reason = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            reason.push_str(": ");
            reason.push_str(&cause.to_string());
            source = cause.source();
        }
        reason
    }

    /// The server's SQLSTATE, where it said no.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether the server has too many connections of the account's own, as against too many at all: `InitializeSessionUserId`
    /// (utils/init/miscinit.c) alone says so.
    #[must_use]
    pub fn is_account_limit(&self) -> bool {
        matches!(self, Self::Refused { code, routine: Some(routine), .. }
            if code == "53300" && routine == "InitializeSessionUserId")
    }

    /// How the session ends. After [`ConnectError::Startup`] the client gets the frame first: then all has been said.
    #[must_use]
    pub fn ending(&self, target: &TargetName) -> Ending {
        let target = target.clone();
        match self {
            Self::Resolve { .. } | Self::Unreachable { .. } | Self::Timeout { .. } | Self::Io { .. } | Self::Closed { .. } => {
                Ending::TargetUnreachable { target }
            }
            // admin_shutdown, crash_shutdown: up again in a moment.
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
