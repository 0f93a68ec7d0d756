//! `kill -9` in the middle of every state a request can be in: what was, is; what was over, stays over; nothing is told twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tidegate::base::secret::Secret;
use tidegate::demo::testkit::TestLogin;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::watch;

use crate::support::{House, Raw, active, database, eventually, gate, grant, id, records, said, within};

/// Everybody in a state of their own.
const PEOPLE: [(&str, &str); 13] = [
    ("pat", "qa"),
    ("pia", "qa"),
    ("ron", "qa"),
    ("ada", "qa"),
    ("oli", "oncall"),
    ("rex", "qa"),
    ("wes", "qa"),
    ("eva", "qa"),
    ("dan", "qa"),
    ("lin", "qa"),
    ("fay", "guests"),
    ("lea", "leads"),
    ("leo", "leads"),
];

/// A receiver of webhooks that takes messages, and answers none of them while it is held.
pub(crate) struct Receiver {
    pub(crate) port: u16,
    pub(crate) held: watch::Sender<bool>,
    /// By the id of the notice, how often it was received (answered).
    received: Arc<Mutex<Vec<String>>>,
}

type Shared = (watch::Receiver<bool>, Arc<Mutex<Vec<String>>>);

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (held, holding) = watch::channel(true);
        let received = Arc::new(Mutex::new(Vec::new()));
        let take = async |State((mut holding, received)): State<Shared>, headers: HeaderMap, body: Bytes| {
            assert!(headers.keys().any(|name| name.as_str().contains("signature")), "{headers:?}");
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            holding.wait_for(|held| !held).await.expect("it goes on");
            received.lock().expect("not poisoned").push(id(&body));
        };
        let router = axum::Router::new().route("/", axum::routing::post(take));
        let router = router.with_state((holding, Arc::clone(&received)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, held, received }
    }

    pub(crate) fn received(&self) -> Vec<String> {
        self.received.lock().expect("not poisoned").clone()
    }
}

async fn kill_and_start(house: &mut House) {
    house.gate.kill().expect("kill -9");
    eventually("it is dead", async || house.gate.ended().then_some(())).await;
    house.gate.start_again().expect("a gate");
}

/// A login of somebody's own grant.
async fn login(house: &House, who: &str, grant: &str) -> TestLogin {
    let path = format!("/v1/grants/{grant}/login");
    let body = house.call(who, "POST", &path, &json!({})).await.good();
    TestLogin {
        grant: body["user"].as_str().expect("a user").to_owned(),
        secret: Secret::new(body["secret"].as_str().expect("a secret").to_owned()),
    }
}

/// Every request as it stands.
async fn requests(house: &House) -> BTreeMap<String, Value> {
    let all = house.call("operator", "GET", "/v1/requests", &Value::Null).await.good();
    let all = all["requests"].as_array().expect("requests").iter();
    all.map(|request| (id(request), request.clone())).collect()
}

fn grant_of(request: &Value) -> String {
    request["outcome"]["grant"]
        .as_str()
        .unwrap_or_else(|| panic!("no grant in {request}"))
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_state_is_the_same_after_a_kill() {
    let receiver = Receiver::start().await;
    let hook = format!(
        "[[notify.webhooks]]\nname = \"desk\"\nurl = \"http://127.0.0.1:{}/\"\nsecret_file = \"hook.secret\"\n",
        receiver.port
    );
    let mut house = House::open(&PEOPLE, &hook, &[("hook.secret", "0123456789abcdef0123456789abcdef")]).await;

    let pending = id(&house.ask("pat", "read-write", Some("pat-1")).await.good());
    let partly = house.asked("pia", "migrate").await;
    house.step("lea", &partly, "approve").await.good();
    let ready = house.asked("ron", "read-write").await;
    house.step("lea", &ready, "approve").await.good();
    let granted = id(&house.ask("ada", "read-only", Some("ada-1")).await.good());
    let mut session = house.psql("ada", "read-only", "SELECT pg_sleep(5151)");
    eventually("it runs", async || active(database(), "pg_sleep(5151)").await.pop()).await;
    let body = json!({"target": "shop", "profile": "migrate", "window_seconds": 600, "reason": "it burns", "break_glass": true});
    let glass = id(&house.call("oli", "POST", "/v1/requests", &body).await.good());
    let rejected = house.asked("rex", "read-write").await;
    house.step("leo", &rejected, "reject").await.good();
    let withdrawn = house.asked("wes", "read-write").await;
    house.step("wes", &withdrawn, "withdraw").await.good();
    assert_eq!(house.ask("fay", "read-only", None).await.status, 403);
    // Given back, and revoked by disabling: each with a login that was good until then.
    let back = house.asked("eva", "read-only").await;
    let back = grant_of(&house.request(&back).await);
    let back_login = login(&house, "eva", &back).await;
    drop(Raw::session(&house.gate, &back_login).await);
    house
        .call("eva", "POST", &format!("/v1/grants/{back}/release"), &json!({}))
        .await
        .good();
    let lost = house.asked("dan", "read-only").await;
    let lost = grant_of(&house.request(&lost).await);
    let lost_login = login(&house, "dan", &lost).await;
    house
        .call("operator", "POST", "/v1/users/dan/disable", &json!({}))
        .await
        .good();
    let mut waits = house.psql("lin", "read-write", "SELECT 'in'");
    let mut notices = BufReader::new(waits.stderr.take().expect("its errors")).lines();
    let first = within("a notice", notices.next_line()).await.expect("text").expect("a line");
    let waited_for = requests(&house)
        .await
        .into_values()
        .find(|request| request["identity"] == "lin");
    let waited_for = id(&waited_for.expect("her request"));
    assert!(first.contains(&waited_for), "{first}");

    let (requests_before, grants_before) = (requests(&house).await, house.grants().await);
    assert_eq!(requests_before.len(), 11, "{requests_before:?}");
    assert!(receiver.received().is_empty(), "it holds all of them");
    kill_and_start(&mut house).await;

    // The clients saw their connections end.
    assert_eq!(within("psql ends", session.wait()).await.expect("an end").code(), Some(2));
    assert_eq!(within("psql ends", waits.wait()).await.expect("an end").code(), Some(2));
    // To the last field: every status, approval, deadline and end.
    assert_eq!(requests(&house).await, requests_before);
    assert_eq!(house.grants().await, grants_before);

    // What is over is over.
    for (request, status) in [(&rejected, "rejected"), (&withdrawn, "withdrawn")] {
        let answer = house.step("lea", request, "approve").await;
        assert!(answer.status == 409 && answer.body.to_string().contains(status), "{answer:?}");
    }
    for login in [&back_login, &lost_login] {
        let told = Raw::refused(&house.gate, login).await;
        assert_eq!(told.severity, "FATAL", "{told:?}");
    }
    assert_eq!(house.ask("dan", "read-only", None).await.status, 401);
    // What was asked for under a key is not asked for twice.
    assert_eq!(id(&house.ask("pat", "read-write", Some("pat-1")).await.good()), pending);
    assert_eq!(id(&house.ask("ada", "read-only", Some("ada-1")).await.good()), granted);
    assert_eq!(house.grants().await, grants_before);

    // What waited, waits, and comes to its end; who has said yes does not count twice.
    assert_eq!(house.step("lea", &partly, "approve").await.status, 409);
    for (who, request) in [("lea", &pending), ("leo", &partly)] {
        assert_eq!(house.step(who, request, "approve").await.good()["status"], "approved");
    }
    for (who, profile) in [
        ("pat", "read-write"),
        ("pia", "migrate"),
        ("ron", "read-write"),
        ("ada", "read-only"),
    ] {
        let told = said(house.psql(who, profile, "SELECT 'in'")).await;
        assert_eq!(told.output, "in\n", "{who}: {told:?}");
    }
    let ada = grant_of(&requests_before[&granted]);
    let window = |grants: &[Value]| grants.iter().find(|grant| grant["id"] == ada.as_str()).cloned();
    assert_eq!(window(&house.grants().await), window(&grants_before), "no second more");
    assert_eq!(house.step("lea", &glass, "review").await.good()["review"]["by"], "lea");

    // The login that waited finds its request again.
    let mut again = house.psql("lin", "read-write", "SELECT 'in'");
    let mut notices = BufReader::new(again.stderr.take().expect("its errors")).lines();
    let second = within("a notice", notices.next_line()).await.expect("text").expect("a line");
    assert_eq!(first, second, "the same words about the same request");
    house.step("leo", &waited_for, "approve").await.good();
    assert_eq!(
        within("psql ends", again.wait_with_output()).await.expect("an end").stdout,
        b"in\n"
    );

    everything_is_told(&house, &receiver, &requests_before).await;
}

/// What the gate had not delivered when it died is delivered by the next, and what came since, each once.
async fn everything_is_told(house: &House, receiver: &Receiver, before: &BTreeMap<String, Value>) {
    receiver.held.send_replace(false);
    let mut expected: Vec<String> = Vec::new();
    for (request, was) in before {
        let status = was["status"].as_str().expect("a status");
        // What needs approvers was told of when it was asked for.
        if was["approvals_needed"] != 0 {
            expected.push(format!("{request}.request_pending"));
        }
        let now = house.request(request).await;
        match (status, now["status"].as_str().expect("a status")) {
            _ if now["break_glass"] == true => {
                expected.extend([format!("{request}.break_glass"), format!("{request}.break_glass_reviewed")]);
            }
            (_, "pending") => {}
            (_, settled) => expected.push(format!("{request}.request_{settled}")),
        }
    }
    expected.sort();
    let told = eventually("everything is told", async || {
        let mut told = receiver.received();
        told.sort();
        (told.len() >= expected.len()).then_some(told)
    })
    .await;
    assert_eq!(told, expected);
}

/// Approvals in full flight when the gate dies: what was answered is so, and what is so is on record, a request with its grant.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_among_approvals_loses_no_answer_and_leaves_nothing_by_halves() {
    let names: Vec<String> = (0..24).map(|n| format!("t{n}")).collect();
    let mut people: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "qa")).collect();
    people.push(("lea", "leads"));
    let mut house = House::open(&people, "", &[]).await;
    let asked = names.iter().map(|name| house.asked(name, "read-write"));
    let asked: Vec<String> = join_all(asked).await;
    let answered = Mutex::new(Vec::new());
    let approvals = asked.iter().map(async |request| {
        let (gate, token) = (&house.gate, house.token("lea"));
        if approve(gate, token, request).await {
            answered.lock().expect("not poisoned").push(request.clone());
            // In the middle of the others.
            if answered.lock().expect("not poisoned").len() == 8 {
                gate.kill().expect("kill -9");
            }
        }
    });
    within("all have their answer, or none", join_all(approvals)).await;
    eventually("it is dead", async || house.gate.ended().then_some(())).await;
    house.gate.start_again().expect("a gate");

    let answered = answered.into_inner().expect("not poisoned");
    assert!(answered.len() >= 8, "{}", answered.len());
    let (now, grants, all) = (requests(&house).await, house.grants().await, records(&house.gate));
    for request in &asked {
        let stands = &now[request];
        let approved = stands["status"] == "approved";
        assert!(
            approved || (stands["status"] == "pending" && !answered.contains(request)),
            "{stands}"
        );
        let of = grants
            .iter()
            .filter(|grant| grant["request"] == request.as_str())
            .collect::<Vec<_>>();
        assert_eq!(of.len(), usize::from(approved), "{stands}: {of:?}");
        let said = all.iter().any(|record| {
            record["event"] == "request_changed" && record["request"] == request.as_str() && record["change"] == "approved"
        });
        assert!(said || !approved, "approved and not on record: {stands}");
        // Who is not answered asks again, and is told how it stands.
        let status = house.step("lea", request, "approve").await.status;
        assert_eq!(status, if approved { 409 } else { 200 });
    }
    println!("killed after {} of {} approvals were answered", answered.len(), asked.len());
}

/// Whether it was answered with a yes; the gate may die before.
async fn approve(gate: &tidegate::demo::testkit::TestGate, token: &str, request: &str) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let Ok(mut stream) = tokio::net::UnixStream::connect(gate.folder().join("state/control.sock")).await else {
        return false;
    };
    let text = format!(
        "POST /v1/requests/{request}/approve HTTP/1.1\r\nHost: gate\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    let mut answer = String::new();
    stream.write_all(text.as_bytes()).await.is_ok()
        && stream.read_to_string(&mut answer).await.is_ok()
        && answer.starts_with("HTTP/1.1 200 ")
}

/// A clock that is more than a year ahead of the last time that is known is not believed, and a window that is over might seem open.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_while_the_clock_is_doubted() {
    let mut gate = gate();
    let login = grant(&gate, "10m");
    gate.kill().expect("kill -9");
    eventually("it is gone", async || gate.ended().then_some(())).await;
    let store = rusqlite::Connection::open(gate.folder().join("state/ledger.sqlite")).expect("the store");
    let two_years_us: i64 = 2 * 366 * 24 * 3600 * 1_000_000;
    store
        .execute("UPDATE gate SET highest_time = highest_time - ?1", [two_years_us])
        .expect("another time");
    drop(store);
    gate.start_again().expect("a gate");
    let refused = within("an answer", Raw::refused(&gate, &login)).await;
    refused.says("FATAL", "57P03", &["clock is in doubt", "tidegate clock"]);
    let record = eventually("it is on record", async || {
        records(&gate).into_iter().find(|record| record["ending"] == "clock_doubted")
    })
    .await;
    assert_eq!(record["grant"], login.grant, "{record}");
    // An operator who has seen that it is right says so.
    gate.json(&["clock", "set-right"]).expect("set right");
    let _session = Raw::session(&gate, &login).await;
}
