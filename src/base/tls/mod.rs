//! TLS configurations (for clients, targets, web servers, receivers of the log and gates), and the stream that is or is not
//! encrypted.
//!
//! This module does not speak PostgreSQL: `frontend` and `upstream` handle the requests that lead to TLS.
//!
//! INVARIANT: there is no 0-RTT, no renegotiation and no resumption (a replayed or resumed connection would carry statements
//! under a login that was not repeated); everything that a mode promises to verify is verified, and there is no fallback.

mod certificate;
mod client;
mod gate;
mod own;
mod server;
mod transport;
mod verify;
mod web;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

pub use certificate::end_point_hash;
pub use client::{ClientTls, CollectorTls, TlsMode};
pub use gate::{Fingerprint, FingerprintError, GateTrust, gate_client, is_distrust, shown};
pub use server::{ServerTls, ServerTlsCell, fingerprint_of};
pub use transport::Transport;
pub use web::{web_address, web_call, web_client};

/// ALPN name of the PostgreSQL protocol (IANA; required for direct TLS since PostgreSQL 17).
pub const ALPN: &[u8] = b"postgresql";
/// ALPN name of the control API's protocol.
pub const WEB: &[u8] = b"http/1.1";

/// Error of a TLS configuration that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A file of certificates contains none.
    #[error("no PEM certificate in {path} (expected a block that begins with -----BEGIN CERTIFICATE-----)")]
    NoCertificate {
        /// Path of the file.
        path: PathBuf,
    },
    /// A file of a private key contains none that can be used.
    #[error("no usable PEM private key in {path} (expected an unencrypted block that begins with -----BEGIN PRIVATE KEY-----)")]
    NoKey {
        /// Path of the file.
        path: PathBuf,
    },
    /// A certificate cannot be parsed as X.509.
    #[error("a certificate in {path} is not valid X.509")]
    BadCertificate {
        /// Path of the file.
        path: PathBuf,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("certificate {cert} cannot be used with key {key}")]
    Pair {
        /// Path of the certificate's file.
        cert: PathBuf,
        /// Path of the key's file.
        key: PathBuf,
        /// Cause.
        source: rustls::Error,
    },
    /// The self-signed certificate cannot be made.
    #[error("cannot create a self-signed certificate")]
    Generate(#[from] rcgen::Error),
    /// Verification is required, but this machine has no root certificates.
    #[error("no root certificates found on this machine; set a CA file (`ca_file`, --ca) to verify the certificate")]
    NoRoots,
    /// The TLS library rejects the configuration.
    #[error("cannot configure TLS")]
    Configure(#[from] rustls::Error),
    /// The HTTP library rejects the configuration.
    #[error("cannot configure the HTTP client")]
    Web(#[source] reqwest::Error),
}

/// Returns the cryptography provider. It is named explicitly, so that no process-wide default is needed.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Reads the certificates of a PEM file, at least one.
fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::NoCertificate { path: path.to_owned() }),
    }
}
