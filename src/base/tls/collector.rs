//! TLS on connections to a receiver of the audit log: certificate and name are always verified (RFC 5425, section 5).
//!
//! It sends only the handshake, offers no ALPN (none is registered for syslog) and shows no client certificate.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::roots;
use super::verify::{TargetVerifier, VerifyLevel};
use super::{TlsError, provider};

/// TLS settings for connections to one receiver. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CollectorTls(Arc<ClientConfig>);

impl CollectorTls {
    /// Creates the settings. `ca_file` is PEM: the CA certificates trusted, or the receiver's own certificate. Without it, the
    /// machine's root certificates are trusted.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, TlsError> {
        let (roots, trusted) = roots(ca_file)?;
        let provider = provider();
        let verifier = TargetVerifier::new(
            VerifyLevel::ChainAndName,
            roots,
            trusted,
            provider.signature_verification_algorithms,
        );
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// Performs the handshake over `tcp` with the receiver named `host`.
    pub async fn connect(&self, tcp: TcpStream, host: &str) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        TlsConnector::from(Arc::clone(&self.0)).connect(name, tcp).await
    }
}
