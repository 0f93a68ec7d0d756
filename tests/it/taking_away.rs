//! What takes rights away, while the store is locked, the log is full, or the gate is killed: in effect at once, and for good.

use std::collections::{HashMap, HashSet};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::demo::testkit::{TestGate, TestLogin};

use crate::support::{
    ANA, House, Raw, SmallDisk, admin, alive, api, binary, database, eventually, gate, grant, ready, records, trials, within,
};

/// Another program that holds the store's write lock, until it is dropped.
struct Lock(rusqlite::Connection);

impl Lock {
    fn on(gate: &TestGate) -> Self {
        let store = rusqlite::Connection::open(gate.folder().join("state/ledger.sqlite")).expect("the store");
        store.busy_timeout(Duration::from_secs(30)).expect("it waits");
        store.execute_batch("BEGIN IMMEDIATE").expect("the lock");
        Self(store)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.0.execute_batch("ROLLBACK");
    }
}

async fn revoke(gate: &TestGate, id: &str) -> Value {
    let path = format!("/v1/grants/{id}/revoke");
    api(gate, &admin(gate), "POST", &path, &json!({"reason": "over"}))
        .await
        .good()
}

/// What becomes of a login under a grant that is over.
async fn is_refused(gate: &TestGate, login: &TestLogin) {
    let told = within("an answer", Raw::refused(gate, login)).await;
    assert!(told.message.contains("revoked"), "{told:?}");
}

async fn killed(gate: &mut TestGate) {
    gate.kill().expect("kill -9");
    eventually("it is dead", async || gate.ended().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_store_keeps_no_session_alive_and_a_kill_undoes_nothing() {
    let mut gate = gate();
    let login = grant(&gate, "10m");
    let mut session = Raw::session(&gate, &login).await;
    let pid = session.backend().await;
    let lock = Lock::on(&gate);
    let answer = revoke(&gate, &login.grant).await;
    assert_eq!(answer["status"], "revoked");
    assert_eq!(answer["effect"]["in_effect"], true, "{answer}");
    assert_eq!(answer["effect"]["stored"], false, "{answer}");
    eventually("its backend is gone", async || (!alive(database(), pid).await).then_some(())).await;
    eventually("it says that it is not ready", async || {
        ready(&gate).contains("revocations are in effect").then_some(())
    })
    .await;
    eventually("it is on record", async || {
        let revoked = |record: &Value| record["change"] == "revoked" && record["grant"] == login.grant.as_str();
        records(&gate).iter().any(revoked).then_some(())
    })
    .await;
    // Only the log knows of it.
    killed(&mut gate).await;
    drop(lock);
    gate.start_again().expect("a gate");
    let view = gate.json(&["grant", "show", &login.grant]).expect("the grant");
    assert_eq!(view["status"], "revoked", "{view:#}");
    is_refused(&gate, &login).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_keeps_no_session_alive_and_a_kill_undoes_nothing() {
    let Some(disk) = SmallDisk::mount("32m") else { return };
    let folder = disk.folder("audit");
    let audit = format!("[audit]\ndir = \"{}\"\n", folder.display());
    let config = database().shop.target_table("shop", "") + &audit;
    let mut gate = TestGate::start(binary(), &config, &[database().shop.password_file()]).expect("a gate");
    std::os::unix::fs::symlink(&folder, gate.audit_folder()).expect("a link");
    let login = grant(&gate, "10m");
    let mut session = Raw::session(&gate, &login).await;
    let pid = session.backend().await;
    // The first few may still fit into the last block of the file.
    let others: Vec<_> = (0..40)
        .map(|_| gate.grant(ANA, "shop", "10m", &[]).expect("a grant").grant)
        .collect();
    disk.fill();
    let mut unrecorded = 0;
    for other in others {
        let effect = revoke(&gate, &other).await["effect"].clone();
        assert_eq!(
            (&effect["in_effect"], &effect["stored"]),
            (&true.into(), &true.into()),
            "{effect}"
        );
        unrecorded += u32::from(effect["recorded"] == false);
    }
    assert!(unrecorded > 0, "the log is full");
    let answer = revoke(&gate, &login.grant).await;
    assert_eq!(answer["effect"]["recorded"], false, "{answer}");
    eventually("its backend is gone", async || (!alive(database(), pid).await).then_some(())).await;
    killed(&mut gate).await;
    disk.clear();
    gate.start_again().expect("a gate");
    is_refused(&gate, &login).await;
    eventually("the next start puts it on record, once", async || {
        let revoked = |record: &&Value| record["change"] == "revoked" && record["grant"] == login.grant.as_str();
        (records(&gate).iter().filter(revoked).count() == 1).then_some(())
    })
    .await;
}

/// With a log folder of its own, too: two gates on one store would each let in what the other has revoked.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_gate_on_the_same_state_folder_does_not_start_and_disturbs_nothing() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut session = Raw::session(&gate, &login).await;
    let config = std::fs::read_to_string(gate.config_file()).expect("the configuration");
    let port = gate.port().to_string();
    let other = config.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:0")
        + "\n[audit]\ndir = \"other-log\"\n[control]\nsocket = \"other.sock\"\n";
    let path = gate.folder().join("other.toml");
    std::fs::write(&path, other).expect("written");
    let mut command = Command::new(binary());
    command.args(["serve", "--config"]).arg(&path).stdin(Stdio::null());
    let said = command.output().expect("it ends");
    let errors = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.status.success(), "{errors}");
    let pid = gate.pid().expect("it runs");
    assert!(
        errors.contains(&format!("is in use by the gate with process id {pid}")),
        "{errors}"
    );
    session.query("SELECT 1").await;
    session.until(b'Z').await;
}

/// The gate is killed again and again in the middle of revocations, disablings and approvals; `TIDEGATE_TAKEN` sets how often. After
/// each start nobody has more than the log allows, nor more than was answered.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_at_any_moment_nobody_has_more_than_log_and_store_allow() {
    let mut house = House::open(&[("ana", "qa"), ("bob", "qa"), ("lea", "leads")], "", &[]).await;
    let rounds = trials("TIDEGATE_TAKEN", 4);
    let (mut answered, mut unanswered) = (0, 0);
    for round in 0..rounds {
        let mut grants = Vec::new();
        for _ in 0..4 {
            grants.push(house.gate.grant(ANA, "shop", "10m", &[]).expect("a grant").grant);
        }
        let user = format!("user{round}");
        let body = json!({"name": user, "groups": ["qa"]});
        house.call("operator", "POST", "/v1/users", &body).await.good();
        let theirs = house.gate.grant(&user, "shop", "10m", &[]).expect("a grant").grant;
        let pending = house.asked("ana", "read-write").await;
        let token = admin(&house.gate);
        let mut calls: Vec<(String, String)> = grants
            .iter()
            .map(|id| (id.clone(), format!("/v1/grants/{id}/revoke")))
            .collect();
        calls.push((theirs.clone(), format!("/v1/users/{user}/disable")));
        let socket = house.gate.folder().join("state/control.sock");
        let tasks: Vec<_> = calls
            .into_iter()
            .map(|(id, path)| {
                let (token, socket) = (token.clone(), socket.clone());
                tokio::spawn(async move { (id, post(&socket, &token, &path).await) })
            })
            .collect();
        let approval = house.step("lea", &pending, "approve");
        let pause = tokio::time::sleep(Duration::from_micros(700 * (1 + round * 7 % 23)));
        tokio::select! {
            _ = approval => pause_out(round).await,
            () = pause => {}
        }
        killed(&mut house.gate).await;
        let mut told = HashMap::new();
        for task in tasks {
            let (id, answer) = task.await.expect("a call");
            told.insert(id, answer);
        }
        house.gate.start_again().expect("a gate");
        let log = records(&house.gate);
        let of = |change: &str| -> HashSet<String> {
            let named = |record: &&Value| record["event"] == "grant_changed" && record["change"] == change;
            let ids = log.iter().filter(named).filter_map(|record| record["grant"].as_str());
            ids.map(str::to_owned).collect()
        };
        let (created, revoked) = (of("created"), of("revoked"));
        for grant in house.grants().await {
            let id = grant["id"].as_str().expect("an id").to_owned();
            let lives = grant["status"] == "ready" || grant["status"] == "active";
            assert!(!lives || created.contains(&id), "round {round}: off the record: {grant}");
            assert!(
                !lives || !revoked.contains(&id),
                "round {round}: the log says revoked: {grant}"
            );
            if let Some(Some(answer)) = told.get(&id) {
                answered += 1;
                let durable = answer["effect"]["stored"] == true || answer["effect"]["recorded"] == true;
                assert!(!lives || !durable, "round {round}: {answer} and {grant}");
            } else if told.contains_key(&id) {
                unanswered += 1;
            }
        }
        // What is left is ended, so that the rounds do not add up.
        for grant in house.grants().await {
            let id = grant["id"].as_str().expect("an id");
            if grant["status"] == "ready" || grant["status"] == "active" {
                revoke(&house.gate, id).await;
            }
        }
        let _ = house.step("ana", &pending, "withdraw").await;
    }
    println!("{rounds} times kill -9: {answered} changes had been answered, {unanswered} had not");
}

/// Kills fall behind the approval, too.
async fn pause_out(round: u64) {
    tokio::time::sleep(Duration::from_micros(300 * (round % 5))).await;
}

/// One call whose answer may never come.
async fn post(socket: &std::path::Path, token: &str, path: &str) -> Option<Value> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::UnixStream::connect(socket).await.ok()?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}
