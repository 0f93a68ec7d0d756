//! The command line and a gate with its own certificate.

use super::*;
use crate::base::secret::Secret;
use crate::base::tls::{GateTrust, ServerTls, ServerTlsCell};
use crate::cli::address::ControlEndpoint;
use crate::cli::client::{self, ControlClient};
use crate::control::model::Me;

#[tokio::test]
async fn a_gate_is_spoken_to_only_where_it_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = ServerTls::self_signed(
        dir.path(),
        &["localhost".into(), "127.0.0.1".into()],
        crate::base::clock::Clock::system(None).now(),
    )
    .unwrap();
    let served = Served::start_on(None, Some(ServerTlsCell::new(certificate.clone()))).await;
    let at = served.tcp.unwrap();
    let gate = ControlEndpoint::Tls(at.to_string());
    let me = async |address: &ControlEndpoint, trust: GateTrust| {
        let client = ControlClient::with(address.clone(), trust, Secret::new(served.token()))?;
        client.get::<Me>("/v1/me", &()).await.map(|me| me.source)
    };
    let pin = certificate.fingerprint();
    assert_eq!(client::seen(&gate).await.unwrap(), Some(pin));
    for trust in [GateTrust::Pin(pin), GateTrust::Ca(dir.path().join("tls.crt"))] {
        assert_eq!(me(&gate, trust).await.unwrap(), "admin");
    }

    let other = crate::base::tls::Fingerprint::of(b"another");
    let refused = me(&gate, GateTrust::Pin(other)).await.unwrap_err();
    let said = refused.to_string();
    assert!(said.contains(&other.to_string()) && said.contains("--trust SHA256"), "{said}");
    assert_eq!(refused.exit_code(), 3);
    let plain = me(&ControlEndpoint::Tcp(at.to_string()), GateTrust::Machine)
        .await
        .unwrap_err();
    assert_eq!(plain.exit_code(), 3, "{plain}");
    served.stop().await;
}

#[tokio::test]
async fn where_there_is_no_tls_it_says_so() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gate = ControlEndpoint::Tls(listener.local_addr().unwrap().to_string());
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let client = ControlClient::with(
        gate,
        GateTrust::Pin(crate::base::tls::Fingerprint::of(b"any")),
        Secret::new("t".to_owned()),
    )
    .unwrap();
    let error = client.get::<Me>("/v1/me", &()).await.unwrap_err();
    assert!(error.to_string().contains("is it http://?"), "{error}");
    assert_eq!(error.exit_code(), 3);
}
