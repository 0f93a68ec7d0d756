//! Strangers, and testers who take more than their share: nobody else's session ends, and no good secret is refused for it.
//!
//! `make strangers MINUTES=10` is the long form of the attack; what it came to is printed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postgres_protocol::message::frontend;
use tidegate::base::secret::Secret;
use tidegate::demo::testkit::{TestGate, TestLogin};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::{
    ANA, Raw, SmallDisk, TARGET, Told, audit, binary, database, eventually, gate, gate_with, grant, ready, records, within,
};

/// Stops a gate in order, and waits for it.
async fn stopped(gate: &TestGate) {
    gate.terminate().expect("told");
    eventually("it has stopped", async || gate.ended().then_some(())).await;
}

/// A secret that is not the grant's.
fn wrong(login: &TestLogin) -> TestLogin {
    TestLogin {
        grant: login.grant.clone(),
        secret: Secret::new("wrong".to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_secret_is_let_in_behind_any_number_of_wrong_ones_and_told_of_them() {
    let gate = Arc::new(gate());
    let login = grant(&gate, "10m");
    // Many clients at once, each with several tries: more than an address was ever allowed.
    let mut guesses = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let (gate, login) = (Arc::clone(&gate), wrong(&login));
        guesses.spawn(async move { Raw::refused(&gate, &login).await });
    }
    while let Some(told) = within("an answer", guesses.join_next()).await {
        told.expect("no panic")
            .says("FATAL", "28P01", &["password authentication failed"]);
    }
    let began = Instant::now();
    let mut raw = Raw::connect(&gate).await;
    raw.startup(&[("user", &login.grant), ("database", TARGET)]).await;
    let binding = postgres_protocol::authentication::sasl::ChannelBinding::unsupported();
    raw.prove(login.secret.expose(), binding).await.expect("let in");
    let notice = Told::read(&raw.until(b'N').await.body);
    notice.says(
        "NOTICE",
        "01000",
        &["failed logins since 20", "300 under this name", "none of them came in"],
    );
    raw.until(b'Z').await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "it was not held back: {:?}",
        began.elapsed()
    );
    // Once: the next one has no such news.
    let mut next = Raw::connect(&gate).await;
    next.startup(&[("user", &login.grant), ("database", TARGET)]).await;
    let binding = postgres_protocol::authentication::sasl::ChannelBinding::unsupported();
    next.prove(login.secret.expose(), binding).await.expect("let in");
    let notice = Told::read(&next.until(b'N').await.body);
    assert!(notice.message.starts_with("you are"), "{notice:?}");
    drop((raw, next));
    // Ten have records of their own, the others one; the gate says so at its stop at the latest.
    let alone = |all: &[serde_json::Value]| {
        all.iter()
            .filter(|record| record["ending"] == "bad_secret" && record["event"] == "refused")
            .count()
    };
    assert_eq!(alone(&records(&gate)), 10);
    let gate = Arc::into_inner(gate).expect("the only one");
    stopped(&gate).await;
    let all = records(&gate);
    let counted: u64 = all
        .iter()
        .filter(|record| record["event"] == "refusals_counted" && record["ending"] == "bad_secret")
        .map(|record| record["count"].as_u64().expect("a count"))
        .sum();
    assert_eq!((alone(&all), counted), (10, 290));
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_of_an_identity_are_bounded_and_can_be_given_up() {
    let gate = gate_with("[limits]\nprepared_bytes_per_identity = 1048576\n");
    let login = grant(&gate, "10m");
    let mut first = Raw::session(&gate, &login).await;
    let mut second = Raw::session(&gate, &login).await;
    let text = format!("SELECT '{}'", "x".repeat(60_000));
    let parse = async |raw: &mut Raw, name: &str| {
        raw.write(|out| {
            frontend::parse(name, &text, [], out).expect("fits");
            frontend::sync(out);
        })
        .await;
    };
    // Given up by SQL they take nothing: far more than fits passes.
    for n in 0..60 {
        parse(&mut first, &format!("s{n}")).await;
        first.until(b'Z').await;
        first.query(&format!("DEALLOCATE s{n}")).await;
        first.until(b'Z').await;
    }
    for n in 0..10 {
        parse(&mut first, &format!("k{n}")).await;
        first.until(b'Z').await;
    }
    let mut kept = 0;
    let told = loop {
        parse(&mut second, &format!("k{kept}")).await;
        let answer = second.frame().await.expect("an answer");
        if answer.kind == b'E' {
            break Told::read(&answer.body);
        }
        second.until(b'Z').await;
        kept += 1;
        assert!(kept < 20, "more than a MiB is kept");
    };
    told.says("ERROR", "54000", &["your sessions", "1048576 bytes", "DEALLOCATE"]);
    // The rest of the group is skipped, and the session goes on.
    assert_eq!(second.until(b'Z').await.body[..], b"I"[..]);
    let refused = eventually("it is on record", async || {
        records(&gate)
            .into_iter()
            .find(|record| record["event"] == "outcome" && record["rule"] == "prepared_bytes_per_identity")
    })
    .await;
    assert_eq!(
        (&refused["result"], &refused["sqlstate"]),
        (&"failed".into(), &"54000".into())
    );
    // What is prepared can be run.
    second
        .write(|out| {
            frontend::bind("", "k0", [], [(); 0], |(), _| unreachable!("no values"), [], out).unwrap_or_else(|_| panic!("fits"));
            frontend::execute("", 0, out).expect("fits");
            frontend::sync(out);
        })
        .await;
    second.until(b'D').await;
    second.until(b'Z').await;
    // What is given up makes room.
    first.query("DEALLOCATE ALL").await;
    first.until(b'Z').await;
    parse(&mut second, "more").await;
    assert_eq!(second.frame().await.expect("an answer").kind, b'1');
    second.until(b'Z').await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_prepared_statements_than_are_kept_account_of_are_refused_and_the_session_goes_on() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut session = Raw::session(&gate, &login).await;
    // Whatever the driver asks for at once, it learns which of them are not there.
    for batch in 0..50 {
        session
            .write(|out| {
                for n in 0..1000 {
                    frontend::parse(&format!("s{}", batch * 1000 + n), "", [], out).expect("parse");
                }
                frontend::flush(out);
            })
            .await;
        for _ in 0..1000 {
            assert_eq!(session.frame().await.expect("an answer").kind, b'1');
        }
    }
    session
        .write(|out| {
            frontend::parse("one_more", "", [], out).expect("parse");
            frontend::sync(out);
        })
        .await;
    let told = Told::read(&session.until(b'E').await.body);
    told.says("ERROR", "54000", &["prepared statements", "50000", "DEALLOCATE"]);
    session.until(b'Z').await;
    session.query("DEALLOCATE s7").await;
    session.until(b'Z').await;
    session
        .write(|out| {
            frontend::parse("one_more", "", [], out).expect("parse");
            frontend::sync(out);
        })
        .await;
    assert_eq!(session.frame().await.expect("an answer").kind, b'1');
}

/// A login with a token that proves nothing.
async fn wrong_token(gate: &TestGate, user: &str, token: &str) {
    let mut raw = Raw::connect(gate).await;
    raw.startup(&[("user", user), ("database", TARGET)]).await;
    raw.until(b'R').await;
    raw.write(|out| frontend::password_message(token.as_bytes(), out).expect("fits"))
        .await;
    Told::read(&raw.until(b'E').await.body).says("FATAL", "28P01", &["password authentication failed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_one_record_that_says_why() {
    let gate = gate();
    for n in 0..8 {
        wrong_token(&gate, ANA, &format!("tg_{n}")).await;
    }
    let refused = eventually("all are on record", async || {
        let all = records(&gate).into_iter().filter(|record| record["client"] == "127.0.0.1");
        let all: Vec<_> = all.collect();
        (all.len() >= 8).then_some(all)
    })
    .await;
    assert_eq!(refused.len(), 8, "{refused:?}");
    for record in &refused {
        assert_eq!(
            (&record["event"], &record["ending"]),
            (&"refused".into(), &"bad_token".into()),
            "{record}"
        );
        assert!(
            record["detail"].as_str().expect("why").contains("the token is unknown"),
            "{record}"
        );
    }
}

/// A session that sends more than its identity's share of the log has room for.
async fn filling(gate: &TestGate, login: &TestLogin) -> Raw {
    let mut raw = Raw::session(gate, login).await;
    raw.write(|out| {
        for n in 0..40 {
            frontend::query(&format!("SELECT '{n}{}'", "x".repeat(60_000)), out).expect("fits");
        }
    })
    .await;
    raw
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_used_up_the_share_of_the_log_does_not_come_and_go_on_it() {
    let gate = gate_with("[limits]\nlog_bytes_per_second_per_identity = 65536\n");
    let busy = grant(&gate, "10m");
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(filling(&gate, &busy).await);
    }
    // A minute's worth is let through; then there is more in the log than it is given time for.
    let saved_up: u64 = 60 * 65_536;
    let written = || std::fs::read_dir(gate.audit_folder()).expect("the log").flatten();
    eventually("the share is used up", async || {
        let bytes: u64 = written().filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
        (bytes > saved_up + 65_536 * 4).then_some(())
    })
    .await;
    // A new session is let in, and is not even read before the account is even.
    let mut late = Raw::session(&gate, &busy).await;
    late.query("SELECT 'late'").await;
    assert!(
        tokio::time::timeout(Duration::from_millis(500), late.until(b'Z'))
            .await
            .is_err(),
        "it waits"
    );
    // Refusals behind a good secret are counted like those of strangers.
    for _ in 0..15 {
        let mut raw = Raw::connect(&gate).await;
        raw.startup(&[("user", &busy.grant), ("database", "elsewhere")]).await;
        let binding = postgres_protocol::authentication::sasl::ChannelBinding::unsupported();
        let refused = raw.prove(busy.secret.expose(), binding).await;
        assert!(refused.is_err() || Told::read(&raw.until(b'E').await.body).severity == "FATAL");
    }
    drop((sessions, late));
    stopped(&gate).await;
    let all = records(&gate);
    let alone = all
        .iter()
        .filter(|record| record["event"] == "refused" && record["ending"] == "wrong_database")
        .count();
    assert!(alone <= 12, "{alone} of 15");
}

/// How long the attack goes on.
fn length() -> Duration {
    let minutes = std::env::var("TIDEGATE_MINUTES").ok().and_then(|text| text.parse().ok());
    minutes.map_or(Duration::from_secs(20), |minutes: u64| Duration::from_secs(minutes * 60))
}

/// Clients at once that prove nothing.
const ATTACKERS: usize = 48;
/// The longest an attacker waits for anything.
const HASTE: Duration = Duration::from_millis(100);

/// What the attack is aimed at.
struct Aim {
    gate: std::net::SocketAddr,
    control: std::net::SocketAddr,
    grant: String,
    over: AtomicBool,
    tries: AtomicU64,
}

impl Aim {
    /// One try of each kind after the other, until it is over. What comes of it is no matter.
    async fn attack(&self, worker: usize) {
        for kind in worker.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            self.tries.fetch_add(1, Ordering::Relaxed);
            let _ = self.one(kind).await;
        }
    }

    async fn one(&self, kind: usize) -> std::io::Result<()> {
        let token = b"GET /v1/me HTTP/1.1\r\nhost: x\r\nauthorization: Bearer tg_wrong\r\n\r\n";
        let (to, bytes): (_, &[u8]) = match kind % 9 {
            0 => (self.gate, b"GET / HTTP/1.1\r\n\r\n"),
            1 => (self.gate, b"\x16\x03\x01\x00\x05hello"),
            2 => (self.gate, &[0, 0, 0, 9, 0, 2, 0, 0, 0]),
            3 => (self.gate, &[0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 7, 1, 2, 3, 4]),
            4 => (self.gate, &[0, 0, 0, 8, 4, 210, 22, 47]),
            5 => (self.control, token),
            6 => (self.control, b"GET /v1/me HTTP/1.1\r\nx: "),
            7 => return guess(self.gate, &self.grant).await,
            _ => return guess(self.gate, "gr_2222222222").await,
        };
        let mut tcp = TcpStream::connect(to).await?;
        tcp.write_all(bytes).await?;
        answer(&mut tcp).await.map(drop)
    }
}

/// What comes within a moment.
async fn answer(tcp: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; 512];
    let read = tokio::time::timeout(HASTE, tcp.read(&mut bytes)).await.unwrap_or(Ok(0))?;
    bytes.truncate(read);
    Ok(bytes)
}

/// A whole login with a wrong secret.
async fn guess(to: std::net::SocketAddr, user: &str) -> std::io::Result<()> {
    use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
    let mut scram = ScramSha256::new(b"wrong", ChannelBinding::unsupported());
    let mut tcp = TcpStream::connect(to).await?;
    let mut out = bytes::BytesMut::new();
    frontend::startup_message([("user", user), ("database", TARGET)], &mut out)?;
    tcp.write_all(&out).await?;
    answer(&mut tcp).await?;
    out.clear();
    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut out)?;
    tcp.write_all(&out).await?;
    let challenge = answer(&mut tcp).await?;
    scram.update(challenge.get(9..).unwrap_or_default())?;
    out.clear();
    frontend::sasl_response(scram.message(), &mut out)?;
    tcp.write_all(&out).await?;
    answer(&mut tcp).await.map(drop)
}

/// A session that runs a statement each second, and must never end.
async fn works(gate: Arc<TestGate>, login: Arc<TestLogin>, aim: Arc<Aim>) -> u64 {
    let mut session = Raw::session(&gate, &login).await;
    let mut statements = 0;
    while !aim.over.load(Ordering::Relaxed) {
        session.query("SELECT 'at work'").await;
        session.until(b'Z').await;
        statements += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    statements
}

/// Somebody who comes and goes, and must always be let in; how many times, and how long the longest login took.
async fn comes_and_goes(gate: Arc<TestGate>, login: Arc<TestLogin>, aim: Arc<Aim>) -> (u64, Duration) {
    let (mut logins, mut longest) = (0, Duration::ZERO);
    while !aim.over.load(Ordering::Relaxed) {
        let began = Instant::now();
        drop(Raw::session(&gate, &login).await);
        longest = longest.max(began.elapsed());
        logins += 1;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    (logins, longest)
}

/// A port that is free now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// The gate's resident memory in MiB.
fn resident(gate: &TestGate) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.pid().expect("a pid"))).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() / 1024
}

/// Everything on the log's disk, its ballast left out.
fn logged(folder: &std::path::Path) -> u64 {
    let files = std::fs::read_dir(folder).expect("the log");
    files
        .map(|file| file.and_then(|file| file.metadata()).map_or(0, |file| file.len()))
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_attack_a_small_disk_end_no_session_and_keep_nobody_out() {
    let Some(disk) = SmallDisk::mount("6m") else { return };
    let folder = disk.folder("audit");
    let control = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = format!(
        "{}[audit]\ndir = \"{}\"\nsegment_bytes = 65536\n[control]\nlisten = \"{control}\"\n",
        database().shop.target_table(TARGET, ""),
        folder.display()
    );
    let gate = TestGate::start(binary(), &config, &[database().shop.password_file()]).expect("a gate");
    std::os::unix::fs::symlink(&folder, gate.audit_folder()).expect("a link");
    let login = Arc::new(gate.grant(ANA, TARGET, "2h", &["--max-sessions", "20"]).expect("a grant"));
    let gate = Arc::new(gate);
    let aim = Arc::new(Aim {
        gate: gate.address(),
        control,
        grant: login.grant.clone(),
        over: AtomicBool::new(false),
        tries: AtomicU64::new(0),
    });
    let (before, began) = (logged(&folder), Instant::now());
    let attackers: Vec<JoinHandle<()>> = (0..ATTACKERS)
        .map(|worker| {
            let aim = Arc::clone(&aim);
            tokio::spawn(async move { aim.attack(worker).await })
        })
        .collect();
    let sessions: Vec<_> = (0..4)
        .map(|_| tokio::spawn(works(Arc::clone(&gate), Arc::clone(&login), Arc::clone(&aim))))
        .collect();
    let comer = tokio::spawn(comes_and_goes(Arc::clone(&gate), Arc::clone(&login), Arc::clone(&aim)));
    while began.elapsed() < length() {
        assert!(ready(&gate).starts_with("HTTP/1.1 200"), "it stays ready");
        let gone = sessions.iter().any(JoinHandle::is_finished) || comer.is_finished();
        assert!(!gone, "somebody was ended, or kept out, after {:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let (took, grew, memory) = (began.elapsed(), logged(&folder).saturating_sub(before), resident(&gate));
    aim.over.store(true, Ordering::Relaxed);
    let mut statements = 0;
    for session in sessions {
        statements += session.await.expect("it was never ended");
    }
    let (logins, longest) = comer.await.expect("it was always let in");
    for attacker in attackers {
        attacker.await.expect("no panic");
    }
    let tries = aim.tries.load(Ordering::Relaxed);
    println!(
        "{took:.0?}: {tries} tries of strangers ({:.0} a second), {statements} statements, {logins} logins (the longest {longest:?}), \
         the log grew by {grew} bytes, {memory} MiB resident",
        f64::from(u32::try_from(tries).expect("few")) / took.as_secs_f64()
    );
    assert!(tries > 1000, "that is no attack: {tries}");
    // What is not in a record of its own is counted.
    let gate = Arc::into_inner(gate).expect("the only one");
    stopped(&gate).await;
    let all = records(&gate);
    let counted: u64 = all
        .iter()
        .filter(|record| record["event"] == "refusals_counted")
        .map(|record| record["count"].as_u64().expect("a count"))
        .sum();
    assert!(counted > tries / 2, "{counted} of {tries}");
    let (code, verdict) = audit(&gate, &["verify"]);
    assert_eq!(code, Some(0), "{verdict:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_disk_is_for_sessions_alone() {
    let Some(disk) = SmallDisk::mount("8m") else { return };
    let folder = disk.folder("audit");
    let config = format!(
        "{}[audit]\ndir = \"{}\"\n",
        database().shop.target_table(TARGET, ""),
        folder.display()
    );
    let gate = TestGate::start(binary(), &config, &[database().shop.password_file()]).expect("a gate");
    std::os::unix::fs::symlink(&folder, gate.audit_folder()).expect("a link");
    let login = grant(&gate, "10m");
    let mut session = Raw::session(&gate, &login).await;
    // Less than a quarter is left.
    std::fs::write(disk.folder("ballast"), vec![0; 6_800_000]).expect("room for it");
    for _ in 0..5 {
        let mut stranger = Raw::connect(&gate).await;
        stranger.send(&[0, 0, 0, 9, 0, 2, 0, 0, 0]).await;
        stranger.last_word().await.0.says("FATAL", "0A000", &[]);
    }
    session.query("SELECT 'at work'").await;
    session.until(b'Z').await;
    drop(Raw::session(&gate, &login).await);
    let of = |name: &str| {
        records(&gate)
            .into_iter()
            .filter(|record| record["event"] == name)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("refused"), Vec::<serde_json::Value>::new());
    assert!(
        of("statement")
            .iter()
            .any(|record| record["sql"]["text"] == "SELECT 'at work'")
    );
    // The counts wait for room.
    disk.clear();
    stopped(&gate).await;
    let counted = of("refusals_counted");
    assert_eq!(counted.len(), 1, "{counted:?}");
    assert_eq!(
        (&counted[0]["ending"], &counted[0]["count"], &counted[0]["network"]),
        (&"protocol_unsupported".into(), &5.into(), &"127.0.0.1".into())
    );
}

/// What the gate may keep of memory that nobody needs any more, in MiB.
const MAX_KEPT_MIB: u64 = 24;

#[tokio::test(flavor = "multi_thread")]
async fn memory_goes_back_to_the_system() {
    let gate = gate();
    let login = gate.grant(ANA, TARGET, "10m", &["--max-sessions", "40"]).expect("a grant");
    drop(Raw::session(&gate, &login).await);
    let before = resident(&gate);
    // Forty sessions with large results and texts at once, and prepared statements just below what an identity may hold.
    let text = format!("SELECT '{}'", "x".repeat(60_000));
    let mut sessions = Vec::new();
    for _ in 0..40 {
        let mut session = Raw::session(&gate, &login).await;
        for n in 0..24 {
            session
                .write(|out| {
                    frontend::parse(&format!("s{n}"), &text, [], out).expect("fits");
                    frontend::sync(out);
                })
                .await;
            session.until(b'Z').await;
        }
        session.query("SELECT repeat('x', 1000) FROM generate_series(1, 2000)").await;
        session.until(b'Z').await;
        sessions.push(session);
    }
    let peak = resident(&gate);
    drop(sessions);
    eventually("the sessions are over", async || {
        let sessions = gate.json(&["session", "list"]).expect("the sessions");
        (sessions == serde_json::json!([]) || sessions["sessions"].as_array().is_some_and(Vec::is_empty)).then_some(())
    })
    .await;
    let mut least = u64::MAX;
    eventually("it is given back", async || {
        least = least.min(resident(&gate));
        println!("{before} MiB before, {peak} MiB at the peak, {least} MiB at least since");
        (least <= before + MAX_KEPT_MIB).then_some(())
    })
    .await;
    assert!(peak > before + 40, "there was something to give back: {before} to {peak}");
}
