//! Many at once, the same again, and names that do not exist: one result, one request, an answer that helps.

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{House, TARGET, eventually, id, psql_as, records, said};

const PEOPLE: [(&str, &str); 4] = [("ana", "qa"), ("bob", "qa"), ("lea", "leads"), ("leo", "leads")];

#[tokio::test(flavor = "multi_thread")]
async fn of_two_approvers_at_once_one_is_told_that_it_is_done() {
    let house = House::open(&PEOPLE, "", &[]).await;
    for _ in 0..10 {
        let request = house.asked("ana", "read-write").await;
        let (lea, leo) = tokio::join!(house.step("lea", &request, "approve"), house.step("leo", &request, "approve"));
        let (yes, no) = if lea.status == 200 { (lea, leo) } else { (leo, lea) };
        assert_eq!((yes.status, no.status), (200, 409), "{yes:?} {no:?}");
        assert!(
            no.body["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains("no longer pending: approved")),
            "{no:?}"
        );
        let now = house.request(&request).await;
        assert_eq!(now["approvals"].as_array().map(Vec::len), Some(1), "{now}");
    }
    // Of a yes and a no, and of a yes and the requester's own, one counts and the other is told so.
    for (who, other) in [("leo", "reject"), ("bob", "withdraw")] {
        for _ in 0..5 {
            let request = house.asked("bob", "read-write").await;
            let (yes, no) = tokio::join!(house.step("lea", &request, "approve"), house.step(who, &request, other));
            let mut both = [yes.status, no.status];
            both.sort_unstable();
            assert_eq!(both, [200, 409], "{yes:?} {no:?}");
            let now = house.request(&request).await;
            assert_eq!(now["status"] == "approved", yes.status == 200, "{now}");
        }
    }
    let grants = house.grants().await;
    let approved: HashSet<_> = grants.iter().map(|grant| grant["request"].to_string()).collect();
    assert_eq!(approved.len(), grants.len(), "one grant for each request: {grants:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_two_are_needed_two_at_once_are_enough() {
    let house = House::open(&PEOPLE, "", &[]).await;
    for _ in 0..5 {
        let request = house.asked("ana", "migrate").await;
        // Each of them says it twice.
        let yes = ["lea", "leo", "lea", "leo"].map(|who| house.step(who, &request, "approve"));
        let mut all: Vec<u16> = join_all(yes).await.iter().map(|answer| answer.status).collect();
        all.sort_unstable();
        assert_eq!(all, [200, 200, 409, 409]);
        let now = house.request(&request).await;
        assert_eq!(
            (&now["status"], &now["approvals_missing"]),
            (&json!("approved"), &json!(0)),
            "{now}"
        );
    }
    assert_eq!(house.grants().await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_waits_and_nobody_else_does() {
    let house = House::open(&PEOPLE, "[access]\nrequests_per_minute = 5\n", &[]).await;
    // At once and automatically, so each is a request of its own.
    let many = join_all((0..40).map(|_| house.ask("ana", "read-only", None))).await;
    let (served, refused): (Vec<_>, Vec<_>) = many.iter().partition(|answer| answer.status == 201);
    assert_eq!(served.len(), 5, "{many:?}");
    for answer in refused {
        assert_eq!(answer.status, 429, "{answer:?}");
        let text = answer.body.to_string();
        assert!(text.contains("within a minute; try again in "), "{text}");
    }
    let told = said(house.psql("ana", "migrate", "SELECT 1")).await;
    assert_eq!(told.code, Some(2));
    for word in [
        "too many requests of ana within a minute",
        "At most 5 in a minute; the next one is taken in ",
        "wait so long, then ask again",
    ] {
        assert!(told.errors.contains(word), "no {word:?} in {told:?}");
    }
    let record = eventually("the refusal is on record", async || {
        let mut all = records(&house.gate);
        all.retain(|record| record["event"] == "refused");
        all.pop()
    })
    .await;
    assert_eq!(
        (&record["sqlstate"], &record["identity"], &record["ending"]),
        (&json!("53300"), &json!("ana"), &json!("too_many_requests")),
        "{record}"
    );
    let mut decisions = records(&house.gate);
    decisions.retain(|record| record["event"] == "decision_made" && record["allowed"] == false);
    let by = json!(["access.requests_per_minute"]);
    assert!(
        !decisions.is_empty() && decisions.iter().all(|record| record["policies"] == by),
        "{decisions:?}"
    );
    // She still gets in with what she has, and others get what they ask for.
    assert_eq!(said(house.psql("ana", "read-only", "SELECT 'in'")).await.output, "in\n");
    assert_eq!(house.ask("bob", "read-only", None).await.status, 201);
    assert_eq!(said(house.psql("bob", "read-only", "SELECT 'in'")).await.output, "in\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_again_it_is_the_same_request() {
    let house = House::open(&PEOPLE, "", &[]).await;
    // What waits is not asked for twice, with or without a key, over the API or by connecting.
    let many = join_all((0..20).map(|_| house.ask("ana", "read-write", None))).await;
    let ids: HashSet<_> = many.into_iter().map(|answer| id(&answer.good())).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    // What was granted at once would be a second grant, were it not for the key.
    let many = join_all((0..20).map(|_| house.ask("ana", "read-only", Some("run-4711")))).await;
    let granted: HashSet<_> = many.into_iter().map(|answer| id(&answer.good())).collect();
    assert_eq!(granted.len(), 1, "{granted:?}");
    assert_eq!(house.grants().await.len(), 1);
    // The key is hers: somebody else's is another request.
    let other = id(&house.ask("bob", "read-only", Some("run-4711")).await.good());
    assert!(!granted.contains(&other));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_does_not_exist_is_answered_with_the_nearest() {
    let house = House::open(&PEOPLE, "", &[]).await;
    let wrong = |target: &str, profile: &str| json!({"target": target, "profile": profile, "reason": "bug 17"});
    let answer = house.call("ana", "POST", "/v1/requests", &wrong("shpo", "read-only")).await;
    assert_eq!((answer.status, &answer.body["nearest"]), (422, &json!(TARGET)), "{answer:?}");
    let answer = house.call("ana", "POST", "/v1/requests", &wrong(TARGET, "raed-write")).await;
    assert_eq!(
        (answer.status, &answer.body["nearest"]),
        (422, &json!("read-write")),
        "{answer:?}"
    );
    let remedy = answer.body["remedy"].as_str().expect("a remedy");
    assert!(remedy.contains("read-write, read-only, migrate"), "{remedy}");

    for (dbname, word) in [
        ("shpo", "dbname=shop?"),
        ("shop/raed-write", "read-write, read-only, migrate"),
    ] {
        let told = said(psql_as(&house.gate, "ana", house.token("ana"), dbname, "", "SELECT 1")).await;
        assert!(told.code == Some(2) && told.errors.contains(word), "no {word} in {told:?}");
    }
}
