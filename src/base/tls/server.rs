//! TLS for clients of the gate: its certificate, from the operator's files or made by the gate itself.
//!
//! This module does not ask clients for certificates, and does not perform handshakes.
//!
//! INVARIANT: a certificate and its key are checked to belong together before they are used for a client, so a bad reload changes
//! nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use zeroize::Zeroizing;

use super::own::{CertificateFiles, is_due};
use super::{ALPN, Fingerprint, TlsError, WEB, certificate, end_point_hash, provider, read, read_certificates};

/// Reads the fingerprint of a file's certificate, for people to compare: the same as [`ServerTls::fingerprint`].
pub fn fingerprint_of(cert: &Path) -> Result<Fingerprint, TlsError> {
    let chain = read_certificates(cert)?;
    Ok(Fingerprint::of(
        certificate::pinned(&chain).map(AsRef::as_ref).unwrap_or_default(),
    ))
}

/// TLS configuration that clients get, and the value that SCRAM binds to.
#[derive(Debug, Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    web: Arc<ServerConfig>,
    end_point: Option<Vec<u8>>,
    fingerprint: Fingerprint,
    leaf: CertificateDer<'static>,
    anchor: Option<Arc<str>>,
    /// Directory and names, for a certificate of the gate's own CA.
    own: Option<(PathBuf, Vec<String>)>,
}

impl ServerTls {
    /// Reads a PEM certificate chain (the gate's own first) and its PEM private key.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = read_certificates(cert)?;
        let pem = Zeroizing::new(read(key)?);
        let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::NoKey { path: key.to_owned() })?;
        let end_point = chain.first().and_then(|leaf| end_point_hash(leaf));
        let Some(leaf) = chain.first().cloned() else {
            return Err(TlsError::NoCertificate { path: cert.to_owned() });
        };
        let fingerprint = Fingerprint::of(certificate::pinned(&chain).unwrap_or(&leaf));
        let anchor = certificate::anchor(&chain).map(Arc::from);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(|source| TlsError::Pair {
                cert: cert.to_owned(),
                key: key.to_owned(),
                source,
            })?;
        // rustls rejects a client that offers only other protocols, on the SSLRequest path too: this protects against ALPACA.
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.max_early_data_size = 0;
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let mut web = config.clone();
        web.alpn_protocols = vec![WEB.to_vec()];
        Ok(Self {
            config: Arc::new(config),
            web: Arc::new(web),
            end_point,
            fingerprint,
            leaf,
            anchor,
            own: None,
        })
    }

    /// Uses `tls.crt` and `tls.key` in `dir`, of the gate's own CA whose key is `tls-ca.key`; makes and renews them for the names
    /// (DNS names and IP addresses) given.
    pub fn self_signed(dir: &Path, names: &[String], now: Timestamp) -> Result<Self, TlsError> {
        let files = CertificateFiles::within(dir);
        files.keep(names, now)?;
        Ok(Self {
            own: Some((dir.to_owned(), names.to_vec())),
            ..Self::load(&files.cert, &files.key)?
        })
    }

    /// Returns the next certificate, if the current one was made by the gate and ends soon.
    pub fn renewed(&self, now: Timestamp) -> Result<Option<Self>, TlsError> {
        match &self.own {
            Some((dir, names)) if is_due(&self.leaf, now) => {
                // A certificate of an earlier version stays unchanged.
                let next = Self::self_signed(dir, names, now)?;
                Ok((next.leaf != self.leaf).then_some(next))
            }
            _ => Ok(None),
        }
    }

    /// Returns the end of the certificate's validity.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        certificate::expires_at(&self.leaf)
    }

    /// Returns the `tls-server-end-point` hash of the certificate. `None` if it is not defined for this certificate (see
    /// [`end_point_hash`]): then SCRAM-SHA-256-PLUS must not be offered.
    #[must_use]
    pub fn end_point(&self) -> Option<&[u8]> {
        self.end_point.as_deref()
    }

    /// Returns the SHA-256 that people compare and pin: of the CA in the chain, which stays when the certificate is renewed, else
    /// of the certificate itself.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the certificate by which clients verify the gate's, as PEM: the gate's if it is self-signed, else its CA's if that
    /// is in the chain.
    #[must_use]
    pub fn anchor(&self) -> Option<&str> {
        self.anchor.as_deref()
    }

    /// Returns true if the certificate is for this host.
    #[must_use]
    pub fn is_for(&self, host: &str) -> bool {
        certificate::is_for(&self.leaf, host)
    }

    /// Returns the configuration with the same certificate for the control API. A connection for PostgreSQL cannot be redirected
    /// to the control API, nor the reverse.
    #[must_use]
    pub fn web(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.web)
    }

    /// Returns the configuration for [`tokio_rustls::TlsAcceptor`].
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

/// Current configuration: a reload replaces it, existing connections keep theirs.
#[derive(Debug, Clone)]
pub struct ServerTlsCell(Arc<Mutex<Arc<ServerTls>>>);

impl ServerTlsCell {
    /// Creates a cell with `tls`.
    #[must_use]
    pub fn new(tls: ServerTls) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(tls))))
    }

    /// Returns the configuration for the next connection.
    #[must_use]
    pub fn current(&self) -> Arc<ServerTls> {
        Arc::clone(&self.0.lock())
    }

    /// Replaces the configuration for the connections that follow.
    pub fn replace(&self, tls: ServerTls) {
        *self.0.lock() = Arc::new(tls);
    }
}
