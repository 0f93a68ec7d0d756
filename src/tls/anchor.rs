//! The certificate that clients verify ours by, and the names that ours is for.
//!
//! It trusts nothing and fetches nothing: what is not in the chain is not known.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// Letters in a line of PEM (RFC 7468 section 2).
const PEM_COLUMNS: usize = 64;

/// Returns the last certificate of a chain as PEM, if it is its own issuer: the one to put into a file of trusted certificates.
/// Without it clients that follow OpenSSL do not take the chain, whatever else of it they trust.
pub(super) fn anchor(chain: &[CertificateDer<'_>]) -> Option<String> {
    let last = chain.last()?;
    let (_, parsed) = X509Certificate::from_der(last).ok()?;
    (parsed.subject() == parsed.issuer()).then(|| pem(last))
}

/// Returns true if a certificate is for this host, a DNS name or an IP address.
pub(super) fn is_for(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let (Ok(parsed), Ok(name)) = (ParsedCertificate::try_from(certificate), ServerName::try_from(host)) else {
        return false;
    };
    verify_server_name(&parsed, &name).is_ok()
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let encoded = STANDARD.encode(certificate);
    for line in encoded.as_bytes().chunks(PEM_COLUMNS) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
