//! A pipeline at the API, with the token of its CI system: it asks, sees its own, and nothing of others; and names that are an
//! issuer's are no user's.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::people::{Team, source};
use super::*;
use crate::identity::{EmailVerified, IssuerSettings, KeysLocation};

const POLICY: &str = r#"
@id("orders-reads")
@max_duration("1h")
permit (
  principal,
  action in [Tidegate::Action::"request", Tidegate::Action::"auto-approve"],
  resource == Tidegate::Access::"orders/read-only"
)
when { principal.hasTag("repository") && ["shop/orders", "shop/payments"].contains(principal.getTag("repository")) };
"#;
const ISSUER: &str = "https://ci.example.org";

/// A gate that trusts one issuer, which signs tokens for any repository; and its two local users.
struct House {
    team: Team,
    key: jsonwebtoken::EncodingKey,
    /// The folder with its public key.
    _keys: tempfile::TempDir,
}

impl House {
    async fn open(prefix: &str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwks.json");
        std::fs::write(&file, json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]}).to_string()).unwrap();
        let settings = IssuerSettings {
            issuer: ISSUER.to_owned(),
            audience: "tidegate".to_owned(),
            keys: KeysLocation::File(file),
            identity_claim: "repository".to_owned(),
            email_verified: EmailVerified::Required,
            identity_prefix: prefix.to_owned(),
            groups_claim: None,
            claims: BTreeMap::from([("repository".to_owned(), "repository".to_owned())]),
            leeway: Duration::ZERO,
            client: None,
        };
        let schema = source("schema.cedarschema", include_str!("../../../policies/schema.cedarschema"));
        let policies = Policies::parse(&schema, &[source("ci.cedar", POLICY)], jiff::tz::TimeZone::UTC).unwrap();
        let wanted = Wanted {
            policies: Some(Arc::new(policies)),
            issuers: Issuers::new(vec![settings]),
            ..Wanted::default()
        };
        let team = Team::of(wanted.start().await).await;
        Self {
            team,
            _keys: folder,
            key: jsonwebtoken::EncodingKey::from_ed_der(&pair.serialize_der()),
        }
    }

    fn token(&self, repository: &str) -> String {
        let claims = json!({"iss": ISSUER, "aud": "tidegate", "repository": repository, "exp": 4_000_000_000_u64});
        let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }
}

#[tokio::test]
async fn a_pipeline_asks_and_sees_its_own_and_nothing_of_anothers() {
    let house = House::open("ci:").await;
    let team = &house.team;
    let (orders, payments) = (house.token("shop/orders"), house.token("shop/payments"));
    let (status, me) = team.says(&orders, "GET /v1/me", &Value::Null).await;
    assert_eq!(
        (status, &me["name"], &me["source"]),
        (200, &json!("ci:shop/orders"), &json!(ISSUER))
    );
    let wish = json!({"target": "orders", "profile": "read-only", "window_seconds": 600});
    let (status, request) = team.says(&orders, "POST /v1/requests", &wish).await;
    assert_eq!((status, &request["status"]), (201, &json!("approved")), "{request}");
    assert_eq!(request["claims"], json!({"repository": "shop/orders"}), "{request}");
    let id = request["id"].as_str().unwrap();
    let grant = request["outcome"]["grant"].as_str().unwrap();
    for (who, own) in [(&orders, 1), (&payments, 0)] {
        for list in ["requests", "grants"] {
            let (status, page) = team.says(who, &format!("GET /v1/{list}"), &Value::Null).await;
            assert_eq!((status, page[list].as_array().unwrap().len()), (200, own), "{page}");
        }
    }
    for (first, refused) in [
        (format!("GET /v1/requests/{id}"), 404),
        (format!("POST /v1/requests/{id}/withdraw"), 404),
        (format!("GET /v1/grants/{grant}"), 404),
        (format!("POST /v1/grants/{grant}/login"), 404),
        (format!("POST /v1/grants/{grant}/release"), 404),
        ("GET /v1/users".to_owned(), 403),
        ("GET /v1/log".to_owned(), 403),
    ] {
        let (status, problem) = team.says(&payments, &first, &Value::Null).await;
        assert_eq!(status, refused, "{first}: {problem}");
        assert!(
            problem["type"].as_str().unwrap().starts_with("urn:tidegate:problem:"),
            "{problem}"
        );
    }
    let (status, login) = team
        .says(&orders, &format!("POST /v1/grants/{grant}/login"), &Value::Null)
        .await;
    assert_eq!(status, 200, "{login}");
    // Nobody of whom the policies know nothing gets anything.
    let (status, problem) = team.says(&house.token("shop/other"), "POST /v1/requests", &wish).await;
    assert_eq!((status, &problem["type"]), (403, &json!("urn:tidegate:problem:denied")));
    // Shut out by its name, it is nobody.
    team.served.json("POST /v1/users/ci:shop%2Forders/disable", "").await;
    assert_eq!(team.says(&orders, "GET /v1/me", &Value::Null).await.0, 401);
    house.team.served.stop().await;
}

#[tokio::test]
async fn a_name_that_an_issuer_gives_is_no_local_users() {
    let house = House::open("ci:").await;
    let served = &house.team.served;
    let refused = served.json("POST /v1/users", r#"{"name":"ci:shop/orders"}"#).await;
    assert_eq!(
        (&refused["status"], &refused["type"]),
        (&json!(409), &json!("urn:tidegate:problem:issuers-name")),
        "{refused}"
    );
    assert!(
        refused["detail"].as_str().unwrap().contains(ISSUER) && refused["remedy"].is_string(),
        "{refused}"
    );
    let users = served.json("GET /v1/users", "").await;
    assert_eq!(users["users"].as_array().unwrap().len(), 2, "{users}");
    house.team.served.stop().await;
}

#[tokio::test]
async fn without_a_prefix_only_names_that_were_used_are_the_issuers() {
    let house = House::open("").await;
    let wish = json!({"target": "orders", "profile": "read-only", "window_seconds": 600});
    let (status, request) = house.team.says(&house.token("shop/orders"), "POST /v1/requests", &wish).await;
    assert_eq!(status, 201, "{request}");
    let served = &house.team.served;
    let refused = served.json("POST /v1/users", r#"{"name":"shop/orders"}"#).await;
    assert_eq!(refused["type"], "urn:tidegate:problem:issuers-name", "{refused}");
    let made = served.json("POST /v1/users", r#"{"name":"shop/payments"}"#).await;
    assert!(made["token"].is_string(), "{made}");
    // And from now on that name is the user's alone.
    assert_eq!(
        house
            .team
            .says(&house.token("shop/payments"), "GET /v1/me", &Value::Null)
            .await
            .0,
        401
    );
    house.team.served.stop().await;
}
