//! The webhook of a person: decisions by others, the end of a window that comes and that is there, revocations; nothing else.

use serde_json::json;

use crate::restarts::Receiver;
use crate::support::{House, eventually, id, said};

const PEOPLE: [(&str, &str); 3] = [("ana", "qa"), ("bob", "qa"), ("lea", "leads")];

/// Lets time pass for a grant: the gate is killed, its store is told of earlier times, and it starts again.
async fn later(house: &mut House, grant: &str, minutes: i64) {
    house.gate.kill().expect("kill -9");
    eventually("it is dead", async || house.gate.ended().then_some(())).await;
    let store = rusqlite::Connection::open(house.gate.folder().join("state/ledger.sqlite")).expect("the store");
    // The store itself refuses it.
    let unguarded = store.execute_batch("DROP TRIGGER IF EXISTS grants_keep_their_end");
    unguarded.expect("no trigger");
    let sql = "UPDATE grants SET created_at = created_at - ?1, activate_by = activate_by - ?1, \
               activated_at = activated_at - ?1, until = until - ?1 WHERE id = ?2 AND until IS NOT NULL";
    let changed = store.execute(sql, rusqlite::params![minutes * 60_000_000, grant]);
    assert_eq!(changed.expect("earlier times"), 1, "its window is open");
    drop(store);
    house.gate.start_again().expect("a gate");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_told_of_what_others_and_time_do_to_their_access() {
    let receiver = Receiver::start().await;
    receiver.held.send_replace(false);
    let hook = format!(
        "[[notify.webhooks]]\nname = \"ana\"\nidentity = \"ana\"\nurl = \"http://127.0.0.1:{}/\"\nsecret_file = \"hook.secret\"\n",
        receiver.port
    );
    let mut house = House::open(&PEOPLE, &hook, &[("hook.secret", "0123456789abcdef0123456789abcdef")]).await;
    let told = async |notice: &str| {
        let begins = |known: &String| known.starts_with(notice);
        eventually(notice, async || receiver.received().iter().any(begins).then_some(())).await;
    };
    // Bob's access is nothing to her, and what she does herself is no news.
    let bobs = house.asked("bob", "read-write").await;
    house.step("lea", &bobs, "approve").await.good();
    let withdrawn = house.asked("ana", "read-write").await;
    house.step("ana", &withdrawn, "withdraw").await.good();
    let request = house.asked("ana", "read-write").await;
    house.step("lea", &request, "approve").await.good();
    told(&format!("{request}.request_approved")).await;
    assert_eq!(said(house.psql("ana", "read-write", "SELECT 'in'")).await.output, "in\n");
    let grant = house.request(&request).await["outcome"]["grant"].clone();
    let grant = grant.as_str().expect("a grant").to_owned();

    later(&mut house, &grant, 26).await;
    told(&format!("{grant}.grant_ending.")).await;
    later(&mut house, &grant, 5).await;
    told(&format!("{grant}.grant_ended")).await;

    // One that she gives back, and one that is revoked.
    let [back, lost] = [house.asked("ana", "read-only").await, house.asked("ana", "read-only").await];
    let granted = async |request: &str| id(&json!({"id": house.request(request).await["outcome"]["grant"]}));
    let (back, lost) = (granted(&back).await, granted(&lost).await);
    let release = format!("/v1/grants/{back}/release");
    house.call("ana", "POST", &release, &json!({})).await.good();
    let revoke = format!("/v1/grants/{lost}/revoke");
    house
        .call("operator", "POST", &revoke, &json!({"reason": "an incident"}))
        .await
        .good();
    told(&format!("{lost}.grant_revoked")).await;
    let mut heard = receiver.received();
    // A message that was not noted as received before a kill comes again.
    heard.dedup();
    let kinds: Vec<&str> = heard.iter().filter_map(|notice| notice.split('.').nth(1)).collect();
    assert_eq!(
        kinds,
        ["request_approved", "grant_ending", "grant_ended", "grant_revoked"],
        "{heard:?}"
    );
}
