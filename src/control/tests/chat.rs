//! Clicks in a chat that is played: what they decide, and every call that decides nothing.

use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::routing::{get, post};
use axum::{Json, Router};
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::people::Team;
use super::*;
use crate::audit::event::Event;
use crate::base::secret::Secret;
use crate::chat::ChatSettings;

pub(super) const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";
/// Reading for longer than the policies give at once.
const HOURS: u64 = 6 * 3600;
const PATIENCE: Duration = Duration::from_secs(20);

/// A gate with a chat, whose table has ana (UANA) and lena (ULENA); others are looked up.
struct House {
    team: Team,
    url: String,
    told: mpsc::UnboundedReceiver<(String, Value)>,
    clicks: u32,
}

type Told = mpsc::UnboundedSender<(String, Value)>;

async fn users_info(headers: HeaderMap, Query(asked): Query<BTreeMap<String, String>>) -> Json<Value> {
    assert_eq!(headers["authorization"], "Bearer xoxb-1");
    let user = asked["user"].as_str();
    let mut member = json!({"id": user, "team_id": "T1", "is_email_confirmed": true, "profile": {"email": "mo@example.com"}});
    match user {
        "UMO" => {}
        "UBOT" => member["is_bot"] = json!(true),
        "UGUEST" => member["is_restricted"] = json!(true),
        "UGONE" => member["deleted"] = json!(true),
        "UNEW" => member["is_email_confirmed"] = json!(false),
        "UNOBODY" => member["profile"]["email"] = json!("nobody@example.com"),
        _ => return Json(json!({"ok": false, "error": "user_not_found"})),
    }
    Json(json!({"ok": true, "user": member}))
}

async fn listen() -> (String, mpsc::UnboundedReceiver<(String, Value)>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (told, tells) = mpsc::unbounded_channel();
    let hook = |State(told): State<Told>, uri: axum::http::Uri, Json(message): Json<Value>| async move {
        let _ = told.send((uri.path().to_owned(), message));
    };
    let router = Router::new()
        .route("/api/users.info", get(users_info))
        .route("/hook", post(hook))
        .with_state(told);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, tells)
}

pub(super) fn settings(url: &str) -> ChatSettings {
    let users = [("UANA", "ana"), ("ULENA", "lena"), ("UDEE", "dee")];
    ChatSettings {
        signing_secret: Secret::new(SECRET.to_owned()),
        teams: ["T1".to_owned()].into(),
        users: users.map(|(user, name)| (user.to_owned(), name.parse().unwrap())).into(),
        api_token: Some(Secret::new("xoxb-1".to_owned())),
        api: format!("{url}/api"),
        link: Some("https://gate.example.org:7433".to_owned()),
    }
}

pub(super) fn signature(secret: &str, time: i64, body: &str) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("v0:{time}:{body}").as_bytes());
    format!("v0={}", HEXLOWER.encode(&mac.finalize().into_bytes()))
}

fn headers(time: i64, signature: &str) -> String {
    format!(
        "x-slack-request-timestamp: {time}\r\nx-slack-signature: {signature}\r\ncontent-type: application/x-www-form-urlencoded\r\n"
    )
}

pub(super) fn form(payload: &str) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("payload", payload)
        .finish()
}

fn button(action: &str, value: &str) -> Value {
    json!({"type": "button", "action_id": action, "value": value})
}

impl House {
    async fn open() -> Self {
        Self::with(people::policies()).await
    }

    async fn with(policies: Arc<Policies>) -> Self {
        let (url, told) = listen().await;
        let wanted = Wanted {
            policies: Some(policies),
            chat: Some(settings(&url)),
            ..Wanted::default()
        };
        let team = Team::of(wanted.start().await).await;
        let people = [("mo@example.com", "leads"), ("dee", "leads")];
        for (name, group) in people {
            let body = json!({"name": name, "groups": [group]}).to_string();
            team.served.json("POST /v1/users", &body).await;
        }
        Self {
            team,
            url,
            told,
            clicks: 0,
        }
    }

    /// A request of ana's that waits.
    async fn asked(&self, profile: &str) -> String {
        let wish = json!({"target": "orders", "profile": profile, "window_seconds": HOURS, "reason": "bug 17"});
        let (status, request) = self.team.says(&self.team.ana, "POST /v1/requests", &wish).await;
        assert_eq!((status, &request["status"]), (201, &json!("pending")), "{request}");
        request["id"].as_str().unwrap().to_owned()
    }

    async fn request(&self, id: &str) -> Value {
        let path = format!("GET /v1/requests/{id}");
        self.team.says(&self.team.ana, &path, &Value::Null).await.1
    }

    /// A click, which is never the same twice.
    fn payload(&mut self, user: &str, action: &Value) -> Value {
        self.clicks += 1;
        json!({
            "type": "block_actions", "trigger_id": self.clicks, "team": {"id": "T1"}, "user": {"id": user, "team_id": "T1"},
            "actions": [action], "response_url": format!("{}/hook", self.url),
            "message": {"blocks": [{"type": "section"}, {"type": "input"}, {"type": "actions"}]},
        })
    }

    fn now(&self) -> i64 {
        // Not the second of the start.
        self.team.served.gate.clock.now().as_second() + 1
    }

    async fn post(&self, headers: &str, body: &str) -> u16 {
        let answer = self.team.served.call("POST /v1/chat/slack", headers, body).await;
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    async fn post_signed(&self, payload: &str) -> u16 {
        let (body, now) = (form(payload), self.now());
        self.post(&headers(now, &signature(SECRET, now, &body)), &body).await
    }

    /// Clicks, and returns what was told.
    async fn click(&mut self, user: &str, action: &Value) -> Value {
        self.click_saying(user, action, None).await
    }

    /// The same, with what stands in the input of the message.
    async fn click_saying(&mut self, user: &str, action: &Value, comment: Option<&str>) -> Value {
        let mut payload = self.payload(user, action);
        payload["state"] = json!({"values": {"b1": {"comment": {"type": "plain_text_input", "value": comment}}}});
        assert_eq!(self.post_signed(&payload.to_string()).await, 200);
        let (path, message) = timeout(PATIENCE, self.told.recv()).await.unwrap().unwrap();
        assert_eq!(path, "/hook");
        message
    }
}

#[tokio::test]
async fn a_click_is_an_approval_of_its_person() {
    let mut house = House::open().await;
    let id = house.asked("read-only").await;
    let told = house.click("ULENA", &button("approve", &id)).await;
    assert_eq!(told["replace_original"], true, "{told}");
    assert_eq!(told["text"], format!("lena approved {id} for 6h"));
    assert_eq!(told["blocks"].as_array().unwrap().len(), 2, "no buttons: {told}");
    let request = house.request(&id).await;
    assert_eq!(
        (&request["status"], &request["approvals"][0]["by"]),
        (&json!("approved"), &json!("lena"))
    );
    // By an address that the chat has confirmed, and for a shorter time.
    let id = house.asked("read-only").await;
    let select = json!({"type": "static_select", "action_id": "approve_for", "selected_option": {"value": format!("{id} 15m")}});
    let told = house.click("UMO", &select).await;
    assert_eq!(told["text"], format!("mo@example.com approved {id} for 15m"));
    assert_eq!(house.request(&id).await["approvals"][0]["comment"], Value::Null);
    assert_eq!(house.request(&id).await["window_seconds"], 900);
    let id = house.asked("read-only").await;
    let told = house
        .click_saying("ULENA", &button("reject", &id), Some("not <before> the restore"))
        .await;
    assert_eq!(told["text"], format!("lena rejected {id}: not &lt;before&gt; the restore"));
    let request = house.request(&id).await;
    assert_eq!(
        (&request["status"], &request["outcome"]["comment"]),
        (&json!("rejected"), &json!("not <before> the restore"))
    );
    let steps = audit::read(&house.team.served.gate.audit_dir, &audit::Filter::default()).unwrap();
    let steps = steps.filter_map(|record| match record.unwrap().event {
        Event::RequestChanged(step) => Some((step.by.to_string(), step.via.as_ref().unwrap().to_string())),
        _ => None,
    });
    let by_click: Vec<_> = steps.filter(|(by, _)| by != "ana").collect();
    let expected = ["lena", "mo@example.com", "lena"].map(|by| (by.to_owned(), "slack".to_owned()));
    assert_eq!(by_click, expected);
}

#[tokio::test]
async fn break_glass_is_reviewed_by_another_with_a_result() {
    let schema = people::source("schema.cedarschema", include_str!("../../../policies/schema.cedarschema"));
    let everything = people::source(
        "all.cedar",
        "@id(\"all\") @max_duration(\"2h\") permit (principal, action, resource);",
    );
    let policies = Policies::parse(&schema, &[everything], jiff::tz::TimeZone::UTC).unwrap();
    let mut house = House::with(Arc::new(policies)).await;
    let wish = json!({
        "target": "orders", "profile": "read-write", "window_seconds": 600, "reason": "INC-77: stuck", "break_glass": true,
    });
    let (status, request) = house.team.says(&house.team.ana, "POST /v1/requests", &wish).await;
    assert_eq!((status, &request["status"]), (201, &json!("approved")), "{request}");
    let id = request["id"].as_str().unwrap().to_owned();
    let review = button("review", &id);
    for (user, comment, words) in [
        ("ULENA", None, "a review needs its result; type it into the message"),
        ("ULENA", Some("  "), "a review needs its result"),
        ("UANA", Some("all well"), "your own"),
    ] {
        let told = house.click_saying(user, &review, comment).await;
        assert!(told["text"].as_str().unwrap().contains(words), "{user}: {told}");
        assert_eq!(told["response_type"], "ephemeral");
    }
    assert_eq!(house.request(&id).await["review"], Value::Null);
    let told = house.click_saying("ULENA", &review, Some("as agreed")).await;
    assert_eq!(told["text"], format!("lena reviewed the break-glass access {id}: as agreed"));
    assert_eq!(told["blocks"].as_array().unwrap().len(), 2, "no buttons: {told}");
    let reviewed = house.request(&id).await;
    assert_eq!(
        (&reviewed["review"]["by"], &reviewed["review"]["comment"]),
        (&json!("lena"), &json!("as agreed"))
    );
    let told = house.click_saying("UMO", &review, Some("again")).await;
    assert_eq!(told["response_type"], "ephemeral", "{told}");
    let log = house.team.served.ask("GET /v1/log?event=request_changed", true, "").await;
    assert!(
        log.lines()
            .any(|line| line.contains("\"reviewed\"") && line.contains("\"via\":\"slack\"")),
        "{log}"
    );
}

#[tokio::test]
async fn ones_own_grant_is_extended_and_nobody_elses() {
    let mut house = House::open().await;
    let wish = json!({"target": "orders", "profile": "read-only", "window_seconds": 600});
    let (_, request) = house.team.says(&house.team.ana, "POST /v1/requests", &wish).await;
    let grant = request["outcome"]["grant"].as_str().unwrap().to_owned();
    let value = format!("{grant} 30m");
    let told = house.click("UANA", &button("extend", &value)).await;
    assert!(
        told["text"]
            .as_str()
            .unwrap()
            .starts_with(&format!("ana extended {grant} by 30m")),
        "{told}"
    );
    // Lena may see it, and dee approves nothing of it either.
    for user in ["ULENA", "UMO"] {
        let told = house.click(user, &button("extend", &value)).await;
        assert!(
            told["text"].as_str().unwrap().contains("belongs to another identity"),
            "{told}"
        );
    }
    let (_, grant) = house
        .team
        .says(&house.team.ana, &format!("GET /v1/grants/{grant}"), &Value::Null)
        .await;
    assert_eq!(grant["window_seconds"], 600 + 1_800, "{grant}");
}

#[tokio::test]
async fn what_changes_nothing_is_told_with_the_reason_and_the_remedy() {
    let mut house = House::open().await;
    house.team.served.json("POST /v1/users/dee/disable", "{}").await;
    let (reading, writing) = (house.asked("read-only").await, house.asked("read-write").await);
    let longer =
        json!({"type": "static_select", "action_id": "approve_for", "selected_option": {"value": format!("{reading} 7h")}});
    for (user, action, words) in [
        (
            "UANA",
            button("approve", &reading),
            "you cannot approve or reject your own request",
        ),
        ("UANA", button("reject", &reading), "this is your own request"),
        ("ULENA", longer, "an approver can approve that or less"),
        (
            "ULENA",
            button("approve", &writing),
            "approve writing at the console or with tidegate approve",
        ),
        ("ULENA", button("approve", "rq_0000000000"), "no request rq_0000000000"),
        ("UDEE", button("approve", &reading), "dee is disabled"),
        ("UBOT", button("approve", &reading), "the account is a bot's"),
        ("UGUEST", button("approve", &reading), "the account is a guest's"),
        ("UGONE", button("approve", &reading), "the account is deactivated"),
        ("UNEW", button("approve", &reading), "not confirmed"),
        (
            "UNOBODY",
            button("approve", &reading),
            "nobody@example.com is no local user, and is not signed in",
        ),
        ("UELSE", button("approve", &reading), "user_not_found"),
    ] {
        let told = house.click(user, &action).await;
        let text = told["text"].as_str().unwrap();
        assert!(text.contains(words), "{user}: {told}");
        assert_eq!(
            (&told["response_type"], &told["replace_original"]),
            (&json!("ephemeral"), &json!(false))
        );
        let link = text.ends_with("At the console: https://gate.example.org:7433/requests/rq_0000000000");
        assert!(link || text.contains(&reading) || text.contains(&writing), "{text}");
    }
    for id in [reading, writing] {
        assert_eq!(house.request(&id).await["status"], "pending");
    }
    let refused = audit::read(&house.team.served.gate.audit_dir, &audit::Filter::default()).unwrap();
    let refused = refused.filter_map(|record| match record.unwrap().event {
        Event::IdentityRefused(refused) => refused.claimed.clone(),
        _ => None,
    });
    let expected = ["UDEE", "UBOT", "UGUEST", "UGONE", "UNEW", "UNOBODY", "UELSE"].map(|user| format!("slack:{user}"));
    assert_eq!(refused.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_call_that_is_not_the_chats_changes_nothing() {
    let mut house = House::open().await;
    let id = house.asked("read-only").await;
    let approve = button("approve", &id);
    let (payload, now) = (house.payload("ULENA", &approve).to_string(), house.now());
    let body = form(&payload);
    let good = signature(SECRET, now, &body);
    let at = |time: i64| headers(time, &signature(SECRET, time, &body));
    let before_the_start = house.team.served.gate.clock.now().as_second() - 60;
    for headers in [
        String::new(),
        format!("x-slack-signature: {good}\r\n"),
        format!("x-slack-request-timestamp: {now}\r\n"),
        headers(now, &signature("another", now, &body)),
        headers(now + 1, &good),
        headers(now, &good.replace("v0=", "")),
        at(now - 600),
        at(now + 600),
        at(before_the_start),
        format!("authorization: Bearer {}\r\n", house.team.lena),
    ] {
        assert_eq!(house.post(&headers, &body).await, 401, "{headers}");
    }
    let changed = |field: &str, value: Value| {
        let mut payload: Value = serde_json::from_str(&payload).unwrap();
        payload[field] = value;
        payload.to_string()
    };
    for payload in [
        changed("team", json!({"id": "T2"})),
        changed("user", json!({"id": "ULENA", "team_id": "T2"})),
        changed("type", json!("view_submission")),
        changed("actions", json!([approve, approve])),
        changed("actions", json!([button("revoke", &id)])),
        "{".to_owned(),
        "[]".to_owned(),
    ] {
        assert_eq!(house.post_signed(&payload).await, 400, "{payload}");
    }
    let long = form(&changed("padding", json!("x".repeat(70_000))));
    let signed = headers(now, &signature(SECRET, now, &long));
    assert_eq!(house.post(&signed, &long).await, 400);
    assert_eq!(house.request(&id).await["status"], "pending");
    // The one that was copied all the time counts, once.
    assert_eq!(house.post(&at(now), &body).await, 200);
    timeout(PATIENCE, house.told.recv()).await.unwrap().unwrap();
    assert_eq!(house.request(&id).await["status"], "approved");
    assert_eq!(house.post(&at(now), &body).await, 401);
    // A link that was opened is none of ours.
    let link = house.payload("ULENA", &json!({"type": "button", "action_id": "x"}));
    assert_eq!(house.post_signed(&link.to_string()).await, 200);
    assert!(house.told.try_recv().is_err());
}

#[tokio::test]
async fn what_came_of_it_goes_to_the_chat_alone() {
    let mut house = House::open().await;
    let (elsewhere, mut others) = listen().await;
    let id = house.asked("read-only").await;
    let mut payload = house.payload("ULENA", &button("approve", &id));
    payload["response_url"] = json!(format!("{elsewhere}/hook"));
    assert_eq!(house.post_signed(&payload.to_string()).await, 200);
    // It counts all the same.
    let approved = timeout(PATIENCE, async {
        while house.request(&id).await["status"] != "approved" {
            tokio::task::yield_now().await;
        }
    });
    approved.await.unwrap();
    // The next one is told, and nothing of the first.
    let next = house.asked("read-only").await;
    let told = house.click("ULENA", &button("reject", &next)).await;
    assert_eq!(told["text"], format!("lena rejected {next}"));
    assert!(house.told.try_recv().is_err() && others.try_recv().is_err());
}

#[tokio::test]
async fn without_the_section_there_is_no_such_path_and_a_reload_makes_it() {
    let house = House::open().await;
    let chat = &house.team.served.gate.chat;
    let settings = chat.settings().map(|settings| ChatSettings::clone(&settings));
    chat.renew(None);
    let unsigned = house.team.served.call("POST /v1/chat/slack", "", "x").await;
    let unknown = house.team.served.call("POST /v1/chat/other", "", "x").await;
    assert!(unsigned.starts_with("HTTP/1.1 404"), "{unsigned}");
    assert_eq!(unsigned.replace("slack", "other"), unknown);
    chat.renew(settings);
    assert_eq!(house.post("", "x").await, 401);
}

#[tokio::test]
async fn forged_calls_are_held_back_like_failed_logins() {
    let wanted = Wanted {
        limits: StrangerLimits {
            failure_delay: Duration::from_mins(1),
            ..StrangerLimits::default()
        },
        chat: Some(settings("http://127.0.0.1:9")),
        tcp: true,
        ..Wanted::default()
    };
    let served = wanted.start().await;
    let _wire = served.fail_at_the_wire(None);
    let forged = served.call_tcp("POST /v1/chat/slack", "", "payload=%7B%7D");
    assert!(timeout(Duration::from_millis(300), forged).await.is_err(), "it is held back");
    let now = served.gate.clock.now().as_second() + 1;
    let body = form("{}");
    let signed = headers(now, &signature(SECRET, now, &body));
    let answer = timeout(PATIENCE, served.call_tcp("POST /v1/chat/slack", &signed, &body)).await;
    assert!(answer.unwrap().starts_with("HTTP/1.1 400"), "at once");
}
