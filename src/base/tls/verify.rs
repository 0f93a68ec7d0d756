//! Verification of a target's certificate to the extent of the mode, by libpq's rules where they differ from the web's.
//!
//! It does not support revocation lists.
//!
//! INVARIANT: the handshake's own signature is verified in every mode, so a peer that shows a certificate has its key.
//!
//! Two rules of libpq are not among the web's, but certificates made as PostgreSQL's own documentation says ("Creating
//! Certificates") need them: a certificate that is itself in the CA file is trusted even if it is marked as a CA, and a
//! certificate without DNS names is matched by its common name.

use rustls::DigitallySignedStruct;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Extent of verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VerifyLevel {
    Nothing,
    Chain,
    ChainAndName,
}

#[derive(Debug)]
pub(super) struct TargetVerifier {
    check: VerifyLevel,
    roots: RootCertStore,
    /// Certificates of the CA file, which are trusted themselves.
    trusted: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl TargetVerifier {
    pub(super) fn new(
        check: VerifyLevel,
        roots: RootCertStore,
        trusted: Vec<CertificateDer<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self {
            check,
            roots,
            trusted,
            algorithms,
        }
    }

    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.trusted.iter().any(|trusted| trusted == end_entity) {
            return verify_dates(end_entity, now);
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, self.algorithms.all)
    }
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

impl ServerCertVerifier for TargetVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.check != VerifyLevel::Nothing {
            self.verify_chain(end_entity, intermediates, now)?;
        }
        if self.check == VerifyLevel::ChainAndName {
            verify_name(end_entity, server_name)?;
        }
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
