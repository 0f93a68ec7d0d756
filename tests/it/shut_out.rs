//! Disabling an identity: its sessions, its waiting logins, its requests and its grants end at once, and its token is nothing.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::restarts::Receiver;
use crate::support::{House, active, database, eventually, records, records_of, said, within};

const PEOPLE: [(&str, &str); 3] = [("ana", "qa"), ("bob", "qa"), ("lea", "leads")];

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_disabled_is_out_at_once() {
    let house = House::open(&PEOPLE, "", &[]).await;
    let works = house.psql("ana", "read-only", "SELECT pg_sleep(4242)");
    eventually("her statement runs", async || {
        active(database(), "pg_sleep(4242)").await.pop()
    })
    .await;
    // Another grant that was not used yet, with a login of its own.
    house.asked("ana", "read-only").await;
    let mut waits = house.psql("ana", "read-write", "SELECT 'in'");
    let mut notices = BufReader::new(waits.stderr.take().expect("its errors")).lines();
    within("a notice", notices.next_line()).await.expect("text").expect("a line");
    let pending = eventually("her request", async || {
        let all = house
            .call("lea", "GET", "/v1/requests?status=pending", &Value::Null)
            .await
            .good();
        all["requests"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let untouched = house.psql("bob", "read-only", "SELECT pg_sleep(4243)");
    eventually("his statement runs", async || {
        active(database(), "pg_sleep(4243)").await.pop()
    })
    .await;

    let disabled = house
        .call("operator", "POST", "/v1/users/ana/disable", &json!({}))
        .await
        .good();
    assert_eq!(disabled["disabled"], true);
    // It is done when it is answered: nothing of hers is alive.
    for grant in house.grants().await {
        let hers = grant["identity"] == "ana";
        assert_eq!(grant["status"] == "revoked", hers, "{grant}");
    }
    let told = said(works).await;
    assert_eq!((told.output.as_str(), told.code), ("", Some(2)), "{told:?}");
    assert!(
        told.errors.contains("FATAL:") && told.errors.contains("was revoked at"),
        "{told:?}"
    );
    eventually("her statement is gone", async || {
        active(database(), "pg_sleep(4242)").await.is_empty().then_some(())
    })
    .await;
    let request = house.request(&pending).await;
    assert_eq!(request["status"], "rejected");
    assert_eq!(request["outcome"]["comment"], "the identity is disabled", "{request}");
    let mut last = String::new();
    while let Some(line) = within("its last words", notices.next_line()).await.expect("text") {
        last.push_str(&line);
        last.push('\n');
    }
    assert!(last.contains(&format!("request {pending} was rejected by")), "{last}");
    assert_eq!(within("psql ends", waits.wait()).await.expect("an end").code(), Some(2));

    // Her token proves nothing, on the wire as at the API, and nobody is told why.
    assert_eq!(house.ask("ana", "read-only", None).await.status, 401);
    let told = said(house.psql("ana", "read-only", "SELECT 'in'")).await;
    assert!(
        told.errors.contains("password authentication failed for user \"ana\""),
        "{told:?}"
    );
    assert!(!told.errors.contains("disabled"), "{told:?}");
    // What she had asked for is not given to her afterwards.
    let late = house.step("lea", &pending, "approve").await;
    assert!(
        late.status == 409 && late.body.to_string().contains("no longer pending: rejected"),
        "{late:?}"
    );
    let ends: Vec<_> = house
        .grants()
        .await
        .into_iter()
        .filter(|grant| grant["identity"] == "ana")
        .collect();
    let end = eventually("her session's end is on record", async || {
        let mut all = ends
            .iter()
            .filter_map(|grant| records_of(&house.gate, grant["id"].as_str()?, "session_ended").pop());
        all.next()
    })
    .await;
    assert_eq!(
        (&end["identity"], &end["ending"]),
        (&json!("ana"), &json!("revoked")),
        "{end}"
    );

    // Let in again, she begins anew: what has ended stays ended.
    house
        .call("operator", "POST", "/v1/users/ana/enable", &json!({}))
        .await
        .good();
    assert_eq!(said(house.psql("ana", "read-only", "SELECT 'in'")).await.output, "in\n");
    assert!(house.grants().await.contains(&ends[0]));
    assert!(
        !active(database(), "pg_sleep(4243)").await.is_empty(),
        "nobody else was touched"
    );
    drop(untouched);
    let changes: Vec<_> = records(&house.gate)
        .into_iter()
        .filter(|record| record["event"] == "user_changed" && record["identity"] == "ana")
        .map(|record| record["change"].clone())
        .collect();
    assert_eq!(changes, [json!("added"), json!("disabled"), json!("enabled")]);
}

/// A request for which nobody is left is told to the webhooks, beside that it waits.
#[tokio::test(flavor = "multi_thread")]
async fn that_nobody_is_left_to_approve_is_told() {
    let receiver = Receiver::start().await;
    receiver.held.send_replace(false);
    let hook = format!(
        "[[notify.webhooks]]\nname = \"desk\"\nurl = \"http://127.0.0.1:{}/\"\nsecret_file = \"hook.secret\"\n",
        receiver.port
    );
    let house = House::open(&PEOPLE, &hook, &[("hook.secret", "0123456789abcdef0123456789abcdef")]).await;
    let approvable = house.asked("ana", "read-write").await;
    let told = async |notice: String| {
        eventually("it is told", async || receiver.received().contains(&notice).then_some(())).await;
    };
    told(format!("{approvable}.request_pending")).await;
    house
        .call("operator", "POST", "/v1/users/lea/disable", &json!({}))
        .await
        .good();
    let unapprovable = house.asked("bob", "read-write").await;
    told(format!("{unapprovable}.request_pending")).await;
    told(format!("{unapprovable}.request_without_approver")).await;
    // Plain psql reads it, too.
    let mut waits = house.psql("bob", "read-write", "SELECT 'in'");
    let mut notices = BufReader::new(waits.stderr.take().expect("its errors")).lines();
    within("a notice", notices.next_line()).await.expect("text").expect("a line");
    let hint = within("its hint", notices.next_line()).await.expect("text").expect("a line");
    assert!(hint.contains("no enabled user of this gate may approve it"), "{hint}");
}
