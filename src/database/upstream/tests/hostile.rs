//! Servers that play foul, or are old or odd.

use proptest::test_runner::{Config, TestRunner};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::*;
use crate::base::tls::ServerTls;
use crate::protocol::scram::{self, Mechanism, ScramError, Verifier};

/// A server that plays `script` to each connection, in turn, and then closes it.
async fn fake<F, Fut>(script: F) -> u16
where
    F: Fn(usize, TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for turn in 0.. {
            let Ok((socket, _)) = listener.accept().await else { return };
            tokio::spawn(script(turn, socket));
        }
    });
    port
}

fn target(port: u16) -> Target {
    let mut target = a_target(port, "u");
    target.host = "127.0.0.1".to_owned();
    target
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    message.extend_from_slice(body);
    message
}

fn request(code: u32, rest: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes(), rest].concat())
}

fn error(code: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("SFATAL\0C{code}\0M{text}\0\0").as_bytes())
}

/// AuthenticationOk, a key, ReadyForQuery.
fn welcome() -> Vec<u8> {
    [request(0, &[]), message(b'K', &[0, 0, 0, 7, 1, 2, 3, 4]), message(b'Z', b"I")].concat()
}

/// The startup packet, or another packet without a type.
async fn packet<S: AsyncReadExt + Unpin>(socket: &mut S) -> std::io::Result<Vec<u8>> {
    let length = socket.read_u32().await?;
    let mut body = vec![0; length as usize - 4];
    socket.read_exact(&mut body).await?;
    Ok(body)
}

async fn typed<S: AsyncReadExt + Unpin>(socket: &mut S) -> std::io::Result<Vec<u8>> {
    assert_eq!(socket.read_u8().await?, b'p');
    packet(socket).await
}

/// Reads the startup packet and answers with `bytes`.
async fn answering(bytes: Vec<u8>) -> Target {
    target(
        fake(move |_, mut socket| {
            let bytes = bytes.clone();
            async move {
                packet(&mut socket).await?;
                socket.write_all(&bytes).await?;
                // What else the gate says is read to its end: closing over unread data would be a reset.
                let _ = socket.shutdown().await;
                while socket.read(&mut [0; 512]).await? > 0 {}
                Ok(())
            }
        })
        .await,
    )
}

#[tokio::test]
async fn answers_to_the_ssl_request() {
    let dir = tempfile::tempdir().unwrap();
    ServerTls::self_signed(
        dir.path(),
        &["localhost".to_owned()],
        crate::base::clock::Clock::system(None).now(),
    )
    .unwrap();
    let attempt = async |bytes: &[u8], mode| {
        let mut target = answering(bytes.to_vec()).await;
        target.tls = ClientTls::new(mode, None).unwrap();
        failure(&target, &[]).await.0
    };
    for mode in [TlsMode::Prefer, TlsMode::Require] {
        assert!(matches!(attempt(b"Sx", mode).await, ConnectError::BytesBehindTls));
        let with_more = [b"N".to_vec(), welcome()].concat();
        assert!(matches!(attempt(&with_more, mode).await, ConnectError::BytesBehindTls));
        assert!(matches!(attempt(b"E", mode).await, ConnectError::Protocol { .. }));
        assert!(matches!(attempt(b"H", mode).await, ConnectError::Protocol { .. }));
        assert!(matches!(attempt(b"", mode).await, ConnectError::Closed { .. }));
        assert!(matches!(attempt(b"S", mode).await, ConnectError::Tls { .. }));
    }
    assert!(matches!(
        attempt(b"N", TlsMode::Require).await,
        ConnectError::TlsRefused { .. }
    ));
}

#[tokio::test]
async fn a_server_that_never_answers() {
    for mode in [TlsMode::Disable, TlsMode::Require] {
        let port = fake(|_, mut socket| async move {
            while socket.read(&mut [0; 512]).await? > 0 {}
            Ok(())
        })
        .await;
        let mut target = target(port);
        target.tls = ClientTls::new(mode, None).unwrap();
        target.connect_timeout = Duration::from_millis(50);
        let (failed, ending) = failure(&target, &[]).await;
        assert!(matches!(failed, ConnectError::Timeout { .. }), "{failed}");
        assert_eq!(ending, "target_unreachable");
        let key = BackendKey {
            pid: 1,
            secret: vec![0; 4],
        };
        assert!(matches!(cancel(&target, &key).await, Err(ConnectError::Timeout { .. })));
    }
}

#[tokio::test]
async fn what_does_not_belong() {
    let http = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
    let endless: Vec<u8> = message(b'N', &vec![0; 60_000]).repeat(30);
    for bytes in [
        http,
        vec![0; 64],
        vec![0xff; 64],
        b"R\0\0\0\x03".to_vec(),
        b"R\xff\xff\xff\xff".to_vec(),
        b"E\x7f\xff\xff\xff".to_vec(),
        request(5, b"abc"),
        request(11, b"r=x"),
        request(12, b"v=x"),
        message(b'R', b""),
        message(b'Z', b"I"),
        message(b'v', &[0, 3, 0, 0, 0, 0, 0, 0]),
        [request(0, &[]), message(b'Z', b"")].concat(),
        [request(0, &[]), message(b'K', b"abc")].concat(),
        [request(0, &[]), message(b'S', b"no end")].concat(),
        [request(0, &[]), message(b'D', b"\0\0")].concat(),
        [request(0, &[]), request(0, &[])].concat(),
        [request(0, &[]), endless].concat(),
    ] {
        let target = answering(bytes.clone()).await;
        let mut target = target;
        target.auth = [AuthMethod::Md5, AuthMethod::Trust, AuthMethod::ScramSha256]
            .into_iter()
            .collect();
        let (failed, ending) = failure(&target, &[]).await;
        let start = &bytes[..bytes.len().min(20)];
        assert!(
            matches!(failed, ConnectError::Protocol { .. }),
            "{start:?}: {}",
            display_chain(&failed)
        );
        assert_eq!(ending, "target_refused");
    }
    let (failed, ending) = failure(&answering(vec![]).await, &[]).await;
    assert!(matches!(failed, ConnectError::Closed { .. }), "{failed}");
    assert_eq!(ending, "target_unreachable");
    for code in [2, 6, 7, 9, 99] {
        let (failed, _) = failure(&answering(request(code, &[])).await, &[]).await;
        assert!(matches!(failed, ConnectError::Unsupported { .. }), "{failed}");
    }
    let (failed, _) = failure(&answering(request(10, b"OAUTHBEARER\0\0")).await, &[]).await;
    assert!(matches!(failed, ConnectError::Unsupported { .. }), "{failed}");
}

#[tokio::test]
async fn odd_errors() {
    // Without a SQLSTATE, not UTF-8, without an end, with what would hurt a terminal.
    for (body, code) in [
        (&b"SFATAL\0Mno code\0\0"[..], "XX000"),
        (b"C28000\0M\xff\xfe\x1b]52;c;x\x07\n\0\0", "28000"),
        (b"C28000\0Mno end", "28000"),
        (b"", "XX000"),
        (b"Cx\x1b\n12\0\0", "XX000"),
    ] {
        let (failed, _) = failure(&answering(message(b'E', body)).await, &[("DateStyle", "ISO")]).await;
        assert!(
            matches!(&failed, ConnectError::Refused { code: got, .. } if got == code),
            "{failed}"
        );
        assert!(
            !display_chain(&failed).chars().any(char::is_control),
            "{}",
            display_chain(&failed)
        );
    }
    let starting = error("57P03", "the database system is starting up");
    assert_eq!(failure(&answering(starting).await, &[]).await.1, "target_not_ready");
}

#[tokio::test]
async fn what_follows_ready_for_query_is_kept() {
    let notice = message(b'N', b"SNOTICE\0C00000\0Mhello\0\0");
    let early = message(b'N', b"SNOTICE\0C00000\0Mfrom whom?\0\0");
    let late = message(b'A', b"\0\0\0\x07channel\0payload\0");
    let after = welcome().split_off(9);
    let bytes = [early, request(0, &[]), notice.clone(), after, late.clone()].concat();
    let connected = connect_with(&answering(bytes).await, &[]).await.unwrap();
    assert_eq!(connected.notices, [Bytes::from(notice)]);
    assert_eq!(connected.leftover, late);
    assert_eq!(
        connected.backend.map(|key| (key.pid, key.secret)),
        Some((7, vec![1, 2, 3, 4]))
    );
}

/// How a false server deviates from SCRAM.
#[derive(Clone, Copy, PartialEq)]
enum Foul {
    Rounds,
    Signature,
    NoSignature,
    NotOurNonce,
    Nothing,
}

async fn scram_server<S: AsyncReadExt + AsyncWriteExt + Unpin>(mut socket: S, foul: Foul) -> std::io::Result<()> {
    let verifier = match foul {
        Foul::Rounds => Verifier::derive(b"sesame", b"salt", 1)
            .to_string()
            .replacen("$1:", "$2000000000:", 1),
        _ => Verifier::derive(b"sesame", b"salt", 2).to_string(),
    };
    let verifier: Verifier = verifier.parse().unwrap();
    packet(&mut socket).await?;
    socket.write_all(&request(10, b"SCRAM-SHA-256\0\0")).await?;
    let initial = typed(&mut socket).await?;
    let first = initial.strip_prefix(b"SCRAM-SHA-256\0").unwrap().get(4..).unwrap();
    let (exchange, mut challenge) = scram::server_start(Mechanism::ScramSha256, first, &verifier, None, &[3; 18]).unwrap();
    if foul == Foul::NotOurNonce {
        challenge[2] ^= 1;
    }
    socket.write_all(&request(11, &challenge)).await?;
    let last = exchange.finish(&typed(&mut socket).await?);
    match foul {
        Foul::Signature => {
            let signature = b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
            socket.write_all(&request(12, signature)).await?;
        }
        Foul::NoSignature => {}
        _ => socket.write_all(&request(12, &last.unwrap())).await?,
    }
    socket.write_all(&welcome()).await?;
    while socket.read(&mut [0; 512]).await? > 0 {}
    Ok(())
}

#[tokio::test]
async fn servers_that_cannot_prove_the_password() {
    let attempt = async |foul| {
        let port = fake(move |_, socket| scram_server(socket, foul)).await;
        connect_with(&target(port), &[]).await.err()
    };
    assert!(attempt(Foul::Nothing).await.is_none());
    let scram = async |foul| match attempt(foul).await {
        Some(ConnectError::Scram(failed)) => failed,
        other => panic!("{other:?}"),
    };
    assert_eq!(scram(Foul::Rounds).await, ScramError::Iterations { got: 2_000_000_000 });
    assert_eq!(scram(Foul::Signature).await, ScramError::BadSignature);
    assert_eq!(scram(Foul::NotOurNonce).await, ScramError::Nonce);
    assert!(matches!(
        attempt(Foul::NoSignature).await,
        Some(ConnectError::Protocol { .. })
    ));
}

#[tokio::test]
async fn a_binding_taken_out_on_the_way_is_noticed_by_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let tls = ServerTls::self_signed(
        dir.path(),
        &["localhost".to_owned()],
        crate::base::clock::Clock::system(None).now(),
    )
    .unwrap();
    let port = fake(move |_, mut socket| {
        let acceptor = TlsAcceptor::from(tls.config());
        async move {
            packet(&mut socket).await?;
            socket.write_all(b"S").await?;
            let mut tls = TlsStream::Server(acceptor.accept(socket).await?);
            packet(&mut tls).await?;
            tls.write_all(&request(10, b"SCRAM-SHA-256\0\0")).await?;
            let initial = typed(&mut tls).await?;
            // The flag that says: I could have, you did not offer.
            let flag = if initial.get(18..22) == Some(b"y,,n") {
                "saw y"
            } else {
                "saw no y"
            };
            tls.write_all(&error("28000", flag)).await
        }
    })
    .await;
    let mut target = target(port);
    target.tls = ClientTls::new(TlsMode::Require, None).unwrap();
    let (failed, _) = failure(&target, &[]).await;
    assert!(
        matches!(&failed, ConnectError::Refused { message, .. } if message == "saw y"),
        "{}",
        display_chain(&failed)
    );
}

#[tokio::test]
async fn servers_that_do_not_know_our_settings() {
    // As PostgreSQL 13, one that cannot check, and pgbouncer (before authentication, and picky about both).
    let refuse = |code: &'static str, authenticated: bool, unknown: &'static [&'static str]| {
        fake(move |_, mut socket| async move {
            let startup = String::from_utf8_lossy(&packet(&mut socket).await?).into_owned();
            if authenticated {
                socket.write_all(&request(0, &[])).await?;
            }
            let answer = match unknown.iter().find(|name| startup.contains(**name)) {
                Some(name) => error(code, &format!("no: \"{name}\"")),
                None if authenticated => welcome().split_off(9),
                None => welcome(),
            };
            socket.write_all(&answer).await?;
            while socket.read(&mut [0; 512]).await? > 0 {}
            Ok(())
        })
    };
    let check: &[&str] = &["client_connection_check_interval"];
    let both: &[&str] = &["client_connection_check_interval", "tcp_keepalives_idle"];
    for (code, authenticated, unknown) in [("42704", true, check), ("22023", true, check), ("08P01", false, both)] {
        let target = target(refuse(code, authenticated, unknown).await);
        for _ in 0..2 {
            connect_with(&target, &[]).await.unwrap();
        }
        let worn = target.liveness.worn(target.check_interval);
        assert!(worn.iter().all(|(name, _)| !unknown.contains(name)), "{worn:?}");
    }
    // What the client asked for itself is told to the client.
    let target = target(refuse("08P01", false, &["search_path"]).await);
    let (failed, _) = failure(&target, &[("search_path", "x")]).await;
    assert!(matches!(failed, ConnectError::Startup { .. }), "{failed}");
}

#[test]
fn no_bytes_make_it_panic() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config {
        cases: 128,
        failure_persistence: None,
        ..Config::default()
    };
    let kinds = proptest::sample::select(b"RRRRENSKZv".to_vec());
    let body = proptest::collection::vec(proptest::num::u8::ANY, 0..40);
    let code = proptest::sample::select(vec![0_u32, 3, 5, 10, 11, 12, 7]);
    let messages = proptest::collection::vec((kinds, code, body), 0..6);
    TestRunner::new(config)
        .run(&messages, |messages| {
            let mut bytes = Vec::new();
            for (kind, code, body) in messages {
                bytes.extend(if kind == b'R' {
                    request(code, &body)
                } else {
                    message(kind, &body)
                });
            }
            let _ = runtime.block_on(async { connect_with(&answering(bytes).await, &[]).await.map(|_| ()) });
            Ok(())
        })
        .unwrap();
}
