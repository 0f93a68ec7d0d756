//! TLS on connections to a gate's control API, as a client: the certificates that a person's own machine trusts there.
//!
//! It sends only the handshake.
//!
//! INVARIANT: a certificate is trusted because a CA signed it or because its fingerprint was given; a matching name is not
//! enough.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, Error, OtherError};
use sha2::{Digest, Sha256};

use super::verify::{CaCheck, CertificateCheck, VerifyLevel, client_config};
use super::{TlsError, WEB, certificate};

/// Basis on which a gate's certificate is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum GateTrust {
    /// CAs that this machine trusts.
    #[default]
    Machine,
    /// Certificates in this PEM file: CAs or the gate's own.
    Ca(PathBuf),
    /// Fingerprint of the certificate or of its CA; no other CA is trusted.
    Pin(Fingerprint),
}

/// SHA-256 of a certificate (DER).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// Error of a text that is not a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a certificate's SHA-256: 64 hexadecimal digits, with or without colons")]
pub struct FingerprintError;

impl Fingerprint {
    /// Computes the fingerprint of a certificate.
    #[must_use]
    pub fn of(certificate_der: &[u8]) -> Self {
        Self(Sha256::digest(certificate_der).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Parses the form that [`Fingerprint`] prints, or that of `openssl x509 -fingerprint -sha256`.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let bare = text.trim().rsplit('=').next().unwrap_or_default();
        let digits: Vec<u8> = bare.bytes().filter(|byte| *byte != b':').collect();
        let bytes = HEXLOWER_PERMISSIVE.decode(&digits).map_err(|_| FingerprintError)?;
        bytes.try_into().map(Self).map_err(|_| FingerprintError)
    }
}

/// Error of a certificate that is not the pinned one.
#[derive(Debug, thiserror::Error)]
#[error("the certificate shown has the SHA-256 {0}")]
struct NotPinned(Fingerprint);

/// Returns the configuration of a client that trusts a gate so; without a `trust` it trusts none, and [`shown`] tells what it was
/// shown. [`is_distrust`] recognises an error about the certificate.
pub fn gate_client(trust: Option<&GateTrust>) -> Result<ClientConfig, TlsError> {
    let by_ca = |file: Option<&Path>| client_config(CaCheck::new(VerifyLevel::ChainAndName, file)?, &[WEB]);
    let config = match trust {
        Some(GateTrust::Machine) => by_ca(None),
        Some(GateTrust::Ca(path)) => by_ca(Some(path)),
        Some(GateTrust::Pin(pin)) => client_config(PinCheck(Some(*pin)), &[WEB]),
        None => client_config(PinCheck(None), &[WEB]),
    };
    config.map(Arc::unwrap_or_clone)
}

/// Returns the fingerprint of the certificate that was shown in a handshake that failed since it is not pinned. It proves
/// nothing yet.
#[must_use]
pub fn shown(error: &io::Error) -> Option<Fingerprint> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::InvalidCertificate(CertificateError::Other(OtherError(reason))) => {
            reason.downcast_ref::<NotPinned>().map(|NotPinned(shown)| *shown)
        }
        _ => None,
    }
}

/// Returns true if a handshake failed because the certificate is not trusted.
#[must_use]
pub fn is_distrust(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(inner, Some(Error::InvalidCertificate(_)))
}

/// Accepts the one certificate with the fingerprint, or one issued by the CA with it; without a fingerprint none. The error has the
/// one that was shown.
#[derive(Debug)]
struct PinCheck(Option<Fingerprint>);

impl CertificateCheck for PinCheck {
    fn check(&self, shown: &[CertificateDer<'_>], name: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
        let is_pinned = |certificate: &CertificateDer<'_>| self.0 == Some(Fingerprint::of(certificate));
        if shown.first().is_some_and(is_pinned) {
            return Ok(());
        }
        // Only a self-signed CA is accepted, because the one that a gate shows issues certificates for that gate alone. Names are
        // not compared, as with a pin of the certificate itself.
        let ca = shown
            .iter()
            .skip(1)
            .find(|ca| is_pinned(ca) && certificate::is_its_own_issuer(ca));
        let not_pinned = || match certificate::pinned(shown) {
            Some(pinned) => CertificateError::Other(OtherError(Arc::new(NotPinned(Fingerprint::of(pinned))))),
            None => CertificateError::ApplicationVerificationFailure,
        };
        CaCheck::issued_by(ca.ok_or_else(not_pinned)?)?.check(shown, name, now)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::client::TlsStream;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::super::ServerTls;
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_openssl_writes_it() {
        let fingerprint = Fingerprint::of(b"certificate");
        let plain = fingerprint.to_string();
        let colons: Vec<String> = plain
            .as_bytes()
            .chunks(2)
            .map(|pair| String::from_utf8_lossy(pair).to_uppercase())
            .collect();
        let openssl = format!("sha256 Fingerprint={}\n", colons.join(":"));
        assert_eq!(plain.parse(), Ok(fingerprint));
        assert_eq!(openssl.parse(), Ok(fingerprint));
        for bad in [
            "",
            "ab",
            &plain.replace(plain.chars().next().unwrap(), "g"),
            &format!("{plain}00"),
        ] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(FingerprintError), "{bad}");
        }
    }

    async fn connect(tcp: TcpStream, host: &'static str, trust: Option<&GateTrust>) -> io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::new(gate_client(trust).unwrap()));
        connector.connect(host.try_into().unwrap(), tcp).await
    }

    /// Whether a gate with its own certificate for `names` is trusted so, when it is called `host`.
    async fn trusted(server: &ServerTls, host: &'static str, trust: &GateTrust) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(server.web());
        let accepting = tokio::spawn(async move { acceptor.accept(listener.accept().await.unwrap().0).await.is_ok() });
        let tcp = TcpStream::connect(address).await.unwrap();
        match connect(tcp, host, Some(trust)).await {
            Ok(stream) => {
                assert!(accepting.await.unwrap());
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(WEB));
                true
            }
            Err(error) => {
                assert!(is_distrust(&error), "{error}");
                false
            }
        }
    }

    #[tokio::test]
    async fn trusted_by_its_file_or_its_fingerprint_and_by_nothing_else() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let own = ServerTls::self_signed(
            dir.path(),
            &["gate.example.org".into(), "127.0.0.1".into()],
            crate::base::clock::Clock::system(None).now(),
        )
        .unwrap();
        let other = ServerTls::self_signed(
            elsewhere.path(),
            &["gate.example.org".into()],
            crate::base::clock::Clock::system(None).now(),
        )
        .unwrap();
        let file = GateTrust::Ca(dir.path().join("tls.crt"));
        let pin = GateTrust::Pin(own.fingerprint());
        assert!(trusted(&own, "gate.example.org", &file).await);
        assert!(trusted(&own, "127.0.0.1", &file).await);
        assert!(!trusted(&own, "elsewhere.example.org", &file).await);
        assert!(!trusted(&other, "gate.example.org", &file).await);
        assert!(trusted(&own, "whatever.example.org", &pin).await);
        assert!(!trusted(&other, "gate.example.org", &pin).await);
        // The pin is the CA's: what is renewed under it is trusted, too.
        let now = crate::base::clock::Clock::system(None).now();
        let (aged, names) = (tempfile::tempdir().unwrap(), ["gate.example.org".to_owned()]);
        let first = ServerTls::self_signed(aged.path(), &names, now - jiff::SignedDuration::from_hours(24 * 65)).unwrap();
        let renewed = first.renewed(now).unwrap().unwrap();
        let pin = GateTrust::Pin(first.fingerprint());
        assert!(trusted(&renewed, "whatever.example.org", &pin).await);
        // A machine without root certificates verifies nobody either.
        if super::super::verify::machine_roots().is_ok() {
            assert!(!trusted(&own, "gate.example.org", &GateTrust::Machine).await);
        }
    }

    #[tokio::test]
    async fn looking_sees_the_certificate_and_goes_no_further() {
        let dir = tempfile::tempdir().unwrap();
        let server = ServerTls::self_signed(
            dir.path(),
            &["localhost".into()],
            crate::base::clock::Clock::system(None).now(),
        )
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(server.web());
        let accepting = tokio::spawn(async move { acceptor.accept(listener.accept().await.unwrap().0).await.is_ok() });
        let tcp = TcpStream::connect(address).await.unwrap();
        let error = connect(tcp, "localhost", None).await.unwrap_err();
        assert_eq!(shown(&error), Some(server.fingerprint()));
        assert!(!accepting.await.unwrap());
    }
}
