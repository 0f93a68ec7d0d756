//! TLS towards clients: our certificate, from the operator's files or made by ourselves.
//!
//! It does not ask clients for certificates, and does not shake hands. The law it keeps: a certificate and its key are
//! checked to go together before anybody is served with them, so a bad reload changes nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use zeroize::Zeroizing;

use super::own::{Files, is_due};
use super::{ALPN, Fingerprint, TlsError, WEB, anchor, end_point_hash, provider, read, read_certificates};

/// Reads the SHA-256 of a file's certificate, for people to compare: as [`ServerTls::fingerprint`] has it.
pub fn fingerprint_of(cert: &Path) -> Result<Fingerprint, TlsError> {
    let chain = read_certificates(cert)?;
    Ok(Fingerprint::of(anchor::pinned(&chain).map(AsRef::as_ref).unwrap_or_default()))
}

/// TLS as we offer it to clients, and what SCRAM binds to.
#[derive(Debug, Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    web: Arc<ServerConfig>,
    end_point: Option<Vec<u8>>,
    fingerprint: Fingerprint,
    leaf: CertificateDer<'static>,
    anchor: Option<Arc<str>>,
    /// The folder and names of one that we made.
    own: Option<(PathBuf, Vec<String>)>,
}

impl ServerTls {
    /// Reads a PEM certificate chain (ours first) and its PEM private key.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = read_certificates(cert)?;
        let pem = Zeroizing::new(read(key)?);
        let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::NoKey { path: key.to_owned() })?;
        let end_point = chain.first().and_then(|leaf| end_point_hash(leaf));
        let Some(leaf) = chain.first().cloned() else {
            return Err(TlsError::NoCertificate { path: cert.to_owned() });
        };
        let fingerprint = Fingerprint::of(anchor::pinned(&chain).unwrap_or(&leaf));
        let anchor = anchor::anchor(&chain).map(Arc::from);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(|source| TlsError::Pair {
                cert: cert.to_owned(),
                key: key.to_owned(),
                source,
            })?;
        // A client that offers other protocols only is turned away by rustls, on the SSLRequest path too: ALPACA.
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

    /// Uses `tls.crt` and `tls.key` in `dir`, of a CA of our own whose key is `tls-ca.key`; makes and renews them for the names (DNS names
    /// and IP addresses) given.
    pub fn self_signed(dir: &Path, names: &[String], now: Timestamp) -> Result<Self, TlsError> {
        let files = Files::within(dir);
        files.keep(names, now)?;
        Ok(Self {
            own: Some((dir.to_owned(), names.to_vec())),
            ..Self::load(&files.cert, &files.key)?
        })
    }

    /// The next one, if it is ours and ends soon.
    pub fn renewed(&self, now: Timestamp) -> Result<Option<Self>, TlsError> {
        match &self.own {
            Some((dir, names)) if is_due(&self.leaf, now) => {
                // One of an earlier version stays as it is.
                let next = Self::self_signed(dir, names, now)?;
                Ok((next.leaf != self.leaf).then_some(next))
            }
            _ => Ok(None),
        }
    }

    /// When our certificate ends.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        anchor::expires_at(&self.leaf)
    }

    /// The `tls-server-end-point` hash of our certificate, or nothing where none is defined for it (see
    /// [`end_point_hash`]): then SCRAM-SHA-256-PLUS must not be offered.
    #[must_use]
    pub fn end_point(&self) -> Option<&[u8]> {
        self.end_point.as_deref()
    }

    /// The SHA-256 that people compare and pin: of the CA that is shown with our certificate and stays when that is renewed, else of our
    /// certificate.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The certificate by which clients verify ours, PEM: ours where it signed itself, else its CA's if that is in the chain.
    #[must_use]
    pub fn anchor(&self) -> Option<&str> {
        self.anchor.as_deref()
    }

    /// Returns true if our certificate is for this host.
    #[must_use]
    pub fn is_for(&self, host: &str) -> bool {
        anchor::is_for(&self.leaf, host)
    }

    /// The same certificate for the control API. A connection for PostgreSQL cannot be turned into one for it, nor back.
    #[must_use]
    pub fn web(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.web)
    }

    /// The configuration for [`tokio_rustls::TlsAcceptor`].
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

/// The configuration in force: a reload replaces it, connections already made keep theirs.
#[derive(Debug, Clone)]
pub struct ServerTlsCell(Arc<Mutex<Arc<ServerTls>>>);

impl ServerTlsCell {
    /// Starts with `tls`.
    #[must_use]
    pub fn new(tls: ServerTls) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(tls))))
    }

    /// The configuration for the next connection.
    #[must_use]
    pub fn current(&self) -> Arc<ServerTls> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on, `tls`.
    pub fn replace(&self, tls: ServerTls) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(tls);
    }
}
