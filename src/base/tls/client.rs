//! TLS on connections to a target, in libpq's modes.
//!
//! This module does not send the SSLRequest and does not decide what to do if the target has no TLS.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::verify::{TargetVerifier, VerifyLevel};
use super::{ALPN, TlsError, provider, read_certificates};

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

/// Error of a text that is not a mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown TLS mode `{text}`; use disable, prefer, require, verify-ca or verify-full")]
pub struct TlsModeError {
    text: String,
}

impl TlsMode {
    pub(super) const ALL: [Self; 5] = [Self::Disable, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

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

impl FromStr for TlsMode {
    type Err = TlsModeError;

    fn from_str(text: &str) -> Result<Self, TlsModeError> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| TlsModeError {
                text: text.chars().take(80).collect(),
            })
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
        let check = match (mode, ca_file) {
            (TlsMode::Disable | TlsMode::Prefer, _) | (TlsMode::Require, None) => VerifyLevel::Nothing,
            (TlsMode::Require, Some(_)) | (TlsMode::VerifyCa, _) => VerifyLevel::Chain,
            (TlsMode::VerifyFull, _) => VerifyLevel::ChainAndName,
        };
        let (roots, trusted) = match (check, ca_file) {
            (VerifyLevel::Nothing, None) => (RootCertStore::empty(), Vec::new()),
            (_, file) => roots(file)?,
        };
        let provider = provider();
        let verifier = TargetVerifier::new(check, roots, trusted, provider.signature_verification_algorithms);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        // libpq 17 sends ALPN on the SSLRequest path too; older servers ignore it.
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self {
            mode,
            config: Arc::new(config),
        })
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

/// Returns the CAs to verify with, and the certificates that are trusted themselves: of a PEM file, or of this machine.
pub(super) fn roots(file: Option<&Path>) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let Some(path) = file else {
        return Ok((machine_roots()?, Vec::new()));
    };
    let certificates = read_certificates(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots
            .add(certificate.clone())
            .map_err(|_| TlsError::BadCertificate { path: path.to_owned() })?;
    }
    Ok((roots, certificates))
}

fn machine_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    // A machine usually has some roots that are too old to be parsed; the others count.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    Ok(roots)
}
