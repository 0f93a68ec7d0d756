//! What reaches a session that runs, without a new login: extensions, a nearer end, warnings; each with its NOTICE.

use std::time::{Duration, Instant};

use jiff::{Timestamp, ToSpan};
use serde_json::json;

use crate::support::{Raw, Told, admin, api, eventually, gate, gate_with, grant, records_of, suite, within};

/// The next notice; other messages before it are passed over.
async fn notice(raw: &mut Raw) -> Told {
    Told::read(&raw.until(b'N').await.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_reaches_a_session_in_the_middle_of_a_statement() {
    let gate = gate();
    let login = grant(&gate, "2s");
    let mut session = Raw::session(&gate, &login).await;
    let begun = Instant::now();
    session.query("SELECT pg_sleep(2.5), 'still here'").await;
    gate.json(&["grant", "extend", &login.grant, "--by", "30m", "--reason", "BUG-812"])
        .expect("extended");
    notice(&mut session).await.says(
        "NOTICE",
        "01000",
        &[&format!("grant {} now ends at 20", login.grant), "(in 30 min"],
    );
    let row = session.until(b'D').await;
    assert!(row.body.ends_with(b"still here") && begun.elapsed() >= Duration::from_millis(2500));
    session.until(b'Z').await;

    // And nearer again: to a moment from now.
    let soon = (Timestamp::now() + 1.second()).to_string();
    gate.json(&["grant", "shorten", &login.grant, "--until", &soon])
        .expect("shortened");
    let moved = notice(&mut session).await;
    moved.says("NOTICE", "01000", &["now ends at 20", "(in "]);
    let (told, _) = session.last_word().await;
    told.says("FATAL", "57P01", &[&format!("grant {} ended at 20", login.grant)]);
    let changes: Vec<_> = records_of(&gate, &login.grant, "grant_changed")
        .into_iter()
        .map(|record| record["change"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(changes, ["created", "activated", "extended", "shortened"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_session_of_a_grant_moves_with_it_and_ends_at_one_time() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut sessions = Vec::new();
    for _ in 0..5 {
        sessions.push(Raw::session(&gate, &login).await);
    }
    let other = grant(&gate, "10m");
    let mut untouched = Raw::session(&gate, &other).await;
    let soon = (Timestamp::now() + 1.second()).to_string();
    gate.json(&["grant", "shorten", &login.grant, "--until", &soon])
        .expect("shortened");
    for session in &mut sessions {
        notice(session).await.says("NOTICE", "01000", &["now ends at"]);
    }
    for session in &mut sessions {
        session.last_word().await.0.says("FATAL", "57P01", &["ended at"]);
    }
    // To a time that is past: the end comes at once.
    let past = (Timestamp::now() - 1.minute()).to_string();
    gate.json(&["grant", "shorten", &other.grant, "--until", &past])
        .expect("shortened");
    untouched.last_word().await.0.says("FATAL", "57P01", &[&other.grant]);
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_come_before_the_end_between_and_within_statements() {
    let gate = gate_with("[session]\nwarnings = [\"2s\", \"1s\"]\nrenew_hint = \"ask #qa-access\"\n");
    let login = grant(&gate, "3s");
    let mut idle = Raw::connect(&gate).await;
    idle.startup(&[("user", &login.grant), ("database", "shop")]).await;
    let clear = postgres_protocol::authentication::sasl::ChannelBinding::unsupported();
    idle.prove(login.secret.expose(), clear).await.expect("let in");
    let welcome = notice(&mut idle).await;
    let who = format!("you are ana@example.com on shop under grant {}, until 20", login.grant);
    welcome.says("NOTICE", "01000", &[&who, "(in 3 s)", "ask #qa-access"]);
    let mut busy = Raw::session(&gate, &login).await;
    busy.query("SELECT 1; SELECT pg_sleep(60)").await;
    for session in [&mut idle, &mut busy] {
        for left in ["2 s", "1 s"] {
            notice(session).await.says(
                "NOTICE",
                "01000",
                &[&format!("grant {} ends in {left}", login.grant), "ask #qa-access"],
            );
        }
        let (told, before) = session.last_word().await;
        told.says("FATAL", "57P01", &["ended at"]);
        assert_eq!(before, 0, "nothing but notices");
    }
}

/// Notices must not disturb a driver in the middle of its work.
#[tokio::test(flavor = "multi_thread")]
async fn a_driver_reads_on_while_notices_come_in_between() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut driver = suite(&gate, &login).await.expect("a session");
    let rows = driver
        .client
        .query("SELECT n, pg_sleep(0.001) FROM generate_series(1, 300) AS n", &[]);
    let extending = async {
        for _ in 0..5 {
            let extend = ["grant", "extend", &login.grant, "--by", "1m"];
            gate.json(&extend).expect("extended");
        }
    };
    let (rows, ()) = within("both", async { tokio::join!(rows, extending) }).await;
    let rows: Vec<i32> = rows.expect("rows").iter().map(|row| row.get(0)).collect();
    assert_eq!(rows, (1..=300).collect::<Vec<_>>());
    let mut told = Vec::new();
    eventually("the notices", async || {
        told.extend(driver.notices().into_iter().map(|notice| notice.message().to_owned()));
        told.iter().any(|message| message.contains("now ends at")).then_some(())
    })
    .await;
}

/// Extensions that come in the last milliseconds of a window: each that is answered well has reached the session.
#[tokio::test(flavor = "multi_thread")]
async fn an_extension_that_is_answered_well_has_reached_the_session() {
    let gate = gate();
    let (mut extended, mut late) = (0, 0);
    let mut tries = Vec::new();
    for number in 0..12_u64 {
        let login = grant(&gate, "2s");
        let mut session = Raw::session(&gate, &login).await;
        let until = gate.json(&["grant", "show", &login.grant]).expect("the grant")["until"].clone();
        let until: Timestamp = until.as_str().expect("a time").parse().expect("a time");
        // From 22 ms before the end to the end.
        let before = jiff::SignedDuration::from_millis(22 - 2 * i64::try_from(number).expect("small"));
        let left = Duration::try_from(until.duration_since(Timestamp::now()) - before).unwrap_or_default();
        tokio::time::sleep(left).await;
        let path = format!("/v1/grants/{}/extend", login.grant);
        let answer = api(&gate, &admin(&gate), "POST", &path, &json!({"by_seconds": 600})).await;
        tries.push((answer.status, number));
        if answer.status == 200 {
            extended += 1;
            session.query("SELECT 1").await;
            let mut kinds = Vec::new();
            while let Some(frame) = session.frame().await {
                kinds.push(frame.kind);
                assert_ne!(frame.kind, b'E', "try {number} was answered well and the session has ended");
                if frame.kind == b'Z' {
                    break;
                }
            }
            assert_eq!(kinds.last(), Some(&b'Z'), "try {number}: {kinds:?}");
        } else {
            late += 1;
            assert_eq!(answer.status, 409, "{answer:?}");
        }
    }
    println!("{extended} extensions in the last moment reached their session, {late} came too late: {tries:?}");
}
