//! The wire as clients find it: from the first byte to bulk data, at any speed, cut anywhere, in order or not.

use std::time::{Duration, Instant};

use tidegate::base::tls::{TlsMode, Transport};
use tidegate::demo::testkit::TestGate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::script::{
    CLEAR, GSS_REQUEST, Message, SSL_REQUEST, Scripted, Way, bind, column, execute, frame, handshake, over_tls, parse, query,
    sqlstate, startup, sync, tags, tcp,
};
use crate::support::{Random, TARGET, database, gate, gate_with, grant, psql, seed, suite, within};

/// All the gate says until it closes.
async fn all(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    let _ = within("the end", stream.read_to_end(&mut said)).await;
    said
}

async fn answer_to(gate: &TestGate, bytes: &[u8]) -> Vec<u8> {
    let mut stream = tcp(gate).await;
    stream.write_all(bytes).await.expect("sent");
    all(&mut stream).await
}

fn says(said: &[u8], code: &str) -> bool {
    said.first() == Some(&b'E') && String::from_utf8_lossy(said).contains(&format!("\0C{code}\0"))
}

#[tokio::test(flavor = "multi_thread")]
async fn first_bytes() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let user = [("user", &*login.grant), ("database", TARGET)];
    // GSSENC is answered N, once; then TLS still works.
    let mut stream = tcp(&gate).await;
    stream.write_all(&GSS_REQUEST).await.expect("sent");
    assert_eq!(stream.read_u8().await.expect("an answer"), b'N');
    let mut raw = Scripted::on(over_tls(stream).await);
    raw.send(&startup(0, &user)).await;
    raw.authenticate(login.secret.expose()).await;
    // A second one is not.
    assert!(says(
        &answer_to(&gate, &[GSS_REQUEST, GSS_REQUEST].concat()).await[1..],
        "08P01"
    ));
    // Bytes in clear behind an SSLRequest.
    assert!(says(
        &answer_to(&gate, &[&SSL_REQUEST[..], &startup(0, &user)].concat()).await,
        "08P01"
    ));
    // Direct TLS, with ALPN and without.
    let direct = handshake(tcp(&gate).await, TlsMode::Require, true).await.expect("TLS");
    let mut raw = Scripted::on(direct);
    raw.send(&startup(0, &user)).await;
    raw.authenticate(login.secret.expose()).await;
    assert_eq!(column(&raw.ask(&query("SELECT 1"), 1).await), ["1"]);
    if let Ok(mut refused) = handshake(tcp(&gate).await, TlsMode::Require, false).await {
        let _ = refused.write_all(&startup(0, &user)).await;
        assert!(!matches!(refused.read(&mut [0; 1]).await, Ok(1..)), "direct TLS without ALPN");
    }
    // SSLRequest within TLS.
    let mut twice = over_tls(tcp(&gate).await).await;
    twice.write_all(&SSL_REQUEST).await.expect("sent");
    let mut said = Vec::new();
    let _ = within("the end", twice.read_to_end(&mut said)).await;
    assert!(says(&said, "08P01"));
    // Plain: nothing at all, garbage, lengths.
    drop(tcp(&gate).await);
    for odd in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"\0\0\0\x07\0\0\0",
        b"\xff\xff\xff\xff\0\x03\0\0",
        b"\0\0\x27\x20",
        &[0; 64],
    ] {
        assert!(answer_to(&gate, odd).await.is_empty(), "{}", odd.escape_ascii());
    }
    assert!(says(&answer_to(&gate, b"\0\0\0\x09\0\x02\0\0\0").await, "0A000"));
    assert!(says(&answer_to(&gate, b"\0\0\0\x09\0\x03\0\0\0").await, "28000"), "no user");
    assert!(
        says(&answer_to(&gate, b"\0\0\0\x0b\0\x03\0\0abc").await, "08P01"),
        "no terminator"
    );
    let odd = startup(0, &[("user", &login.grant), ("user", "other")]);
    assert!(says(&answer_to(&gate, &odd).await, "08P01"), "a name twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn protocol_versions_are_negotiated() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let raw = Scripted::login(&gate, &login, Way { tls: true, minor: 2 }).await;
    assert!(!tags(&raw.welcome).contains('v'));
    let mut grease = Scripted::on(Transport::Plain(tcp(&gate).await));
    let parameters = [("user", &*login.grant), ("database", TARGET), ("_pq_.odd", "1")];
    grease.send(&startup(9999, &parameters)).await;
    grease.authenticate(login.secret.expose()).await;
    let (_, told) = grease
        .welcome
        .iter()
        .find(|(tag, _)| *tag == b'v')
        .expect("NegotiateProtocolVersion");
    assert_eq!(told, b"\0\x03\0\x02\0\0\0\x01_pq_.odd\0");
    assert_eq!(grease.key.len(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn startup_settings_are_on_a_list() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let logged_in = async |more: (&str, &str)| {
        let mut raw = Scripted::on(Transport::Plain(tcp(&gate).await));
        raw.send(&startup(0, &[("user", &login.grant), ("database", TARGET), more]))
            .await;
        raw.authenticate(login.secret.expose()).await;
        raw
    };
    let mut raw = logged_in(("options", "-c DateStyle=German")).await;
    assert_eq!(column(&raw.ask(&query("SELECT '2026-02-01'::date"), 1).await), ["01.02.2026"]);
    let refused = ["role=postgres", "session_preload_libraries=x"];
    for setting in refused {
        let (name, value) = setting.split_once('=').unwrap();
        let connection = [("PGOPTIONS", format!("-c {name}={value}"))];
        let tried = tokio_postgres::Config::new()
            .user(&login.grant)
            .password(login.secret.expose())
            .dbname(TARGET)
            .options(&connection[0].1)
            .host("127.0.0.1")
            .port(gate.port())
            .connect(tokio_postgres::NoTls)
            .await;
        let code = tried.err().and_then(|error| error.code().map(|code| code.code().to_owned()));
        assert!(code.is_some(), "{setting} was let through");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_the_protocol_ends_the_session_and_only_that() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let too_long = |tag: u8, length: u32| [&[tag][..], &length.to_be_bytes()].concat();
    let odd: [Vec<u8>; 9] = [
        b"\0\0\0\0\x04".to_vec(),
        b"\xff\xff\xff\xff\xff".to_vec(),
        frame(b'p', b"again\0"),
        frame(b'z', b""),
        too_long(b'Q', 3),
        too_long(b'Q', 0x8000_0000),
        too_long(b'Q', 0x4000_0004),
        too_long(b'S', 20_000),
        startup(0, &[("user", "x")]),
    ];
    for bytes in odd {
        let mut raw = Scripted::login(&gate, &login, CLEAR).await;
        raw.send(&bytes).await;
        let said = raw.rest().await;
        assert_eq!(sqlstate(&said).as_deref(), Some("08P01"), "{}", bytes.escape_ascii());
    }
    // What is an error of one message is PostgreSQL's to say, and the session goes on.
    let mut raw = Scripted::login(&gate, &login, CLEAR).await;
    for bytes in [
        frame(b'Q', b"SELECT 1"),
        frame(b'Q', b"SELECT 1\0SELECT 2\0"),
        frame(b'F', b"\0"),
    ] {
        let said = raw.ask(&bytes, 1).await;
        assert_eq!((sqlstate(&said).as_deref(), &*tags(&said)), (Some("08P01"), "EZ"));
    }
    for bytes in [
        frame(b'P', b"x"),
        frame(b'B', b"s"),
        frame(b'D', b"?\0"),
        frame(b'C', b""),
        frame(b'E', b"\0"),
    ] {
        let said = raw.ask(&[bytes.clone(), sync()].concat(), 1).await;
        assert_eq!(sqlstate(&said).as_deref(), Some("08P01"), "{}", bytes.escape_ascii());
        assert_eq!(tags(&said), "EZ");
    }
    assert_eq!(column(&raw.ask(&query("SELECT 'fine'"), 1).await), ["fine"]);
}

fn conversation() -> Vec<u8> {
    [
        query("SELECT 1, 'a'; SELECT 2"),
        parse("s", "SELECT $1::int + 1", &[]),
        bind("", "s", &[(false, Some(b"41"))]),
        execute("", 0),
        sync(),
        parse("", "SELECT 1/0", &[]),
        bind("", "", &[]),
        execute("", 0),
        sync(),
        query("COPY (SELECT 'x') TO STDOUT"),
        query("SELECT 'end'"),
    ]
    .concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_messages_are_cut_does_not_matter() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let script = conversation();
    let mut whole = Scripted::login(&gate, &login, CLEAR).await;
    let expected: Vec<Message> = whole.ask(&script, 5).await;
    assert_eq!(tags(&expected), "TDCTDCZ12DCZ1EZHdcCZTDCZ");
    let mut raw = Scripted::login(&gate, &login, CLEAR).await;
    for cut in 1..script.len() {
        raw.send(&script[..cut]).await;
        tokio::task::yield_now().await;
        let got = raw.ask(&[&script[cut..], &query("DEALLOCATE ALL")[..]].concat(), 6).await;
        assert_eq!(got[..expected.len()], expected[..], "cut at {cut}");
    }
    // Byte by byte, over TLS: each in a record of its own.
    let mut raw = Scripted::login(&gate, &login, Way { tls: true, minor: 0 }).await;
    for byte in &script {
        raw.send(std::slice::from_ref(byte)).await;
    }
    assert_eq!(raw.ready(5).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_statements_in_one_pipeline() {
    let gate = gate();
    let login = grant(&gate, "10m");
    for tls in [false, true] {
        let mut raw = Scripted::login(&gate, &login, Way { tls, minor: 0 }).await;
        let mut script = parse("s", "SELECT $1::int", &[]);
        for n in 0..10_000 {
            script.extend(bind("", "s", &[(false, Some(n.to_string().as_bytes()))]));
            script.extend(execute("", 0));
            if n % 100 == 99 {
                script.extend(sync());
            }
        }
        let got = raw.ask(&script, 100).await;
        let expected: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
        assert_eq!(column(&got), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_and_notifications_pass() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut listener = Scripted::login(&gate, &login, Way { tls: true, minor: 0 }).await;
    listener.ask(&query("LISTEN tide"), 1).await;
    let mut speaker = suite(&gate, &login).await.expect("a session");
    speaker.client.batch_execute("NOTIFY tide, 'high'").await.expect("notified");
    let (_, body) = listener.message().await.expect("a notification");
    assert!(body.ends_with(b"tide\0high\0"));
    speaker
        .client
        .batch_execute("DO $$ BEGIN RAISE WARNING 'wet'; END $$")
        .await
        .expect("done");
    let mut seen = Vec::new();
    while let Some(notice) = within("the warning", speaker.notice()).await {
        seen.push(notice.message().to_owned());
        if notice.message() == "wet" {
            break;
        }
    }
    assert_eq!(seen.last().map(String::as_str), Some("wet"), "{seen:?}");
}

fn status(gate: &TestGate, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.pid().expect("it runs"))).expect("its status");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_its_server_back_not_our_memory() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let before = status(&gate, "VmRSS:");
    let mut raw = Scripted::login(&gate, &login, CLEAR).await;
    // 200 MB, of which the client takes nothing for a while.
    raw.send(&query("SELECT repeat('x', 10000) FROM generate_series(1, 20000)"))
        .await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(700) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let grown = status(&gate, "VmRSS:").saturating_sub(before);
        assert!(grown < 16 * 1024, "{grown} KiB held for a client that does not read");
    }
    let mut rows = 0;
    while let Some((tag, _)) = raw.message().await {
        rows += usize::from(tag == b'D');
        if tag == b'Z' {
            break;
        }
    }
    assert_eq!(rows, 20_000);
    let grown = status(&gate, "VmHWM:").saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_sockets_keep_nobody_out() {
    let gate = gate_with("[limits]\nhandshake_timeout = \"20s\"\n");
    let login = grant(&gate, "10m");
    let before = status(&gate, "VmRSS:");
    let mut silent = Vec::new();
    for n in 0..1000 {
        let mut stream = tcp(&gate).await;
        if n % 2 == 0 {
            stream.write_all(&[0, 0, 0]).await.expect("sent");
        }
        silent.push(stream);
    }
    let begun = Instant::now();
    let said = psql(&gate, &login, "require", &["-At", "-c", "SELECT 'in'"], "");
    assert_eq!(said.output, "in\n", "{said:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let each = status(&gate, "VmRSS:").saturating_sub(before) / 1000;
    assert!(each < 20, "{each} KiB for a silent socket");
}

/// Anything after login, for a while: the gate neither falls nor stops serving. `TIDEGATE_FUZZ` is the number of clients.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_clients() {
    let gate = gate();
    let login = grant(&gate, "60m");
    let seed = seed();
    let mut random = Random::new(seed);
    let clients = std::env::var("TIDEGATE_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    for n in 0..clients {
        if n % 4 == 0 {
            // Before login.
            let mut stream = tcp(&gate).await;
            let mut bytes = match random.below(4) {
                0 => SSL_REQUEST.to_vec(),
                1 => GSS_REQUEST.to_vec(),
                2 => startup(
                    u16::try_from(random.below(4)).unwrap(),
                    &[("user", &login.grant), ("database", TARGET)],
                ),
                _ => Vec::new(),
            };
            bytes.extend(random.bytes(300));
            let _ = stream.write_all(&bytes).await;
            continue;
        }
        let mut raw = Scripted::login(
            &gate,
            &login,
            Way {
                tls: n % 8 == 1,
                minor: 0,
            },
        )
        .await;
        let mut script = Vec::new();
        for _ in 0..random.below(60) {
            script.extend(hostile(&mut random));
        }
        // Some of it may not be taken any more.
        let _ = tokio::time::timeout(Duration::from_millis(500), async {
            for piece in script.chunks(1 + random.below(2000)) {
                if raw.stream.write_all(piece).await.is_err() || raw.stream.flush().await.is_err() {
                    break;
                }
            }
        })
        .await;
        let mut answer = vec![0; 4096];
        while let Ok(Ok(1..)) = tokio::time::timeout(Duration::from_millis(20), raw.stream.read(&mut answer)).await {}
    }
    assert!(!gate.ended(), "seed {seed}: {}", gate.log());
    assert!(!gate.log().contains("panicked"), "seed {seed}: {}", gate.log());
    let said = psql(&gate, &login, "require", &["-At", "-c", "SELECT 'up'"], "");
    assert_eq!(said.output, "up\n", "seed {seed}: {said:?}");
    let watcher = database().server.client("shop").await.expect("a look");
    crate::support::eventually("no backend is left", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE $1";
        let left: i64 = watcher
            .query_one(sql, &[&format!("%{}%", login.grant)])
            .await
            .expect("a look")
            .get(0);
        (left == 0).then_some(())
    })
    .await;
}

fn hostile(random: &mut Random) -> Vec<u8> {
    let name = ["", "a", "b"][random.below(3)];
    let sql = [
        "SELECT 1",
        "SELECT 1/0",
        "BEGIN",
        "COMMIT",
        "COPY hostile FROM STDIN",
        "COPY (SELECT 1) TO STDOUT",
        "",
        "nonsense",
    ][random.below(8)];
    let mut message = match random.below(14) {
        0 | 1 => query(sql),
        2 | 3 => parse(name, sql, &[]),
        4 => bind(name, name, &[(random.below(2) == 0, Some(&random.bytes(9)))]),
        5 => bind("", name, &[]),
        6 => execute(name, u32::try_from(random.below(3)).unwrap()),
        7 => sync(),
        8 => frame(b'd', &random.bytes(40)),
        9 => frame(b'c', b""),
        10 => query("CREATE TEMP TABLE IF NOT EXISTS hostile (n int)"),
        11 => frame(b"QPBEDCFSHdcfX"[random.below(13)], &random.bytes(30)),
        12 => frame(b'D', &[b"SP"[random.below(2)], 0]),
        _ => query("COPY hostile FROM STDIN"),
    };
    match random.below(40) {
        0 => message.truncate(random.below(message.len())),
        1 => {
            let at = random.below(message.len());
            message[at] ^= 1 << random.below(8);
        }
        2 => message.extend(random.bytes(5)),
        _ => {}
    }
    message
}
