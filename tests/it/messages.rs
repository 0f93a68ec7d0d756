//! Standard error that takes nothing, or fails: logins, deadlines, revocations, readiness and the stop do not depend on it.

use tidegate::demo::testkit::TestGate;

use crate::support::{
    FullPipe, Raw, active, alive, counted, database, ended, eventually, gate_through, grant, ready, records_of,
};

/// A day in the life of a gate: what every gate does, done by this one.
async fn works(gate: &TestGate) {
    // A deadline.
    let login = grant(gate, "2s");
    let mut session = Raw::session(gate, &login).await;
    let pid = session.backend().await;
    session.query("SELECT pg_sleep(600)").await;
    let (told, _) = session.last_word().await;
    told.says("FATAL", "57P01", &["ended at"]);
    let end = ended(gate, &login.grant).await;
    assert_eq!((&end["ending"], &end["backend_gone"]), (&"expired".into(), &true.into()));
    assert!(!alive(database(), pid).await);
    // A revocation.
    let login = grant(gate, "10m");
    let mut session = Raw::session(gate, &login).await;
    gate.json(&["grant", "revoke", &login.grant]).expect("revoked");
    session.last_word().await.0.says("FATAL", "57P01", &["revoked"]);
    assert_eq!(ended(gate, &login.grant).await["ending"], "revoked");
    // Messages enough to fill any queue in between.
    let login = grant(gate, "10m");
    for _ in 0..3 {
        let session = Raw::session(gate, &login).await;
        drop(session);
    }
    eventually("their ends are on record", async || {
        (records_of(gate, &login.grant, "session_ended").len() == 3).then_some(())
    })
    .await;
    assert!(ready(gate).contains("\r\n\r\nready"), "{}", ready(gate));
}

/// An orderly stop with a session in a statement.
async fn stops(gate: &TestGate) {
    let login = grant(gate, "10m");
    let mut busy = Raw::session(gate, &login).await;
    // Named after its grant: other gates stop on the same server at the same time.
    busy.query(&format!("SELECT pg_sleep(601), '{}'", login.grant)).await;
    eventually("it runs", async || active(database(), &login.grant).await.pop()).await;
    gate.terminate().expect("SIGTERM");
    busy.last_word().await.0.says("FATAL", "57P01", &["shutting down"]);
    eventually("the gate has gone", async || gate.ended().then_some(())).await;
    assert!(active(database(), &login.grant).await.is_empty());
    assert_eq!(records_of(gate, &login.grant, "session_ended")[0]["ending"], "drained");
}

/// With every message there is.
const MORE: &str = "[log]\nlevel = \"debug\"\n[drain]\nlimit = \"500ms\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pipe_holds_nothing_up() {
    let pipe = FullPipe::make();
    let gate = gate_through(database(), "", &format!("2>'{}'", pipe.path().display()), MORE);
    works(&gate).await;
    stops(&gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_no_reason_to_panic() {
    let gate = gate_through(database(), "", "2>/dev/full", MORE);
    works(&gate).await;
    assert!(
        counted(&gate, "tidegate_messages_lost_total") > 0.0,
        "what is dropped is counted"
    );
    stops(&gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_gone_is_no_reason_to_panic() {
    let pipe = FullPipe::make();
    let path = format!("2>'{}'", pipe.path().display());
    let gate = gate_through(database(), "", &path, MORE);
    drop(pipe);
    works(&gate).await;
    eventually("what is dropped is counted", async || {
        (counted(&gate, "tidegate_messages_lost_total") > 0.0).then_some(())
    })
    .await;
    stops(&gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_written_to_the_end() {
    let gate = gate_through(database(), "", "", "");
    gate.terminate().expect("SIGTERM");
    eventually("the gate has gone", async || gate.ended().then_some(())).await;
    assert!(gate.log().contains("draining"), "{}", gate.log());
}
