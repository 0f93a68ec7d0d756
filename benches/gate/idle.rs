//! Memory of idle sessions in the process in the middle.
//!
//! It reads only the resident memory of that process, without the kernel's memory for its sockets.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::{Client, Config, NoTls};
use tokio_rustls::TlsConnector;

use crate::lanes::{BENCH, Kind, Lane, Stage};
use crate::process::resident;

/// SSLRequest: its length and its code (PostgreSQL documentation, 55.7 Message Formats).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Resident memory per idle session, in KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Idle {
    pub(crate) lane: Kind,
    /// Memory after the login and one small query.
    pub(crate) fresh: f64,
    /// Memory after each session has also fetched a row of 1 MB.
    pub(crate) used: f64,
}

/// Opens `sessions` sessions through a lane that has just been started, and reads the memory after they have been idle for
/// `settle`.
pub(crate) async fn measure(lane: &Lane, stage: &Stage, sessions: u32, settle: Duration) -> Result<Idle> {
    let pid = lane.pid().context("nothing in the middle")?;
    // Memory that the first session adds (code, tables, the heaps of the threads) is not the cost of each.
    let first = Session::open(lane, stage).await?;
    first.client.simple_query("SELECT 1").await?;
    tokio::time::sleep(settle).await;
    let before = resident(pid)?;
    let mut open = Vec::new();
    for _ in 0..sessions {
        let session = Session::open(lane, stage).await?;
        session.client.simple_query("SELECT 1").await?;
        open.push(session);
    }
    tokio::time::sleep(settle).await;
    let fresh = (resident(pid)? - before) / f64::from(sessions);
    for session in &open {
        session.client.simple_query("SELECT repeat('x', 1000000)").await?;
    }
    tokio::time::sleep(settle).await;
    let used = (resident(pid)? - before) / f64::from(sessions);
    Ok(Idle {
        lane: lane.kind,
        fresh,
        used,
    })
}

struct Session {
    client: Client,
    driver: JoinHandle<()>,
}

impl Session {
    async fn open(lane: &Lane, stage: &Stage) -> Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", lane.port)).await?;
        if !lane.kind.tls() {
            return Self::login(lane, stream).await;
        }
        stream.write_all(&SSL_REQUEST).await?;
        let mut answer = [0];
        stream.read_exact(&mut answer).await?;
        ensure!(answer == *b"S", "no TLS here");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&stage.certificate)?)?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        Self::login(lane, connector.connect(ServerName::try_from("localhost")?, stream).await?).await
    }

    async fn login(lane: &Lane, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self> {
        let (client, connection) = Config::new()
            .user(&lane.user)
            .password(&lane.password)
            .dbname(BENCH)
            .ssl_mode(SslMode::Disable)
            .channel_binding(ChannelBinding::Disable)
            .connect_raw(stream, NoTls)
            .await?;
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { client, driver })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
