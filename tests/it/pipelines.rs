//! What clients have sent ahead of its answers: nothing of it begins after the deadline, and of what is revoked no more than a
//! handful was under way.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use postgres_protocol::message::frontend;
use tidegate::demo::testkit::TestGate;

use crate::support::{Frozen, Pipeline, Raw, TARGET, Witness, active, database, eventually, gate, grant, records_of};

/// When the grant ends, as the gate says.
fn until(gate: &TestGate, grant: &str) -> Timestamp {
    let shown = gate.json(&["grant", "show", grant]).expect("the grant");
    shown["until"].as_str().expect("a deadline").parse().expect("a time")
}

/// Lets so many sessions fill their pipelines, a part of their backends frozen right before the deadline, and reads to their ends.
async fn fill(sessions: usize, frozen: usize, window: &str, kinds: &[Pipeline], witness: &Witness) -> Timestamp {
    let gate: TestGate = gate();
    let most = (sessions + frozen).to_string();
    let login = gate
        .grant("ci@example.com", TARGET, window, &["--max-sessions", &most])
        .expect("a grant");
    let (mut all, mut pids) = (Vec::new(), Vec::new());
    for n in 0..sessions + frozen {
        let mut raw = Raw::session(&gate, &login).await.patiently(Duration::from_mins(1));
        if n >= sessions {
            pids.push(raw.backend().await);
        }
        all.push(raw);
    }
    // When all are in: they leave no time for logins.
    let begin = |(n, raw): (usize, Raw)| {
        let kind = kinds[n % kinds.len()];
        tokio::spawn(kind.keep_full(raw, witness.insert(n, &format!("{kind:?}"))))
    };
    let writers: Vec<_> = all.into_iter().enumerate().map(begin).collect();
    let until = until(&gate, &login.grant);
    // With statements in them that have not been answered.
    let before = Duration::try_from(Timestamp::now().duration_until(until)).unwrap_or_default();
    tokio::time::sleep(before.saturating_sub(Duration::from_millis(400))).await;
    let ice = Frozen::now(pids);
    for writer in writers {
        let (told, at) = writer.await.expect("a client");
        told.says("FATAL", "57P01", &[&login.grant]);
        assert!(at >= until, "ended before the deadline: {at}, {until}");
    }
    let ended = async |so_many: usize| {
        eventually("ends are on record", async || {
            let ends = records_of(&gate, &login.grant, "session_ended");
            (ends.len() >= so_many).then_some(())
        })
        .await;
    };
    // By then the frozen ones have been told, too.
    ended(sessions).await;
    drop(ice);
    ended(sessions + frozen).await;
    until
}

const ONE_BY_ONE: &[Pipeline] = &[Pipeline::Queries, Pipeline::Groups, Pipeline::OneGroup];

/// The window is longer than the last seconds in which statements go one by one, so it sees what was pipelined before them, too.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_pipelined_begins_after_the_deadline() {
    let witness = Witness::table(database(), "pipelined").await;
    let until = fill(36, 4, "13s", ONE_BY_ONE, &witness).await;
    let (all, late, by) = witness.later_than(until, "%").await;
    println!("40 pipelining sessions: {all} statements were executed, the last {by:.1} ms after the deadline");
    assert!(all > 1000, "they were at work: {all}");
    assert_eq!(late, 0, "executed after the deadline, the last {by} ms after it, of {all}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure of a quiet machine and a release build: make figures"]
async fn two_hundred_pipelines_at_the_deadline() {
    for round in 0..3 {
        let witness = Witness::table(database(), &format!("pipelined_{round}")).await;
        let until = fill(180, 20, "25s", ONE_BY_ONE, &witness).await;
        let (all, late, by) = witness.later_than(until, "%").await;
        println!(
            "200 pipelining sessions, 20 of them frozen: {all} statements, {late} after the deadline; the last {by:.1} ms after it"
        );
        assert_eq!(late, 0);
        let witness = Witness::table(database(), &format!("strings_{round}")).await;
        let until = fill(40, 0, "14s", &[Pipeline::Strings], &witness).await;
        let (all, late, by) = witness.later_than(until, "%").await;
        println!(
            "40 sessions with one message of many transactions each: {all} statements, {late} after the deadline, the last {by:.1} ms after it"
        );
    }
}

/// Without notice nothing can be drained: what counts is how much is under way at all.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_a_handful_is_ahead_of_its_answers() {
    let gate = gate();
    for group in [false, true] {
        let login = grant(&gate, "10m");
        let mut session = Raw::session(&gate, &login).await;
        session
            .write(|out| {
                for n in 0..1000 {
                    let sql = if n == 0 { "SELECT pg_sleep(67)" } else { "SELECT 1" };
                    if !group {
                        frontend::query(sql, out).expect("a query");
                        continue;
                    }
                    frontend::parse("", sql, [], out).expect("parse");
                    frontend::bind("", "", [], [(); 0], |(), _| unreachable!(), [], out)
                        .map_err(|_| ())
                        .expect("bind");
                    frontend::execute("", 0, out).expect("execute");
                }
                frontend::sync(out);
            })
            .await;
        let sleeping = eventually("it sleeps", async || active(database(), "pg_sleep(67)").await.pop()).await;
        let forwarded = async || {
            let all = records_of(&gate, &login.grant, "statement");
            all.iter().filter(|record| record["kind"] != "parse").count()
        };
        eventually("as much as may be is on record", async || {
            (forwarded().await >= 256).then_some(())
        })
        .await;
        assert_eq!(forwarded().await, 256, "no more is forwarded");
        // The rest goes on when there are answers.
        let cancel = format!("SELECT pg_cancel_backend({sleeping})");
        database().server.batch("postgres", &cancel).await.expect("cancelled");
        let answers = if group { 1 } else { 1000 };
        for _ in 0..answers {
            session.until(b'Z').await;
        }
        drop(session);
        let ended = eventually("its end is on record", async || {
            records_of(&gate, &login.grant, "session_ended").pop()
        })
        .await;
        assert_eq!(ended["ending"], "disconnected");
        assert_eq!(forwarded().await, 1000);
    }
}

/// Answers of a group without a Sync are asked for: it goes through whole, as it would without a gate.
#[tokio::test(flavor = "multi_thread")]
async fn one_long_group_goes_through_whole() {
    let gate = gate();
    for window in ["10m", "8s"] {
        let login = grant(&gate, window);
        let mut session = Raw::session(&gate, &login).await;
        session
            .write(|out| {
                for _ in 0..500 {
                    frontend::parse("", "SELECT 1", [], out).expect("parse");
                    frontend::bind("", "", [], [(); 0], |(), _| unreachable!(), [], out)
                        .map_err(|_| ())
                        .expect("bind");
                    frontend::execute("", 0, out).expect("execute");
                }
                frontend::sync(out);
            })
            .await;
        let mut completed = 0;
        loop {
            match session.frame().await.expect("a message").kind {
                b'C' => completed += 1,
                b'Z' => break,
                b'E' => panic!("an error"),
                _ => {}
            }
        }
        assert_eq!(completed, 500, "{window}");
    }
}

/// What the bound on a pipeline costs is to be seen: statements a second of four clients that keep theirs full.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure of a quiet machine and a release build: make figures"]
async fn the_speed_of_pipelines() {
    const CLIENTS: u32 = 4;
    const STATEMENTS: u32 = 20_000;
    let gate = gate();
    for kind in [Pipeline::Queries, Pipeline::Groups, Pipeline::OneGroup] {
        let login = grant(&gate, "10m");
        let mut sessions = Vec::new();
        for _ in 0..CLIENTS {
            sessions.push(Raw::session(&gate, &login).await);
        }
        let begun = Instant::now();
        let running: Vec<_> = sessions
            .into_iter()
            .map(|raw| tokio::spawn(kind.run(raw, "SELECT 1", STATEMENTS)))
            .collect();
        for client in running {
            client.await.expect("a client");
        }
        let rate = f64::from(CLIENTS * STATEMENTS) / begun.elapsed().as_secs_f64();
        println!("{CLIENTS} clients that pipeline {kind:?}: {rate:.0} statements/s");
    }
}
