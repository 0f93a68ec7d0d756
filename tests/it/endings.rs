//! Every way a session ends: the packet the client gets, the backend gone, and the transaction's fate as the database has it.

use std::time::{Duration, Instant};

use postgres_protocol::message::frontend;
use tidegate::demo::testkit::{TestGate, TestLogin};

use crate::support::{Raw, TARGET, Told, active, alive, count, database, ended, eventually, gate, gate_with, grant, records_of};

/// What every end by the grant's window says.
fn says_expired(told: &Told, login: &TestLogin, fate: &str) {
    let ended = format!("grant {} ended at 20", login.grant);
    let parts: [&str; 4] = [
        &ended,
        "the session is closed",
        "ask the gate's operator for a new grant",
        fate,
    ];
    told.says("FATAL", "57P01", &parts);
    // No command moves the end of a grant that is over.
    assert!(!told.hint.contains("extend"), "{told:?}");
}

/// Makes an empty table of the shop's role.
async fn table(name: &str) {
    let make = format!("SET ROLE shop_app; DROP TABLE IF EXISTS {name}; CREATE TABLE {name} (n integer)");
    database().server.batch("shop", &make).await.expect("a table");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_closes_on_idle_busy_and_open_transactions() {
    table("fates").await;
    let gate = gate();
    let login = grant(&gate, "2s");
    let mut idle = Raw::session(&gate, &login).await;
    let mut busy = Raw::session(&gate, &login).await;
    let mut open = Raw::session(&gate, &login).await;
    let mut writing = Raw::session(&gate, &login).await;
    let mut piped = Raw::session(&gate, &login).await;
    let mut copying = Raw::session(&gate, &login).await;

    busy.query("SELECT pg_sleep(60)").await;
    open.query("BEGIN; INSERT INTO fates VALUES (1)").await;
    open.until(b'Z').await;
    writing.query("INSERT INTO fates SELECT 2 FROM pg_sleep(60)").await;
    copying.query("COPY fates FROM STDIN").await;
    copying.until(b'G').await;
    let rows = "3\n".repeat(1000);
    copying
        .write(|out| frontend::CopyData::new(rows.as_bytes()).expect("data").write(out))
        .await;
    // Three statements on their way at once; the second sleeps, the third never runs.
    piped
        .write(|out| {
            for sql in ["SELECT 1", "SELECT pg_sleep(60)", "INSERT INTO fates VALUES (4)"] {
                frontend::parse("", sql, [], out).expect("parse");
                frontend::bind("", "", [], [(); 0], |(), _| unreachable!(), [], out)
                    .map_err(|_| ())
                    .expect("bind");
                frontend::execute("", 0, out).expect("execute");
            }
            frontend::sync(out);
        })
        .await;

    says_expired(&idle.last_word().await.0, &login, "No transaction was open");
    says_expired(&busy.last_word().await.0, &login, "rolled back");
    says_expired(&open.last_word().await.0, &login, "rolled back");
    says_expired(&writing.last_word().await.0, &login, "rolled back");
    says_expired(&copying.last_word().await.0, &login, "rolled back");
    says_expired(&piped.last_word().await.0, &login, "rolled back");

    let all = eventually("all ends are on record", async || {
        let all = records_of(&gate, &login.grant, "session_ended");
        (all.len() == 6).then_some(all)
    })
    .await;
    for record in &all {
        assert_eq!(
            (&record["ending"], &record["backend_gone"], &record["client_told"]),
            (&"expired".into(), &true.into(), &true.into())
        );
    }
    let rolled_back = all.iter().filter(|record| record["fate"] == "rolled_back").count();
    assert_eq!(rolled_back, 5, "{all:?}");
    assert_eq!(count(database(), "fates").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_closes_in_the_middle_of_a_result() {
    let gate = gate();
    let login = grant(&gate, "2s");
    let mut reading = Raw::session(&gate, &login).await;
    let narrow = Raw::connect_narrow(&gate).await.login_with(&login, &[("database", TARGET)]);
    let mut deaf = narrow.await.expect("a session");
    let pid = deaf.backend().await;
    // Rows of 100 kB, so that nearly every moment is one within a message.
    let endless = "SELECT generate_series(1, 100000000), repeat('x', 100000)";
    deaf.query(endless).await;
    reading.query(endless).await;

    let (told, before) = reading.last_word().await;
    assert!(before > 10, "rows came before the end: {before}");
    says_expired(&told, &login, "rolled back");

    // Who does not read holds nobody up: the backend is gone at once, the socket within its grace.
    let begun = Instant::now();
    eventually("its backend is gone", async || (!alive(database(), pid).await).then_some(())).await;
    let ended = eventually("both ends are on record", async || {
        let all = records_of(&gate, &login.grant, "session_ended");
        (all.len() == 2).then_some(all)
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let told: Vec<_> = ended.iter().map(|record| record["client_told"].as_bool()).collect();
    assert!(told.contains(&Some(true)) && told.contains(&Some(false)), "{ended:?}");
    for record in &ended {
        assert_eq!(
            (&record["backend_gone"], &record["ending"]),
            (&true.into(), &"expired".into()),
            "{record}"
        );
        let overshoot = record["overshoot_us"].as_u64().expect("measured");
        assert!(
            overshoot < 2_000_000,
            "a client that does not read does not keep its backend: {record}"
        );
    }
}

/// PostgreSQL sends its 8 KiB buffer when it is full, wherever in a row that is; then the statement sleeps on the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_stuck_half_way_is_completed_before_the_end() {
    let gate = gate();
    let login = grant(&gate, "1s");
    let mut session = Raw::session(&gate, &login).await;
    session
        .query("SELECT repeat('x', 1000) FROM generate_series(1, 20); SELECT pg_sleep(64)")
        .await;
    let (told, before) = session.last_word().await;
    says_expired(&told, &login, "rolled back");
    assert!(before > 10, "{before}");
    let record = ended(&gate, &login.grant).await;
    assert_eq!(
        (&record["client_told"], &record["backend_gone"]),
        (&true.into(), &true.into()),
        "{record}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_a_session_and_revokes_a_grant() {
    table("killed").await;
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut session = Raw::session(&gate, &login).await;
    session.query("BEGIN; INSERT INTO killed VALUES (1)").await;
    session.until(b'Z').await;
    let sessions = gate.json(&["session", "list", "--grant", &login.grant]).expect("a list");
    let id = sessions["sessions"][0]["session"].as_str().expect("a session").to_owned();
    let answer = gate
        .json(&["session", "kill", &id, "--reason", "holds a lock"])
        .expect("killed");
    let done = serde_json::json!({"in_effect": true, "stored": true, "recorded": true});
    assert_eq!(answer["effect"], done, "its end is on record: {answer}");
    let (told, _) = session.last_word().await;
    let by = format!("ended this session under grant {}", login.grant);
    told.says(
        "FATAL",
        "57P01",
        &[&by, "Reason: holds a lock.", "rolled back", "still valid"],
    );
    let record = ended(&gate, &login.grant).await;
    assert_eq!(record["ending"], "killed");
    let detail = record["detail"].as_str().expect("words");
    assert!(
        detail.starts_with(&told.message) && detail.contains("holds a lock"),
        "{record}"
    );
    assert_eq!(count(database(), "killed").await, 0);

    // The grant is still good, until it is revoked.
    let mut again = Raw::session(&gate, &login).await;
    again.query("SELECT pg_sleep(62)").await;
    eventually("it runs", async || active(database(), "pg_sleep(62)").await.pop()).await;
    gate.json(&["grant", "revoke", &login.grant, "--reason", "left the team"])
        .expect("revoked");
    let (told, _) = again.last_word().await;
    told.says(
        "FATAL",
        "57P01",
        &[
            &format!("grant {} was revoked at 20", login.grant),
            "reason: left the team.",
            "new grant",
            "rolled back",
        ],
    );
    let record = eventually("the revocation is on record", async || {
        records_of(&gate, &login.grant, "session_ended")
            .into_iter()
            .find(|record| record["ending"] == "revoked")
    })
    .await;
    assert_eq!(record["backend_gone"], true);
    let change = records_of(&gate, &login.grant, "grant_changed").pop().expect("a record");
    assert_eq!(
        (&change["change"], &change["reason"]),
        (&"revoked".into(), &"left the team".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_idle_for_too_long_is_ended_and_who_waits_for_an_answer_is_not() {
    let gate = gate_with("[session]\nidle_timeout = \"700ms\"\n");
    let login = grant(&gate, "10m");
    let mut busy = Raw::session(&gate, &login).await;
    let mut idle = Raw::session(&gate, &login).await;
    let begun = Instant::now();
    busy.query("SELECT pg_sleep(1.2)").await;
    let (told, before) = idle.last_word().await;
    told.says("FATAL", "57P05", &["idle for more than", "connect again"]);
    assert!(
        before <= 1 && begun.elapsed() >= Duration::from_millis(600),
        "{:?}",
        begun.elapsed()
    );
    busy.until(b'C').await;
    assert!(begun.elapsed() >= Duration::from_millis(1200));
    let (told, _) = busy.last_word().await;
    told.says("FATAL", "57P05", &["idle"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_end_their_sessions_themselves_in_three_ways() {
    let gate = gate();
    let end_of = async |login: &TestLogin, how: &str| {
        let record = ended(&gate, &login.grant).await;
        assert_eq!(record["ending"], how, "{record}");
        record
    };
    let login = grant(&gate, "10m");
    let mut polite = Raw::session(&gate, &login).await;
    let pid = polite.backend().await;
    polite.write(frontend::terminate).await;
    assert!(polite.frame().await.is_none());
    end_of(&login, "quit").await;
    eventually("its backend is gone", async || (!alive(database(), pid).await).then_some(())).await;

    let login = grant(&gate, "10m");
    let mut rude = Raw::session(&gate, &login).await;
    rude.query("BEGIN; SELECT pg_sleep(61)").await;
    eventually("it runs", async || active(database(), "pg_sleep(61)").await.pop()).await;
    drop(rude);
    let record = end_of(&login, "disconnected").await;
    assert_eq!(
        (&record["backend_gone"], &record["fate"]),
        (&true.into(), &"rolled_back".into()),
        "{record}"
    );
    assert!(active(database(), "pg_sleep(61)").await.is_empty());

    let login = grant(&gate, "10m");
    let mut broken = Raw::session(&gate, &login).await;
    broken.send(b"?\0\0\0\x04").await;
    let (told, _) = broken.last_word().await;
    told.says("FATAL", "08P01", &["invalid frontend message type"]);
    let record = end_of(&login, "malformed").await;
    assert_eq!(
        (&record["sqlstate"], &record["backend_gone"]),
        (&"08P01".into(), &true.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_databases_own_words_pass_when_its_administrator_ends_a_backend() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut session = Raw::session(&gate, &login).await;
    let pid = session.backend().await;
    let terminate = format!("SELECT pg_terminate_backend({pid})");
    database().server.batch("postgres", &terminate).await.expect("terminated");
    let (told, before) = session.last_word().await;
    told.says("FATAL", "57P01", &["terminating connection due to administrator command"]);
    assert_eq!(before, 0);
    let record = ended(&gate, &login.grant).await;
    assert_eq!(
        (&record["ending"], &record["sqlstate"], &record["detail"]),
        (
            &"target_closed".into(),
            &"57P01".into(),
            &"terminating connection due to administrator command".into()
        )
    );
}

/// What a late byte would do: nothing of a client is forwarded after the deadline.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_message_at_the_deadline_is_never_forwarded() {
    table("halves").await;
    let gate: TestGate = gate();
    let login = grant(&gate, "1s");
    let mut session = Raw::session(&gate, &login).await;
    let mut whole = bytes::BytesMut::new();
    frontend::query("INSERT INTO halves VALUES (1)", &mut whole).expect("a query");
    session.send(&whole[..20]).await;
    says_expired(&session.last_word().await.0, &login, "");
    session.send(&whole[20..]).await;
    assert_eq!(ended(&gate, &login.grant).await["fate"], "none");
    assert_eq!(count(database(), "halves").await, 0);
    // Its intent is on record all the same or not at all, but it has no outcome that says it ran.
    let outcomes = records_of(&gate, &login.grant, "outcome");
    assert!(
        outcomes.iter().all(|outcome| outcome["result"] != "completed"),
        "{outcomes:?}"
    );
}
