//! The control API on TLS: with the gate's certificate of the moment, and whatever strangers do beside it.

use tokio::net::TcpStream;

use super::*;
use crate::base::tls::{self, GateTrust, ServerTls};

fn certificate() -> ServerTls {
    let dir = tempfile::tempdir().unwrap();
    ServerTls::self_signed(dir.path(), &["localhost".into()], Clock::system(None).now()).unwrap()
}

/// What `/healthz` answers whoever trusts only the gate with that certificate.
async fn health(address: SocketAddr, certificate: &ServerTls) -> std::io::Result<String> {
    let tcp = TcpStream::connect(address).await?;
    let config = tls::gate_client(Some(&GateTrust::Pin(certificate.fingerprint()))).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect("localhost".try_into().unwrap(), tcp).await?;
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn it_has_the_gates_certificate_and_a_reload_changes_it() {
    let (first, second) = (certificate(), certificate());
    let cell = ServerTlsCell::new(first.clone());
    let served = Served::start_on(None, Some(cell.clone())).await;
    let address = served.tcp.unwrap();
    assert!(health(address, &first).await.unwrap().ends_with("ok\n"));
    assert!(tls::is_distrust(&health(address, &second).await.unwrap_err()));
    cell.replace(second.clone());
    assert!(health(address, &second).await.unwrap().ends_with("ok\n"));
    assert!(tls::is_distrust(&health(address, &first).await.unwrap_err()));
    served.stop().await;
}

#[tokio::test]
async fn who_does_not_shake_hands_holds_up_nobody_and_is_told_nothing() {
    let own = certificate();
    let served = Served::start_on(None, Some(ServerTlsCell::new(own.clone()))).await;
    let address = served.tcp.unwrap();
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP"));
    assert!(health(address, &own).await.unwrap().ends_with("ok\n"));
    served.stop().await;
}
