//! Both configurations against each other, over loopback.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ProtocolVersion;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::*;

/// Shakes hands between `server` and `client`; both ends, or what the client said.
async fn shake(server: &ServerTls, client: &ClientTls, name: &str) -> io::Result<(Transport, Transport)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let acceptor = TlsAcceptor::from(server.config());
    let accept = async {
        let (tcp, _) = listener.accept().await?;
        let tls = acceptor.accept(tcp).await?;
        Ok::<_, io::Error>(Transport::Tls(Box::new(TlsStream::Server(tls))))
    };
    let connect = async {
        let tcp = TcpStream::connect(address).await?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let tls = client.connector().connect(name, tcp).await?;
        Ok::<_, io::Error>(Transport::Tls(Box::new(TlsStream::Client(tls))))
    };
    let (accepted, connected) = tokio::join!(accept, connect);
    // The client's reason first: the server only hears of it.
    let connected = connected?;
    Ok((accepted?, connected))
}

fn own(dir: &TempDir) -> (ServerTls, PathBuf) {
    let server = ServerTls::self_signed(
        dir.path(),
        &["localhost".into(), "127.0.0.1".into()],
        crate::base::clock::Clock::system(None).now(),
    )
    .unwrap();
    (server, dir.path().join("tls.crt"))
}

/// A certificate and its key, as files; signed by `issuer` or by itself.
fn certificate(
    dir: &TempDir,
    name: &str,
    change: impl FnOnce(&mut CertificateParams),
    issuer: Option<&Issuer<'static, KeyPair>>,
) -> (PathBuf, PathBuf, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::default();
    change(&mut parameters);
    let made = match issuer {
        Some(issuer) => parameters.signed_by(&key, issuer),
        None => parameters.self_signed(&key),
    }
    .unwrap();
    let (cert_path, key_path) = (dir.path().join(format!("{name}.crt")), dir.path().join(format!("{name}.key")));
    fs::write(&cert_path, made.pem()).unwrap();
    fs::write(&key_path, key.serialize_pem()).unwrap();
    (cert_path, key_path, Issuer::new(parameters, key))
}

#[tokio::test]
async fn every_mode_against_our_own_certificate() {
    let dir = TempDir::new().unwrap();
    let (server, ca) = own(&dir);
    for (mode, ca_file) in [
        (TlsMode::Prefer, None),
        (TlsMode::Require, None),
        (TlsMode::Require, Some(ca.as_path())),
        (TlsMode::VerifyCa, Some(ca.as_path())),
        (TlsMode::VerifyFull, Some(ca.as_path())),
    ] {
        let client = ClientTls::new(mode, ca_file).unwrap();
        let (mut ours, mut theirs) = shake(&server, &client, "localhost").await.unwrap();
        assert_eq!(theirs.tls_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(
            end_point_hash(theirs.peer_certificate().unwrap()).as_deref(),
            server.end_point()
        );
        ours.write_all(b"hello").await.unwrap();
        ours.flush().await.unwrap();
        let mut buffer = [0; 5];
        theirs.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"hello");
    }
    let full = ClientTls::new(TlsMode::VerifyFull, Some(&ca)).unwrap();
    assert!(shake(&server, &full, "127.0.0.1").await.is_ok());
    assert!(shake(&server, &full, "elsewhere.example").await.is_err());
    let by_ca = ClientTls::new(TlsMode::VerifyCa, Some(&ca)).unwrap();
    assert!(shake(&server, &by_ca, "elsewhere.example").await.is_ok());
}

#[tokio::test]
async fn a_strangers_certificate_is_refused() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (server, _) = own(&dir);
    let (_, stranger) = own(&other);
    for mode in [TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull] {
        let client = ClientTls::new(mode, Some(&stranger)).unwrap();
        let failed = shake(&server, &client, "localhost").await.unwrap_err();
        assert!(failed.to_string().contains("certificate"), "{mode}: {failed}");
    }
}

#[tokio::test]
async fn chains_and_the_certificates_people_make_for_postgresql() {
    let dir = TempDir::new().unwrap();
    let ca = |parameters: &mut CertificateParams| parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (ca_file, _, issuer) = certificate(&dir, "ca", ca, None);
    let full = ClientTls::new(TlsMode::VerifyFull, Some(&ca_file)).unwrap();

    let named = |parameters: &mut CertificateParams| *parameters = CertificateParams::new(["db.example".into()]).unwrap();
    let (cert, key, _) = certificate(&dir, "named", named, Some(&issuer));
    let server = ServerTls::load(&cert, &key).unwrap();
    assert!(shake(&server, &full, "db.example").await.is_ok());
    assert!(shake(&server, &full, "other.example").await.is_err());

    // Only a common name.
    let common = |parameters: &mut CertificateParams| parameters.distinguished_name.push(DnType::CommonName, "db.example");
    let (cert, key, _) = certificate(&dir, "common", common, Some(&issuer));
    let server = ServerTls::load(&cert, &key).unwrap();
    assert!(shake(&server, &full, "DB.example").await.is_ok());
    assert!(shake(&server, &full, "example").await.is_err());
    // With names of its own, the common name does not count.
    let both = |parameters: &mut CertificateParams| {
        *parameters = CertificateParams::new(["db.example".into()]).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, "sneaky.example");
    };
    let (cert, key, _) = certificate(&dir, "both", both, Some(&issuer));
    let server = ServerTls::load(&cert, &key).unwrap();
    assert!(shake(&server, &full, "sneaky.example").await.is_err());

    // openssl req -x509: self-signed, CA:TRUE, named as its own root.
    let request = |parameters: &mut CertificateParams| {
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, "db.example");
    };
    let (cert, key, _) = certificate(&dir, "x509", request, None);
    let server = ServerTls::load(&cert, &key).unwrap();
    let pinned = ClientTls::new(TlsMode::VerifyFull, Some(&cert)).unwrap();
    assert!(shake(&server, &pinned, "db.example").await.is_ok());
    // The same, run out.
    let expired = |parameters: &mut CertificateParams| {
        request(parameters);
        parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
    };
    let (cert, key, _) = certificate(&dir, "expired", expired, None);
    let server = ServerTls::load(&cert, &key).unwrap();
    let pinned = ClientTls::new(TlsMode::VerifyCa, Some(&cert)).unwrap();
    let failed = shake(&server, &pinned, "db.example").await.unwrap_err();
    assert!(failed.to_string().contains("xpired"), "{failed}");
}

#[tokio::test]
async fn another_application_protocol_is_refused() {
    let dir = TempDir::new().unwrap();
    let (server, ca) = own(&dir);
    let config = |alpn: &[&[u8]]| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(read_certificates(&ca).unwrap().pop().unwrap()).unwrap();
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        tokio_rustls::TlsConnector::from(Arc::new(config))
    };
    for (alpn, welcome) in [(&[][..], true), (&[b"h2" as &[u8]][..], false), (&[b"h2", ALPN][..], true)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accept = async {
            TlsAcceptor::from(server.config())
                .accept(listener.accept().await.unwrap().0)
                .await
        };
        let connect = async {
            let name = ServerName::try_from("localhost").unwrap();
            config(alpn).connect(name, TcpStream::connect(address).await.unwrap()).await
        };
        let (accepted, connected) = tokio::join!(accept, connect);
        assert_eq!((accepted.is_ok(), connected.is_ok()), (welcome, welcome), "{alpn:?}");
    }
}

#[test]
fn self_signed_is_made_once() {
    let dir = TempDir::new().unwrap();
    let (first, cert) = own(&dir);
    let key = dir.path().join("tls.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let pem = fs::read(&cert).unwrap();
    let (second, _) = own(&dir);
    assert_eq!(first.end_point(), second.end_point());
    assert_eq!(fs::read(&cert).unwrap(), pem);
    assert_eq!(first.end_point().map(<[u8]>::len), Some(32));
    // Half of it lost: made anew, both.
    fs::remove_file(&key).unwrap();
    let (third, _) = own(&dir);
    assert_ne!(first.end_point(), third.end_point());

    let cell = ServerTlsCell::new(first);
    let seen = cell.clone();
    cell.replace(third.clone());
    assert_eq!(seen.current().end_point(), third.end_point());
}

#[test]
fn mistakes_are_named() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    own(&dir);
    own(&other);
    let (cert, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let nowhere = dir.path().join("nowhere");
    assert!(matches!(ServerTls::load(&nowhere, &key), Err(TlsError::Read { .. })));
    assert!(matches!(ServerTls::load(&key, &key), Err(TlsError::NoCertificate { .. })));
    assert!(matches!(ServerTls::load(&cert, &cert), Err(TlsError::NoKey { .. })));
    assert!(matches!(
        ServerTls::load(&cert, &other.path().join("tls.key")),
        Err(TlsError::Pair { .. })
    ));
    assert!(matches!(
        ServerTls::self_signed(&nowhere, &["localhost".into()], crate::base::clock::Clock::system(None).now()),
        Err(TlsError::Write { .. })
    ));
    assert!(matches!(
        ClientTls::new(TlsMode::VerifyFull, Some(&key)),
        Err(TlsError::NoCertificate { .. })
    ));
}

#[test]
fn end_points() {
    let hash = |algorithm| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let made = CertificateParams::default().self_signed(&key).unwrap();
        end_point_hash(made.der()).map(|hash| hash.len())
    };
    assert_eq!(hash(&rcgen::PKCS_ECDSA_P256_SHA256), Some(32));
    assert_eq!(hash(&rcgen::PKCS_ECDSA_P384_SHA384), Some(48));
    assert_eq!(hash(&rcgen::PKCS_ED25519), None);
    assert_eq!(end_point_hash(b"not a certificate"), None);
}

#[test]
fn the_fingerprint_is_read_without_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let tls = ServerTls::self_signed(
        dir.path(),
        &["gate.example.org".to_owned()],
        crate::base::clock::Clock::system(None).now(),
    )
    .unwrap();
    fs::remove_file(dir.path().join("tls.key")).unwrap();
    let read = fingerprint_of(&dir.path().join("tls.crt")).unwrap();
    assert_eq!(read, tls.fingerprint());
}

#[test]
fn our_certificate_is_renewed_under_a_ca_that_stays() {
    let dir = TempDir::new().unwrap();
    let names = ["gate.example.org".to_owned()];
    let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let at = |days: i64| start + jiff::SignedDuration::from_hours(24 * days);
    let first = ServerTls::self_signed(dir.path(), &names, start).unwrap();
    let ca_key = dir.path().join("tls-ca.key");
    assert_eq!(fs::metadata(&ca_key).unwrap().permissions().mode() & 0o777, 0o600);
    let end = first.expires_at().unwrap();
    assert!(end > at(89) && end < at(93), "{end}");
    assert!(first.renewed(at(59)).unwrap().is_none());
    let second = first.renewed(at(62)).unwrap().unwrap();
    assert!(second.expires_at().unwrap() > at(150));
    assert_ne!(first.end_point(), second.end_point());
    // Whoever trusts the CA, by its file or by its fingerprint, trusts both.
    assert_eq!(first.anchor(), second.anchor());
    assert_eq!(first.fingerprint(), second.fingerprint());
    // Another name: at once, under the same CA.
    let more = ["gate.example.org".to_owned(), "127.0.0.1".to_owned()];
    let third = ServerTls::self_signed(dir.path(), &more, at(62)).unwrap();
    assert!(third.is_for("127.0.0.1") && third.is_for("gate.example.org"));
    assert_eq!(first.fingerprint(), third.fingerprint());
    // A CA that could not outlive a certificate is made anew.
    let late = ServerTls::self_signed(dir.path(), &more, at(3600)).unwrap();
    assert_ne!(first.fingerprint(), late.fingerprint());
}

#[test]
fn a_certificate_without_a_ca_of_ours_stays_as_it_is() {
    let dir = TempDir::new().unwrap();
    let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(["gate.example.org".to_owned()]).unwrap();
    parameters.not_after = rcgen::date_time_ymd(2026, 1, 2);
    let made = parameters.self_signed(&key).unwrap();
    fs::write(dir.path().join("tls.crt"), made.pem()).unwrap();
    fs::write(dir.path().join("tls.key"), key.serialize_pem()).unwrap();
    let tls = ServerTls::self_signed(dir.path(), &["other.example.org".to_owned()], now).unwrap();
    assert_eq!(tls.fingerprint(), Fingerprint::of(made.der()));
    assert!(tls.renewed(now).unwrap().is_none());
}
