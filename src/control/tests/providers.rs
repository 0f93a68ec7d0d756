//! Sign-ins at a provider that is played: what the browser is sent with, what it has to come back with, and what else proves
//! nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::Digest as _;

use super::*;
use crate::identity::{EmailVerified, IssuerSettings, KeysLocation, ProviderClient};

/// What the provider puts into the next ID token, and what it was asked.
#[derive(Default)]
struct Play {
    /// Address of the provider.
    url: String,
    /// Claims of the next token, over the right ones.
    claims: Value,
    /// Nonce and challenge that the browser brought.
    nonce: String,
    challenge: String,
    /// Answers about a device that has not been let in.
    pending: Vec<&'static str>,
    /// The number of codes for devices that were asked for; whether there are any.
    devices: u32,
    without_devices: bool,
    /// Whether it never answers about them; the seconds between two questions that it names.
    hangs: bool,
    interval: Option<u64>,
    asked: Vec<Value>,
}

type Played = Arc<Mutex<Play>>;

pub(super) struct House {
    pub(super) served: Served,
    play: Played,
    _keys: tempfile::TempDir,
}

async fn metadata(State((play, _)): State<(Played, Arc<jsonwebtoken::EncodingKey>)>) -> Json<Value> {
    let play = play.lock();
    let (url, without_devices) = (&play.url, play.without_devices);
    Json(json!({
        "issuer": url, "authorization_endpoint": format!("{url}/authorize"), "token_endpoint": format!("{url}/token"),
        "device_authorization_endpoint": (!without_devices).then(|| format!("{url}/device")), "jwks_uri": format!("{url}/jwks"),
    }))
}

async fn token(
    State((play, key)): State<(Played, Arc<jsonwebtoken::EncodingKey>)>,
    headers: axum::http::HeaderMap,
    body: String,
) -> (axum::http::StatusCode, Json<Value>) {
    let form = reqwest::Url::parse(&format!("http://form/?{body}")).unwrap();
    let form: BTreeMap<String, String> = form.query_pairs().into_owned().collect();
    let mut play = play.lock();
    let basic = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    play.asked.push(json!({"form": form, "basic": basic}));
    if let Some(error) = play.pending.pop() {
        return (axum::http::StatusCode::BAD_REQUEST, Json(json!({"error": error})));
    }
    let right = form
        .get("code_verifier")
        .is_none_or(|verifier| URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(verifier.as_bytes())) == play.challenge);
    if !right || form.get("code").is_some_and(|code| code != "good") {
        return (axum::http::StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"})));
    }
    let mut claims = json!({
        "iss": play.url, "aud": "tidegate-console", "sub": "7", "email": "ana@example.com", "email_verified": true,
        "groups": ["qa"], "nonce": play.nonce, "exp": 4_000_000_000_u64,
    });
    for (name, value) in play.claims.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
    let id_token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    (
        axum::http::StatusCode::OK,
        Json(json!({"id_token": id_token, "access_token": "x", "token_type": "Bearer"})),
    )
}

async fn device(State((play, _)): State<(Played, Arc<jsonwebtoken::EncodingKey>)>) -> Json<Value> {
    play.lock().devices += 1;
    let hangs = play.lock().hangs;
    if hangs {
        std::future::pending::<()>().await;
    }
    let play = play.lock();
    let mut answer = json!({
        "device_code": "d3vice", "user_code": "ABCD-EFGH", "verification_uri": format!("{}/activate", play.url), "expires_in": 600,
    });
    if let Some(interval) = play.interval {
        answer["interval"] = json!(interval);
    }
    Json(answer)
}

impl House {
    pub(super) async fn open() -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let keys = tempfile::tempdir().unwrap();
        let file = keys.path().join("jwks.json");
        let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
        std::fs::write(&file, json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]}).to_string()).unwrap();
        let key = Arc::new(jsonwebtoken::EncodingKey::from_ed_der(&pair.serialize_der()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let play: Played = Arc::default();
        play.lock().url.clone_from(&url);
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/token", post(token))
            .route("/device", post(device))
            .with_state((Arc::clone(&play), key));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let settings = IssuerSettings {
            issuer: url,
            audience: "tidegate".to_owned(),
            keys: KeysLocation::File(file),
            identity_claim: "email".to_owned(),
            email_verified: EmailVerified::Required,
            identity_prefix: "id:".to_owned(),
            groups_claim: Some("groups".to_owned()),
            claims: BTreeMap::new(),
            leeway: Duration::ZERO,
            client: Some(ProviderClient {
                id: "tidegate-console".to_owned(),
                secret: Some(crate::base::secret::Secret::new("s3 cret".to_owned())),
                scope: "openid email".to_owned(),
            }),
        };
        let wanted = Wanted {
            issuers: Issuers::new(vec![settings]),
            console_address: Some("https://gate.example.org:7433".to_owned()),
            ..Wanted::default()
        };
        Self {
            served: wanted.start().await,
            play,
            _keys: keys,
        }
    }

    /// Sends a browser to the provider: returns its cookie and the state, and notes the rest for the provider.
    pub(super) async fn begin(&self, next: &str) -> (String, String) {
        let (cookie, query) = self.sent(&format!("next={next}")).await;
        (cookie, query["state"].clone())
    }

    /// The same with this query; returns the cookie and what the browser was sent to the provider with.
    async fn sent(&self, query: &str) -> (String, BTreeMap<String, String>) {
        let issuer = self.play.lock().url.replace(':', "%3A").replace('/', "%2F");
        let host = "host: gate.example.org:7433\r\n";
        let answer = self.served.call(&format!("GET /signin/{issuer}?{query}"), host, "").await;
        assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
        let location = reqwest::Url::parse(header(&answer, "location").unwrap()).unwrap();
        let query: BTreeMap<String, String> = location.query_pairs().into_owned().collect();
        assert!(
            location.as_str().starts_with(&format!("{}/authorize?", self.play.lock().url)),
            "{location}"
        );
        assert_eq!(
            query["redirect_uri"],
            format!("https://gate.example.org:7433/signin/callback/{}", self.host())
        );
        let fixed = ["response_type", "client_id", "scope", "code_challenge_method"].map(|name| query[name].as_str());
        assert_eq!(fixed, ["code", "tidegate-console", "openid email", "S256"]);
        let mut play = self.play.lock();
        play.nonce.clone_from(&query["nonce"]);
        play.challenge.clone_from(&query["code_challenge"]);
        let cookie = header(&answer, "set-cookie").unwrap();
        assert!(cookie.contains("HttpOnly; SameSite=Lax"), "{cookie}");
        (cookie.split(';').next().unwrap().to_owned(), query)
    }

    /// The browser comes back signed in; returns the cookie of the sign-in.
    async fn signed_in(&self, query: &str) -> String {
        let (cookie, sent) = self.sent(query).await;
        let answer = self.back(&cookie, &format!("code=good&state={}", sent["state"])).await;
        let cookie = header(&answer, "set-cookie").unwrap_or_else(|| panic!("{answer}"));
        cookie.split(';').next().unwrap().to_owned()
    }

    /// The provider's host.
    pub(super) fn host(&self) -> String {
        self.play.lock().url.trim_start_matches("http://").to_owned()
    }

    /// The provider's address, which is its name as an issuer.
    pub(super) fn url(&self) -> String {
        self.play.lock().url.clone()
    }

    /// The nonce that the browser brought to the provider last.
    pub(super) fn nonce(&self) -> String {
        self.play.lock().nonce.clone()
    }

    /// Puts these claims over the right ones of the next tokens.
    pub(super) fn claims(&self, claims: Value) {
        self.play.lock().claims = claims;
    }

    /// The browser comes back with this query.
    pub(super) async fn back(&self, cookie: &str, query: &str) -> String {
        self.back_at(&self.host(), cookie, query).await
    }

    /// The browser comes back to the address of this host.
    pub(super) async fn back_at(&self, host: &str, cookie: &str, query: &str) -> String {
        let headers = format!("host: gate.example.org:7433\r\ncookie: {cookie}\r\n");
        self.served
            .call(&format!("GET /signin/callback/{host}?{query}"), &headers, "")
            .await
    }
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The kind of a problem that is answered, with its status.
fn problem(answer: &str) -> String {
    let body: Value = serde_json::from_str(answer.lines().last().unwrap()).unwrap();
    let kind = body["type"].as_str().unwrap().rsplit(':').next().unwrap();
    format!("{} {kind}", body["status"])
}

#[tokio::test]
async fn a_browser_comes_back_signed_in() {
    let house = House::open().await;
    let (cookie, state) = house.begin("/requests/rq_4k2m9x0a7b").await;
    let answer = house.back(&cookie, &format!("code=good&state={state}&session_state=x")).await;
    assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
    assert_eq!(header(&answer, "location"), Some("/requests/rq_4k2m9x0a7b"));
    assert_eq!(header(&answer, "cache-control"), Some("no-store"));
    let signed_in = header(&answer, "set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert!(
        signed_in.starts_with("__Host-tidegate=ts_") && answer.contains("__Host-tidegate-signin=; Path=/; Max-Age=0"),
        "{answer}"
    );
    let me = house.served.call("GET /v1/me", &format!("cookie: {signed_in}\r\n"), "").await;
    let me: Value = serde_json::from_str(me.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&me["name"], &me["groups"]),
        (&json!("id:ana@example.com"), &json!(["qa"])),
        "{me}"
    );
    let asked = house.play.lock().asked.pop().unwrap();
    let back = format!("https://gate.example.org:7433/signin/callback/{}", house.host());
    assert_eq!(asked["form"]["redirect_uri"], back);
    let basic = base64::engine::general_purpose::STANDARD.encode("tidegate-console:s3+cret");
    assert_eq!(asked["basic"], format!("Basic {basic}"));
    // Once.
    let again = house.back(&cookie, &format!("code=good&state={state}")).await;
    assert_eq!(problem(&again), "403 no-such-state");
    let listed = house.served.json("GET /v1/signins", "").await;
    assert_eq!(listed["sign_ins"][0]["source"], house.play.lock().url.as_str());
    let disabled = house.served.json("POST /v1/users/id:ana@example.com/disable", "").await;
    assert_eq!(disabled["disabled"], true, "{disabled}");
    let me = house.served.call("GET /v1/me", &format!("cookie: {signed_in}\r\n"), "").await;
    assert!(me.starts_with("HTTP/1.1 401"), "{me}");
    let (cookie, state) = house.begin("/").await;
    let refused = house.back(&cookie, &format!("code=good&state={state}")).await;
    assert_eq!(problem(&refused), "401 not-signed-in");
    house.served.stop().await;
}

#[tokio::test]
async fn what_was_not_asked_for_signs_nobody_in() {
    let house = House::open().await;
    let (other, _) = house.begin("/").await;
    for (claims, query, cookie, expected) in [
        (json!({}), "code=good&state=foreign", None, "403 no-such-state"),
        (json!({}), "code=good&state=STATE", Some("a=b"), "403 no-such-state"),
        (json!({}), "code=good&state=STATE", Some(other.as_str()), "403 no-such-state"),
        (json!({}), "code=good", None, "403 no-such-state"),
        (json!({}), "code=stolen&state=STATE", None, "403 provider-refused"),
        (json!({}), "error=access_denied&state=STATE", None, "403 provider-refused"),
        (
            json!({}),
            "code=good&state=STATE&iss=https%3A%2F%2Fevil.example",
            None,
            "403 provider-refused",
        ),
        (
            json!({"nonce": "foreign"}),
            "code=good&state=STATE",
            None,
            "401 not-signed-in",
        ),
        (json!({"nonce": null}), "code=good&state=STATE", None, "401 not-signed-in"),
        (json!({"aud": "tidegate"}), "code=good&state=STATE", None, "401 not-signed-in"),
        (
            json!({"aud": ["tidegate-console", "other"]}),
            "code=good&state=STATE",
            None,
            "401 not-signed-in",
        ),
        (json!({"azp": "other"}), "code=good&state=STATE", None, "401 not-signed-in"),
        (
            json!({"iss": "https://evil.example"}),
            "code=good&state=STATE",
            None,
            "401 not-signed-in",
        ),
        (json!({"exp": 1}), "code=good&state=STATE", None, "401 not-signed-in"),
        (
            json!({"email_verified": false}),
            "code=good&state=STATE",
            None,
            "401 not-signed-in",
        ),
    ] {
        let (own, state) = house.begin("/").await;
        house.play.lock().claims.clone_from(&claims);
        let answer = house.back(cookie.unwrap_or(&own), &query.replace("STATE", &state)).await;
        assert_eq!(problem(&answer), expected, "{claims} {query}");
        assert!(!answer.contains("set-cookie"), "{answer}");
    }
    assert_eq!(house.served.json("GET /v1/signins", "").await["sign_ins"], json!([]));
    house.served.stop().await;
}

#[tokio::test]
async fn a_browser_comes_back_from_one_issuer_to_one_host() {
    let house = House::open().await;
    let url = house.play.lock().url.clone();
    // A code that another issuer brought.
    let (cookie, state) = house.begin("/").await;
    let elsewhere = house
        .back_at("evil.example", &cookie, &format!("code=good&state={state}"))
        .await;
    assert_eq!(problem(&elsewhere), "403 provider-refused");
    assert!(elsewhere.contains("address of another issuer"), "{elsewhere}");
    // To another host nobody goes on.
    let (cookie, state) = house.begin("%2F%2Fevil.example").await;
    let answer = house
        .back(&cookie, &format!("code=good&state={state}&iss={}", url.replace(':', "%3A")))
        .await;
    assert_eq!(header(&answer, "location"), Some("/"), "{answer}");
    let unknown = house.served.call("GET /signin/https%3A%2F%2Fevil.example", "", "").await;
    assert_eq!(problem(&unknown), "404 no-such-provider");
    house.served.stop().await;
}

#[tokio::test]
async fn a_device_signs_in_through_the_gate() {
    let house = House::open().await;
    let issuer = house.play.lock().url.clone();
    let body = json!({ "issuer": issuer }).to_string();
    let listed = house.served.call("GET /signin/providers", "", "").await;
    let rest = r#""console":"https://gate.example.org:7433"}"#;
    assert!(listed.ends_with(&format!(r#"{{"providers":[{body}],{rest}"#)), "{listed}");
    house.play.lock().interval = Some(0);
    let begun = house.served.call("POST /signin/device", "", &body).await;
    let begun: Value = serde_json::from_str(begun.lines().last().unwrap()).unwrap();
    assert_eq!((&begun["user_code"], &begun["interval"]), (&json!("ABCD-EFGH"), &json!(0)));
    let step = json!({"issuer": issuer, "device_code": begun["device_code"]}).to_string();
    let finish = async || {
        let answer = house.served.call("POST /signin/device/finish", "", &step).await;
        let status = answer.split(' ').nth(1).unwrap().to_owned();
        (status, serde_json::from_str::<Value>(answer.lines().last().unwrap()).unwrap())
    };
    house.play.lock().pending = vec!["expired_token", "slow_down", "authorization_pending"];
    assert_eq!(finish().await, ("202".to_owned(), json!({"slow_down": false})));
    assert_eq!(finish().await, ("202".to_owned(), json!({"slow_down": true})));
    assert_eq!(finish().await.0, "403");
    let (status, made) = finish().await;
    assert_eq!(
        (status.as_str(), &made["issued"]["sign_in"]["via"]),
        ("201", &json!("cli")),
        "{made}"
    );
    let bearer = format!("authorization: Bearer {}\r\n", made["issued"]["secret"].as_str().unwrap());
    assert!(
        house
            .served
            .call("GET /v1/me", &bearer, "")
            .await
            .contains("id:ana@example.com")
    );
    house.served.stop().await;
}

#[tokio::test]
async fn behind_a_proxy_on_tls_only_the_cookie_of_tls_counts() {
    let house = House::open().await;
    let (cookie, state) = house.begin("/").await;
    let answer = house.back(&cookie, &format!("code=good&state={state}")).await;
    let signed_in = header(&answer, "set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let planted = signed_in.trim_start_matches("__Host-").to_owned();
    for (host, cookie, status) in [
        ("gate.example.org:7433", &signed_in, "200"),
        ("GATE.example.org:7433", &signed_in, "200"),
        // Anybody on the path of plain HTTP can plant it.
        ("gate.example.org:7433", &planted, "401"),
        // This machine's own browser.
        ("127.0.0.1:7480", &planted, "200"),
    ] {
        let headers = format!("host: {host}\r\ncookie: {cookie}\r\n");
        let me = house.served.call("GET /v1/me", &headers, "").await;
        assert!(me.starts_with(&format!("HTTP/1.1 {status}")), "{host} {cookie}: {me}");
    }
    house.served.stop().await;
}

#[tokio::test]
async fn a_provider_is_asked_about_devices_that_began_here_and_not_too_often() {
    let house = House::open().await;
    let issuer = house.play.lock().url.clone();
    let finish = async |device_code: &str| {
        let step = json!({"issuer": issuer, "device_code": device_code}).to_string();
        house.served.call("POST /signin/device/finish", "", &step).await
    };
    assert_eq!(problem(&finish("d3vice").await), "403 no-such-device");
    let body = json!({ "issuer": issuer }).to_string();
    let begun = house.served.call("POST /signin/device", "", &body).await;
    assert!(begun.starts_with("HTTP/1.1 201"), "{begun}");
    house.play.lock().pending = vec!["authorization_pending"];
    assert!(finish("d3vice").await.ends_with(r#"{"slow_down":false}"#));
    for _ in 0..20 {
        assert!(
            finish("d3vice").await.ends_with(r#"{"slow_down":true}"#),
            "within five seconds"
        );
    }
    assert_eq!(problem(&finish("another").await), "403 no-such-device");
    assert_eq!(house.play.lock().asked.len(), 1);
    house.served.stop().await;
}

#[tokio::test]
async fn strangers_cannot_keep_a_provider_busy() {
    let house = Arc::new(House::open().await);
    house.play.lock().hangs = true;
    let body = json!({ "issuer": house.play.lock().url.clone() }).to_string();
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (house, body) = (Arc::clone(&house), body.clone());
        crowd.spawn(async move { house.served.call("POST /signin/device", "", &body).await });
    }
    while house.play.lock().devices < 8 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let refused = house.served.call("POST /signin/device", "", &body).await;
    assert_eq!(problem(&refused), "503 provider-busy");
    assert_eq!((header(&refused, "retry-after"), house.play.lock().devices), (Some("5"), 8));
}

#[tokio::test]
async fn a_provider_without_a_device_flow_says_so() {
    let house = House::open().await;
    house.play.lock().without_devices = true;
    let body = json!({ "issuer": house.play.lock().url.clone() }).to_string();
    let refused = house.served.call("POST /signin/device", "", &body).await;
    assert_eq!(problem(&refused), "422 no-device-flow");
    assert!(refused.contains("tidegate login --browser"), "{refused}");
    house.served.stop().await;
}

#[tokio::test]
async fn a_provider_that_is_another_than_it_says_is_not_used_and_a_token_still_works() {
    let house = House::open().await;
    let issuer = house.play.lock().url.replace(':', "%3A").replace('/', "%2F");
    house.play.lock().url = "https://evil.example".to_owned();
    let away = house.served.call(&format!("GET /signin/{issuer}"), "", "").await;
    assert_eq!(problem(&away), "503 provider-away");
    assert!(
        away.contains("of another issuer") && away.contains("a token of the gate works all the same"),
        "{away}"
    );
    assert!(house.served.ask("GET /v1/me", true, "").await.starts_with("HTTP/1.1 200"));
    house.served.stop().await;
}

/// How long ago the newest sign-in was, in seconds, and how long it lasts.
async fn age_and_life(house: &House) -> (i64, i64) {
    let listed = house.served.json("GET /v1/signins", "").await;
    let at = |name: &str| -> jiff::Timestamp { listed["sign_ins"][0][name].as_str().unwrap().parse().unwrap() };
    let now = house.served.gate.clock.now();
    (
        now.duration_since(at("created_at")).as_secs(),
        at("expires_at").duration_since(now).as_secs(),
    )
}

#[tokio::test]
async fn a_sign_in_is_as_old_as_the_proof_at_the_provider() {
    let house = House::open().await;
    let ago = |seconds: i64| json!({"auth_time": house.served.gate.clock.now().as_second() - seconds});
    let half: i64 = 6 * 60 * 60;
    // Without a word of it, it is of this moment.
    for (claims, age) in [(json!({}), 0), (ago(3_600), 3_600), (ago(2), 2)] {
        house.play.lock().claims = claims;
        let (_, sent) = house.sent("next=/").await;
        assert_eq!((sent["max_age"].parse().ok(), sent.get("prompt")), (Some(half), None));
        let cookie = house.signed_in("next=/").await;
        let (found, life) = age_and_life(&house).await;
        assert!(
            (age..age + 60).contains(&found) && (2 * half - age - 60..=2 * half - age).contains(&life),
            "{found} {life}"
        );
        let headers = format!("cookie: {cookie}\r\norigin: https://gate.example.org:7433\r\nhost: gate.example.org:7433\r\n");
        let me = house.served.call("GET /v1/me", &headers, "").await;
        let me: Value = serde_json::from_str(me.lines().last().unwrap()).unwrap();
        let end = format!("DELETE /v1/signins/{}", me["sign_in"].as_str().unwrap());
        assert!(house.served.ask(&end, true, "").await.starts_with("HTTP/1.1 200"));
    }
    // A fresh one is asked for, and is believed no more than the token says.
    let (_, sent) = house.sent("next=/&fresh=true").await;
    assert_eq!((sent["max_age"].as_str(), sent["prompt"].as_str()), ("0", "login"));
    house.play.lock().claims = ago(3_600);
    house.signed_in("next=/&fresh=true").await;
    assert!((3_600..3_660).contains(&age_and_life(&house).await.0));
    for (claims, expected) in [
        // Older than a sign-in lasts, from the future, and no time.
        (ago(2 * half + 1), "403 provider-refused"),
        (ago(-60), "401 not-signed-in"),
        (json!({"auth_time": "yesterday"}), "401 not-signed-in"),
    ] {
        house.play.lock().claims = claims.clone();
        let (cookie, sent) = house.sent("next=/").await;
        let answer = house.back(&cookie, &format!("code=good&state={}", sent["state"])).await;
        assert_eq!(problem(&answer), expected, "{claims}");
    }
    house.served.stop().await;
}
