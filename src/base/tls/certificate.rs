//! Facts in a certificate: the names it is for, its end, its issuer, the value that SCRAM binds to.
//!
//! This module does not establish trust and fetches nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::signature_algorithm::RsaSsaPssParams;

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

/// Returns the channel binding `tls-server-end-point` (RFC 5929 section 4.1): the hash of a server's own certificate (DER) by the hash function of the signature on it, SHA-256 instead of MD5 and SHA-1.
///
/// Returns `None` if the signature names no single hash function (Ed25519, Ed448) or one that is not supported. RFC 5929 does not
/// define the binding for these, and libpq aborts the whole login if it is offered, so it must not be offered.
#[must_use]
pub fn end_point_hash(leaf_der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(leaf_der).ok()?;
    let algorithm = &certificate.signature_algorithm;
    let oid = algorithm.algorithm.to_id_string();
    // RSASSA-PSS names its hash in the parameters; the default is SHA-1 (RFC 4055 section 3.1).
    let oid = if oid == "1.2.840.113549.1.1.10" {
        let parameters = RsaSsaPssParams::try_from(algorithm.parameters.as_ref()?).ok()?;
        parameters.hash_algorithm_oid().to_id_string()
    } else {
        oid
    };
    hash_of(&oid, leaf_der)
}

fn hash_of(oid: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    match oid {
        // MD5 and SHA-1, with RSA, ECDSA and bare: replaced by SHA-256. Then SHA-256 itself.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10045.4.1"
        | "1.3.14.3.2.26"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.3.2"
        | "2.16.840.1.101.3.4.2.1" => Some(Sha256::digest(bytes).to_vec()),
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" | "2.16.840.1.101.3.4.2.4" => Some(Sha224::digest(bytes).to_vec()),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.2.2" => Some(Sha384::digest(bytes).to_vec()),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.2.3" => Some(Sha512::digest(bytes).to_vec()),
        _ => None,
    }
}
