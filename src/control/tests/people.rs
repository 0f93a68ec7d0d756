//! Two people and an operator at the API, with the shipped policies.

use serde_json::{Value, json};

use super::*;

/// Ana of `qa`, Lena of `leads`, and their tokens.
pub(super) struct Team {
    pub(super) served: Served,
    pub(super) ana: String,
    pub(super) lena: String,
}

impl Team {
    pub(super) async fn start() -> Self {
        Self::of(Served::start_with(Some(policies())).await).await
    }

    pub(super) async fn of(served: Served) -> Self {
        let ana = served.json("POST /v1/users", r#"{"name":"ana","groups":["qa"]}"#).await;
        let lena = served.json("POST /v1/users", r#"{"name":"lena","groups":["leads"]}"#).await;
        let token = |issued: &Value| issued["token"].as_str().unwrap().to_owned();
        Self {
            ana: token(&ana),
            lena: token(&lena),
            served,
        }
    }

    /// What somebody is answered: the status and the JSON, which has the form the document gives it.
    pub(super) async fn says(&self, token: &str, first: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self
            .served
            .call(first, &format!("authorization: Bearer {token}\r\n"), &body)
            .await;
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(answer.lines().last().unwrap()).unwrap())
    }
}

pub(super) fn source(name: &str, text: &str) -> PolicyFile {
    PolicyFile {
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

pub(super) fn policies() -> Arc<Policies> {
    let schema = source("schema.cedarschema", include_str!("../../../policies/schema.cedarschema"));
    let set = [
        source("00-everywhere.cedar", include_str!("../../../policies/00-everywhere.cedar")),
        source("10-people.cedar", include_str!("../../../policies/10-people.cedar")),
        source("50-office.cedar", include_str!("../../../policies/50-office.cedar")),
    ];
    Arc::new(Policies::parse(&schema, &set, jiff::tz::TimeZone::UTC).unwrap())
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one walk, step by step")]
async fn a_request_is_granted_at_once_used_and_given_back() {
    let team = Team::start().await;
    let document = team.served.document().await;
    let (status, me) = team.says(&team.ana, "GET /v1/me", &Value::Null).await;
    let until = &me["until"];
    assert!(until.is_string(), "{me}");
    let expected = json!({"name": "ana", "groups": ["qa"], "source": "local", "admin": false, "until": until});
    assert_eq!((status, &me), (200, &expected));
    let wish = json!({"target": "orders", "profile": "read-only", "window_seconds": 600});
    let (status, request) = team.says(&team.ana, "POST /v1/requests", &wish).await;
    assert_eq!((status, &request["status"]), (201, &json!("approved")), "{request}");
    valid(&document, &document["paths"]["/v1/requests"]["post"], &request);
    let grant = request["outcome"]["grant"].as_str().unwrap();

    let (status, login) = team
        .says(&team.ana, &format!("POST /v1/grants/{grant}/login"), &Value::Null)
        .await;
    assert_eq!(status, 200, "{login}");
    valid(&document, &document["paths"]["/v1/grants/{id}/login"]["post"], &login);
    let (user, secret) = (login["user"].as_str().unwrap(), login["secret"].as_str().unwrap());
    assert_eq!(
        login["connection_string"],
        format!("postgresql://{user}:{secret}@127.0.0.1:7432/orders?sslmode=require")
    );

    assert_eq!(login["sslmode"], "verify-full");
    assert!(
        login["certificate"]
            .as_str()
            .unwrap()
            .starts_with("-----BEGIN CERTIFICATE-----\n")
    );

    // Whoever may approve it sees it and gets no login; of others' grants one sees nothing.
    let fred = team.served.json("POST /v1/users", r#"{"name":"fred","groups":[]}"#).await;
    let fred = fred["token"].as_str().unwrap();
    for (token, count, seen, login) in [(team.lena.as_str(), 1, 200, 403), (fred, 0, 404, 404)] {
        let (_, others) = team.says(token, "GET /v1/grants", &Value::Null).await;
        assert_eq!(others["grants"].as_array().unwrap().len(), count);
        let (status, _) = team.says(token, &format!("GET /v1/grants/{grant}"), &Value::Null).await;
        assert_eq!(status, seen);
        let (status, problem) = team
            .says(token, &format!("POST /v1/grants/{grant}/login"), &Value::Null)
            .await;
        assert_eq!(status, login, "{problem}");
    }
    // The same wish joins it; a longer one is asked for.
    for (seconds, status, key) in [(600, 200, "joined"), (1_200, 201, "request")] {
        let wish = json!({"target": "orders", "window_seconds": seconds});
        let (found, access) = team.says(&team.ana, "POST /v1/access", &wish).await;
        assert_eq!((found, access[key].is_object()), (status, true), "{access}");
        valid(&document, &document["paths"]["/v1/access"]["post"], &access);
    }
    let briefing = format!("/v1/requests/{}/briefing", request["id"].as_str().unwrap());
    let (status, answer) = team.says(&team.lena, &format!("GET {briefing}"), &Value::Null).await;
    assert_eq!(
        (status, &answer["profile"]["profile"]),
        (200, &json!("read-only")),
        "{answer}"
    );
    valid(&document, &document["paths"]["/v1/requests/{id}/briefing"]["get"], &answer);
    let (_, targets) = team.says(&team.ana, "GET /v1/targets", &Value::Null).await;
    assert_eq!(
        targets["targets"][0]["details"][0]["verdict"]["verdict"], "automatic",
        "{targets}"
    );
    valid(&document, &document["paths"]["/v1/targets"]["get"], &targets);
    for (token, question, status) in [
        (
            &team.ana,
            json!({"access": {"target": "orders", "profile": "read-write"}}),
            200,
        ),
        (&team.ana, json!({"action": "extend", "grant": grant}), 200),
        (&team.ana, json!({"action": "administer"}), 200),
        (&team.ana, json!({"action": "administer", "identity": "lena"}), 403),
        (&team.ana, json!({"action": "approve"}), 400),
        (&team.ana, json!({"action": "fly"}), 400),
    ] {
        let (found, answer) = team.says(token, "POST /v1/policy/explain", &question).await;
        assert_eq!(found, status, "{question}: {answer}");
        valid(&document, &document["paths"]["/v1/policy/explain"]["post"], &answer);
    }

    let (_, grants) = team.says(&team.ana, "GET /v1/grants", &Value::Null).await;
    assert_eq!(grants["grants"].as_array().unwrap().len(), 2);
    valid(&document, &document["paths"]["/v1/grants"]["get"], &grants);
    let (status, released) = team
        .says(&team.ana, &format!("POST /v1/grants/{grant}/release"), &Value::Null)
        .await;
    assert_eq!(status, 200, "{released}");
    valid(&document, &document["paths"]["/v1/grants/{id}/release"]["post"], &released);
    team.served.stop().await;
}

#[tokio::test]
async fn whoever_waits_for_an_approver_hears_of_it() {
    let team = Team::start().await;
    let document = team.served.document().await;
    let wish = json!({"target": "orders", "profile": "read-only", "window_seconds": 21_600, "reason": "a long day"});
    let (status, request) = team.says(&team.ana, "POST /v1/requests", &wish).await;
    assert_eq!((status, &request["status"]), (201, &json!("pending")), "{request}");
    assert_eq!(request["approvers"], json!(["lena"]));
    let path = format!("/v1/requests/{}", request["id"].as_str().unwrap());

    let (status, problem) = team.says(&team.ana, &format!("POST {path}/approve"), &Value::Null).await;
    assert!(status == 403 || status == 409, "{problem}");
    let (_, page) = team.says(&team.lena, "GET /v1/requests?status=pending", &Value::Null).await;
    assert_eq!(page["requests"].as_array().unwrap().len(), 1, "{page}");
    valid(&document, &document["paths"]["/v1/requests"]["get"], &page);

    let waiting = format!("GET {path}?wait_seconds=30");
    let narrowed = json!({"window_seconds": 18_000, "comment": "until five"});
    let approve = format!("POST {path}/approve");
    let (waited, approved) = tokio::join!(team.says(&team.ana, &waiting, &Value::Null), async {
        tokio::task::yield_now().await;
        team.says(&team.lena, &approve, &narrowed).await
    });
    assert_eq!(approved.0, 200, "{}", approved.1);
    assert_eq!(
        (waited.0, &waited.1["status"], &waited.1["window_seconds"]),
        (200, &json!("approved"), &json!(18_000))
    );
    valid(&document, &document["paths"]["/v1/requests/{id}"]["get"], &waited.1);
    let (status, problem) = team.says(&team.lena, &approve, &Value::Null).await;
    assert_eq!((status, &problem["type"]), (409, &json!("urn:tidegate:problem:illegal-step")));
    team.served.stop().await;
}

#[tokio::test]
async fn refusals_say_what_why_and_what_next() {
    let team = Team::start().await;
    let mut said = Vec::new();
    for (who, first, body) in [
        ("ana", "POST /v1/requests", json!({"target": "order"})),
        (
            "ana",
            "POST /v1/requests",
            json!({"target": "orders", "profile": "read-onyl"}),
        ),
        ("ana", "POST /v1/requests", json!({"target": "payments", "reason": "curious"})),
        ("ana", "POST /v1/requests", json!({"target": "orders", "window": "1h"})),
        ("ana", "GET /v1/requests/rq_0000000000", Value::Null),
        ("ana", "POST /v1/requests/rq_0000000000/approve", Value::Null),
        ("lena", "POST /v1/requests/rq_0000000000/review", Value::Null),
        ("ana", "GET /v1/users", Value::Null),
        ("ana", "GET /v1/log", Value::Null),
        ("nobody", "GET /v1/me", Value::Null),
    ] {
        let token = match who {
            "ana" => &team.ana,
            "lena" => &team.lena,
            _ => "tg_nobody",
        };
        let (status, problem) = team.says(token, first, &body).await;
        said.push(format!("> {who}: {first} {body}\n{status} {problem:#}"));
    }
    let operator = team.served.ask("POST /v1/requests", true, r#"{"target":"orders"}"#).await;
    said.push(format!("> operator: POST /v1/requests\n{operator}"));
    insta::assert_snapshot!(said.join("\n\n"));
    team.served.stop().await;
}

#[tokio::test]
async fn users_come_and_go() {
    let team = Team::start().await;
    let document = team.served.document().await;
    let again = team.served.json("POST /v1/users", r#"{"name":"ana"}"#).await;
    assert_eq!(again["status"], 409, "{again}");
    let users = team.served.json("GET /v1/users", "").await;
    assert_eq!(users["users"].as_array().unwrap().len(), 2);
    valid(&document, &document["paths"]["/v1/users"]["get"], &users);
    let rotated = team.served.json("POST /v1/users/ana/rotate", "").await;
    valid(&document, &document["paths"]["/v1/users/{name}/rotate"]["post"], &rotated);
    assert_eq!(team.says(&team.ana, "GET /v1/me", &Value::Null).await.0, 401);
    let fresh = rotated["token"].as_str().unwrap();
    assert_eq!(team.says(fresh, "GET /v1/me", &Value::Null).await.0, 200);
    let regrouped = team.served.json("POST /v1/users/ana/groups", r#"{"groups":["leads"]}"#).await;
    assert_eq!(
        (&regrouped["groups"], &regrouped["warnings"]),
        (&json!(["leads"]), &Value::Null)
    );
    // A group that no policy names is given, and said.
    let warning = |name: &str| {
        json!([format!(
            "no policy names the group `qaa` of {name}, so it grants nothing; did you mean `qa`?"
        )])
    };
    let slip = team.served.json("POST /v1/users", r#"{"name":"sam","groups":["qaa"]}"#).await;
    assert_eq!(
        (&slip["user"]["groups"], &slip["warnings"]),
        (&json!(["qaa"]), &warning("sam"))
    );
    valid(&document, &document["paths"]["/v1/users"]["post"], &slip);
    let slip = team
        .served
        .json("POST /v1/users/ana/groups", r#"{"groups":["leads","qaa"]}"#)
        .await;
    assert_eq!(
        (&slip["groups"], &slip["warnings"]),
        (&json!(["leads", "qaa"]), &warning("ana"))
    );
    valid(&document, &document["paths"]["/v1/users/{name}/groups"]["post"], &slip);
    let disabled = team.served.json("POST /v1/users/ana/disable", "").await;
    assert_eq!(disabled["disabled"], true);
    valid(&document, &document["paths"]["/v1/users/{name}/disable"]["post"], &disabled);
    assert_eq!(team.says(fresh, "GET /v1/me", &Value::Null).await.0, 401);
    team.served.json("POST /v1/users/ana/enable", "").await;
    assert_eq!(team.says(fresh, "GET /v1/me", &Value::Null).await.0, 200);
    team.served.stop().await;
}

#[tokio::test]
async fn requests_come_in_pages_and_once_for_a_key() {
    let team = Team::start().await;
    let wish = json!({"target": "orders", "profile": "read-only", "window_seconds": 600}).to_string();
    let header = format!("authorization: Bearer {}\r\nidempotency-key: run-1\r\n", team.ana);
    let id = |answer: String| serde_json::from_str::<Value>(answer.lines().last().unwrap()).unwrap()["id"].clone();
    let first = id(team.served.call("POST /v1/requests", &header, &wish).await);
    let second = id(team.served.call("POST /v1/requests", &header, &wish).await);
    assert!(first.is_string() && first == second);
    for run in 2..4 {
        let header = header.replace("run-1", &format!("run-{run}"));
        team.served.call("POST /v1/requests", &header, &wish).await;
    }
    let mut seen = Vec::new();
    let mut before = String::new();
    loop {
        let page = team.served.json(&format!("GET /v1/requests?limit=2{before}"), "").await;
        seen.extend(page["requests"].as_array().unwrap().iter().map(|view| view["id"].clone()));
        match page["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!(seen.last(), Some(&first));
    team.served.stop().await;
}

#[tokio::test]
async fn events_are_for_those_they_concern() {
    let team = Team::start().await;
    let mut streams = Vec::new();
    for token in [&team.ana, &team.lena] {
        let mut stream = UnixStream::connect(team.served.state("control.sock")).await.unwrap();
        let request = format!("GET /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        streams.push((stream, String::new()));
    }
    for (stream, seen) in &mut streams {
        read_until(stream, seen, "subscribed").await;
    }
    // Lena approves nothing of Tom's, who is in no group: it is the operator's grant and Ana's request she could hear of.
    team.served
        .json(
            "POST /v1/grants",
            r#"{"identity":"tom","target":"orders","window_seconds":60}"#,
        )
        .await;
    let wish = json!({"target": "orders", "profile": "read-only", "window_seconds": 21_600});
    team.says(&team.ana, "POST /v1/requests", &wish).await;
    for (stream, seen) in &mut streams {
        read_until(stream, seen, "event: request").await;
        read_until(stream, seen, r#""identity":"ana""#).await;
        assert!(!seen.contains("tom"), "{seen}");
    }
    team.served.stop().await;
    for (stream, _) in &mut streams {
        while stream.read(&mut [0; 4096]).await.unwrap_or(0) > 0 {}
    }
}

async fn read_until(stream: &mut UnixStream, seen: &mut String, text: &str) {
    let mut block = [0; 4096];
    while !seen.contains(text) {
        let read = stream.read(&mut block).await.unwrap();
        assert_ne!(read, 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&block[..read]));
    }
}

/// Olga runs the gate, under her own name.
async fn olga(team: &Team) -> String {
    let olga = team
        .served
        .json("POST /v1/users", r#"{"name":"olga","groups":["operators"]}"#)
        .await;
    olga["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_operator_gives_to_others_and_not_to_oneself() {
    let team = Team::start().await;
    let olga = olga(&team).await;
    let grant = |identity: &str| json!({"identity": identity, "target": "orders", "window_seconds": 600});
    let groups = json!({"groups": ["operators", "leads"]});
    for (first, own) in [
        ("POST /v1/grants", grant("olga")),
        ("POST /v1/users/olga/groups", groups.clone()),
    ] {
        let (status, problem) = team.says(&olga, first, &own).await;
        assert_eq!(
            (status, &problem["type"]),
            (403, &json!("urn:tidegate:problem:for-oneself")),
            "{problem}"
        );
    }
    assert_eq!(team.says(&olga, "POST /v1/grants", &grant("ana")).await.0, 201);
    assert_eq!(team.says(&olga, "POST /v1/users/ana/groups", &groups).await.0, 200);
    team.served.stop().await;
}

#[tokio::test]
async fn a_long_answer_ends_with_the_right_to_it() {
    let team = Team::start().await;
    let headers = format!("authorization: Bearer {}\r\n", olga(&team).await);
    for path in ["GET /v1/log?follow=true", "GET /v1/events"] {
        let mut stream = UnixStream::connect(team.served.state("control.sock")).await.unwrap();
        let request = format!("{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = vec![0; 4096];
        let began = stream.read(&mut said).await.unwrap();
        said.truncate(began);
        let groups = r#"{"groups":["qa"]}"#;
        team.served.json("POST /v1/users/olga/groups", groups).await;
        let grant = r#"{"identity":"ana","target":"orders","window_seconds":600,"reason":"not for olga"}"#;
        team.served.json("POST /v1/grants", grant).await;
        let rest = stream.read_to_end(&mut said);
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), rest).await;
        ended.expect("the stream ends").unwrap();
        let said = String::from_utf8(said).unwrap();
        assert!(said.starts_with("HTTP/1.1 200"), "{path}: {said}");
        assert!(!said.contains("not for olga"), "{path}: {said}");
        let groups = r#"{"groups":["operators"]}"#;
        team.served.json("POST /v1/users/olga/groups", groups).await;
    }
    team.served.stop().await;
}
