//! Channel binding `tls-server-end-point`: a hash of the server's certificate (RFC 5929 section 4.1).
//!
//! This module does not decide whether binding is used.

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::signature_algorithm::RsaSsaPssParams;

/// Hashes a server's own certificate (DER) with the hash function of the signature on it, SHA-256 instead of MD5 and SHA-1.
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
