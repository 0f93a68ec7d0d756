//! Certificate that clients verify the gate's by, and the names that the gate's certificate is for.
//!
//! This module does not establish trust and fetches nothing: it knows only the certificates of the chain.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// Characters in a line of PEM (RFC 7468 section 2).
const PEM_COLUMNS: usize = 64;

/// Returns the last certificate of a chain as PEM, if it is its own issuer: the one for a client's file of trusted certificates.
/// Clients that use OpenSSL reject the chain without it, whatever other certificates of the chain they trust.
pub(super) fn anchor(chain: &[CertificateDer<'_>]) -> Option<String> {
    let last = chain.last()?;
    is_its_own_issuer(last).then(|| pem(last))
}

/// Returns the certificate of a chain that clients pin: the last if it is its own issuer, because those before it may be renewed,
/// else the first.
pub(super) fn pinned<'c, 'd>(chain: &'c [CertificateDer<'d>]) -> Option<&'c CertificateDer<'d>> {
    chain.last().filter(|last| is_its_own_issuer(last)).or_else(|| chain.first())
}

/// Returns true if a certificate's issuer is its subject.
pub(super) fn is_its_own_issuer(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| parsed.subject() == parsed.issuer())
}

/// Returns the end of a certificate's validity.
pub(super) fn expires_at(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()
}

/// Returns true if a certificate is for this host, a DNS name or an IP address.
pub(super) fn is_for(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let (Ok(parsed), Ok(name)) = (ParsedCertificate::try_from(certificate), ServerName::try_from(host)) else {
        return false;
    };
    verify_server_name(&parsed, &name).is_ok()
}

pub(super) fn pem(certificate: &CertificateDer<'_>) -> String {
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let encoded = STANDARD.encode(certificate);
    for line in encoded.as_bytes().chunks(PEM_COLUMNS) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
