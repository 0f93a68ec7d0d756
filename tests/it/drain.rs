//! SIGTERM: idle sessions first, busy ones may finish, the limit for the rest, nobody new, and a gate that has gone.

use std::time::{Duration, Instant};

use crate::support::{Raw, active, database, eventually, gate_with, grant, records, records_of};

#[tokio::test(flavor = "multi_thread")]
async fn idle_sessions_first_and_busy_ones_may_finish() {
    let gate = gate_with("[drain]\nlimit = \"20s\"\n");
    let login = grant(&gate, "10m");
    let mut idle = Raw::session(&gate, &login).await;
    let mut busy = Raw::session(&gate, &login).await;
    let mut open = Raw::session(&gate, &login).await;
    busy.query("SELECT pg_sleep(1.5), 'done'").await;
    open.query("BEGIN").await;
    open.until(b'Z').await;
    eventually("it runs", async || active(database(), "'done'").await.pop()).await;
    gate.terminate().expect("SIGTERM");
    let (told, _) = idle.last_word().await;
    told.says(
        "FATAL",
        "57P01",
        &["the gate is shutting down", "connect again", "No transaction was open"],
    );
    assert!(!active(database(), "'done'").await.is_empty(), "the idle one went first");
    // Who knocks now is told.
    Raw::refused(&gate, &login)
        .await
        .says("FATAL", "57P03", &["shutting down", "connect again"]);
    // A transaction may be brought to its end; that is when its session goes.
    open.query("COMMIT").await;
    open.until(b'C').await;
    let row = busy.until(b'D').await;
    assert!(row.body.ends_with(b"done"));
    busy.until(b'Z').await;
    busy.last_word().await.0.says("FATAL", "57P01", &["shutting down"]);
    open.until(b'Z').await;
    open.last_word().await.0.says("FATAL", "57P01", &["shutting down"]);
    eventually("the gate has gone", async || gate.ended().then_some(())).await;
    let ends = records_of(&gate, &login.grant, "session_ended");
    assert!(
        ends.len() == 3
            && ends
                .iter()
                .all(|end| end["ending"] == "drained" && end["backend_gone"] == true),
        "{ends:?}"
    );
    let last: Vec<_> = records(&gate)
        .iter()
        .rev()
        .take(2)
        .map(|record| record["event"].clone())
        .collect();
    assert_eq!(last, ["checkpoint", "gate_stopped"], "what is signed includes the stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_the_rest_is_ended() {
    let gate = gate_with("[drain]\nlimit = \"500ms\"\n");
    let login = grant(&gate, "10m");
    let mut busy = Raw::session(&gate, &login).await;
    busy.query("BEGIN; SELECT pg_sleep(63)").await;
    eventually("it runs", async || active(database(), "pg_sleep(63)").await.pop()).await;
    let begun = Instant::now();
    gate.terminate().expect("SIGTERM");
    let (told, _) = busy.last_word().await;
    told.says("FATAL", "57P01", &["shutting down", "rolled back"]);
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    eventually("the gate has gone", async || gate.ended().then_some(())).await;
    assert!(active(database(), "pg_sleep(63)").await.is_empty());
    assert_eq!(records_of(&gate, &login.grant, "session_ended")[0]["ending"], "drained");
}
