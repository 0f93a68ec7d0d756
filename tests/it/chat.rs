//! Answers from a chat that the test plays: a waiting psql gets its prompt by a click.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Query, State};
use axum::routing;
use axum::{Json, Router};
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::support::{House, records, said, within};

const ANA: &str = "ana@example.com";
const LEA: &str = "lea@example.com";
const PEOPLE: [(&str, &str); 2] = [(ANA, "qa"), (LEA, "leads")];
const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";

/// Messages of the gate: the path that they were posted to, and their body.
type Messages = mpsc::UnboundedSender<(String, Value)>;

/// Starts a chat that knows Lea, and takes messages at `/channel` and `/answer`.
async fn chat() -> (u16, mpsc::UnboundedReceiver<(String, Value)>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let (sender, messages) = mpsc::unbounded_channel();
    let take = |State(sender): State<Messages>, uri: axum::http::Uri, Json(body): Json<Value>| async move {
        sender.send((uri.path().to_owned(), body)).expect("the test listens");
    };
    let users = |Query(asked): Query<Vec<(String, String)>>| async move {
        assert_eq!(asked, [("user".to_owned(), "ULEA".to_owned())]);
        let profile = json!({"email": LEA});
        let user = json!({"id": "ULEA", "team_id": "T1", "is_email_confirmed": true, "profile": profile});
        Json(json!({"ok": true, "user": user}))
    };
    let router = Router::new()
        .route("/api/users.info", routing::get(users))
        .route("/channel", routing::post(take))
        .route("/answer", routing::post(take))
        .with_state(sender);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (port, messages)
}

/// Posts a call with Slack's signature, and returns the status of its answer.
async fn post(house: &House, time: u64, payload: &Value) -> u16 {
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair("payload", &payload.to_string())
        .finish();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key of any length");
    mac.update(format!("v0:{time}:{body}").as_bytes());
    let signature = HEXLOWER.encode(&mac.finalize().into_bytes());
    let request = format!(
        "POST /v1/chat/slack HTTP/1.1\r\nHost: gate\r\nConnection: close\r\nX-Slack-Request-Timestamp: {time}\r\n\
         X-Slack-Signature: v0={signature}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let socket = house.gate.folder().join("state/control.sock");
    let mut stream = UnixStream::connect(socket).await.expect("the control API");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer))
        .await
        .expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.expect("a status")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_login_gets_in_by_a_click() {
    let (port, mut messages) = chat().await;
    let config = format!(
        "[[notify.webhooks]]\nname = \"channel\"\nurl = \"http://127.0.0.1:{port}/channel\"\nsecret_file = \"hook.secret\"\n\
         format = \"slack\"\nevents = [\"request_pending\"]\n\
         [chat]\nsigning_secret_file = \"slack.secret\"\nteam = [\"T1\"]\napi_token_file = \"slack.token\"\n\
         api = \"http://127.0.0.1:{port}/api\"\nusers = {{ UANA = \"{ANA}\" }}\n"
    );
    let files = [
        ("hook.secret", "0123456789abcdef"),
        ("slack.secret", SECRET),
        ("slack.token", "xoxb-1"),
    ];
    let house = House::open(&PEOPLE, &config, &files).await;
    let psql = house.psql(ANA, "read-write", "SELECT 'in'");
    let (path, message) = within("a message", messages.recv()).await.expect("a message");
    assert_eq!(path, "/channel");
    assert_eq!(message["blocks"][1]["element"]["type"], "plain_text_input", "{message}");
    let elements = message["blocks"][2]["elements"].as_array().expect("buttons");
    let actions: Vec<_> = elements
        .iter()
        .map(|element| element["action_id"].as_str().unwrap_or("link"))
        .collect();
    assert_eq!(actions, ["approve", "approve_for", "reject"], "{message}");
    let click = |user: &str| {
        let mut action = elements[0].clone();
        action.as_object_mut().expect("a button").remove("text");
        json!({
            "type": "block_actions", "team": {"id": "T1"}, "user": {"id": user, "team_id": "T1"}, "actions": [action],
            "response_url": format!("http://127.0.0.1:{port}/answer"), "message": {"blocks": message["blocks"]},
            "state": {"values": {"b1": {"comment": {"type": "plain_text_input", "value": "be quick"}}}},
        })
    };
    // Not the second of the gate's start.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs() + 1;
    assert_eq!(post(&house, now, &click("UANA")).await, 200);
    let (path, told) = within("a refusal", messages.recv()).await.expect("a refusal");
    assert_eq!((path.as_str(), &told["response_type"]), ("/answer", &json!("ephemeral")));
    assert!(told["text"].as_str().expect("a text").contains("your own request"), "{told}");
    assert_eq!(post(&house, now, &click("ULEA")).await, 200);
    let (path, told) = within("what came of it", messages.recv()).await.expect("an answer");
    assert_eq!((path.as_str(), &told["replace_original"]), ("/answer", &json!(true)));
    assert!(
        told["text"]
            .as_str()
            .expect("a text")
            .starts_with(&format!("{LEA} approved rq_")),
        "{told}"
    );
    assert!(!told["blocks"].to_string().contains("actions"), "{told}");
    let told = said(psql).await;
    assert_eq!(told.output, "in\n", "{told:?}");
    assert_eq!(post(&house, now, &click("ULEA")).await, 401, "a copy");
    let steps = records(&house.gate);
    let approved = steps
        .iter()
        .find(|record| record["event"] == "request_changed" && record["by"] == LEA)
        .expect("on record");
    assert_eq!((&approved["via"], &approved["reason"]), (&json!("slack"), &json!("be quick")));
}
