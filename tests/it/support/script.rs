//! Scripted client: it sends any bytes at given times, and sees every message of the answer.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use rustls::pki_types::ServerName;
use tidegate::base::tls::{ClientTls, TlsMode, Transport};
use tidegate::demo::testkit::{TestGate, TestLogin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::{TARGET, within};

/// Message of the server: its type and its body.
pub(crate) type Message = (u8, Vec<u8>);

/// Settings of a connection.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub(crate) tls: bool,
    /// Minor protocol version.
    pub(crate) minor: u16,
}

pub(crate) const CLEAR: Way = Way { tls: false, minor: 0 };

pub(crate) struct Scripted {
    pub(crate) stream: Transport,
    read: BytesMut,
    /// Messages before the first ReadyForQuery, without those of the authentication.
    pub(crate) welcome: Vec<Message>,
    /// Process id in BackendKeyData.
    pub(crate) pid: i32,
    pub(crate) key: Vec<u8>,
}

pub(crate) async fn tcp(gate: &TestGate) -> TcpStream {
    let stream = TcpStream::connect(gate.address()).await.expect("the gate listens");
    stream.set_nodelay(true).expect("a socket");
    stream
}

/// Sends an SSLRequest and starts TLS.
pub(crate) async fn over_tls(mut stream: TcpStream) -> Transport {
    stream.write_all(&SSL_REQUEST).await.expect("sent");
    assert_eq!(stream.read_u8().await.expect("an answer"), b'S');
    handshake(stream, TlsMode::Require, true).await.expect("TLS")
}

pub(crate) async fn handshake(stream: TcpStream, mode: TlsMode, alpn: bool) -> std::io::Result<Transport> {
    let connector = ClientTls::new(mode, None).expect("TLS").connector();
    let mut config = rustls::ClientConfig::clone(connector.config());
    config.alpn_protocols = if alpn { vec![b"postgresql".to_vec()] } else { Vec::new() };
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let name = ServerName::try_from("localhost").expect("a name");
    Ok(Transport::Tls(Box::new(TlsStream::Client(
        connector.connect(name, stream).await?,
    ))))
}

pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
pub(crate) const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

pub(crate) fn startup(minor: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = vec![0, 3];
    body.extend_from_slice(&minor.to_be_bytes());
    for (name, value) in parameters {
        for text in [name, value] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
    }
    body.push(0);
    let mut packet = u32::try_from(body.len() + 4).unwrap().to_be_bytes().to_vec();
    packet.extend_from_slice(&body);
    packet
}

impl Scripted {
    pub(crate) fn on(stream: Transport) -> Self {
        Self {
            stream,
            read: BytesMut::new(),
            welcome: Vec::new(),
            pid: 0,
            key: Vec::new(),
        }
    }

    /// Connects and logs in.
    pub(crate) async fn login(gate: &TestGate, login: &TestLogin, way: Way) -> Self {
        let stream = tcp(gate).await;
        let stream = if way.tls {
            over_tls(stream).await
        } else {
            Transport::Plain(stream)
        };
        let mut raw = Self::on(stream);
        raw.send(&startup(way.minor, &[("user", &login.grant), ("database", TARGET)]))
            .await;
        raw.authenticate(login.secret.expose()).await;
        raw
    }

    /// Authenticates after the startup packet, up to the first ReadyForQuery.
    pub(crate) async fn authenticate(&mut self, password: &str) {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        loop {
            let (tag, body) = self.message().await.expect("a login");
            match (tag, body.first_chunk::<4>().map(|code| u32::from_be_bytes(*code))) {
                (b'R', Some(10)) => {
                    let mut first = b"SCRAM-SHA-256\0".to_vec();
                    let data = scram.message();
                    first.extend_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
                    first.extend_from_slice(data);
                    self.send(&frame(b'p', &first)).await;
                }
                (b'R', Some(11)) => {
                    scram.update(&body[4..]).expect("a challenge");
                    let data = scram.message().to_vec();
                    self.send(&frame(b'p', &data)).await;
                }
                (b'R', Some(12)) => scram.finish(&body[4..]).expect("the server's proof"),
                (b'R', Some(0)) => {}
                (b'K', _) => {
                    self.pid = i32::from_be_bytes(*body.first_chunk().unwrap());
                    self.key = body[4..].to_vec();
                }
                (b'Z', _) => return,
                (b'E', _) => panic!("login refused: {}", String::from_utf8_lossy(&body)),
                _ => self.welcome.push((tag, body)),
            }
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("sent");
        self.stream.flush().await.expect("sent");
    }

    /// Returns the next message; `None` when the server has closed.
    pub(crate) async fn message(&mut self) -> Option<Message> {
        within("a message", async {
            loop {
                if let Some([_, length @ ..]) = self.read.first_chunk::<5>() {
                    let length = u32::from_be_bytes(*length) as usize;
                    if self.read.len() > length {
                        let message = self.read.split_to(length + 1);
                        return Some((message[0], message[5..].to_vec()));
                    }
                }
                match self.stream.read_buf(&mut self.read).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        })
        .await
    }

    /// Returns all messages up to and including the `count`th ReadyForQuery, or up to the end.
    pub(crate) async fn ready(&mut self, count: usize) -> Vec<Message> {
        let mut all = Vec::new();
        let mut seen = 0;
        while seen < count {
            let Some(message) = self.message().await else { break };
            seen += usize::from(message.0 == b'Z');
            all.push(message);
        }
        all
    }

    /// Returns all messages up to and including one of this type.
    pub(crate) async fn until(&mut self, tag: u8) -> Vec<Message> {
        let mut all = Vec::new();
        while let Some(message) = self.message().await {
            let found = message.0 == tag;
            all.push(message);
            if found {
                break;
            }
        }
        all
    }

    /// Sends, and returns the answer up to the `count`th ReadyForQuery.
    pub(crate) async fn ask(&mut self, bytes: &[u8], count: usize) -> Vec<Message> {
        self.send(bytes).await;
        self.ready(count).await
    }

    /// Returns all messages until the server closes.
    pub(crate) async fn rest(&mut self) -> Vec<Message> {
        let mut all = Vec::new();
        while let Some(message) = self.message().await {
            all.push(message);
        }
        all
    }

    /// Returns true if nothing arrives for this time.
    pub(crate) async fn silent_for(&mut self, time: Duration) -> bool {
        self.read.is_empty()
            && tokio::time::timeout(time, self.stream.read_buf(&mut self.read))
                .await
                .is_err()
    }
}

/// Returns the types as text: `1 2 D C Z` is `12DCZ`. Notices, parameters and notifications are left out, because they answer
/// nothing.
pub(crate) fn tags(messages: &[Message]) -> String {
    messages
        .iter()
        .map(|(tag, _)| char::from(*tag))
        .filter(|tag| !"NSA".contains(*tag))
        .collect()
}

/// Returns the SQLSTATE of the first error.
pub(crate) fn sqlstate(messages: &[Message]) -> Option<String> {
    let (_, body) = messages.iter().find(|(tag, _)| *tag == b'E')?;
    let field = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&b'C'))?;
    Some(String::from_utf8_lossy(&field[1..]).into_owned())
}

/// Returns the first column of each row, as text.
pub(crate) fn column(messages: &[Message]) -> Vec<String> {
    let rows = messages.iter().filter(|(tag, _)| *tag == b'D');
    rows.map(|(_, body)| {
        let length = u32::from_be_bytes(*body[2..].first_chunk().unwrap()) as usize;
        String::from_utf8_lossy(&body[6..6 + length]).into_owned()
    })
    .collect()
}

pub(crate) fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn query(sql: impl AsRef<[u8]>) -> Vec<u8> {
    frame(b'Q', &[sql.as_ref(), b"\0"].concat())
}

pub(crate) fn parse(name: impl AsRef<[u8]>, sql: impl AsRef<[u8]>, types: &[u32]) -> Vec<u8> {
    let mut body = [name.as_ref(), b"\0", sql.as_ref(), b"\0"].concat();
    body.put_u16(u16::try_from(types.len()).unwrap());
    for oid in types {
        body.put_u32(*oid);
    }
    frame(b'P', &body)
}

/// Returns a Bind; each value has a flag for binary. Results are in text.
pub(crate) fn bind(portal: impl AsRef<[u8]>, statement: impl AsRef<[u8]>, values: &[(bool, Option<&[u8]>)]) -> Vec<u8> {
    let mut body = [portal.as_ref(), b"\0", statement.as_ref(), b"\0"].concat();
    let count = u16::try_from(values.len()).unwrap();
    body.put_u16(count);
    for (binary, _) in values {
        body.put_u16(u16::from(*binary));
    }
    body.put_u16(count);
    for (_, value) in values {
        body.put_u32(value.map_or(u32::MAX, |value| u32::try_from(value.len()).unwrap()));
        body.put_slice(value.unwrap_or_default());
    }
    body.put_u16(0);
    frame(b'B', &body)
}

pub(crate) fn execute(portal: impl AsRef<[u8]>, most: u32) -> Vec<u8> {
    frame(b'E', &[portal.as_ref(), b"\0", &most.to_be_bytes()].concat())
}

pub(crate) fn close(kind: u8, name: impl AsRef<[u8]>) -> Vec<u8> {
    frame(b'C', &[&[kind], name.as_ref(), b"\0"].concat())
}

pub(crate) fn describe(kind: u8, name: impl AsRef<[u8]>) -> Vec<u8> {
    frame(b'D', &[&[kind], name.as_ref(), b"\0"].concat())
}

pub(crate) fn sync() -> Vec<u8> {
    frame(b'S', b"")
}

/// Returns Bind, Execute of the unnamed portal, and Sync.
pub(crate) fn run(statement: impl AsRef<[u8]>) -> Vec<u8> {
    [bind("", statement, &[]), execute("", 0), sync()].concat()
}
