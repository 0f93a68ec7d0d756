//! TLS on connections to a target, in libpq's modes, and to a receiver of the audit log.
//!
//! This module does not send the SSLRequest and does not decide what to do if the target has no TLS. It shows no client
//! certificate.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::verify::{CaCheck, VerifyLevel, client_config};
use super::{ALPN, TlsError};

/// Use of TLS and extent of verification on a connection to a target, by the names of libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS if the target offers it; nothing is verified. It does not protect against an attacker who can change messages.
    Prefer,
    /// TLS is required. Nothing is verified unless a CA file is named, then as in [`TlsMode::VerifyCa`] (as libpq does).
    Require,
    /// TLS is required, with a certificate from a trusted CA.
    VerifyCa,
    /// TLS is required, with a certificate from a trusted CA for the target's host name.
    VerifyFull,
}

impl TlsMode {
    /// All modes, the weakest first.
    pub const ALL: [Self; 5] = [Self::Disable, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// Returns the mode's name in libpq.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// TLS settings for connections to one target.
#[derive(Debug, Clone)]
pub struct ClientTls {
    mode: TlsMode,
    config: Arc<ClientConfig>,
}

impl ClientTls {
    /// Creates the settings. `ca_file` is PEM: the CA certificates trusted, or the target's own certificate. Without it, the
    /// verifying modes trust the machine's root certificates (libpq's `sslrootcert=system`).
    pub fn new(mode: TlsMode, ca_file: Option<&Path>) -> Result<Self, TlsError> {
        let level = match (mode, ca_file) {
            (TlsMode::Disable | TlsMode::Prefer, _) | (TlsMode::Require, None) => VerifyLevel::Nothing,
            (TlsMode::Require, Some(_)) | (TlsMode::VerifyCa, _) => VerifyLevel::Chain,
            (TlsMode::VerifyFull, _) => VerifyLevel::ChainAndName,
        };
        // libpq 17 sends ALPN on the SSLRequest path too; older servers ignore it.
        let config = client_config(CaCheck::new(level, ca_file)?, &[ALPN])?;
        Ok(Self { mode, config })
    }

    /// Returns the mode.
    #[must_use]
    pub fn mode(&self) -> TlsMode {
        self.mode
    }

    /// Returns a connector that performs the handshake according to the mode.
    #[must_use]
    pub fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::clone(&self.config))
    }
}

/// TLS settings for connections to one receiver of the audit log: certificate and name are always verified (RFC 5425, section
/// 5). Cheap to clone.
#[derive(Debug, Clone)]
pub struct CollectorTls(Arc<ClientConfig>);

impl CollectorTls {
    /// Creates the settings. `ca_file` is PEM: the CA certificates trusted, or the receiver's own certificate. Without it, the
    /// machine's root certificates are trusted.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, TlsError> {
        // No ALPN is registered for syslog.
        client_config(CaCheck::new(VerifyLevel::ChainAndName, ca_file)?, &[]).map(Self)
    }

    /// Performs the handshake over `tcp` with the receiver named `host`.
    pub async fn connect(&self, tcp: TcpStream, host: &str) -> io::Result<TlsStream<TcpStream>> {
        shake(Arc::clone(&self.0), tcp, host).await
    }
}

/// Performs a handshake with the server named `host`.
pub(super) async fn shake(config: Arc<ClientConfig>, tcp: TcpStream, host: &str) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    TlsConnector::from(config).connect(name, tcp).await
}
