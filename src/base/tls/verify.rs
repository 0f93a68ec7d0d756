//! TLS as a client with a verification of its own, and the verification of certificates by CAs: by libpq's rules where they
//! differ from the web's.
//!
//! It does not support revocation lists.
//!
//! INVARIANT: the handshake's own signature is verified in every mode, so a peer that shows a certificate has its key.
//!
//! Two rules of libpq are not among the web's, but certificates made as PostgreSQL's own documentation says ("Creating
//! Certificates") need them: a certificate that is itself in the CA file is trusted even if it is marked as a CA, and a
//! certificate without DNS names is matched by its common name.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::{TlsError, provider, read_certificates};

/// Decision on the certificates that a server shows. The handshake's own signature is not its concern.
pub(super) trait CertificateCheck: Debug + Send + Sync + 'static {
    fn check(&self, shown: &[CertificateDer<'_>], name: &ServerName<'_>, now: UnixTime) -> Result<(), Error>;
}

/// Returns the configuration of a client that decides on certificates by `check`, and offers these protocols by ALPN.
pub(super) fn client_config(check: impl CertificateCheck, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(CertificateVerifier { check, algorithms }))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct CertificateVerifier<C> {
    check: C,
    algorithms: WebPkiSupportedAlgorithms,
}

impl<C: CertificateCheck> ServerCertVerifier for CertificateVerifier<C> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        self.check.check(&shown, server_name, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Extent of verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VerifyLevel {
    Nothing,
    Chain,
    ChainAndName,
}

/// Verification by CAs.
#[derive(Debug)]
pub(super) struct CaCheck {
    level: VerifyLevel,
    roots: RootCertStore,
    /// Certificates of the CA file, which are trusted themselves.
    trusted: Vec<CertificateDer<'static>>,
}

impl CaCheck {
    /// Returns the verification by the CAs of a PEM file, or of this machine if none is named.
    pub(super) fn new(level: VerifyLevel, ca_file: Option<&Path>) -> Result<Self, TlsError> {
        let (mut roots, mut trusted) = (RootCertStore::empty(), Vec::new());
        if let Some(path) = ca_file {
            trusted = read_certificates(path)?;
            for certificate in &trusted {
                let added = roots.add(certificate.clone());
                added.map_err(|_| TlsError::BadCertificate { path: path.to_owned() })?;
            }
        } else if level != VerifyLevel::Nothing {
            roots = machine_roots()?;
        }
        Ok(Self { level, roots, trusted })
    }

    /// Returns the verification by one CA, whatever the name.
    pub(super) fn issued_by(ca: &CertificateDer<'_>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        Ok(Self {
            level: VerifyLevel::Chain,
            roots,
            trusted: Vec::new(),
        })
    }

    fn verify_chain(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        if self.trusted.iter().any(|trusted| trusted == leaf) {
            return verify_dates(leaf, now);
        }
        let algorithms = provider().signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, rest, now, algorithms)
    }
}

impl CertificateCheck for CaCheck {
    fn check(&self, shown: &[CertificateDer<'_>], name: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
        let (leaf, rest) = shown.split_first().ok_or(Error::NoCertificatesPresented)?;
        if self.level != VerifyLevel::Nothing {
            self.verify_chain(leaf, rest, now)?;
        }
        if self.level == VerifyLevel::ChainAndName {
            verify_name(leaf, name)?;
        }
        Ok(())
    }
}

/// Returns the root certificates of this machine.
pub(super) fn machine_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    // A machine usually has some roots that are too old to be parsed; the others count.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    Ok(roots)
}

fn verify_dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < parsed.validity().not_before.timestamp() {
        Err(CertificateError::NotValidYet.into())
    } else if now > parsed.validity().not_after.timestamp() {
        Err(CertificateError::Expired.into())
    } else {
        Ok(())
    }
}

fn verify_name(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    verify_server_name(&parsed, name).or_else(|failed| {
        if is_common_name(certificate, name) {
            Ok(())
        } else {
            Err(failed)
        }
    })
}

/// Returns true if a certificate without DNS names has `name` as its common name (libpq:
/// pq_verify_peer_name_matches_certificate).
fn is_common_name(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    let (Ok((_, parsed)), ServerName::DnsName(name)) = (X509Certificate::from_der(certificate), name) else {
        return false;
    };
    let has_names = match parsed.subject_alternative_name() {
        Ok(Some(extension)) => extension
            .value
            .general_names
            .iter()
            .any(|name| matches!(name, GeneralName::DNSName(_))),
        Ok(None) => false,
        // Names that cannot be parsed count as names that do not match.
        Err(_) => true,
    };
    let mut common_names = parsed.subject().iter_common_name();
    match (has_names, common_names.next(), common_names.next()) {
        (false, Some(only), None) => only.as_str().is_ok_and(|only| only.eq_ignore_ascii_case(name.as_ref())),
        _ => false,
    }
}
