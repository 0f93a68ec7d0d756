use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::base::secret::Secret;

/// Protects nothing: an issuer of these tests signs with it.
const RSA: &str = "\
-----BEGIN RSA PRIVATE KEY-----\n\
MIIEowIBAAKCAQEA30Uf1g+INsDKBgdBjg0bpAd9U9X0pQJyFbMvp1LmWdEOLJCc\n\
Kkcu6We1eSHLwnC0pUlZFhIeXb95y0sdEEmRTwIN3ITNrHGPE0sqWHpjTNd8XFhC\n\
Xy1FQBBaC5lTD2e7lS9t3ew+sNgipdBNE6djJIG8O3qCdeEiz3r2sfqCrUOVgnYA\n\
diY4HFVryah7VeJoeipnqHMZi4kPB/Kb4EfrO/Jimgr/jfau0dv+uUAwxX5XCmDN\n\
iNeGFAgYRfRlVy0eMR6RXGZ24DZF0bF79xpWhvfoBz1eoKnjvSzbYZvrQJVqxNSU\n\
ZSgu492kU4x71K8LP0Voe9nXNeBMgfqviGYsEQIDAQABAoIBABrAAWx4N+23c3z9\n\
aZFHaMRiUVW2ELWkcV7ANTlq6UZhkb0tJki6dphoYIm+ztbhAgO7ofzO9uxsgH8m\n\
5LiK1+oLaPW+w5WhlW7OVqh7IWKXfsLhoDIfDmj6jI9PM3BpEURyhktMfsZZXu1W\n\
46UzLOG22YKWzwKokq8hIGV6iiWP9fd2olrKu6MIib9Q7LMmJ0t7J1mqapPOUwys\n\
Mc1rM6TYXDJC4MDHh5iOsWW6BuygF7TSUUNj3X90HtP6N2S4RpCGt3ag5poKqXZ6\n\
fJKqS1tLqo7Un38VhJo8M6b/MyXlKM+WhJfRiFLe3HcRym1Ieby60r5gUaeZEjKi\n\
l9DS+TECgYEA/nVyTTct8eClT6hL+z/aKOj0MktA0sBmS8qa5aldvPSz2FtJ2i7+\n\
fInfLovnjxIQBDNPO/BYatztNgp4jYeZJuzqAcgwygQCSZp0gO1MeUOQ44IITX9e\n\
adigxKsET9PdLZNLLcfmCipRByqTj8rYbLOoyhy7bDSk3K8YtFm7I6cCgYEA4J9R\n\
XejcrZfA6Fx7RvaCfuT8vA23rkTICGQZjf6sl2OskwcZNOa4SDAMI13g5EFaGUxf\n\
v5Nfpd24N6ZB9dcnGDwT9UHG6jBHLAo/W+W3f3HcdYG2faSWV9z1AmUfKpUB1X24\n\
NovYHQRuxWUE3wcBS9MPRL0tSLWBBMO6paaOiYcCgYB30b389hrAZtPw6oK80Jhd\n\
4zP56s2fb9G7pq/BrTrimyeEnZftEWvsIM/jDyX+jLbWA4Mv6kD4MQfSBqQ1oMBR\n\
QAYAyM+QkMqy9fQeMZ9tCo/TUYuvUmaW2Nb7RLxHCrB/oXgpGpQL/VkiUr4hW5cF\n\
uKOmaFko3rEy6ZBsfEROyQKBgBpRsJf/U/QnJtxTEcLD2ZCCxjZGqTILLyEEkZX4\n\
tEJc1Hi5yTNQoWEb+CAgvNwh6Cu0rjdlTjzCGPa0TWA/4H3PdEs1dNg15fD8FmZv\n\
KSwOrFU8aKSaJ1+OLUsljBxSL0/TlkUV57Gmtk/8wTBcwsMerNhSDj9JvR9Qy8rj\n\
FCp7AoGBAOGzB44QXF6YGUK8UG2WpXqoGsaXKS2KnRKboB2BNxrQxhlyJ87BqJJy\n\
qikV8EfU5zPqOHNg69lB/39uQXmSPEw50fvP3x8T1SRCR0NcVs/S66m7EJAkflf1\n\
yX2DzA0yLyXsnn+ONE23dTWvR7eBqSjACS/udD3ui+fSQT7QrL/K\n\
-----END RSA PRIVATE KEY-----\n\
";

struct Signer {
    kid: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
    public: Value,
}

fn rsa() -> Signer {
    let key = EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap();
    let mut public = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::RS256).unwrap()).unwrap();
    public["kid"] = "rsa".into();
    Signer {
        kid: "rsa",
        algorithm: Algorithm::RS256,
        key,
        public,
    }
}

fn p256(kid: &'static str) -> Signer {
    on_curve(kid, "P-256", Algorithm::ES256, &rcgen::PKCS_ECDSA_P256_SHA256)
}

fn p384(kid: &'static str) -> Signer {
    on_curve(kid, "P-384", Algorithm::ES384, &rcgen::PKCS_ECDSA_P384_SHA384)
}

fn on_curve(kid: &'static str, curve: &str, algorithm: Algorithm, signs: &'static rcgen::SignatureAlgorithm) -> Signer {
    let pair = rcgen::KeyPair::generate_for(signs).unwrap();
    let point = &pair.public_key_raw()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    Signer {
        kid,
        algorithm,
        key: EncodingKey::from_ec_der(&pair.serialize_der()),
        public: json!({"kty": "EC", "crv": curve, "kid": kid, "use": "sig", "x": x, "y": y}),
    }
}

fn ed25519(kid: &'static str) -> Signer {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
    Signer {
        kid,
        algorithm: Algorithm::EdDSA,
        key: EncodingKey::from_ed_der(&pair.serialize_der()),
        public: json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x}),
    }
}

impl Signer {
    fn sign(&self, claims: &Value) -> Secret<String> {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.kid.to_owned());
        Secret::new(jsonwebtoken::encode(&header, claims, &self.key).unwrap())
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn later(secs: i64) -> Timestamp {
    now() + SignedDuration::from_secs(secs)
}

const ISSUER: &str = "https://ci.example.org";

/// What a token of GitHub says, or one of GitLab: texts beside each other.
fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "aud": "tidegate",
        "sub": "repo:shop/orders:ref:refs/heads/main",
        "exp": 1_800_000_300,
        "nbf": 1_799_999_990,
        "iat": 1_799_999_995,
        "repository": "shop/orders",
        "ref": "refs/heads/main",
        "run_attempt": 2,
        "teams": ["qa", "has spaces", "leads"],
        "realm_access": {"roles": "dev,ops qa"},
        "list": [1],
    })
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[key] = value;
    claims
}

fn without(key: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(key);
    claims
}

fn settings(keys: KeysLocation) -> IssuerSettings {
    let names = [
        ("repository", "repository"),
        ("attempt", "run_attempt"),
        ("environment", "environment"),
        ("list", "list"),
    ];
    IssuerSettings {
        issuer: ISSUER.to_owned(),
        audience: "tidegate".to_owned(),
        keys,
        identity_claim: "repository".to_owned(),
        email_verified: EmailVerified::Required,
        identity_prefix: "ci:".to_owned(),
        groups_claim: Some("teams".to_owned()),
        claims: names.map(|(name, claim)| (name.to_owned(), claim.to_owned())).into(),
        leeway: std::time::Duration::from_secs(30),
        client: None,
    }
}

fn jwks(signers: &[&Signer]) -> String {
    let keys: Vec<&Value> = signers.iter().map(|signer| &signer.public).collect();
    json!({ "keys": keys }).to_string()
}

/// Issuers whose keys are in a file.
fn in_file(signers: &[&Signer]) -> (tempfile::TempDir, Issuers) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, jwks(signers)).unwrap();
    (folder, Issuers::new(vec![settings(KeysLocation::File(path))]))
}

/// What an issuer's server says, how often it was asked.
#[derive(Clone, Default)]
struct Server {
    says: Arc<Mutex<(StatusCode, String)>>,
    asked: Arc<AtomicUsize>,
    /// Rung each time.
    bell: Arc<tokio::sync::Notify>,
}

impl Server {
    async fn start(signers: &[&Signer]) -> (Self, String) {
        let server = Self::default();
        server.say(StatusCode::OK, jwks(signers));
        let answer = |State(server): State<Self>| async move {
            server.asked.fetch_add(1, Ordering::SeqCst);
            server.bell.notify_one();
            server.says.lock().unwrap().clone()
        };
        let app = axum::Router::new()
            .route("/keys", axum::routing::get(answer))
            .with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (server, url)
    }

    fn say(&self, status: StatusCode, text: String) {
        *self.says.lock().unwrap() = (status, text);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_good_token_names_its_bearer() {
    for signer in [rsa(), p256("a"), p384("a"), ed25519("a")] {
        let (_folder, issuers) = in_file(&[&signer]);
        let identity = issuers.verify(&signer.sign(&claims()), now()).await.unwrap();
        assert_eq!(identity.name.as_str(), "ci:shop/orders");
        assert_eq!(identity.source, IdentitySource::Issuer(ISSUER.to_owned()));
        let groups: Vec<&str> = identity.groups.iter().map(GroupName::as_str).collect();
        assert_eq!(groups, ["leads", "qa"]);
        let claims: Vec<(&str, &str)> = identity
            .claims
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        assert_eq!(claims, [("attempt", "2"), ("repository", "shop/orders")]);
    }
}

#[tokio::test]
async fn every_algorithm_of_a_key_is_taken() {
    let mut signer = rsa();
    signer.public.as_object_mut().unwrap().remove("alg");
    let (_folder, issuers) = in_file(&[&signer]);
    for algorithm in [
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
    ] {
        signer.algorithm = algorithm;
        issuers.verify(&signer.sign(&claims()), now()).await.unwrap();
    }
    // Some issuers write a modulus with a leading zero, as DER does.
    let modulus = URL_SAFE_NO_PAD.decode(signer.public["n"].as_str().unwrap()).unwrap();
    signer.public["n"] = URL_SAFE_NO_PAD.encode([vec![0], modulus].concat()).into();
    let (_folder, issuers) = in_file(&[&signer]);
    issuers.verify(&signer.sign(&claims()), now()).await.unwrap();
}

#[tokio::test]
async fn groups_may_be_nested_and_in_one_text() {
    let signer = p256("a");
    let (folder, _) = in_file(&[&signer]);
    let mut settings = settings(KeysLocation::File(folder.path().join("jwks.json")));
    settings.groups_claim = Some("realm_access.roles".to_owned());
    let issuers = Issuers::new(vec![settings]);
    let identity = issuers.verify(&signer.sign(&claims()), now()).await.unwrap();
    let groups: Vec<&str> = identity.groups.iter().map(GroupName::as_str).collect();
    assert_eq!(groups, ["dev", "ops", "qa"]);
}

#[tokio::test]
async fn what_is_wrong_is_said_precisely() {
    let signer = p256("a");
    let (_folder, issuers) = in_file(&[&signer]);
    let mut said = Vec::new();
    for claims in [
        with("iss", json!("https://else.example.org")),
        without("iss"),
        with("iss", json!([ISSUER])),
        with("aud", json!("other")),
        with("aud", json!(["a", "b"])),
        without("aud"),
        without("exp"),
        with("exp", json!("tomorrow")),
        with("exp", json!(1_799_999_970)),
        with("exp", json!(-1e300)),
        with("nbf", json!(1_800_000_031)),
        with("iat", json!(1_800_000_031.5)),
        without("repository"),
        with("repository", json!("")),
        with("repository", json!(7)),
        with("repository", json!("shop/orders\ndrop")),
        with("repository", json!("x".repeat(253))),
        with("teams", json!(["qa", 7])),
        with("teams", json!(7)),
    ] {
        said.push(issuers.verify(&signer.sign(&claims), now()).await.unwrap_err().to_string());
    }
    insta::assert_snapshot!(said.join("\n"));
}

#[tokio::test]
async fn clocks_may_differ_by_the_leeway_and_no_more() {
    let signer = p256("a");
    let (_folder, issuers) = in_file(&[&signer]);
    let token = signer.sign(&claims());
    for (secs, good) in [(-36, false), (-35, true), (329, true), (330, false)] {
        let verified = issuers.verify(&token, later(secs)).await;
        assert_eq!(verified.is_ok(), good, "{secs}: {verified:?}");
    }
    // Several audiences, ours among them.
    let several = signer.sign(&with("aud", json!(["other", "tidegate"])));
    issuers.verify(&several, now()).await.unwrap();
    let mixed = signer.sign(&with("aud", json!(["tidegate", 7])));
    let verified = issuers.verify(&mixed, now()).await;
    assert!(matches!(verified, Err(TokenError::Audience { .. })), "{verified:?}");
}

#[tokio::test]
async fn a_signature_by_somebody_else_proves_nothing() {
    let (signer, stranger) = (p256("a"), p256("a"));
    let (_folder, issuers) = in_file(&[&signer]);
    let verified = issuers.verify(&stranger.sign(&claims()), now()).await;
    assert_eq!(verified, Err(TokenError::Signature));
    // Good signature, other claims.
    let good = signer.sign(&claims());
    let other = signer.sign(&with("repository", json!("bank/vault")));
    let parts: Vec<&str> = good.expose().split('.').collect();
    let payload = other.expose().split('.').nth(1).unwrap();
    let mixed = Secret::new(format!("{}.{payload}.{}", parts[0], parts[2]));
    assert_eq!(issuers.verify(&mixed, now()).await, Err(TokenError::Signature));
}

fn raw(header: &Value, claims: &Value, signature: &str) -> Secret<String> {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    Secret::new(format!("{}.{}.{signature}", part(header), part(claims)))
}

#[tokio::test]
async fn none_and_shared_secrets_are_never_accepted() {
    let signer = rsa();
    let (_folder, issuers) = in_file(&[&signer]);
    for name in ["none", "None", "NONE", "nOnE", "HS256"] {
        let token = raw(&json!({"alg": name, "kid": "rsa"}), &claims(), "");
        let verified = issuers.verify(&token, now()).await;
        assert_eq!(verified, Err(TokenError::Algorithm(format!("{name:?}"))));
    }
    // The oldest trick: the public key, which everybody knows, as a shared secret.
    let public = signer.public["n"].as_str().unwrap();
    for secret in [
        public.as_bytes().to_vec(),
        URL_SAFE_NO_PAD.decode(public).unwrap(),
        RSA.into(),
    ] {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("rsa".to_owned());
        let token = jsonwebtoken::encode(&header, &claims(), &EncodingKey::from_secret(&secret)).unwrap();
        let verified = issuers.verify(&Secret::new(token), now()).await;
        assert_eq!(verified, Err(TokenError::Algorithm("\"HS256\"".to_owned())));
    }
    // A key of one kind does not verify what names an algorithm of another.
    let token = raw(&json!({"alg": "ES256", "kid": "rsa"}), &claims(), "AAAA");
    assert!(matches!(
        issuers.verify(&token, now()).await,
        Err(TokenError::UnknownKey { .. })
    ));
    let token = raw(&json!({"alg": "RS256", "kid": "rsa", "crit": ["exp"]}), &claims(), "AAAA");
    assert_eq!(issuers.verify(&token, now()).await, Err(TokenError::CriticalExtension));
    // A key brought along is not asked.
    let stranger = p256("own");
    let mut header = Header::new(Algorithm::ES256);
    header.jwk = Some(serde_json::from_value(stranger.public.clone()).unwrap());
    let token = jsonwebtoken::encode(&header, &claims(), &stranger.key).unwrap();
    let verified = issuers.verify(&Secret::new(token), now()).await;
    assert!(matches!(verified, Err(TokenError::UnknownKey { .. })), "{verified:?}");
}

#[tokio::test]
async fn without_a_key_id_the_only_key_counts() {
    let (first, second) = (p256("a"), p256("b"));
    let token = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims(), &first.key).unwrap();
    let token = Secret::new(token);
    let (_folder, issuers) = in_file(&[&first, &rsa()]);
    issuers.verify(&token, now()).await.unwrap();
    let (_folder, issuers) = in_file(&[&first, &second]);
    assert!(matches!(
        issuers.verify(&token, now()).await,
        Err(TokenError::UnknownKey { .. })
    ));
}

#[tokio::test]
async fn an_unverified_address_names_nobody() {
    let signer = p256("a");
    let (folder, _) = in_file(&[&signer]);
    let mut settings = settings(KeysLocation::File(folder.path().join("jwks.json")));
    settings.identity_claim = "email".to_owned();
    let assumed = IssuerSettings {
        email_verified: EmailVerified::Assumed,
        ..settings.clone()
    };
    let (issuers, assuming) = (Issuers::new(vec![settings.clone()]), Issuers::new(vec![assumed]));
    // A token that does not say so proves it only where the operator says that the issuer's addresses are all verified.
    let silent = signer.sign(&with("email", json!("ana@example.com")));
    let refused = issuers.verify(&silent, now()).await.unwrap_err();
    assert!(
        refused.to_string().contains("email_verified") && refused.to_string().contains("missing"),
        "{refused}"
    );
    assert_eq!(
        assuming.verify(&silent, now()).await.unwrap().name.as_str(),
        "ci:ana@example.com"
    );
    for (verified, good) in [
        (json!(true), true),
        (json!("true"), true),
        (json!(false), false),
        (json!(null), false),
    ] {
        let mut claims = with("email", json!("ana@example.com"));
        claims["email_verified"] = verified;
        let token = signer.sign(&claims);
        assert_eq!(issuers.verify(&token, now()).await.is_ok(), good);
        assert_eq!(assuming.verify(&token, now()).await.is_ok(), good, "what is said counts");
    }
    // An address within a claim has its proof beside it.
    settings.identity_claim = "user.email".to_owned();
    let issuers = Issuers::new(vec![settings]);
    for (user, good) in [
        (json!({"email": "ana@example.com", "email_verified": true}), true),
        (json!({"email": "ana@example.com"}), false),
    ] {
        let mut claims = with("user", user);
        claims["email_verified"] = json!(!good);
        assert_eq!(issuers.verify(&signer.sign(&claims), now()).await.is_ok(), good);
    }
}

#[test]
fn names_belong_to_the_issuer_whose_prefix_they_have() {
    let ci = settings(KeysLocation::Url("https://ci.example.org/jwks".to_owned()));
    let people = IssuerSettings {
        issuer: "https://people.example.org".to_owned(),
        identity_prefix: String::new(),
        ..ci.clone()
    };
    let issuers = Issuers::new(vec![people, ci]);
    let who = |name: &str| issuers.who_names(&name.parse().unwrap()).map(|issuer| issuer.issuer.as_str());
    assert_eq!((who("ci:shop/orders"), who("ana")), (Some(ISSUER), None));
}

#[tokio::test]
async fn an_issuer_cannot_name_the_identities_of_another() {
    let signer = p256("a");
    let (folder, _) = in_file(&[&signer]);
    let ci = settings(KeysLocation::File(folder.path().join("jwks.json")));
    let people = IssuerSettings {
        issuer: "https://people.example.org".to_owned(),
        identity_prefix: String::new(),
        ..ci.clone()
    };
    let issuers = Issuers::new(vec![people, ci]);
    let mut claims = with("repository", json!("ci:shop/orders"));
    claims["iss"] = "https://people.example.org".into();
    let verified = issuers.verify(&signer.sign(&claims), now()).await;
    assert!(matches!(verified, Err(TokenError::Claim { .. })), "{verified:?}");
}

#[tokio::test]
async fn a_new_key_is_fetched_but_not_at_everybodys_call() {
    let (old, new) = (p256("old"), p256("new"));
    let (server, url) = Server::start(&[&old]).await;
    let issuers = Issuers::new(vec![settings(KeysLocation::Url(url))]);
    issuers.verify(&old.sign(&claims()), now()).await.unwrap();
    issuers.verify(&old.sign(&claims()), later(20)).await.unwrap();
    assert_eq!(server.asked(), 1);
    // However soon that is.
    server.say(StatusCode::OK, jwks(&[&new]));
    let token = new.sign(&claims());
    issuers.verify(&token, later(21)).await.unwrap();
    assert_eq!(server.asked(), 2);
    // The old key is gone with it; asking for it, or for one that somebody made up, asks nobody for a while.
    for (asker, secs) in [(&old, 22), (&p256("made up"), 50)] {
        let verified = issuers.verify(&asker.sign(&claims()), later(secs)).await;
        assert!(matches!(verified, Err(TokenError::UnknownKey { .. })), "{verified:?}");
    }
    assert_eq!(server.asked(), 2);
    server.say(StatusCode::OK, jwks(&[&old, &new]));
    issuers.verify(&old.sign(&claims()), later(51)).await.unwrap();
    assert_eq!(server.asked(), 3);
    // A reload keeps what was fetched.
    let again = issuers.renewed(issuers_settings(&issuers));
    again.verify(&token, later(52)).await.unwrap();
    assert_eq!(server.asked(), 3);
}

fn issuers_settings(issuers: &Issuers) -> Vec<IssuerSettings> {
    issuers.settings().cloned().collect()
}

#[tokio::test]
async fn many_at_once_fetch_once() {
    let signer = p256("a");
    let (server, url) = Server::start(&[&signer]).await;
    let issuers = Arc::new(Issuers::new(vec![settings(KeysLocation::Url(url))]));
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (issuers, token) = (Arc::clone(&issuers), signer.sign(&claims()));
            tokio::spawn(async move { issuers.verify(&token, now()).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn a_server_that_is_gone_is_got_over_for_a_day() {
    let signer = p256("a");
    let (server, url) = Server::start(&[&signer]).await;
    let issuers = Issuers::new(vec![settings(KeysLocation::Url(url))]);
    issuers.verify(&signer.sign(&claims()), now()).await.unwrap();
    server.bell.notified().await;
    server.say(StatusCode::SERVICE_UNAVAILABLE, String::new());
    let lasting = signer.sign(&with("exp", json!(1_900_000_000)));
    let day = 24 * 3600;
    issuers.verify(&lasting, later(599)).await.unwrap();
    assert_eq!(server.asked(), 1);
    // Asked again, and nobody waits for the answer.
    issuers.verify(&lasting, later(600)).await.unwrap();
    server.bell.notified().await;
    assert_eq!(server.asked(), 2);
    issuers.verify(&lasting, later(day - 1)).await.unwrap();
    let refused = issuers.verify(&lasting, later(day)).await.unwrap_err();
    assert!(refused.to_string().contains("503"), "{refused}");
    server.say(StatusCode::OK, jwks(&[&signer]));
    issuers.verify(&lasting, later(day + 5)).await.unwrap();
}

#[tokio::test]
async fn keys_that_are_not_to_be_had_refuse() {
    let signer = p256("a");
    let token = signer.sign(&claims());
    let (server, url) = Server::start(&[&signer]).await;
    for (status, text, word) in [
        (StatusCode::NOT_FOUND, String::new(), "404"),
        (StatusCode::FOUND, String::new(), "302"),
        (StatusCode::OK, "<html>".to_owned(), "not a JWKS"),
        (StatusCode::OK, r#"{"keys":[]}"#.to_owned(), "no usable"),
        (StatusCode::OK, " ".repeat((1 << 20) + 1), "more than"),
    ] {
        server.say(status, text);
        let issuers = Issuers::new(vec![settings(KeysLocation::Url(url.clone()))]);
        let refused = issuers.verify(&token, now()).await.unwrap_err();
        assert!(
            matches!(refused, TokenError::NoKeys { .. }) && refused.to_string().contains(word),
            "{refused}"
        );
    }
    // Nobody listens; and where the address is not one to call.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [format!("http://{closed}/keys"), "http://issuer.example.org/keys".to_owned()] {
        let issuers = Issuers::new(vec![settings(KeysLocation::Url(url))]);
        let refused = issuers.verify(&token, now()).await.unwrap_err();
        assert!(matches!(refused, TokenError::NoKeys { .. }), "{refused}");
    }
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes() {
    let (old, new) = (p256("old"), ed25519("new"));
    let (folder, issuers) = in_file(&[&old]);
    let path = folder.path().join("jwks.json");
    issuers.verify(&old.sign(&claims()), now()).await.unwrap();
    std::fs::write(&path, jwks(&[&new])).unwrap();
    issuers.verify(&new.sign(&claims()), now()).await.unwrap();
    assert!(issuers.verify(&old.sign(&claims()), now()).await.is_err());
    std::fs::remove_file(&path).unwrap();
    let refused = issuers.verify(&new.sign(&claims()), now()).await;
    assert!(matches!(refused, Err(TokenError::NoKeys { .. })), "{refused:?}");
}

#[tokio::test]
async fn long_texts_are_not_looked_at() {
    let signer = p256("a");
    let (_folder, issuers) = in_file(&[&signer]);
    let token = signer.sign(&with("padding", json!("x".repeat(16 << 10))));
    assert!(matches!(issuers.verify(&token, now()).await, Err(TokenError::TooLong { .. })));
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}", header in ".{0,40}", payload in ".{0,80}", signature in "[A-Za-z0-9_-]{0,100}") {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let issuers = Issuers::new(vec![settings(KeysLocation::File("/nowhere".into()))]);
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let formed = format!("{}.{}.{signature}", part(&header), part(&payload));
        for token in [text, formed] {
            prop_assert!(runtime.block_on(issuers.verify(&Secret::new(token), now())).is_err());
        }
    }

    #[test]
    fn no_signature_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0_usize..3) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let signer = match kind { 0 => rsa(), 1 => p256("a"), _ => ed25519("a") };
        let (_folder, issuers) = in_file(&[&signer]);
        let algorithm = format!("{:?}", signer.algorithm);
        let token = raw(&json!({"alg": algorithm, "kid": signer.kid}), &claims(), &URL_SAFE_NO_PAD.encode(bytes));
        prop_assert_eq!(runtime.block_on(issuers.verify(&token, now())), Err(TokenError::Signature));
    }
}
