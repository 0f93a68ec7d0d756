//! Sign-ins over HTTP: who makes, sees and ends them, and what a cookie is good for.

use serde_json::{Value, json};

use super::people::Team;
use super::*;

const OWN_PAGE: &str = "origin: http://x\r\nsec-fetch-site: same-origin\r\n";

/// A sign-in with this token; returns its id and its secret.
pub(super) async fn sign_in(team: &Team, token: &str) -> (String, String) {
    let (status, made) = team.says(token, "POST /v1/signins", &json!({"via": "console"})).await;
    assert_eq!(status, 201, "{made}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&made["sign_in"]["id"]), text(&made["secret"]))
}

/// What a browser with this cookie is answered.
async fn browses(team: &Team, secret: &str, first: &str, headers: &str, body: &str) -> (u16, Value) {
    let headers = format!("cookie: theme=dark; tidegate={secret}\r\n{headers}");
    let answer = team.served.call(first, &headers, body).await;
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(answer.lines().last().unwrap()).unwrap())
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one walk, step by step")]
async fn one_signs_in_with_a_token_sees_it_and_ends_it() {
    let team = Team::start().await;
    let document = team.served.document().await;
    let (status, made) = team.says(&team.ana, "POST /v1/signins", &json!({"via": "cli"})).await;
    valid(&document, &document["paths"]["/v1/signins"]["post"], &made);
    assert_eq!((status, &made["sign_in"]["via"]), (201, &json!("cli")));
    let (id, secret) = (made["sign_in"]["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let (of_lena, _) = sign_in(&team, &team.lena).await;
    // It is the person, and says so.
    let (_, me) = team.says(secret, "GET /v1/me", &Value::Null).await;
    assert_eq!(
        (&me["name"], &me["groups"], &me["sign_in"]),
        (&json!("ana"), &json!(["qa"]), &json!(id))
    );
    let (status, none) = team.says(secret, "POST /v1/signins", &json!({"via": "cli"})).await;
    assert_eq!(
        (status, &none["type"]),
        (403, &json!("urn:tidegate:problem:signed-in-already"))
    );
    let (status, none) = team
        .says(&team.served.token(), "POST /v1/signins", &json!({"via": "cli"}))
        .await;
    assert_eq!((status, &none["type"]), (403, &json!("urn:tidegate:problem:no-person")));
    // One sees one's own; an operator all, or those of one.
    for (token, query, count) in [
        (team.ana.as_str(), "", 1),
        (&team.ana, "?identity=ana", 1),
        (&team.ana, "?identity=lena", 0),
        (&team.served.token(), "", 2),
        (&team.served.token(), "?identity=lena", 1),
    ] {
        let (status, found) = team.says(token, &format!("GET /v1/signins{query}"), &Value::Null).await;
        valid(&document, &document["paths"]["/v1/signins"]["get"], &found);
        assert_eq!((status, found["sign_ins"].as_array().unwrap().len()), (200, count), "{query}");
    }
    let end = async |token: &str, id: &str| team.says(token, &format!("DELETE /v1/signins/{id}"), &Value::Null).await;
    assert_eq!(end(&team.ana, &of_lena).await.0, 404);
    assert_eq!(end(&team.ana, "si_0000000000").await.0, 404);
    assert_eq!(end(&team.ana, "ana").await.0, 400);
    let (status, ended) = end(secret, id).await;
    valid(&document, &document["paths"]["/v1/signins/{id}"]["delete"], &ended);
    assert_eq!((status, &ended["effect"]["recorded"]), (200, &json!(true)), "{ended}");
    assert_eq!(end(&team.served.token(), &of_lena).await.0, 200);
    assert_eq!(team.says(secret, "GET /v1/me", &Value::Null).await.0, 401);
    let log = team.served.ask("GET /v1/log?event=sign_in_changed", true, "").await;
    let lines = log.lines().filter(|line| line.starts_with('{'));
    let changes: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let changes: Vec<_> = changes
        .iter()
        .map(|line| (&line["change"], &line["identity"], &line["by"]))
        .collect();
    let line = |change, identity, by| (json!(change), json!(identity), json!(by));
    let expected = [
        line("signed_in", "ana", "ana"),
        line("signed_in", "lena", "lena"),
        line("signed_out", "ana", "ana"),
        line("ended", "lena", "admin"),
    ];
    assert!(
        changes
            .into_iter()
            .eq(expected.iter().map(|(change, identity, by)| (change, identity, by))),
        "{log}"
    );
    team.served.stop().await;
}

#[tokio::test]
async fn a_cookie_reads_everywhere_and_changes_from_the_gates_page_only() {
    let team = Team::start().await;
    let (_, secret) = sign_in(&team, &team.ana).await;
    let wish = r#"{"target": "orders", "profile": "read-only"}"#;
    assert_eq!(browses(&team, &secret, "GET /v1/me", "", "").await.1["name"], "ana");
    for headers in [
        "",
        "origin: http://evil.example\r\n",
        "origin: null\r\nsec-fetch-site: same-origin\r\n",
        "origin: http://x\r\nsec-fetch-site: cross-site\r\n",
        "origin: http://x\r\norigin: http://evil.example\r\n",
    ] {
        let (status, problem) = browses(&team, &secret, "POST /v1/requests", headers, wish).await;
        assert_eq!(
            (status, &problem["type"]),
            (403, &json!("urn:tidegate:problem:cross-site")),
            "{headers}"
        );
    }
    let (_, requests) = team.says(&team.ana, "GET /v1/requests", &Value::Null).await;
    assert_eq!(requests["requests"], json!([]), "nothing was changed");
    let (status, made) = browses(&team, &secret, "POST /v1/requests", OWN_PAGE, wish).await;
    assert_eq!(status, 201, "{made}");
    // A header that proves nothing is not helped by a cookie, nor is a token a cookie.
    let wrong = "authorization: Bearer tg_wrong\r\n";
    assert_eq!(browses(&team, &secret, "GET /v1/me", wrong, "").await.0, 401);
    for cookie in [team.ana.as_str(), "ts_wrong", "", &team.served.token()] {
        assert_eq!(browses(&team, cookie, "GET /v1/me", "", "").await.0, 401, "{cookie}");
    }
    let twice = format!("{secret}; tidegate={secret}");
    assert_eq!(browses(&team, &twice, "GET /v1/me", "", "").await.0, 401);
    team.served.stop().await;
}

#[tokio::test]
async fn it_ends_within_a_second_with_the_users_rights() {
    let team = Team::start().await;
    for (first, body) in [
        ("POST /v1/users/ana/groups", json!({"groups": ["qa", "oncall"]})),
        ("POST /v1/users/ana/rotate", Value::Null),
        ("POST /v1/users/lena/disable", Value::Null),
    ] {
        let token = if first.contains("lena") { &team.lena } else { &team.ana };
        let (_, secret) = sign_in(&team, token).await;
        // A stream that is open ends, too.
        let headers = format!("cookie: tidegate={secret}\r\n");
        let stream = team.served.call("GET /v1/events", &headers, "");
        let change = async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            team.says(&team.served.token(), first, &body).await
        };
        let began = tokio::time::Instant::now();
        let (stream, (status, changed)) = tokio::join!(stream, change);
        assert!(stream.starts_with("HTTP/1.1 200") && status == 200, "{stream} {changed}");
        assert!(
            began.elapsed() < std::time::Duration::from_millis(1_300),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(browses(&team, &secret, "GET /v1/me", "", "").await.0, 401, "{first}");
    }
    team.served.stop().await;
}

/// What the head of a call has proved has to hold when its body has come, too.
#[tokio::test]
async fn a_call_whose_body_comes_after_the_end_of_its_sign_in_does_nothing() {
    let team = Team::start().await;
    let (id, secret) = sign_in(&team, &team.ana).await;
    let seen = async || {
        let all = team.served.json("GET /v1/signins?identity=ana", "").await;
        all["sign_ins"][0]["last_used_at"].clone()
    };
    let unused = seen().await;
    let body = json!({"target": "orders", "window_seconds": 60, "reason": "late"}).to_string();
    let (first, rest) = body.split_at(1);
    let mut stream = UnixStream::connect(team.served.state("control.sock")).await.unwrap();
    let head = format!(
        "POST /v1/requests HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {secret}\r\ncontent-length: {}\r\n\r\n{first}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    while seen().await == unused {
        tokio::task::yield_now().await;
    }
    let (status, _) = team.says(&team.ana, &format!("DELETE /v1/signins/{id}"), &Value::Null).await;
    assert_eq!(status, 200);
    stream.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let (_, requests) = team.says(&team.ana, "GET /v1/requests", &Value::Null).await;
    assert_eq!(requests["requests"], json!([]));
    team.served.stop().await;
}
