//! Every decision is on record with the policies that made it and the set they are of: a yes, a no, a step, an extension.

use serde_json::{Value, json};

use crate::support::{House, eventually, id, records};

const PEOPLE: [(&str, &str); 4] = [("ana", "qa"), ("lea", "leads"), ("oli", "oncall"), ("fay", "guests")];

/// The records of an event.
fn decided(house: &House, event: &str) -> Vec<Value> {
    let mut all = records(&house.gate);
    all.retain(|record| record["event"] == event);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn each_names_its_policies_and_their_set() {
    let house = House::open(&PEOPLE, "", &[]).await;
    let read = house.asked("ana", "read-only").await;
    let write = house.asked("ana", "read-write").await;
    assert_eq!(house.step("ana", &write, "approve").await.status, 409);
    house.step("lea", &write, "approve").await.good();
    assert_eq!(house.ask("fay", "read-only", None).await.status, 403);
    let wish =
        json!({"target": "shop", "profile": "read-write", "window_seconds": 600, "reason": "it burns", "break_glass": true});
    let glass = id(&house.call("oli", "POST", "/v1/requests", &wish).await.good());
    let grant = house.request(&read).await["outcome"]["grant"]
        .as_str()
        .expect("a grant")
        .to_owned();
    let extend = format!("/v1/grants/{grant}/extend");
    let body = json!({"by_seconds": 600});
    assert_eq!(house.call("ana", "POST", &extend, &body).await.status, 403);

    let loaded = decided(&house, "policy_loaded");
    let set = loaded.last().expect("a set is read at the start")["policy_set"].clone();
    assert_eq!(set.as_str().map(str::len), Some(64), "{loaded:?}");
    let expected = [
        (&read, "granted", json!(["reading-is-automatic"])),
        (&write, "submitted", json!(["testers-ask"])),
        (&glass, "granted", json!(["oncall-breaks-the-glass"])),
    ];
    let changes = eventually("all is on record", async || {
        let changes = decided(&house, "request_changed");
        (changes.len() >= 5).then_some(changes)
    })
    .await;
    for (request, change, policies) in expected {
        let found = changes
            .iter()
            .find(|record| record["request"] == **request && record["change"] == change)
            .unwrap_or_else(|| panic!("no {change} of {request} in {changes:?}"));
        assert_eq!((&found["policies"], &found["policy_set"]), (&policies, &set), "{found}");
    }
    let approved = changes.iter().find(|record| record["by"] == "lea").expect("her yes");
    assert_eq!(
        (&approved["policies"], &approved["policy_set"]),
        (&json!(["leads-approve"]), &set),
        "{approved}"
    );
    let denied = changes
        .iter()
        .find(|record| record["identity"] == "fay")
        .expect("her request");
    assert_eq!((&denied["change"], &denied["policy_set"]), (&json!("denied"), &set));

    let decisions = decided(&house, "decision_made");
    for (who, action, about) in [("ana", "approve", &write), ("ana", "extend", &grant)] {
        let found = decisions
            .iter()
            .find(|record| record["identity"] == who && record["action"] == action)
            .unwrap_or_else(|| panic!("no {action} of {who} in {decisions:?}"));
        assert_eq!(found["about"], **about, "{found}");
        assert_eq!((&found["allowed"], &found["policy_set"]), (&json!(false), &set), "{found}");
    }
}
