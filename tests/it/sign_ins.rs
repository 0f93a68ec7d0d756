//! Sign-ins: a secret of the gate's own in place of a token, at the API, the command line and the wire, until it ends.

use serde_json::{Value, json};
use tidegate::base::secret::Secret;

use crate::access::Person;
use crate::support::{House, api, eventually, psql_as, records, said};

const PEOPLE: [(&str, &str); 3] = [("ana", "qa"), ("bob", "qa"), ("lea", "leads")];

/// Signs in at the command line; returns the id and the secret.
async fn sign_in(house: &House, who: &str) -> (String, String) {
    let made = house.call(who, "POST", "/v1/signins", &json!({"via": "cli"})).await.good();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    (text(&made["sign_in"]["id"]), text(&made["secret"]))
}

async fn me(house: &House, secret: &str) -> u16 {
    api(&house.gate, secret, "GET", "/v1/me", &Value::Null).await.status
}

/// Returns what `tidegate signins` with these arguments says to the bearer of a token.
fn signins(house: &House, token: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let arguments = [&["signins"], arguments].concat();
    let mut command = house.gate.command_of(&Secret::new(token.to_owned()), &arguments);
    let output = command.output().expect("the command");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_works_like_a_token_survives_the_gate_and_ends_with_the_user() {
    let mut house = House::open(&PEOPLE, "", &[]).await;
    let (id, secret) = sign_in(&house, "ana").await;
    let (of_bob, bobs) = sign_in(&house, "bob").await;
    let psql = |house: &House, secret: &str| psql_as(&house.gate, "ana", secret, "shop/read-only", "", "SELECT 'in'");
    let told = said(psql(&house, &secret)).await;
    assert_eq!((told.output.trim(), told.code), ("in", Some(0)), "{told:?}");
    // It is hers alone.
    let told = said(psql(&house, &bobs)).await;
    assert!(told.code == Some(2) && told.errors.contains("FATAL:"), "{told:?}");
    let (code, listed) = signins(&house, &secret, &[]);
    assert!(
        code == Some(0) && listed.contains(&id) && listed.contains("cli (this one)"),
        "{listed}"
    );
    assert!(
        !listed.contains(&of_bob) && listed.lines().all(|line| line.chars().count() <= 80),
        "{listed}"
    );
    let (_, all) = signins(&house, house.token("operator"), &["--json"]);
    let all: Value = serde_json::from_str(&all).expect("JSON");
    assert_eq!(all["sign_ins"].as_array().expect("a list").len(), 2);

    house.gate.kill().expect("killed");
    house.gate.start_again().expect("started again");
    assert_eq!((me(&house, &secret).await, me(&house, &bobs).await), (200, 200));
    let (code, ended) = signins(&house, house.token("bob"), &["end", "--all"]);
    assert!(
        code == Some(0) && ended.contains(&format!("Sign-in {of_bob} of bob has ended")),
        "{ended}"
    );
    assert_eq!(
        (me(&house, &bobs).await, signins(&house, &secret, &["end", &of_bob]).0),
        (401, Some(4))
    );

    house
        .call("operator", "POST", "/v1/users/ana/disable", &json!({}))
        .await
        .good();
    assert_eq!(me(&house, &secret).await, 401);
    let told = said(psql(&house, &secret)).await;
    assert_eq!(told.code, Some(2), "{told:?}");
    house.gate.kill().expect("killed");
    house.gate.start_again().expect("started again");
    house
        .call("operator", "POST", "/v1/users/ana/enable", &json!({}))
        .await
        .good();
    assert_eq!(me(&house, &secret).await, 401, "what has ended stays so");

    let mut changes: Vec<(String, String)> = Vec::new();
    for record in records(&house.gate) {
        let text = record.to_string();
        assert!(!text.contains(&secret) && !text.contains(&bobs), "{text}");
        if record["event"] == "sign_in_changed" {
            let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
            changes.push((text("identity"), text("change")));
        }
    }
    let expected = [
        ("ana", "signed_in"),
        ("bob", "signed_in"),
        ("bob", "signed_out"),
        ("ana", "ended"),
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|(who, change)| ((*who).to_owned(), (*change).to_owned()))
        .collect();
    assert_eq!(changes, expected);
}

/// Logging out ends the sign-in that was stored; a token that was stored goes on, and that is said.
#[tokio::test(flavor = "multi_thread")]
async fn logging_out_ends_the_sign_in_and_no_token() {
    let house = House::open(&PEOPLE, "", &[]).await;
    let kim = Person::new(&house.gate, "kim", "qa");
    let token = kim.token();
    let logged_out = || String::from_utf8(kim.run(&["logout"]).stdout).expect("text");
    let said = logged_out();
    assert!(said.contains("stays valid until it expires"), "{said}");
    assert_eq!(me(&house, &token).await, 200);
    let made = api(&house.gate, &token, "POST", "/v1/signins", &json!({"via": "cli"}))
        .await
        .good();
    let secret = made["secret"].as_str().expect("a secret");
    let mut login = kim.command(&["login", "--control", &house.gate.control()]);
    assert!(login.env("TIDEGATE_TOKEN", secret).status().expect("it ends").success());
    assert_eq!((kim.token().as_str(), me(&house, secret).await), (secret, 200));
    let said = logged_out();
    assert!(
        said.starts_with("Logged out: ") && said.contains("The sign-in has ended."),
        "{said}"
    );
    assert_eq!((me(&house, secret).await, me(&house, &token).await), (401, 200));
    assert_eq!(logged_out(), "No login is stored here.\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_spoken_of_before_it_expires_and_is_nothing_afterwards() {
    let house = House::open(&PEOPLE, "", &[]).await;
    let issue = |name: &str, life: &str| {
        let made = house.gate.json(&["user", "add", name, "--group", "qa", "--expires", life]);
        made.expect("a user")["token"].as_str().expect("a token").to_owned()
    };
    let psql = |name: &str, token: &str| psql_as(&house.gate, name, token, "shop/read-only", "", "SELECT 'in'");
    let (week, short) = (issue("kim", "3d"), issue("max", "3s"));
    let told = said(psql("kim", &week)).await;
    assert!(
        told.output.trim() == "in" && told.errors.contains("NOTICE:  your token expires in 2 days"),
        "{told:?}"
    );
    let told = said(psql("ana", house.token("ana"))).await;
    assert!(told.output.trim() == "in" && !told.errors.contains("your token"), "{told:?}");
    let refused = eventually("it expires", async || {
        let told = said(psql("max", &short)).await;
        (told.code == Some(2)).then_some(told)
    })
    .await;
    // As anybody is refused, and the log says why.
    let wrong = said(psql("max", "tg_00000000000000000000000000000000")).await;
    assert_eq!(refused.errors, wrong.errors);
    assert_eq!(me(&house, &short).await, 401);
    let details = records(&house.gate)
        .into_iter()
        .filter_map(|record| Some(record["detail"].as_str()?.to_owned()));
    assert_eq!(
        details
            .filter(|detail| detail.contains("the token of max expired at"))
            .count(),
        2
    );
    let listed = house.gate.command(&["user", "list"]).expect("the command");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("has expired") && listed.contains("left"), "{listed}");
    let rotated = house.gate.json(&["user", "rotate", "max"]).expect("a new token");
    assert!(rotated["user"]["token_until"].is_string(), "{rotated}");
    assert_eq!(me(&house, rotated["token"].as_str().expect("a token")).await, 200);
}
