//! Proofs that are changed: cookies of sign-ins, ways back from a provider, codes of terminals, signatures of a chat, and what a browser
//! says of a form. None of some thousands admits anybody (`TIDEGATE_FUZZ_INPUTS`: how many of each). The unchanged one then does, so
//! that the others were refused for their change.
#![expect(clippy::string_slice, reason = "the secrets are ASCII")]

use serde_json::{Value, json};

use super::people::Team;
use super::{Served, Wanted, chat, providers, sign_ins};
use crate::access::challenge_of;
use crate::base::secret::Secret;
use crate::fuzzing::testing::{Numbers, inputs};

/// What a browser says of a form of the gate's own page.
const OWN_PAGE: &str = "origin: http://x\r\nsec-fetch-site: same-origin\r\n";

fn status(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_default()
}

/// A value of a query.
fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// The status that the bearer of a cookie is answered.
async fn browses(served: &Served, cookies: &str) -> u16 {
    status(&served.call("GET /v1/me", cookies, "").await)
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a list of cookies")]
async fn no_changed_cookie_signs_anybody_in() {
    let team = Team::start().await;
    let (_, secret) = sign_ins::sign_in(&team, &team.ana).await;
    let (_, of_lena) = sign_ins::sign_in(&team, &team.lena).await;
    let with = |text: &str| text.replace("SECRET", &secret).replace("LENA", &of_lena);
    let first = format!("%{:02x}{}", secret.as_bytes()[0], &secret[1..]);
    for cookies in [
        "Tidegate=SECRET",
        "TIDEGATE=SECRET",
        "xtidegate=SECRET",
        "tidegatex=SECRET",
        "tidegate =SECRET",
        "tidegate-signin=SECRET",
        "__Host-tidegate-signin=SECRET",
        "__host-tidegate=SECRET",
        "__Secure-tidegate=SECRET",
        "__Host-__Host-tidegate=SECRET",
        "tidegate%3DSECRET",
        "tidegate:SECRET",
        "SECRET",
        "tidegate=\"SECRET\"",
        "tidegate='SECRET'",
        "tidegate= SECRET",
        "tidegate=SECRETx",
        "tidegate=xSECRET",
        "tidegate=SECRET%00",
        "tidegate=SECRET,x",
        "tidegate=Bearer SECRET",
        "$Version=1, tidegate=SECRET",
        // Two are none: one of them was planted.
        "tidegate=SECRET; tidegate=SECRET",
        "tidegate=SECRET; tidegate=LENA",
        "tidegate=x; tidegate=SECRET",
        "tidegate=SECRET; __Host-tidegate=SECRET",
        "__Host-tidegate=LENA; tidegate=SECRET",
        "tidegate=SECRET\r\ncookie: tidegate=SECRET",
        "tidegate=LENA\r\ncookie: __Host-tidegate=SECRET",
    ]
    .map(with)
    .into_iter()
    .chain([format!("tidegate={}", secret.to_uppercase()), format!("tidegate={first}")])
    // Each part of it, and each with one letter changed.
    .chain((0..secret.len()).map(|end| format!("tidegate={}", &secret[..end])))
    .chain((1..secret.len()).map(|start| format!("tidegate={}", &secret[start..])))
    .chain((0..secret.len()).map(|at| {
        let other = if secret.as_bytes()[at] == b'0' { '1' } else { '0' };
        format!("tidegate={}{other}{}", &secret[..at], &secret[at + 1..])
    })) {
        assert_eq!(
            browses(&team.served, &format!("cookie: {cookies}\r\n")).await,
            401,
            "{cookies}"
        );
    }
    let seeds = [
        "tidegate=SECRET",
        "__Host-tidegate=LENA; x=y",
        "theme=dark; tidegate=SECRET; a=b",
    ]
    .map(with);
    let seeds = seeds.each_ref().map(String::as_str);
    let (mut numbers, mut tried) = (Numbers::new(1), 0);
    while tried < inputs() {
        let cookies = numbers.mutated_text(&seeds);
        if cookies.contains(&secret) || cookies.contains(&of_lena) {
            continue;
        }
        tried += 1;
        assert_eq!(
            browses(&team.served, &format!("cookie: {cookies}\r\n")).await,
            401,
            "{cookies}"
        );
    }
    assert_eq!(browses(&team.served, &format!("cookie: tidegate={secret}\r\n")).await, 200);
    team.served.stop().await;
}

#[tokio::test]
async fn no_changed_state_or_cookie_comes_back_from_a_provider() {
    let house = providers::House::open().await;
    let (_, other) = house.begin("/").await;
    let (cookie, state) = house.begin("/mine").await;
    let (_, secret) = cookie.split_once('=').unwrap();
    let whole = format!("code=good&state={state}&session_state=x");
    let (mut numbers, mut tried) = (Numbers::new(2), 0);
    while tried < inputs() {
        let (mut cookies, mut query) = (cookie.clone(), whole.clone());
        match numbers.below(3) {
            0 => {
                let changed = numbers.mutated_text(&[&state, &other]);
                if changed == state {
                    continue;
                }
                query = format!("code=good&state={}", encoded(&changed));
            }
            1 => {
                cookies = numbers.mutated_text(&[&cookie, "theme=dark; __Host-tidegate-signin="]);
                if cookies.contains(secret) {
                    continue;
                }
            }
            _ => {
                query = numbers.mutated_text(&[&whole, "error=access_denied&state=&iss="]);
                if form_urlencoded::parse(query.as_bytes()).any(|(_, value)| value == state.as_str()) {
                    continue;
                }
            }
        }
        tried += 1;
        let answer = house.back(&cookies, &query).await;
        assert!(matches!(status(&answer), 400 | 403), "{cookies} {query}: {answer}");
        assert!(!answer.contains("set-cookie"), "{cookies} {query}: {answer}");
    }
    // Nothing of that has used it up.
    assert_eq!(status(&house.back(&cookie, &whole).await), 303);
    let signed_in = house.served.json("GET /v1/signins", "").await;
    assert_eq!(signed_in["sign_ins"].as_array().unwrap().len(), 1, "{signed_in}");
    house.served.stop().await;
}

#[tokio::test]
async fn no_changed_issuer_host_code_or_nonce_signs_anybody_in() {
    let house = providers::House::open().await;
    let (issuer, host) = (house.url(), house.host());
    let (mut numbers, mut tried) = (Numbers::new(3), 0);
    // Each takes a sign-in of its own, which the provider is told of.
    while tried < inputs() / 5 {
        let (cookie, state) = house.begin("/").await;
        let (mut at, mut query) = (host.clone(), format!("code=good&state={state}"));
        let mut claims = json!({});
        let changed = match numbers.below(4) {
            0 => {
                let changed = numbers.mutated_text(&[&issuer, "https://evil.example"]);
                query = format!("{query}&iss={}", encoded(&changed));
                changed != issuer
            }
            1 => {
                at = numbers.mutated_text(&[&host, "evil.example"]);
                at != host && !at.is_empty()
            }
            2 => {
                let nonce = house.nonce();
                let changed = numbers.mutated_text(&[&nonce, "nonce"]);
                claims = json!({ "nonce": changed });
                changed != nonce
            }
            _ => {
                let changed = numbers.mutated_text(&["good"]);
                query = format!("code={}&state={state}", encoded(&changed));
                changed != "good"
            }
        };
        if !changed {
            continue;
        }
        tried += 1;
        house.claims(claims.clone());
        let answer = house.back_at(&encoded(&at), &cookie, &query).await;
        assert!(matches!(status(&answer), 401 | 403), "{at} {query} {claims}: {answer}");
        assert!(!answer.contains("set-cookie"), "{at} {query} {claims}: {answer}");
    }
    house.claims(json!({}));
    let (cookie, state) = house.begin("/").await;
    let answer = house
        .back(&cookie, &format!("code=good&state={state}&iss={}", encoded(&issuer)))
        .await;
    assert_eq!(status(&answer), 303, "{answer}");
    let signed_in = house.served.json("GET /v1/signins", "").await;
    assert_eq!(signed_in["sign_ins"].as_array().unwrap().len(), 1, "{signed_in}");
    house.served.stop().await;
}

#[tokio::test]
async fn no_changed_code_or_verifier_signs_a_terminal_in() {
    let team = Team::start().await;
    let (_, secret) = sign_ins::sign_in(&team, &team.ana).await;
    let verifier = "a-verifier-of-a-program-with-forty-three-letters";
    let challenge = challenge_of(&Secret::new(verifier.to_owned()));
    let let_in = async || {
        let body = json!({ "challenge": challenge });
        let (status, made) = team.says(&secret, "POST /v1/signins/terminals", &body).await;
        assert_eq!(status, 201, "{made}");
        made["code"].as_str().unwrap().to_owned()
    };
    let finish = async |code: &str, verifier: &str| {
        let body = json!({"code": code, "verifier": verifier}).to_string();
        status(&team.served.call("POST /signin/terminal", "", &body).await)
    };
    let (mut numbers, mut code) = (Numbers::new(4), String::new());
    for tried in 0..inputs() {
        // A code is good for a minute.
        if tried % 100 == 0 {
            code = let_in().await;
        }
        let changed_code = if numbers.below(2) == 0 {
            code.clone()
        } else {
            numbers.mutated_text(&[&code])
        };
        let changed = numbers.mutated_text(&[verifier, &challenge]);
        let changed = if changed_code == code { changed } else { verifier.to_owned() };
        if (changed_code.as_str(), changed.as_str()) == (&code, verifier) {
            continue;
        }
        assert_eq!(finish(&changed_code, &changed).await, 403, "{changed_code} {changed}");
    }
    // The challenge, which strangers may have seen, is no verifier.
    let code = let_in().await;
    assert_eq!(finish(&code, &challenge).await, 403);
    assert_eq!(finish(&code, verifier).await, 201);
    assert_eq!(finish(&code, verifier).await, 403, "once");
    team.served.stop().await;
}

/// Returns true if what a browser says of a form names a page of this host (RFC 6454, W3C "Fetch Metadata Request Headers").
fn is_own_page(host: &str, origin: Option<&str>, site: Option<&str>) -> bool {
    let of_host = |origin: &str| {
        ["http", "https"]
            .iter()
            .any(|scheme| origin.eq_ignore_ascii_case(&format!("{scheme}://{host}")))
    };
    match (origin.map(str::trim), site.map(str::trim)) {
        (Some(origin), None | Some("same-origin")) => !host.is_empty() && of_host(origin),
        (None, Some("same-origin")) => true,
        _ => false,
    }
}

#[tokio::test]
async fn no_form_of_another_page_changes_anything() {
    let team = Team::start().await;
    let (_, secret) = sign_ins::sign_in(&team, &team.ana).await;
    // A change as far as the browser knows, and none for the gate, so that it can be sent often.
    let question = json!({"action": "administer"}).to_string();
    let asked = async |headers: &str| {
        let headers = format!("cookie: tidegate={secret}\r\n{headers}");
        status(&team.served.call("POST /v1/policy/explain", &headers, &question).await)
    };
    assert_eq!(asked(OWN_PAGE).await, 200);
    let mut numbers = Numbers::new(5);
    let (mut tried, mut own) = (0, 0);
    while tried < inputs() {
        let maybe = |numbers: &mut Numbers, seeds: &[&str]| match numbers.below(4) {
            0 => None,
            1 => Some(seeds[numbers.below(seeds.len())].to_owned()),
            _ => Some(numbers.mutated_text(seeds)),
        };
        let host = maybe(&mut numbers, &["gate.example:7433", "x"]).unwrap_or_else(|| "x".to_owned());
        let host = host.trim();
        let of_host = format!("https://{host}");
        let origins = [
            of_host.as_str(),
            "http://x",
            "https://gate.example:7433",
            "null",
            "https://evil.example",
        ];
        let origin = maybe(&mut numbers, &origins);
        let site = maybe(&mut numbers, &["same-origin", "same-site", "cross-site", "none"]);
        let header = |name: &str, value: &Option<String>| {
            value
                .as_ref()
                .map_or_else(String::new, |value| format!("{name}: {value}\r\n"))
        };
        let (origin_line, site_line) = (header("origin", &origin), header("sec-fetch-site", &site));
        let twice = if numbers.below(8) == 0 { origin_line.as_str() } else { "" };
        let headers = format!("host: {host}\r\n{origin_line}{twice}{site_line}");
        let may = is_own_page(host, origin.as_deref(), site.as_deref()) && twice.is_empty();
        let status = asked(&headers).await;
        assert!(status != 200 || may, "{headers}");
        assert!(matches!(status, 200 | 400 | 401 | 403), "{status}: {headers}");
        own += usize::from(may);
        tried += usize::from(!may);
    }
    assert!(own > 0, "some were those of the gate's own page");
    team.served.stop().await;
}

#[tokio::test]
async fn no_changed_call_of_a_chat_is_accepted() {
    let wanted = Wanted {
        chat: Some(chat::settings("http://127.0.0.1:9")),
        ..Wanted::default()
    };
    let served = wanted.start().await;
    // Not the second of the start.
    let now = served.gate.clock.now().as_second() + 1;
    // It is no click, so accepting it does nothing either.
    let (time, body) = (
        now.to_string(),
        chat::form(&json!({"user": {"id": "UANA"}, "actions": []}).to_string()),
    );
    let signature = chat::signature(chat::SECRET, now, &body);
    let post = async |time: &str, signature: &str, body: &str| {
        let headers = format!("x-slack-request-timestamp: {time}\r\nx-slack-signature: {signature}\r\n");
        status(&served.call("POST /v1/chat/slack", &headers, body).await)
    };
    let later = (now + 1).to_string();
    let mut numbers = Numbers::new(6);
    for _ in 0..inputs() {
        let (mut call, at) = ([time.clone(), signature.clone(), body.clone()], numbers.below(3));
        call[at] = numbers.mutated_text(&[&call[at], [later.as_str(), "v0=", "payload=%7B%7D"][at]]);
        // Spaces around the value of a header are none of it.
        let same = call[0].trim() == time && call[1].trim() == signature && call[2] == body;
        if same {
            continue;
        }
        assert_eq!(post(&call[0], &call[1], &call[2]).await, 401, "{call:?}");
    }
    assert_eq!(post(&time, &signature, &body).await, 400, "accepted, and no click");
    assert_eq!(post(&time, &signature, &body).await, 401, "once");
    let answered: Value = served.json("GET /v1/requests", "").await;
    assert_eq!(answered["requests"], json!([]));
    served.stop().await;
}
