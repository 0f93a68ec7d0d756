//! `kill -9` of the gate: its backends end by themselves, the next start reaps and says so, and nothing ran off the record.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidegate::lab::{Gate, Login};

use crate::support::{Raw, active, alive, database, ended, eventually, gate, grant, records};

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_gate_ends_a_sleeping_statement_within_seconds_and_the_next_start_says_so() {
    let mut gate = gate();
    let login = grant(&gate, "10m");
    let mut session = Raw::session(&gate, &login).await;
    let pid = session.backend().await;
    session.query("SELECT pg_sleep(3600)").await;
    eventually("it runs", async || active(database(), "pg_sleep(3600)").await.pop()).await;
    gate.kill().expect("kill -9");
    let killed = Instant::now();
    eventually("its backend is gone", async || (!alive(database(), pid).await).then_some(())).await;
    let took = killed.elapsed();
    println!("kill -9 in pg_sleep(3600): the backend is gone after {took:.1?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(session.frame().await.is_none(), "the client sees its connection end");

    gate.start_again().expect("a gate");
    let end = ended(&gate, &login.grant).await;
    assert_eq!(
        (&end["ending"], &end["backend_gone"], &end["fate"]),
        (&"gate_died".into(), &true.into(), &"unknown".into())
    );
    // The grant has survived, its window too.
    Raw::session(&gate, &login).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_comes_back_at_once_reaps_before_it_lets_anybody_in() {
    let mut gate = gate();
    let login = grant(&gate, "10m");
    let mut session = Raw::session(&gate, &login).await;
    session.query("SELECT pg_sleep(3601)").await;
    eventually("it runs", async || active(database(), "pg_sleep(3601)").await.pop()).await;
    gate.kill().expect("kill -9");
    eventually("it is dead", async || gate.ended().then_some(())).await;
    gate.start_again().expect("a gate");
    // No waiting: it is up, so it has reaped.
    assert!(active(database(), "pg_sleep(3601)").await.is_empty());
    assert_eq!(ended(&gate, &login.grant).await["ending"], "gate_died");
}

/// Statements that write their own number into a table, half of them by the simple and half by the extended protocol, while
/// the gate is killed again and again. `TIDEGATE_KILLS` sets how often.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_ran_is_on_record_however_often_the_gate_is_killed() {
    let rounds = std::env::var("TIDEGATE_KILLS").map_or(5, |rounds| rounds.parse().expect("a number"));
    let make = "SET ROLE shop_app; CREATE TABLE numbers (n bigint PRIMARY KEY)";
    database().server.batch("shop", make).await.expect("a table");
    let mut gate = gate();
    let numbers = Arc::new(AtomicU64::new(1));
    for round in 0..rounds {
        let login = Arc::new(grant(&gate, "10m"));
        let begun = numbers.load(Ordering::Relaxed);
        let writers: Vec<_> = (0..6).map(|writer| write(&gate, &login, &numbers, writer)).collect();
        let writers: Vec<_> = futures_util::future::join_all(writers)
            .await
            .into_iter()
            .map(tokio::spawn)
            .collect();
        // Not always after as many: the kill falls into other moments.
        let some = 150 + 37 * (round % 11);
        eventually("they write", async || {
            (numbers.load(Ordering::Relaxed) > begun + some).then_some(())
        })
        .await;
        gate.kill().expect("kill -9");
        for writer in writers {
            writer.await.expect("a writer");
        }
        eventually("it is dead", async || gate.ended().then_some(())).await;
        gate.start_again().expect("a gate");
    }
    let client = database().server.client("shop").await.expect("a connection");
    let rows = client.query("SELECT n FROM numbers", &[]).await.expect("rows");
    let ran: HashSet<i64> = rows.iter().map(|row| row.get(0)).collect();
    let all = records(&gate);
    let logged: HashSet<i64> = all.iter().filter_map(number_of).collect();
    let missing: Vec<_> = ran.difference(&logged).collect();
    assert!(missing.is_empty(), "ran and are not on record: {missing:?}");
    assert!(ran.len() > 100 * usize::try_from(rounds).expect("few"), "{}", ran.len());
    let died = all.iter().filter(|record| record["ending"] == "gate_died").count();
    assert_eq!(died as u64, 6 * rounds, "every session's end is on record");
    let numbers: Vec<_> = all.iter().filter_map(|record| record["seq"].as_u64()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "the log has no gap");
    let torn = all.iter().filter(|record| record["fault"] == "torn_tail").count();
    println!(
        "{rounds} kills: {} statements ran, {} are on record, {torn} torn tails were cut and said",
        ran.len(),
        logged.len()
    );
}

/// Logs in at once; the future it gives writes until the gate is dead.
async fn write(gate: &Gate, login: &Login, numbers: &Arc<AtomicU64>, writer: u32) -> impl Future<Output = ()> + Send + use<> {
    let mut raw = Raw::session(gate, login).await;
    let numbers = Arc::clone(numbers);
    async move {
        use postgres_protocol::message::frontend;
        loop {
            let n = numbers.fetch_add(1, Ordering::Relaxed);
            if writer.is_multiple_of(2) {
                raw.query(&format!("INSERT INTO numbers VALUES ({n})")).await;
            } else {
                raw.write(|out| {
                    frontend::parse("", "INSERT INTO numbers VALUES ($1)", [20], out).expect("parse");
                    let text = |n: u64, out: &mut bytes::BytesMut| {
                        out.extend_from_slice(n.to_string().as_bytes());
                        Ok(postgres_protocol::IsNull::No)
                    };
                    frontend::bind("", "", [0], [n], text, [], out).map_err(|_| ()).expect("bind");
                    frontend::execute("", 0, out).expect("execute");
                    frontend::sync(out);
                })
                .await;
            }
            loop {
                match raw.torn_frame().await {
                    Some(frame) if frame.kind == b'Z' => break,
                    Some(_) => {}
                    None => return,
                }
            }
        }
    }
}

/// The number a statement on record writes.
fn number_of(record: &serde_json::Value) -> Option<i64> {
    if record["event"] != "statement" {
        return None;
    }
    let text = match record["kind"].as_str()? {
        "query" => record["sql"]["text"]
            .as_str()?
            .strip_prefix("INSERT INTO numbers VALUES (")?
            .strip_suffix(')')?,
        "execute" => record["parameters"][0]["text"].as_str()?,
        _ => return None,
    };
    text.parse().ok()
}

/// The log is cut where the gate died while writing; a line that is not whole never stands in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_cut_and_said() {
    let mut gate = gate();
    let login = grant(&gate, "10m");
    Raw::session(&gate, &login).await.backend().await;
    gate.kill().expect("kill -9");
    eventually("it is dead", async || gate.ended().then_some(())).await;
    let file = gate.audit_folder().join("audit-000001.jsonl");
    let mut log = std::fs::read(&file).expect("the log");
    let torn = b"{\"v\":1,\"seq\":4711,\"event\":\"statem";
    log.extend_from_slice(torn);
    std::fs::write(&file, &log).expect("a torn log");
    gate.start_again().expect("a gate");
    let healed = eventually("it is said", async || {
        records(&gate).into_iter().find(|record| record["fault"] == "torn_tail")
    })
    .await;
    assert_eq!(healed["cut_bytes"], torn.len(), "{healed}");
}
