//! TLS towards clients: our certificate, from the operator's files or made by ourselves.
//!
//! It does not ask clients for certificates, and does not shake hands. The law it keeps: a certificate and its key are
//! checked to go together before anybody is served with them, so a bad reload changes nothing.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use zeroize::Zeroizing;

use super::{ALPN, Fingerprint, TlsError, WEB, anchor, end_point_hash, provider, read, read_certificates};

/// Reads the SHA-256 of the first certificate of a file, for people to compare.
pub fn fingerprint_of(cert: &Path) -> Result<Fingerprint, TlsError> {
    let chain = read_certificates(cert)?;
    Ok(Fingerprint::of(chain.first().map(AsRef::as_ref).unwrap_or_default()))
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
        let fingerprint = Fingerprint::of(&leaf);
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
        })
    }

    /// Uses `tls.crt` and `tls.key` in `dir`; makes them first where they are not there, for the names (DNS names and IP
    /// addresses) given. The key is P-256, whose handshakes cost least, and readable by its owner only.
    pub fn self_signed(dir: &Path, names: &[String]) -> Result<Self, TlsError> {
        let (cert, key) = (dir.join("tls.crt"), dir.join("tls.key"));
        if !(cert.exists() && key.exists()) {
            generate(&cert, &key, names)?;
        }
        Self::load(&cert, &key)
    }

    /// The `tls-server-end-point` hash of our certificate, or nothing where none is defined for it (see
    /// [`end_point_hash`]): then SCRAM-SHA-256-PLUS must not be offered.
    #[must_use]
    pub fn end_point(&self) -> Option<&[u8]> {
        self.end_point.as_deref()
    }

    /// The SHA-256 of our certificate, for people to compare.
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

fn generate(cert: &Path, key: &Path, names: &[String]) -> Result<(), TlsError> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "tidegate");
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Long enough that nobody is woken by it; whoever wants rotation brings his own certificate.
    parameters.not_before = rcgen::date_time_ymd(2024, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2124, 1, 1);
    let certificate = parameters.self_signed(&pair)?;
    let private = Zeroizing::new(pair.serialize_pem());
    // The certificate last: when both are there, both are whole and go together.
    write(key, private.as_bytes(), 0o600)?;
    write(cert, certificate.pem().as_bytes(), 0o644)
}

/// Writes a file whole or not at all.
fn write(path: &Path, contents: &[u8], mode: u32) -> Result<(), TlsError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let attempt = || {
        // NamedTempFile is made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(contents)?;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|failed| failed.error)?;
        Ok(())
    };
    attempt().map_err(|source| TlsError::Write {
        path: path.to_owned(),
        source,
    })
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
