//! Test client on tokio-postgres, with or without TLS, that gives access to its notices and to the end of its connection.
//!
//! It does not verify the server's certificate: it is for throwaway servers on this machine.

use std::future::poll_fn;
use std::net::SocketAddr;

use anyhow::Context as _;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::error::DbError;
use tokio_postgres::{AsyncMessage, Config, Error, NoTls};
use tokio_rustls::TlsStream;

use crate::base::tls::{ClientTls, TlsMode, Transport};

/// Int32(8) Int32(80877103): protocol page, "SSLRequest".
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Connection whose driver runs as a task of the current runtime.
#[derive(Debug)]
pub struct DriverConnection {
    /// Client for queries.
    pub client: tokio_postgres::Client,
    notices: mpsc::UnboundedReceiver<DbError>,
    end: JoinHandle<Option<Error>>,
}

impl DriverConnection {
    /// Connects and logs in. `config` contains user, password and database; its hosts are ignored.
    pub async fn connect(address: SocketAddr, config: &Config, over_tls: bool) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(address)
            .await
            .with_context(|| format!("connecting to {address}"))?;
        tcp.set_nodelay(true)
            .with_context(|| format!("setting up the connection to {address}"))?;
        let transport = if over_tls {
            tls(tcp).await.with_context(|| format!("TLS with {address}"))?
        } else {
            Transport::Plain(tcp)
        };
        let (client, mut connection) = config.connect_raw(transport, NoTls).await?;
        let (sender, notices) = mpsc::unbounded_channel();
        let end = tokio::spawn(async move {
            loop {
                match poll_fn(|cx| connection.poll_message(cx)).await {
                    // The receiver may be gone.
                    Some(Ok(AsyncMessage::Notice(notice))) => drop(sender.send(notice)),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Some(error),
                    None => return None,
                }
            }
        });
        Ok(Self { client, notices, end })
    }

    /// Returns the notices since the last call.
    pub fn notices(&mut self) -> Vec<DbError> {
        std::iter::from_fn(|| self.notices.try_recv().ok()).collect()
    }

    /// Waits for the next notice; `None` once the connection is closed.
    pub async fn notice(&mut self) -> Option<DbError> {
        self.notices.recv().await
    }

    /// Waits until the server closes the connection. Returns the error that the server sent while no query was running, if any.
    pub async fn closed(&mut self) -> Option<Error> {
        (&mut self.end).await.ok().flatten()
    }
}

async fn tls(mut tcp: TcpStream) -> std::io::Result<Transport> {
    tcp.write_all(&SSL_REQUEST).await?;
    if tcp.read_u8().await? != b'S' {
        return Err(std::io::Error::other("the server does not speak TLS"));
    }
    let tls = ClientTls::new(TlsMode::Require, None).map_err(std::io::Error::other)?;
    let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
    let stream = tls.connector().connect(name, tcp).await?;
    Ok(Transport::Tls(Box::new(TlsStream::Client(stream))))
}
