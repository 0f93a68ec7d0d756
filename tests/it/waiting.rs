//! Connect and wait: an identity with a plain client and nothing installed, from its token to its rows.

use std::time::Duration;

use postgres_protocol::message::frontend;
use serde_json::{Value, json};
use tidegate::demo::testkit::TestGate;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::support::{Raw, TARGET, Told, database, eventually, gate_before, psql_as, records, within};

const ANA: &str = "ana@example.com";
const LEA: &str = "lea@example.com";
/// Writing without a ticket: somebody has to approve it.
const WRITE: &str = "shop/read-write";
const REASON: &str = r"-c tidegate.reason=bug\ 17";

/// What a client asks for in a wrong way, with the code and a word of the answer.
type Wrong<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);

/// A gate with the policies of this repository, a tester and her lead.
struct House {
    gate: TestGate,
    ana: String,
    lea: String,
}

impl House {
    async fn open(more: &str) -> Self {
        let policies = format!("[policy]\ndir = \"{}/policies\"\n", env!("CARGO_MANIFEST_DIR"));
        let profiles = "profiles = [\"read-only\", \"read-write\"]\n";
        let gate = gate_before(database(), profiles, &format!("{policies}{more}"));
        let admin = std::fs::read_to_string(gate.folder().join("state/admin.token")).expect("the admin token");
        let mut tokens = Vec::new();
        for (name, group) in [(ANA, "qa"), (LEA, "leads")] {
            let body = json!({"name": name, "groups": [group]});
            let made = call(&gate, admin.trim(), "POST", "/v1/users", &body).await;
            tokens.push(made["token"].as_str().expect("a token").to_owned());
        }
        let lea = tokens.pop().expect("two");
        let ana = tokens.pop().expect("two");
        Self { gate, ana, lea }
    }

    /// psql as Ana; it runs as long as it waits.
    fn psql(&self, dbname: &str, options: &str) -> tokio::process::Child {
        psql_as(&self.gate, ANA, &self.ana, dbname, options, "SELECT 'in'")
    }

    /// What psql said to the end: its output, its errors.
    async fn said(&self, dbname: &str, options: &str) -> (String, String) {
        let output = within("psql ends", self.psql(dbname, options).wait_with_output())
            .await
            .expect("psql ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    }

    /// Ana's login byte by byte, up to the answer to her token.
    async fn raw(&self, token: &str, parameters: &[(&str, &str)]) -> Raw {
        let mut raw = Raw::connect(&self.gate).await;
        raw.startup(&[&[("user", ANA)], parameters].concat()).await;
        let asked = raw.until(b'R').await;
        assert_eq!(asked.body[..], [0, 0, 0, 3], "a password in clear is asked for");
        raw.write(|out| frontend::password_message(token.as_bytes(), out).expect("fits"))
            .await;
        raw
    }

    /// The refusal of such a login.
    async fn refused(&self, token: &str, parameters: &[(&str, &str)]) -> Told {
        let frame = self.raw(token, parameters).await.until(b'E').await;
        Told::read(&frame.body)
    }

    /// A login that waits: it has read AuthenticationOk and the first notice.
    async fn waiting(&self) -> (Raw, Told) {
        let mut raw = self.raw(&self.ana, &[("database", WRITE), ("options", REASON)]).await;
        assert_eq!(raw.until(b'R').await.body[..], [0, 0, 0, 0], "AuthenticationOk");
        let notice = raw.until(b'N').await;
        (raw, Told::read(&notice.body))
    }

    async fn pending(&self) -> Vec<String> {
        let found = call(&self.gate, &self.lea, "GET", "/v1/requests?status=pending", &Value::Null).await;
        let requests = found["requests"].as_array().expect("a list");
        requests
            .iter()
            .map(|request| request["id"].as_str().expect("an id").to_owned())
            .collect()
    }

    /// The one request that is pending, soon.
    async fn request(&self) -> String {
        eventually("a pending request", async || self.pending().await.pop()).await
    }

    async fn decide(&self, request: &str, step: &str) {
        let path = format!("/v1/requests/{request}/{step}");
        call(&self.gate, &self.lea, "POST", &path, &json!({"comment": "as discussed"})).await;
    }

    /// The record of the last refusal with this ending.
    async fn on_record(&self, ending: &str) -> Value {
        eventually("the refusal is on record", async || {
            let mut all = records(&self.gate);
            all.retain(|record| record["event"] == "refused" && record["ending"] == ending);
            all.pop()
        })
        .await
    }
}

/// One call of the control API, which has to succeed.
pub(crate) async fn call(gate: &TestGate, token: &str, method: &str, path: &str, body: &Value) -> Value {
    let socket = gate.folder().join("state/control.sock");
    let mut stream = UnixStream::connect(socket).await.expect("the control API");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer))
        .await
        .expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
    serde_json::from_str(body).unwrap_or(Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_automatic_goes_straight_in_and_comes_back_under_the_same_grant() {
    let house = House::open("").await;
    for _ in 0..2 {
        let (output, errors) = house.said("shop/read-only", "").await;
        assert_eq!(output, "in\n", "{errors}");
        assert!(!errors.contains("waiting"), "{errors}");
    }
    // No profile: the narrowest, which this is.
    assert_eq!(house.said(TARGET, "").await.0, "in\n");
    let started: Vec<_> = records(&house.gate)
        .into_iter()
        .filter(|record| record["event"] == "session_started")
        .collect();
    assert_eq!(started.len(), 3);
    for record in &started {
        assert_eq!((&record["identity"], &record["grant"]), (&json!(ANA), &started[0]["grant"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_shows_what_it_waits_for_and_gets_in_when_that_is_approved() {
    let house = House::open("").await;
    let mut psql = house.psql(WRITE, REASON);
    let mut errors = BufReader::new(psql.stderr.take().expect("its errors")).lines();
    // Shown at once, while the login has not ended.
    let first = within("a notice", errors.next_line()).await.expect("text").expect("a line");
    let hint = within("its hint", errors.next_line()).await.expect("text").expect("a line");
    let request = house.request().await;
    assert!(first.contains(&format!("waiting for approval: {request}")), "{first}");
    assert!(
        hint.contains(LEA) && hint.contains(&format!("tidegate approve {request}")),
        "{hint}"
    );
    house.decide(&request, "approve").await;
    let output = within("psql ends", psql.wait_with_output()).await.expect("psql ends");
    assert_eq!(output.stdout, b"in\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_profile_the_narrowest_is_opened_whatever_else_is_live() {
    let house = House::open("").await;
    let psql = house.psql(WRITE, REASON);
    house.decide(&house.request().await, "approve").await;
    let output = within("psql ends", psql.wait_with_output()).await.expect("psql ends");
    assert_eq!(output.stdout, b"in\n");
    let (output, errors) = house.said(TARGET, "").await;
    assert_eq!(output, "in\n", "{errors}");
    assert!(
        errors.contains(&format!("you are {ANA} on shop/read-only under grant gr_")),
        "{errors}"
    );
    // The one that was asked for goes on; that nothing is asked anew is said.
    let (output, errors) = house.said(WRITE, r"-c tidegate.reason=bug\ 18").await;
    assert_eq!(output, "in\n", "{errors}");
    assert!(
        errors.contains("on shop/read-write under") && errors.contains("had already, for: bug 17."),
        "{errors}"
    );
    let joined = records(&house.gate);
    let joined: Vec<_> = joined.iter().filter(|record| record["event"] == "grant_joined").collect();
    assert_eq!(joined.len(), 1, "{joined:?}");
    assert_eq!(
        (&joined[0]["reason"], &joined[0]["profile"]),
        (&json!("bug 18"), &json!("read-write"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_of_less_lets_the_waiting_psql_in_and_says_so() {
    let house = House::open("").await;
    let psql = house.psql(WRITE, REASON);
    let request = house.request().await;
    let less = json!({"profile": "read-only", "window_seconds": 600, "comment": "reading is enough"});
    call(
        &house.gate,
        &house.lea,
        "POST",
        &format!("/v1/requests/{request}/approve"),
        &less,
    )
    .await;
    let output = within("psql ends", psql.wait_with_output()).await.expect("psql ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.stdout, b"in\n", "{errors}");
    for said in [
        "approved for less than it asked for: shop/read-only for 10 min, not shop/read-write for 30 min",
        "reading is enough",
        "on shop/read-only under grant",
    ] {
        assert!(errors.contains(said), "{said}: {errors}");
    }
    // The same wish again finds the same grant.
    let (output, errors) = house.said(WRITE, REASON).await;
    assert!(output == "in\n" && errors.contains("approved for less"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_no_is_said_in_words_and_put_on_record_under_the_identity() {
    let house = House::open("").await;
    let now = r"-c tidegate.reason=bug\ 17 -c tidegate.wait=0";
    let told = house.refused(&house.ana, &[("database", WRITE), ("options", now)]).await;
    let request = house.request().await;
    told.says(
        "FATAL",
        "28000",
        &[&request, "has to be approved first", LEA, "tidegate approve"],
    );
    assert_eq!(house.on_record("approval_pending").await["identity"], ANA);

    // The same request is found again, and rejected.
    let (mut raw, notice) = house.waiting().await;
    notice.says("NOTICE", "01000", &[&request]);
    house.decide(&request, "reject").await;
    raw.last_word()
        .await
        .0
        .says("FATAL", "28000", &[&request, LEA, "as discussed"]);
    assert_eq!(house.on_record("request_rejected").await["identity"], ANA);

    let wrong: [Wrong; 5] = [
        (&[("database", WRITE)], "28000", "say why"),
        (&[("database", "shoop")], "3D000", "shop"),
        (&[("database", "shop/admin")], "3D000", "read-only, read-write"),
        (
            &[("database", WRITE), ("options", "-c tidegate.reasn=x")],
            "42704",
            "tidegate.reason",
        ),
        (&[("database", WRITE), ("options", "-c tidegate.wait=soon")], "22023", "30s"),
    ];
    for (parameters, code, word) in wrong {
        house.refused(&house.ana, parameters).await.says("FATAL", code, &[word]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_learns_nothing() {
    let house = House::open("").await;
    let told = house.refused("tg_wrong", &[("database", TARGET)]).await;
    told.says("FATAL", "28P01", &["password authentication failed", ANA]);
    // A good token of somebody else.
    let other = house.refused(&house.lea, &[("database", "no such")]).await;
    assert_eq!(other, told);
    let record = house.on_record("bad_token").await;
    assert_eq!(record["identity"], Value::Null, "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_frees_its_seat_and_finds_its_request_again() {
    let house = House::open("[limits]\nwaiting_logins_per_identity = 1\n").await;
    let (raw, first) = house.waiting().await;
    let again = [("database", WRITE), ("options", REASON)];
    house
        .refused(&house.ana, &again)
        .await
        .says("FATAL", "53300", &["too many logins of ana"]);
    drop(raw);
    house.on_record("disconnected").await;
    let (mut raw, second) = house.waiting().await;
    assert_eq!(first, second, "the same request");
    house.decide(&house.request().await, "approve").await;
    raw.until(b'Z').await;
    raw.query("SELECT 1").await;
    raw.until(b'D').await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_is_told_again_and_sent_away_at_the_limit() {
    let house = House::open("[access]\nlogin_wait = \"1s\"\nlogin_notice = \"300ms\"\n").await;
    let (mut raw, _) = house.waiting().await;
    let again = Told::read(&raw.until(b'N').await.body);
    again.says("NOTICE", "01000", &["still waiting"]);
    let (told, _) = raw.last_word().await;
    told.says("FATAL", "28000", &["was not approved within", "it stays pending"]);
    assert_eq!(house.pending().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_logins_wait_for_one_approval() {
    let house = House::open("[limits]\nwaiting_logins_per_identity = 200\nconnections = 20\n").await;
    let mut waiting = Vec::new();
    for _ in 0..100 {
        waiting.push(house.waiting().await.0);
    }
    assert_eq!(house.pending().await.len(), 1, "one request for all of them");
    // They take no connections: somebody with a grant comes in beside them.
    assert_eq!(house.said("shop/read-only", "").await.0, "in\n");
    house.decide(&house.request().await, "approve").await;
    // Only as many come in as the grant allows; each of the others is told so.
    let mut inside = 0;
    for raw in &mut waiting {
        loop {
            match raw.frame().await.map(|frame| frame.kind) {
                Some(b'Z') => {
                    inside += 1;
                    break;
                }
                Some(b'E') | None => break,
                Some(_) => {}
            }
        }
    }
    assert!(inside > 0);
}

/// Where it goes is what the configuration says when it is let in, not when it began to wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_waited_through_a_reload_goes_where_the_configuration_says_now() {
    let house = House::open("").await;
    let file = house.gate.config_file();
    let good = std::fs::read_to_string(&file).expect("the configuration");
    let address = good.lines().find(|line| line.starts_with("address = ")).expect("an address");
    let nowhere = good.replace(address, "address = \"127.0.0.1:1\"");
    let mut reloads = 0;
    let mut reload = async |text: &str| {
        std::fs::write(&file, text).expect("written");
        house.gate.reload().expect("SIGHUP");
        reloads += 1;
        let count = || {
            records(&house.gate)
                .iter()
                .filter(|record| record["event"] == "reloaded")
                .count()
        };
        let done = async || (count() == reloads).then_some(());
        eventually("it is in force", done).await;
    };
    reload(&nowhere).await;
    let (mut raw, _) = house.waiting().await;
    reload(&good).await;
    house.decide(&house.request().await, "approve").await;
    raw.until(b'Z').await;
    raw.query("SELECT 1").await;
    raw.until(b'D').await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_sends_waiting_logins_away_with_words() {
    let house = House::open("").await;
    let (mut raw, _) = house.waiting().await;
    house.gate.terminate().expect("SIGTERM");
    raw.last_word().await.0.says("FATAL", "57P03", &["shutting down"]);
    let stopped = async || house.gate.ended().then_some(());
    tokio::time::timeout(Duration::from_secs(20), eventually("it stops", stopped))
        .await
        .expect("soon");
}
