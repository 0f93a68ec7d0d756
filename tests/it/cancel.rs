//! Ctrl-C works, over TLS and in clear; nobody else's key does, and no cancel hits a statement it was not meant for.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tidegate::base::tls::Transport;
use tidegate::demo::testkit::TestGate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::script::{CLEAR, Scripted, Way, over_tls, query, sqlstate, tags, tcp};
use crate::support::{TARGET, database, eventually, gate, grant, records, records_of, within};

fn request(pid: i32, key: &[u8]) -> Vec<u8> {
    let length = u32::try_from(12 + key.len()).unwrap();
    [
        &length.to_be_bytes()[..],
        &80_877_102_u32.to_be_bytes(),
        &pid.to_be_bytes(),
        key,
    ]
    .concat()
}

/// Sends a CancelRequest; the answer is the end of the connection, nothing else.
async fn cancel(gate: &TestGate, pid: i32, key: &[u8], tls: bool) {
    let stream = tcp(gate).await;
    let mut stream = if tls {
        over_tls(stream).await
    } else {
        Transport::Plain(stream)
    };
    stream.write_all(&request(pid, key)).await.expect("sent");
    let mut answer = Vec::new();
    let _ = within("the end of a cancel", stream.read_to_end(&mut answer)).await;
    assert!(answer.is_empty(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_in_psql() {
    let gate = gate();
    let login = grant(&gate, "10m");
    for sslmode in ["disable", "require"] {
        let psql = database().server.binaries().tool("psql").expect("psql");
        let connection = format!(
            "host=127.0.0.1 port={} dbname={TARGET} user={} sslmode={sslmode}",
            gate.port(),
            login.grant
        );
        let mut child = Command::new(psql)
            .args(["--no-psqlrc", "-At", "--dbname", &connection])
            .env("PGPASSWORD", login.secret.expose())
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql starts");
        let script = format!("SELECT pg_sleep(60) /* {sslmode} */;\nSELECT 'still here';\n");
        // Its input is closed behind this.
        child
            .stdin
            .take()
            .expect("its input")
            .write_all(script.as_bytes())
            .expect("it reads");
        eventually("the statement runs", async || {
            let sql = format!(
                "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(60) /* {sslmode} */;'"
            );
            let watcher = database().server.client("shop").await.expect("a look");
            watcher.query_opt(&sql, &[]).await.expect("a look")
        })
        .await;
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).expect("a pid");
        kill_process(pid, Signal::INT).expect("psql is there");
        let said = child.wait_with_output().expect("psql ends");
        let (output, errors) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        // psql that reads a script ends after Ctrl-C; what matters is that the statement did.
        assert!(
            errors.contains("canceling statement due to user request"),
            "{sslmode}: {output} {errors}"
        );
    }
    let asked: Vec<_> = records(&gate)
        .into_iter()
        .filter(|record| record["event"] == "cancel_requested")
        .collect();
    assert!(
        asked.len() == 2 && asked.iter().all(|record| record["forwarded"] == true),
        "{asked:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_both_protocols_and_no_other() {
    for (way, length) in [(CLEAR, 4), (Way { tls: true, minor: 2 }, 32)] {
        // A gate for each: of an address's failures it records a few a minute, and counts the others.
        let gate = gate();
        let login = grant(&gate, "10m");
        let mut raw = Scripted::login(&gate, &login, way).await;
        assert_eq!(raw.key.len(), length);
        let (pid, key) = (raw.pid, raw.key.clone());
        raw.send(&query("SELECT pg_sleep(60)")).await;
        let mut wrong = key.clone();
        wrong[length - 1] ^= 1;
        cancel(&gate, pid, &wrong, way.tls).await;
        cancel(&gate, pid + 1, &key, way.tls).await;
        cancel(&gate, pid, &key[..length - 1], false).await;
        cancel(&gate, pid, &[0; 256], false).await;
        cancel(&gate, pid, &[0; 300], false).await;
        cancel(&gate, pid, b"", false).await;
        assert!(
            raw.silent_for(Duration::from_millis(200)).await,
            "a wrong key stopped a statement"
        );
        cancel(&gate, pid, &key, way.tls).await;
        let got = raw.ready(1).await;
        assert_eq!((sqlstate(&got).as_deref(), &*tags(&got)), (Some("57014"), "TEZ"));
        // Idle: there is nothing to cancel, and the next statement is not hit.
        for _ in 0..3 {
            cancel(&gate, pid, &key, way.tls).await;
            assert_eq!(tags(&raw.ask(&query("SELECT pg_sleep(0.02)"), 1).await), "TDCZ");
        }
        drop(raw);
        eventually("the session is over", async || {
            (records_of(&gate, &login.grant, "session_ended").len() == 1).then_some(())
        })
        .await;
        // A dead key: it goes nowhere.
        cancel(&gate, pid, &key, false).await;
        let last = records(&gate)
            .into_iter()
            .rfind(|record| record["event"] == "cancel_requested")
            .expect("it is on record");
        assert!(last["forwarded"] == false && last["session"].is_null(), "{last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancels_race_with_ends_and_hit_their_own_session_only() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut bystander = Scripted::login(&gate, &login, CLEAR).await;
    bystander.send(&query("SELECT pg_sleep(2)")).await;
    let mut raw = Scripted::login(&gate, &login, CLEAR).await;
    for n in 0..60_u32 {
        // Five of six may end before their cancel comes; the sixth ends by nothing else.
        let endless = n % 6 == 5;
        let seconds = if endless { 600.0 } else { f64::from(n % 6) / 1000.0 };
        raw.send(&query(format!("SELECT pg_sleep({seconds})"))).await;
        cancel(&gate, raw.pid, &raw.key, false).await;
        // A cancel may also come before its statement does.
        while endless && raw.silent_for(Duration::from_millis(100)).await {
            cancel(&gate, raw.pid, &raw.key, false).await;
        }
        let got = raw.ready(1).await;
        assert!(["TEZ", "EZ", "TDCZ"].contains(&&*tags(&got)), "{}", tags(&got));
        assert!(!endless || sqlstate(&got).as_deref() == Some("57014"), "{}", tags(&got));
    }
    assert_eq!(tags(&bystander.ready(1).await), "TDCZ");
}
