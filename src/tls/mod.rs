//! The TLS configurations, towards clients, towards a target, towards web servers, towards receivers of the log and towards a gate, and the stream that may or may not be on TLS.
//!
//! It does not speak PostgreSQL: the requests that lead to TLS are `frontend`'s and `upstream`'s. The laws it keeps: no 0-RTT, no
//! renegotiation, no resumption (a replayed or resumed connection would carry statements under a login nobody made again);
//! what a mode promises to verify is verified, and there is no falling back.

mod anchor;
mod binding;
mod client;
mod collector;
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

pub use binding::end_point_hash;
pub use client::{ClientTls, TlsMode, UnknownMode};
pub use collector::CollectorTls;
pub use gate::{Fingerprint, NoFingerprint, Trust, connect, is_distrust, seen};
pub use server::{ServerTls, ServerTlsCell, fingerprint_of};
pub use transport::Transport;
pub use web::{web_address, web_client};

/// The ALPN name of the PostgreSQL protocol (IANA; required for direct TLS since PostgreSQL 17).
pub const ALPN: &[u8] = b"postgresql";
/// The ALPN name of what the control API speaks.
pub const WEB: &[u8] = b"http/1.1";

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that should have certificates in it has none.
    #[error("no PEM certificate in {path} (expected a block that begins with -----BEGIN CERTIFICATE-----)")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file that should have a private key in it has none that can be used.
    #[error("no usable PEM private key in {path} (expected an unencrypted block that begins with -----BEGIN PRIVATE KEY-----)")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A certificate cannot be read as X.509.
    #[error("a certificate in {path} is not valid X.509")]
    BadCertificate {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key do not go together, or are of a kind that cannot be used.
    #[error("certificate {cert} cannot be used with key {key}")]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The self-signed certificate cannot be made.
    #[error("cannot create a self-signed certificate")]
    Generate(#[from] rcgen::Error),
    /// Verification asked for, but this machine has no root certificates.
    #[error("no root certificates found on this machine; set a CA file (`ca_file`, --ca) to verify the certificate")]
    NoRoots,
    /// The TLS library does not take the configuration.
    #[error("cannot configure TLS")]
    Configure(#[from] rustls::Error),
    /// The HTTP library does not take the configuration.
    #[error("cannot configure the HTTP client")]
    Web(#[source] reqwest::Error),
}

/// The cryptography, named explicitly: no process-wide default is relied on.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

/// The certificates of a PEM file, at least one.
fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::NoCertificate { path: path.to_owned() }),
    }
}
