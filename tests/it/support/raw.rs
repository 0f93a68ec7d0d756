//! Client that reads and writes the protocol byte by byte, to see details that a driver hides: message boundaries, every field of
//! an error, EOF.
//!
//! It asserts only that the messages it reads are well-formed.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use tidegate::base::tls::{ClientTls, TlsMode};
use tidegate::demo::testkit::{TestGate, TestLogin};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{PATIENCE, TARGET};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Connection at the level of messages.
pub(crate) struct Raw {
    stream: Box<dyn Stream>,
    read: BytesMut,
    patience: Duration,
}

/// One message of the server.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) body: Bytes,
}

/// Fields of an ErrorResponse or NoticeResponse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) severity: String,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: String,
    pub(crate) hint: String,
}

impl Told {
    /// Reads the fields. S and V have to be present and equal, because the gate's messages are in English.
    pub(crate) fn read(body: &[u8]) -> Self {
        let fields: HashMap<u8, String> = body
            .split(|byte| *byte == 0)
            .filter(|field| !field.is_empty())
            .map(|field| (field[0], String::from_utf8(field[1..].to_vec()).expect("UTF-8")))
            .collect();
        let field = |name: u8| fields.get(&name).cloned().unwrap_or_default();
        assert_eq!(field(b'S'), field(b'V'), "{fields:?}");
        Self {
            severity: field(b'S'),
            code: field(b'C'),
            message: field(b'M'),
            detail: field(b'D'),
            hint: field(b'H'),
        }
    }

    /// Asserts severity and code, and that message, detail or hint contain each of the words.
    #[track_caller]
    pub(crate) fn says(&self, severity: &str, code: &str, words: &[&str]) {
        assert_eq!((self.severity.as_str(), self.code.as_str()), (severity, code), "{self:?}");
        let all = format!("{}\n{}\n{}", self.message, self.detail, self.hint);
        for word in words {
            assert!(all.contains(word), "no {word:?} in {self:?}");
        }
    }
}

impl Raw {
    /// A login that waits for something: AuthenticationOk and the first notice have come.
    pub(crate) async fn waiting(gate: &TestGate, login: &TestLogin) -> (Self, Told) {
        let mut raw = Self::connect(gate).await;
        raw.startup(&[("user", &login.grant), ("database", TARGET)]).await;
        raw.prove(login.secret.expose(), ChannelBinding::unsupported())
            .await
            .expect("AuthenticationOk");
        let notice = raw.until(b'N').await;
        (raw, Told::read(&notice.body))
    }

    /// Connects in clear, without sending anything.
    pub(crate) async fn connect(gate: &TestGate) -> Self {
        let tcp = TcpStream::connect(gate.address()).await.expect("a connection");
        tcp.set_nodelay(true).expect("nodelay");
        Self::over(Box::new(tcp))
    }

    /// Connects with a very small receive buffer, so that a sender soon notices that this client does not read.
    pub(crate) async fn connect_narrow(gate: &TestGate) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        Self::over(Box::new(socket.connect(gate.address()).await.expect("a connection")))
    }

    /// Connects over TLS, without sending anything in it.
    pub(crate) async fn connect_tls(gate: &TestGate) -> Self {
        let mut tcp = TcpStream::connect(gate.address()).await.expect("a connection");
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        tcp.write_all(&request).await.expect("SSLRequest is sent");
        assert_eq!(tcp.read_u8().await.expect("an answer"), b'S');
        let tls = ClientTls::new(TlsMode::Require, None).expect("TLS");
        let name = ServerName::try_from("localhost").expect("a name");
        Self::over(Box::new(tls.connector().connect(name, tcp).await.expect("TLS")))
    }

    fn over(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            read: BytesMut::new(),
            patience: PATIENCE,
        }
    }

    /// Sets the time limit for a message.
    pub(crate) fn patiently(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Sends bytes; a closed connection is noticed when reading.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// Sends messages as `postgres_protocol` writes them.
    pub(crate) async fn write(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let mut bytes = BytesMut::new();
        write(&mut bytes);
        self.send(&bytes).await;
    }

    pub(crate) async fn startup(&mut self, parameters: &[(&str, &str)]) {
        let parameters = parameters.iter().copied();
        self.write(|out| frontend::startup_message(parameters, out).expect("a startup packet"))
            .await;
    }

    pub(crate) async fn query(&mut self, sql: &str) {
        self.write(|out| frontend::query(sql, out).expect("a query")).await;
    }

    /// Brings the `n`th of many sessions into its state: half of them sleep, a quarter is idle, a quarter is in the middle of a
    /// result.
    pub(crate) async fn occupy(&mut self, n: usize) {
        match n % 4 {
            0 | 1 => self.query("SELECT pg_sleep(600)").await,
            2 => {}
            // Rows come slowly, so that two cores are not busy with filling pipes.
            _ => {
                self.query("SELECT repeat('x', 10000), pg_sleep(0.05) FROM generate_series(1, 100000)")
                    .await;
            }
        }
    }

    /// Returns the next message; `None` at the end. An end within a message fails the test.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        match self.in_time("a message").await {
            Ok(frame) => Some(frame),
            Err(rest) => {
                assert!(rest.is_empty(), "the stream ends within a message: {rest:?}");
                None
            }
        }
    }

    async fn in_time(&mut self, what: &str) -> Result<Frame, BytesMut> {
        let patience = self.patience;
        let next = tokio::time::timeout(patience, self.next()).await;
        next.unwrap_or_else(|_| panic!("not within {patience:?}: {what}"))
    }

    /// Returns the next message, or at the end the rest of an incomplete one.
    async fn next(&mut self) -> Result<Frame, BytesMut> {
        loop {
            if let Some(header) = self.read.first_chunk::<5>() {
                let [kind, length @ ..] = *header;
                let whole = 1 + u32::from_be_bytes(length) as usize;
                if self.read.len() >= whole {
                    let body = self.read.split_to(whole).freeze().slice(5..);
                    return Ok(Frame { kind, body });
                }
                self.read.reserve(whole);
            }
            match self.stream.read_buf(&mut self.read).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(std::mem::take(&mut self.read)),
            }
        }
    }

    /// Returns the next message; `None` at the end, which may come within a message: the gate was killed.
    pub(crate) async fn torn_frame(&mut self) -> Option<Frame> {
        self.in_time("a message or the end").await.ok()
    }

    /// Reads up to a message of this kind; fails the test at the end of the stream.
    pub(crate) async fn until(&mut self, kind: u8) -> Frame {
        self.until_any(&[kind]).await
    }

    /// Reads up to a message of one of these kinds; fails the test at the end of the stream.
    pub(crate) async fn until_any(&mut self, kinds: &[u8]) -> Frame {
        let mut seen = Vec::new();
        while let Some(frame) = self.frame().await {
            if kinds.contains(&frame.kind) {
                return frame;
            }
            seen.push((frame.kind as char, frame.body));
        }
        panic!("none of {:?}, only {seen:?}", String::from_utf8_lossy(kinds))
    }

    /// Reads to the end, which has to follow an error; returns that error, and the number of messages before it.
    pub(crate) async fn last_word(&mut self) -> (Told, usize) {
        let (mut last, mut before) = (None, 0);
        while let Some(frame) = self.frame().await {
            before += usize::from(last.is_some());
            last = Some(frame);
        }
        let last = last.expect("a last word");
        assert_eq!(last.kind, b'E', "the last message is {last:?}");
        (Told::read(&last.body), before)
    }

    /// Proves the secret, after the startup packet. Returns `Ok` if the server sent AuthenticationOk.
    pub(crate) async fn prove(&mut self, secret: &str, binding: ChannelBinding) -> Result<(), Told> {
        let mut scram = ScramSha256::new(secret.as_bytes(), binding);
        loop {
            let Some(frame) = self.frame().await else {
                panic!("the connection was closed without a word")
            };
            match (
                frame.kind,
                frame.body.first_chunk::<4>().map(|code| u32::from_be_bytes(*code)),
            ) {
                (b'R', Some(0)) => return Ok(()),
                (b'R', Some(10)) => {
                    let first = scram.message().to_vec();
                    self.write(|out| frontend::sasl_initial_response(SCRAM_SHA_256, &first, out).expect("fits"))
                        .await;
                }
                (b'R', Some(11)) => {
                    scram.update(&frame.body[4..]).expect("a challenge");
                    let proof = scram.message().to_vec();
                    self.write(|out| frontend::sasl_response(&proof, out).expect("fits")).await;
                }
                (b'R', Some(12)) => scram.finish(&frame.body[4..]).expect("the server's proof"),
                (b'E', _) => {
                    let told = Told::read(&frame.body);
                    assert!(self.frame().await.is_none(), "closed after a FATAL");
                    return Err(told);
                }
                other => panic!("{other:?} during the login"),
            }
        }
    }

    /// Logs in on a connection, with these startup parameters, up to ReadyForQuery.
    pub(crate) async fn login_with(mut self, login: &TestLogin, parameters: &[(&str, &str)]) -> Result<Self, Told> {
        let all = [&[("user", login.grant.as_str())], parameters].concat();
        self.startup(&all).await;
        self.prove(login.secret.expose(), ChannelBinding::unsupported()).await?;
        loop {
            match self.frame().await {
                Some(Frame { kind: b'Z', .. }) => return Ok(self),
                Some(Frame { kind: b'E', body }) => return Err(Told::read(&body)),
                Some(_) => {}
                None => panic!("closed without a word"),
            }
        }
    }

    /// Logs in over a new connection in clear.
    pub(crate) async fn login(gate: &TestGate, login: &TestLogin) -> Result<Self, Told> {
        Self::connect(gate).await.login_with(login, &[("database", TARGET)]).await
    }

    /// Opens a session; fails the test if it is refused.
    pub(crate) async fn session(gate: &TestGate, login: &TestLogin) -> Self {
        match Self::login(gate, login).await {
            Ok(session) => session,
            Err(told) => panic!("refused: {told:?}"),
        }
    }

    /// Returns the refusal of a login; fails the test if it succeeds.
    pub(crate) async fn refused(gate: &TestGate, login: &TestLogin) -> Told {
        match Self::login(gate, login).await {
            Ok(_) => panic!("let in"),
            Err(told) => told,
        }
    }

    /// Returns the process id of the session's backend, by a query.
    pub(crate) async fn backend(&mut self) -> i32 {
        self.query("SELECT pg_backend_pid()").await;
        let row = self.until(b'D').await;
        let pid = std::str::from_utf8(&row.body[6..])
            .expect("digits")
            .parse()
            .expect("a number");
        self.until(b'Z').await;
        pid
    }
}
