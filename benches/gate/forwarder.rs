//! Bare forwarder, the floor of the comparison: the least a tokio program can do between a client and a server, with and without
//! TLS towards the client.
//!
//! It reads no message, keeps no record and knows no grant: the cost of the gate is the difference to it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Forwards every connection to `listen` to `server`, for ever.
pub(crate) async fn forward(listen: &str, server: String, tls: Option<TlsAcceptor>) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let server: Arc<str> = server.into();
    loop {
        let (client, _) = listener.accept().await?;
        let (server, tls) = (Arc::clone(&server), tls.clone());
        tokio::spawn(async move {
            // A broken connection concerns its client alone.
            let _ = connection(client, &server, tls).await;
        });
    }
}

async fn connection(mut client: TcpStream, server: &str, tls: Option<TlsAcceptor>) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut server = TcpStream::connect(server).await?;
    server.set_nodelay(true)?;
    let Some(tls) = tls else {
        copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    };
    // The SSLRequest (8 bytes) is not checked: only the bench's own clients connect.
    client.read_exact(&mut [0; 8]).await?;
    client.write_all(b"S").await?;
    let mut client = tls.accept(client).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// Returns the TLS settings of the floor: rustls' defaults.
pub(crate) fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
