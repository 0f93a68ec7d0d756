//! Scripted clients over real loopback sockets, in clear and on TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::access::strangers::{StrangerLimits, Strangers};
use crate::base::tls::{ClientTls, ServerTls, TlsMode};
use crate::model::ending::LimitScope;
use crate::protocol::scram::{ClientKeys, Verifier, client_start};

mod oauth;
mod token;

const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
const GSS_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 48];
const CANCEL_REQUEST: &[u8] = &[0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 7, 1, 2, 3, 4];
const SECRET: &[u8] = b"correct horse";
/// Long enough never to be met by a test that does not mean to.
const AMPLE: Duration = Duration::from_secs(30);

struct Gate {
    listener: TcpListener,
    settings: HandshakeSettings,
    strangers: Strangers,
    _dir: TempDir,
}

#[derive(Debug)]
enum Outcome {
    Gone,
    Cancel(CancelRequest),
    In(StartupMessage),
    Rejected(Box<FailedHandshake>),
}

impl Outcome {
    fn ending(&self) -> &Ending {
        match self {
            Self::Rejected(rejected) => &rejected.ending,
            other => panic!("not rejected: {other:?}"),
        }
    }
}

impl Gate {
    async fn start(plaintext: Plaintext, handshake: Duration, limits: StrangerLimits) -> Arc<Self> {
        let dir = TempDir::new().unwrap();
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let tls = ServerTls::self_signed(dir.path(), &["localhost".to_owned()], Clock::system(None).now()).unwrap();
        Arc::new(Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            settings: HandshakeSettings {
                tls: ServerTlsCell::new(tls),
                plaintext,
                token_in_clear: TokenInClear::Loopback,
                oauth: Arc::new(oauth::logins()),
                handshake,
                clock: clock.clone(),
            },
            strangers: Strangers::new(limits, clock),
            _dir: dir,
        })
    }

    async fn open() -> Arc<Self> {
        Self::start(Plaintext::Loopback, AMPLE, StrangerLimits::default()).await
    }

    /// A connection, and what will become of it.
    async fn connect(self: &Arc<Self>) -> (TcpStream, JoinHandle<Outcome>) {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).await.unwrap();
        let (tcp, address) = self.listener.accept().await.unwrap();
        let gate = Arc::clone(self);
        (client, tokio::spawn(async move { gate.serve(tcp, address).await }))
    }

    async fn serve(&self, tcp: TcpStream, address: SocketAddr) -> Outcome {
        let permit = self.strangers.enter(address.ip());
        let greeted = match greet(tcp, address, permit, &self.settings).await {
            Ok(Hello::Session(greeted)) => greeted,
            Ok(Hello::Cancel(cancelling)) => {
                let request = cancelling.request;
                close(cancelling.transport).await;
                return Outcome::Cancel(request);
            }
            Ok(Hello::Gone) => return Outcome::Gone,
            Err(rejected) => return Outcome::Rejected(rejected),
        };
        let user = &greeted.startup().user;
        if user.contains('@') || self.settings.oauth.offered_to(user).is_some() {
            return self.serve_identity(greeted).await;
        }
        let verifier = match greeted.startup().user.as_str() {
            "gr_known" => Verifier::derive(SECRET, b"0123456789abcdef", 4096),
            user => Verifier::mock(user, &[7; 32]),
        };
        match authenticate(greeted, &verifier).await {
            Ok(authenticated) => {
                close(authenticated.transport).await;
                Outcome::In(authenticated.startup)
            }
            Err(rejected) => Outcome::Rejected(rejected),
        }
    }
}

fn startup(minor: u8, user: &str, more: &[u8]) -> Vec<u8> {
    let body = [b"user\0", user.as_bytes(), b"\0", more, b"\0"].concat();
    let length = u32::try_from(body.len() + 8).unwrap();
    [&length.to_be_bytes()[..], &[0, 3, 0, minor], &body].concat()
}

fn response(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [b"p", &length.to_be_bytes()[..], body].concat()
}

fn initial(mechanism: &str, first: &[u8]) -> Vec<u8> {
    let length = u32::try_from(first.len()).unwrap();
    response(&[mechanism.as_bytes(), b"\0", &length.to_be_bytes(), first].concat())
}

/// Type, request (for `R`) and the rest of one message.
async fn message(stream: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let kind = stream.read_u8().await.unwrap();
    let length = stream.read_u32().await.unwrap();
    let mut body = vec![0; length as usize - 4];
    stream.read_exact(&mut body).await.unwrap();
    (kind, body)
}

async fn all(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = timeout(AMPLE, stream.read_to_end(&mut bytes)).await;
    // A connection closed by us may be reset when the client went on sending.
    let _ = read.expect("closed in time");
    bytes
}

/// The code of the one FATAL that is all that comes until the end.
async fn fatal_code(stream: &mut (impl AsyncRead + Unpin)) -> String {
    code_of(&all(stream).await)
}

fn code_of(bytes: &[u8]) -> String {
    assert_eq!(bytes.first(), Some(&b'E'), "{}", bytes.escape_ascii());
    let text = String::from_utf8(bytes[5..].to_vec()).unwrap();
    let fields: Vec<&str> = text.split('\0').collect();
    assert_eq!(fields[0], "SFATAL");
    fields[2].strip_prefix('C').unwrap().to_owned()
}

fn client_config(alpn: &[&[u8]]) -> TlsConnector {
    let tls = ClientTls::new(TlsMode::Require, None).unwrap();
    let mut config = ClientConfig::clone(tls.connector().config());
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

async fn try_secure(tcp: TcpStream, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    client_config(alpn).connect(name, tcp).await
}

async fn secure(mut tcp: TcpStream) -> TlsStream<TcpStream> {
    tcp.write_all(SSL_REQUEST).await.unwrap();
    assert_eq!(tcp.read_u8().await.unwrap(), b'S');
    try_secure(tcp, &[]).await.unwrap()
}

/// The client's side of a login after its startup packet; the last message read is returned when it is not `R`.
async fn log_in(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), secret: &[u8], binding: Option<&[u8]>) -> Option<Vec<u8>> {
    let (kind, offer) = message(stream).await;
    assert_eq!((kind, &offer[..4]), (b'R', &[0, 0, 0, 10][..]));
    let exchange = client_start(binding, "fyko+d2lbbFgONRv9qkxdawL");
    let mechanism = if binding.is_some() {
        "SCRAM-SHA-256-PLUS"
    } else {
        "SCRAM-SHA-256"
    };
    stream.write_all(&initial(mechanism, &exchange.first())).await.unwrap();
    stream.flush().await.unwrap();
    let (kind, challenge) = message(stream).await;
    assert_eq!((kind, &challenge[..4]), (b'R', &[0, 0, 0, 11][..]));
    let challenged = exchange.challenge(&challenge[4..]).unwrap();
    let keys = ClientKeys::derive(secret, &challenged.salt, challenged.iterations);
    let answered = challenged.answer(&keys);
    stream.write_all(&response(&answered.message)).await.unwrap();
    stream.flush().await.unwrap();
    let (kind, last) = message(stream).await;
    if kind != b'R' {
        return Some([&[kind, 0, 0, 0, 0], &last[..]].concat());
    }
    assert_eq!(last[..4], [0, 0, 0, 12]);
    answered.verify(&last[4..]).unwrap();
    None
}

#[tokio::test]
async fn a_health_check_is_gone_without_a_word() {
    let gate = Gate::open().await;
    let (client, outcome) = gate.connect().await;
    drop(client);
    assert!(matches!(outcome.await.unwrap(), Outcome::Gone));
}

#[tokio::test]
async fn a_login_in_clear() {
    let gate = Gate::open().await;
    let (mut client, outcome) = gate.connect().await;
    client
        .write_all(&startup(0, "gr_known", b"database\0orders\0"))
        .await
        .unwrap();
    assert_eq!(log_in(&mut client, SECRET, None).await, None);
    drop(client);
    match outcome.await.unwrap() {
        Outcome::In(startup) => assert_eq!(startup.database.as_deref(), Some("orders")),
        other => panic!("{other:?}"),
    }
    assert!(gate.strangers.is_empty());
}

#[tokio::test]
async fn only_sha_256_is_offered_in_clear_and_plus_first_on_tls() {
    let gate = Gate::open().await;
    let (mut client, _outcome) = gate.connect().await;
    client.write_all(&startup(0, "a", b"")).await.unwrap();
    assert_eq!(message(&mut client).await.1[4..], *b"SCRAM-SHA-256\0\0");
    let (client, _outcome) = gate.connect().await;
    let mut client = secure(client).await;
    client.write_all(&startup(0, "a", b"")).await.unwrap();
    assert_eq!(message(&mut client).await.1[4..], *b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
}

#[tokio::test]
async fn logins_on_tls_bound_and_not() {
    let gate = Gate::open().await;
    let end_point = gate.settings.tls.current().end_point().unwrap().to_vec();
    for binding in [None, Some(&end_point[..])] {
        let (client, outcome) = gate.connect().await;
        let mut client = secure(client).await;
        client.write_all(&startup(2, "gr_known", b"")).await.unwrap();
        assert_eq!(log_in(&mut client, SECRET, binding).await, None);
        drop(client);
        assert!(matches!(outcome.await.unwrap(), Outcome::In(StartupMessage { minor: 2, .. })));
    }
}

#[tokio::test]
async fn a_login_bound_to_another_certificate_fails() {
    let gate = Gate::open().await;
    let (client, outcome) = gate.connect().await;
    let mut client = secure(client).await;
    client.write_all(&startup(0, "gr_known", b"")).await.unwrap();
    let refused = log_in(&mut client, SECRET, Some(&[9; 32])).await.unwrap();
    assert_eq!(code_of(&refused), "28000");
    drop(client);
    assert_eq!(outcome.await.unwrap().ending(), &Ending::BindingFailed);
}

#[tokio::test]
async fn a_client_that_was_shown_no_plus_on_tls_is_refused() {
    let gate = Gate::open().await;
    let (client, outcome) = gate.connect().await;
    let mut client = secure(client).await;
    client.write_all(&startup(0, "gr_known", b"")).await.unwrap();
    message(&mut client).await;
    client
        .write_all(&initial("SCRAM-SHA-256", b"y,,n=,r=abcdefgh"))
        .await
        .unwrap();
    assert_eq!(fatal_code(&mut client).await, "28000");
    drop(client);
    assert_eq!(outcome.await.unwrap().ending(), &Ending::BindingFailed);
}

#[tokio::test]
async fn plus_in_clear_was_not_offered() {
    for mechanism in ["SCRAM-SHA-256-PLUS", "PLAIN", ""] {
        let gate = Gate::open().await;
        let (mut client, _outcome) = gate.connect().await;
        client.write_all(&startup(0, "gr_known", b"")).await.unwrap();
        message(&mut client).await;
        client
            .write_all(&initial(mechanism, b"p=tls-server-end-point,,n=,r=abc"))
            .await
            .unwrap();
        assert_eq!(fatal_code(&mut client).await, "08P01");
    }
}

#[tokio::test]
async fn an_unknown_user_reads_what_a_wrong_secret_reads() {
    let gate = Gate::open().await;
    let mut answers = Vec::new();
    for user in ["gr_known", "gr_other"] {
        let (mut client, outcome) = gate.connect().await;
        client.write_all(&startup(0, user, b"")).await.unwrap();
        let refused = log_in(&mut client, b"wrong", None).await.unwrap();
        assert_eq!(code_of(&refused), "28P01");
        assert_eq!(all(&mut client).await, b"");
        drop(client);
        assert_eq!(
            outcome.await.unwrap().ending(),
            &Ending::BadSecret {
                user: user.to_owned(),
                held: None
            }
        );
        answers.push(String::from_utf8(refused).unwrap().replace(user, "?"));
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn an_empty_first_response_gets_an_empty_challenge() {
    let gate = Gate::open().await;
    let (mut client, _outcome) = gate.connect().await;
    client.write_all(&startup(0, "gr_known", b"")).await.unwrap();
    message(&mut client).await;
    client.write_all(&response(b"SCRAM-SHA-256\0\xff\xff\xff\xff")).await.unwrap();
    assert_eq!(message(&mut client).await, (b'R', vec![0, 0, 0, 11]));
    client.write_all(&response(b"n,,n=,r=abcdefgh")).await.unwrap();
    assert!(message(&mut client).await.1[4..].starts_with(b"r=abcdefgh"));
}

#[tokio::test]
async fn bytes_behind_the_request_for_tls_are_refused() {
    let gate = Gate::open().await;
    for behind in [startup(0, "gr_known", b""), b"x".to_vec(), SSL_REQUEST.to_vec()] {
        let (mut client, outcome) = gate.connect().await;
        client.write_all(&[SSL_REQUEST, &behind].concat()).await.unwrap();
        let told = all(&mut client).await;
        assert_eq!(code_of(&told), "08P01");
        assert!(String::from_utf8_lossy(&told).contains("received unencrypted data after SSL request"));
        drop(client);
        assert!(matches!(outcome.await.unwrap(), Outcome::Rejected(r) if matches!(r.error, HandshakeError::UnencryptedData)));
    }
}

#[tokio::test]
async fn gss_is_declined_once_and_tls_may_follow() {
    let gate = Gate::open().await;
    let (mut client, _outcome) = gate.connect().await;
    client.write_all(GSS_REQUEST).await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'N');
    let mut client = secure(client).await;
    client.write_all(&startup(0, "a", b"")).await.unwrap();
    assert_eq!(message(&mut client).await.0, b'R');

    let (mut client, _outcome) = gate.connect().await;
    client.write_all(GSS_REQUEST).await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'N');
    client.write_all(GSS_REQUEST).await.unwrap();
    assert_eq!(fatal_code(&mut client).await, "08P01");
}

#[tokio::test]
async fn no_request_for_encryption_under_tls() {
    let gate = Gate::open().await;
    for request in [SSL_REQUEST, GSS_REQUEST] {
        let (client, outcome) = gate.connect().await;
        let mut client = secure(client).await;
        client.write_all(request).await.unwrap();
        assert_eq!(fatal_code(&mut client).await, "08P01");
        drop(client);
        assert!(matches!(outcome.await.unwrap(), Outcome::Rejected(r) if matches!(r.error, HandshakeError::SecondRequest)));
    }
}

#[tokio::test]
async fn direct_tls_needs_alpn() {
    let gate = Gate::open().await;
    let (client, outcome) = gate.connect().await;
    let mut client = try_secure(client, &[b"postgresql"]).await.unwrap();
    client.write_all(&startup(0, "gr_known", b"")).await.unwrap();
    assert_eq!(log_in(&mut client, SECRET, None).await, None);
    drop(client);
    assert!(matches!(outcome.await.unwrap(), Outcome::In(_)));

    let (client, outcome) = gate.connect().await;
    let mut client = try_secure(client, &[]).await.unwrap();
    assert_eq!(all(&mut client).await, b"");
    assert!(matches!(outcome.await.unwrap(), Outcome::Rejected(r) if matches!(r.error, HandshakeError::NoAlpn)));

    let (client, outcome) = gate.connect().await;
    let refused = try_secure(client, &[b"h2", b"http/1.1"]).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    assert!(matches!(outcome.await.unwrap(), Outcome::Rejected(r) if matches!(r.error, HandshakeError::Tls(_))));
}

#[tokio::test]
async fn rubbish_instead_of_tls_is_closed() {
    let gate = Gate::open().await;
    let (mut client, outcome) = gate.connect().await;
    client.write_all(b"\x16\x03\x01\x00\x05hello, this is not TLS").await.unwrap();
    let told = all(&mut client).await;
    assert!(!told.starts_with(b"E"));
    assert!(matches!(outcome.await.unwrap(), Outcome::Rejected(r) if matches!(r.error, HandshakeError::Tls(_))));
}

#[tokio::test]
async fn a_session_in_clear_only_where_it_may() {
    let gate = Gate::start(Plaintext::Refuse, AMPLE, StrangerLimits::default()).await;
    let (mut client, outcome) = gate.connect().await;
    client.write_all(&startup(0, "gr_known", b"")).await.unwrap();
    assert_eq!(fatal_code(&mut client).await, "28000");
    drop(client);
    match outcome.await.unwrap() {
        Outcome::Rejected(rejected) => {
            assert_eq!(rejected.ending, Ending::TlsRequired);
            assert_eq!(rejected.startup.map(|startup| startup.user).as_deref(), Some("gr_known"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn cancels_come_in_clear_and_on_tls_and_are_answered_by_the_end() {
    let gate = Gate::start(Plaintext::Refuse, AMPLE, StrangerLimits::default()).await;
    let wanted = CancelRequest {
        pid: 7,
        key: vec![1, 2, 3, 4],
    };
    let (mut client, outcome) = gate.connect().await;
    client.write_all(CANCEL_REQUEST).await.unwrap();
    assert_eq!(all(&mut client).await, b"");
    drop(client);
    assert!(matches!(outcome.await.unwrap(), Outcome::Cancel(request) if request == wanted));

    let (client, outcome) = gate.connect().await;
    let mut client = secure(client).await;
    client.write_all(CANCEL_REQUEST).await.unwrap();
    assert_eq!(all(&mut client).await, b"");
    drop(client);
    assert!(matches!(outcome.await.unwrap(), Outcome::Cancel(request) if request == wanted));
}

#[tokio::test]
async fn what_is_not_the_protocol_is_closed_without_an_answer() {
    let gate = Gate::open().await;
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\0\0\0\x07\0\x03\0\0",
        b"\xff\xff\xff\xff\0\x03\0\0",
        b"\0\0\x27\x15\0\x03\0\0",
        // Cancel requests with keys of 3 bytes and of none.
        b"\0\0\0\x0f\x04\xd2\x16\x2e\0\0\0\x07\x01\x02\x03",
        b"\0\0\0\x08\x04\xd2\x16\x2e",
    ] {
        let (mut client, outcome) = gate.connect().await;
        client.write_all(bytes).await.unwrap();
        assert_eq!(all(&mut client).await, b"", "{}", bytes.escape_ascii());
        assert!(matches!(outcome.await.unwrap().ending(), Ending::Malformed { .. }));
    }
}

#[tokio::test]
async fn malformed_startup_packets_are_told_why() {
    let gate = Gate::open().await;
    let v3 = |body: &[u8]| [&u32::try_from(body.len() + 8).unwrap().to_be_bytes()[..], &[0, 3, 0, 0], body].concat();
    for (bytes, code) in [
        (v3(b"user\0a\0"), "08P01"),
        (v3(b"\0"), "28000"),
        (v3(b"user\0a\0user\0b\0\0"), "08P01"),
        (v3(b"user\0a\0options\0-c\0\0"), "42601"),
        (v3(b"user\0a\0options\0-e\0\0"), "42601"),
        (v3(b"user\0a\0options\0-c a=b c\0\0"), "42601"),
        (b"\0\0\0\x09\0\x02\0\0\0".to_vec(), "0A000"),
        (b"\0\0\0\x09\0\x04\0\0\0".to_vec(), "0A000"),
    ] {
        let (mut client, _outcome) = gate.connect().await;
        client.write_all(&bytes).await.unwrap();
        assert_eq!(fatal_code(&mut client).await, code, "{}", bytes.escape_ascii());
    }
}

#[tokio::test]
async fn a_version_not_spoken_is_negotiated_before_authentication() {
    let gate = Gate::open().await;
    let (mut client, _outcome) = gate.connect().await;
    let mut packet = startup(0, "gr_known", b"_pq_.grease\0on\0");
    packet[6..8].copy_from_slice(&9999_u16.to_be_bytes());
    client.write_all(&packet).await.unwrap();
    assert_eq!(
        message(&mut client).await,
        (b'v', b"\0\x03\0\x02\0\0\0\x01_pq_.grease\0".to_vec())
    );
    assert_eq!(log_in(&mut client, SECRET, None).await, None);
}

#[tokio::test]
async fn only_sasl_responses_while_authenticating() {
    let gate = Gate::open().await;
    let too_long = [b"p", &1025_u32.to_be_bytes()[..]].concat();
    for bytes in [
        startup(0, "gr_other", b""),
        b"Q\0\0\0\x0dselect 1\0".to_vec(),
        b"X\0\0\0\x04".to_vec(),
        too_long,
        response(b""),
    ] {
        // As the first and as the second response.
        for step in 0..2 {
            let (mut client, outcome) = gate.connect().await;
            client.write_all(&startup(0, "gr_known", b"")).await.unwrap();
            message(&mut client).await;
            if step == 1 {
                client
                    .write_all(&initial("SCRAM-SHA-256", b"n,,n=,r=abcdefgh"))
                    .await
                    .unwrap();
                message(&mut client).await;
            }
            client.write_all(&bytes).await.unwrap();
            assert_eq!(fatal_code(&mut client).await, "08P01");
            drop(client);
            assert!(matches!(outcome.await.unwrap().ending(), Ending::Malformed { .. }));
        }
    }
}

#[tokio::test]
async fn a_replayed_exchange_does_not_log_in() {
    let gate = Gate::open().await;
    let (mut client, _outcome) = gate.connect().await;
    client.write_all(&startup(0, "gr_known", b"")).await.unwrap();
    message(&mut client).await;
    let exchange = client_start(None, "abcdefghijklmnop");
    client.write_all(&initial("SCRAM-SHA-256", &exchange.first())).await.unwrap();
    let challenge = message(&mut client).await.1;
    let challenged = exchange.challenge(&challenge[4..]).unwrap();
    let keys = ClientKeys::derive(SECRET, &challenged.salt, challenged.iterations);
    let proof = response(&challenged.answer(&keys).message);

    let (mut client, outcome) = gate.connect().await;
    client.write_all(&startup(0, "gr_known", b"")).await.unwrap();
    message(&mut client).await;
    client
        .write_all(&initial("SCRAM-SHA-256", &client_start(None, "abcdefghijklmnop").first()))
        .await
        .unwrap();
    message(&mut client).await;
    client.write_all(&proof).await.unwrap();
    assert_eq!(fatal_code(&mut client).await, "08P01");
    drop(client);
    assert!(matches!(outcome.await.unwrap(), Outcome::Rejected(_)));
}

#[tokio::test]
async fn single_bytes_make_no_difference() {
    let gate = Gate::open().await;
    let (client, outcome) = gate.connect().await;
    let mut client = secure(client).await;
    for byte in startup(0, "gr_known", b"database\0orders\0") {
        client.write_all(&[byte]).await.unwrap();
        client.flush().await.unwrap();
    }
    assert_eq!(log_in(&mut client, SECRET, None).await, None);
    drop(client);
    assert!(matches!(outcome.await.unwrap(), Outcome::In(_)));
}

#[tokio::test]
async fn an_end_at_any_byte_is_a_disconnect() {
    let gate = Gate::open().await;
    let script = [startup(0, "gr_known", b""), initial("SCRAM-SHA-256", b"n,,n=,r=abcdefgh")].concat();
    for cut in 0..=script.len() {
        let (mut client, outcome) = gate.connect().await;
        client.write_all(&script[..cut]).await.unwrap();
        client.shutdown().await.unwrap();
        all(&mut client).await;
        drop(client);
        match outcome.await.unwrap() {
            Outcome::Gone => assert_eq!(cut, 0),
            other => assert_eq!(other.ending(), &Ending::Disconnected, "{cut}"),
        }
    }
}

#[tokio::test]
async fn an_end_within_the_tls_handshake_is_a_disconnect() {
    let gate = Gate::open().await;
    let (mut client, outcome) = gate.connect().await;
    client.write_all(SSL_REQUEST).await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'S');
    client.write_all(b"\x16\x03\x01").await.unwrap();
    drop(client);
    assert_eq!(outcome.await.unwrap().ending(), &Ending::Disconnected);
}

/// Sends `script` whole, then `drip` byte by byte as long as the gate takes it; what came back.
async fn slowly(client: &mut TcpStream, script: &[u8], drip: &[u8]) -> Vec<u8> {
    client.write_all(script).await.unwrap();
    let (mut reader, mut writer) = client.split();
    let dripping = async {
        for byte in drip {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if writer.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = dripping => unreachable!(),
        bytes = all(&mut reader) => bytes,
    }
}

#[tokio::test]
async fn slowness_is_named_by_its_step() {
    let limit = Duration::from_millis(300);
    let gate = Gate::start(Plaintext::Loopback, limit, StrangerLimits::default()).await;
    let packet = startup(0, "gr_known", b"");
    let first = initial("SCRAM-SHA-256", b"n,,n=,r=abcdefgh");
    for (script, drip, step) in [
        (&b""[..], &b""[..], "the startup packet"),
        (b"", &packet, "the startup packet"),
        (GSS_REQUEST, b"", "the startup packet"),
        (SSL_REQUEST, b"\x16\x03\x01\x02\0\x01", "the TLS handshake"),
        (b"\x16", b"\x03\x01\x02\0\x01", "the TLS handshake"),
        (&packet, b"", "authentication"),
        (&packet, &first, "authentication"),
    ] {
        let (mut client, outcome) = gate.connect().await;
        let told = slowly(&mut client, script, drip).await;
        drop(client);
        assert_eq!(outcome.await.unwrap().ending(), &Ending::HandshakeTimeout { step, limit });
        // Nobody can be told in the middle of a TLS handshake.
        let text = String::from_utf8_lossy(&told).into_owned();
        assert_eq!(text.contains("C57014"), step != "the TLS handshake", "{step}: {text}");
    }
}

#[tokio::test]
async fn idle_strangers_make_room_for_a_login() {
    let limits = StrangerLimits {
        connections_per_address: 3,
        ..StrangerLimits::default()
    };
    let gate = Gate::start(Plaintext::Loopback, AMPLE, limits).await;
    let mut idle = Vec::new();
    for _ in 0..3 {
        idle.push(gate.connect().await);
    }
    let (mut client, outcome) = gate.connect().await;
    client.write_all(&startup(0, "gr_known", b"")).await.unwrap();
    assert_eq!(log_in(&mut client, SECRET, None).await, None);
    drop(client);
    assert!(matches!(outcome.await.unwrap(), Outcome::In(_)));
    let (mut oldest, outcome) = idle.remove(0);
    assert_eq!(all(&mut oldest).await, b"");
    let displaced = Ending::TooMany {
        scope: LimitScope::UnfinishedOfAddress,
        limit: 3,
    };
    assert_eq!(outcome.await.unwrap().ending(), &displaced);
}

#[tokio::test]
async fn failures_hold_failures_back_and_a_good_secret_is_let_in_at_once() {
    let limits = StrangerLimits {
        failure_delay: AMPLE,
        ..StrangerLimits::default()
    };
    let gate = Gate::start(Plaintext::Loopback, AMPLE, limits).await;
    let permit = gate.strangers.enter([127, 0, 0, 1].into());
    for user in ["gr_known", "gr_other"] {
        for _ in 0..300 {
            let _ = permit.proof().failed(Some(user));
        }
    }
    drop(permit);
    let (mut guess, held_back) = gate.connect().await;
    guess.write_all(&startup(0, "gr_known", b"")).await.unwrap();
    let answer = tokio::spawn(async move { log_in(&mut guess, b"wrong", None).await });
    let (mut client, outcome) = gate.connect().await;
    client.write_all(&startup(0, "gr_known", b"")).await.unwrap();
    let login = timeout(AMPLE / 3, log_in(&mut client, SECRET, None));
    assert_eq!(login.await.expect("at once"), None);
    drop(client);
    assert!(matches!(outcome.await.unwrap(), Outcome::In(_)));
    assert!(!answer.is_finished() && !held_back.is_finished(), "the guess is held back");
    answer.abort();
    held_back.abort();
}

#[tokio::test]
async fn whatever_fails_counts_against_the_address() {
    let gate = Gate::open().await;
    let cancel_key = [&[0_u8, 0, 0, 14, 4, 210, 22, 46][..], &[0; 6]].concat();
    let broken: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0, 0, 0, 9, 0, 2, 0, 0, 0],
        b"\x16\x03\x01\0\x02no",
        &cancel_key,
        b"\0",
    ];
    for _ in 0..5 {
        for bytes in broken {
            let (mut client, outcome) = gate.connect().await;
            client.write_all(bytes).await.unwrap();
            client.shutdown().await.unwrap();
            let _ = all(&mut client).await;
            assert!(matches!(outcome.await.unwrap(), Outcome::Rejected(_)));
        }
    }
    let permit = gate.strangers.enter([127, 0, 0, 1].into());
    assert!(!permit.proof().failed(None).time.is_zero());
}

#[tokio::test]
async fn the_delay_of_a_failure_ends_with_the_handshake() {
    let limits = StrangerLimits {
        failure_delay: AMPLE,
        ..StrangerLimits::default()
    };
    let gate = Gate::start(Plaintext::Loopback, Duration::from_millis(500), limits).await;
    let permit = gate.strangers.enter([127, 0, 0, 1].into());
    for _ in 0..20 {
        let _ = permit.proof().failed(Some("gr_known"));
    }
    drop(permit);
    let (mut client, outcome) = gate.connect().await;
    client.write_all(&startup(0, "gr_known", b"")).await.unwrap();
    let refused = log_in(&mut client, b"wrong", None).await.unwrap();
    assert_eq!(code_of(&refused), "28P01");
    drop(client);
    let text = String::from_utf8_lossy(&refused).into_owned();
    assert!(text.contains("was held back: too many have failed under this name"), "{text}");
    let held = matches!(outcome.await.unwrap().ending(), Ending::BadSecret { held: Some(_), .. });
    assert!(held, "it is on record, too");
}

#[tokio::test]
async fn a_login_that_loses_its_place_reads_why() {
    let limits = StrangerLimits {
        connections_per_address: 1,
        ..StrangerLimits::default()
    };
    let gate = Gate::start(Plaintext::Loopback, AMPLE, limits).await;
    let (mut oldest, outcome) = gate.connect().await;
    oldest.write_all(&startup(0, "gr_known", b"")).await.unwrap();
    // It is asked for its proof, and takes its time.
    assert_eq!(oldest.read_u8().await.unwrap(), b'R');
    let _newest = gate.connect().await;
    let text = String::from_utf8_lossy(&all(&mut oldest).await).into_owned();
    for said in [
        "C53300",
        "too many unfinished logins from your address",
        "At most 1 at once",
        "connect again now",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert_eq!(
        outcome.await.unwrap().ending().name(),
        "too_many_unfinished_logins_of_address"
    );
}

#[tokio::test]
async fn a_stranger_takes_little_memory() {
    let gate = Gate::open().await;
    let mut client = TcpStream::connect(gate.listener.local_addr().unwrap()).await.unwrap();
    client.write_all(&startup(0, "gr_known", b"")).await.unwrap();
    let (tcp, address) = gate.listener.accept().await.unwrap();
    let permit = gate.strangers.enter(address.ip());
    let greeting = greet(tcp, address, permit, &gate.settings);
    // Beside them: the packet (10,004 bytes at most), or what is read from it.
    let sizes = size_of_val(&greeting);
    assert!(sizes < 2048, "{sizes}");
    let Ok(Hello::Session(greeted)) = greeting.await else {
        panic!("not greeted");
    };
    let verifier = Verifier::mock("gr_known", &[7; 32]);
    let size = size_of_val(&authenticate(greeted, &verifier));
    assert!(size < 2048, "{size}");
}

/// By hand: `cargo test --lib memory_of_many_strangers -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "measures the whole process, so that it must run alone"]
async fn memory_of_many_strangers() {
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let gate = Gate::open().await;
    let mut on_tls = Vec::new();
    let before = resident();
    for _ in 0..400 {
        let (client, outcome) = gate.connect().await;
        on_tls.push((secure(client).await, outcome));
    }
    println!("silent on TLS, both ends: {} bytes each", (resident() - before) / 400);
    let hostile = startup(0, "gr_known", format!("application_name\0{}\0", "x".repeat(9900)).as_bytes());
    let mut many = Vec::new();
    for n in 0..90 {
        many.extend_from_slice(format!("name_{n}\0{}\0", "y".repeat(95)).as_bytes());
    }
    let many = startup(0, "a", &many);
    for (name, packet) in [
        ("silent", &b""[..]),
        ("one byte missing", &hostile[..hostile.len() - 1]),
        ("many settings", &many),
    ] {
        let before = resident();
        let mut held = Vec::new();
        for _ in 0..400 {
            let (mut client, outcome) = gate.connect().await;
            client.write_all(packet).await.unwrap();
            held.push((client, outcome));
        }
        // Each has been read as far as it goes when the next one's answer is there.
        let (mut last, _outcome) = gate.connect().await;
        last.write_all(&startup(0, "a", b"")).await.unwrap();
        message(&mut last).await;
        println!("{name}: {} bytes each", (resident() - before) / 400);
    }
}

/// By hand: `cargo test --release --lib an_unknown_user_takes_the_time -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement: needs a quiet machine"]
async fn an_unknown_user_takes_the_time_of_a_wrong_secret() {
    let limits = StrangerLimits {
        failure_delay: Duration::ZERO,
        ..StrangerLimits::default()
    };
    let gate = Gate::start(Plaintext::Loopback, AMPLE, limits).await;
    let known = Verifier::derive(SECRET, b"0123456789abcdef", 4096);
    let keys = ClientKeys::derive(b"wrong", known.salt(), 4096);
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..4000 {
        let user = ["gr_known", "gr_other"][round % 2];
        let mut client = TcpStream::connect(gate.listener.local_addr().unwrap()).await.unwrap();
        let (tcp, address) = gate.listener.accept().await.unwrap();
        let (serving, known, task_gate) = (user.to_owned(), known.clone(), Arc::clone(&gate));
        let outcome = tokio::spawn(async move {
            let permit = task_gate.strangers.enter(address.ip());
            let Ok(Hello::Session(greeted)) = greet(tcp, address, permit, &task_gate.settings).await else {
                return false;
            };
            let mock = Verifier::mock(&serving, &[7; 32]);
            let verifier = if serving == "gr_known" { known } else { mock };
            authenticate(greeted, &verifier).await.is_err()
        });
        client.write_all(&startup(0, user, b"")).await.unwrap();
        message(&mut client).await;
        let exchange = client_start(None, "abcdefghijklmnopqrst");
        client.write_all(&initial("SCRAM-SHA-256", &exchange.first())).await.unwrap();
        let challenged = exchange.challenge(&message(&mut client).await.1[4..]).unwrap();
        let answered = challenged.answer(&keys);
        let asked = gate.settings.clock.moment().instant;
        client.write_all(&response(&answered.message)).await.unwrap();
        message(&mut client).await;
        times[round % 2].push(gate.settings.clock.moment().instant.duration_since(asked));
        drop(client);
        assert!(outcome.await.unwrap());
    }
    for (name, times) in ["wrong secret", "unknown user"].into_iter().zip(&mut times) {
        times.sort();
        println!("{name}: quartiles {:?} {:?} {:?}", times[500], times[1000], times[1500]);
    }
    // Kolmogorov and Smirnov: above 1.63 the two differ with 99 % certainty.
    let below = |times: &[Duration], limit: Duration| times.partition_point(|time| *time <= limit);
    let apart = times[0]
        .iter()
        .map(|limit| below(&times[0], *limit).abs_diff(below(&times[1], *limit)))
        .max();
    let apart = f64::from(u32::try_from(apart.unwrap()).unwrap()) / 2000.0;
    println!("distance {apart:.3}, scaled {:.2}", apart * 1000_f64.sqrt());
}

/// libpq is the judge of what we send. Needs `psql`; without it there is nothing to check.
#[tokio::test(flavor = "multi_thread")]
async fn libpq_agrees() {
    let gate = Gate::open().await;
    let port = gate.listener.local_addr().unwrap().port();
    for options in [
        "sslmode=disable",
        "sslmode=prefer",
        "sslmode=require channel_binding=require",
        "sslmode=require channel_binding=disable",
    ] {
        for (secret, good) in [("correct horse", true), ("wrong", false)] {
            let connection = format!("host=127.0.0.1 port={port} user=gr_known dbname=orders connect_timeout=20 {options}");
            let Ok(psql) = tokio::process::Command::new("psql")
                .args(["-X", "-w", "-c", "select 1", &connection])
                .env("PGPASSWORD", secret)
                .env("LC_ALL", "C")
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .kill_on_drop(true)
                .spawn()
            else {
                println!("skipped: no psql here");
                return;
            };
            let (tcp, address) = timeout(AMPLE, gate.listener.accept()).await.expect("in time").unwrap();
            let mut outcome = gate.serve(tcp, address).await;
            // What sslmode=prefer does after a refusal on TLS: it tries again in clear.
            if options == "sslmode=prefer" && !good {
                let (tcp, address) = timeout(AMPLE, gate.listener.accept()).await.expect("in time").unwrap();
                outcome = gate.serve(tcp, address).await;
            }
            let said = String::from_utf8(psql.wait_with_output().await.unwrap().stderr).unwrap();
            // The gate's part ends here, before AuthenticationOk.
            assert_eq!(matches!(outcome, Outcome::In(_)), good, "{options}: {said} {outcome:?}");
            let expected = if good {
                "closed"
            } else {
                "password authentication failed for user"
            };
            assert!(said.contains(expected), "{options}: {said}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_bytes_end_in_time(
        prefix in prop_oneof![Just(Vec::new()), Just(GSS_REQUEST.to_vec()), Just(startup(0, "gr_known", b"")), Just(b"\x16\x03\x01".to_vec())],
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let gate = Gate::open().await;
            let (mut client, outcome) = gate.connect().await;
            // The gate may have closed before all of it is sent.
            let _ = client.write_all(&[prefix, bytes].concat()).await;
            let _ = client.shutdown().await;
            all(&mut client).await;
            let outcome = timeout(AMPLE, outcome).await.expect("in time").expect("no panic");
            assert!(!matches!(outcome, Outcome::In(_)));
        });
    }
}
