//! A pipeline with a token of its CI system, in plain psql: let in by what the token proves, and by nothing else.
//!
//! The same story with two issuers: an OpenID provider as it is published (npm's oauth2-mock-server, fetched by
//! `tests/oidc/setup.sh`; left out, and said so, where it cannot be had), and a key pair whose JWKS this program serves.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tidegate::demo::testkit::{TestGate, free_port};

use crate::support::issuer::{Issuer, Own, changed, times};
use crate::support::{Said, TARGET, admin, api, database, eventually, gate_before, policies, psql_as, records, said};

const ORDERS: &str = "ci:shop/orders";
const READ: &str = "shop/read-only";

/// Only this repository's main branch, and only to read.
const POLICY: &str = r#"
@id("main-of-orders-reads")
@max_duration("1h")
permit (
  principal,
  action in [Tidegate::Action::"request", Tidegate::Action::"auto-approve"],
  resource == Tidegate::Access::"shop/read-only"
)
when { principal.hasTag("repository") && principal.getTag("repository") == "shop/orders" }
when { principal.hasTag("ref") && principal.getTag("ref") == "refs/heads/main" };
"#;

/// What a CI system says of a run.
fn run(repository: &str, branch: &str) -> Value {
    json!({
        "aud": "tidegate",
        "sub": format!("repo:{repository}:ref:refs/heads/{branch}"),
        "repository": repository,
        "ref": format!("refs/heads/{branch}"),
        "run_id": "981",
    })
}

/// A token put together by hand.
fn forged(token: &str, header: &Value) -> String {
    let payload = token.split('.').nth(1).expect("a payload");
    format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(header.to_string()))
}

/// What is in a token's header.
fn header(token: &str) -> Value {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().expect("a header"));
    serde_json::from_slice(&header.expect("base64url")).expect("JSON")
}

struct Story {
    gate: TestGate,
    issuer: Issuer,
    /// What psql said to the first token that proved nothing.
    told: OnceLock<String>,
    /// Removed at the end.
    _policies: tempfile::TempDir,
}

impl Story {
    fn begin(issuer: Issuer, port: u16) -> Self {
        let policies = policies(POLICY);
        let more = format!(
            "[policy]\ndir = \"{}\"\n[[identity.issuers]]\nissuer = \"{}\"\naudience = \"tidegate\"\n\
             jwks_url = \"http://127.0.0.1:{port}/jwks\"\nidentity_claim = \"repository\"\nidentity_prefix = \"ci:\"\n\
             claims = {{ repository = \"repository\", ref = \"ref\", run_id = \"run_id\" }}\nleeway = \"5s\"\n",
            policies.path().display(),
            issuer.url(),
        );
        let profiles = "profiles = [\"read-only\", \"read-write\"]\n";
        Self {
            gate: gate_before(database(), profiles, &more),
            issuer,
            told: OnceLock::new(),
            _policies: policies,
        }
    }

    async fn psql(&self, identity: &str, token: &str, dbname: &str) -> Said {
        said(psql_as(&self.gate, identity, token, dbname, "", "SELECT 'in'")).await
    }

    async fn gets_in(&self, token: &str) {
        let said = self.psql(ORDERS, token, READ).await;
        assert_eq!((said.output.as_str(), said.code), ("in\n", Some(0)), "{said:?}");
    }

    /// psql gets in with it sooner or later.
    async fn gets_in_soon(&self, token: &str) {
        eventually("its keys are fetched", async || {
            (self.psql(ORDERS, token, READ).await.code == Some(0)).then_some(())
        })
        .await;
    }

    /// psql is told nothing, and the log everything.
    async fn proves_nothing(&self, token: &str, reason: &str) {
        let before = self.refused().len();
        let said = self.psql(ORDERS, token, READ).await;
        assert_eq!((said.output.as_str(), said.code), ("", Some(2)), "{reason}");
        let words = format!("FATAL:  password authentication failed for user \"{ORDERS}\"\n");
        assert!(said.errors.contains(&words), "{reason}: {said:?}");
        assert_eq!(
            self.told.get_or_init(|| said.errors.clone()),
            &said.errors,
            "the same for every token"
        );
        let record = eventually("it is on record", async || self.refused().into_iter().nth(before)).await;
        let detail = record["detail"].as_str().expect("a detail");
        assert!(detail.contains(reason), "{reason:?} is not in {record}");
    }

    fn refused(&self) -> Vec<Value> {
        let mut all = records(&self.gate);
        all.retain(|record| record["event"] == "refused" && record["ending"] == "bad_token");
        all
    }

    async fn tell(mut self) {
        let main = run("shop/orders", "main");
        let good = self.issuer.token(&main).await;
        self.gets_in(&good).await;
        self.is_on_record().await;
        self.others_are_told_why().await;
        self.starts_again().await;
        self.bad_tokens(&main, &good).await;

        self.gets_in(&good).await;
        self.issuer.rotate().await;
        let new = self.issuer.token(&main).await;
        self.gets_in(&new).await;
        self.proves_nothing(&good, "the issuer has no key").await;

        // Gone, the issuer is not missed by a gate that has its keys.
        self.issuer.stop().await;
        self.gets_in(&new).await;
        self.starts_again().await;
        // The grant of before is alive; but nobody can prove to be whose it is.
        self.proves_nothing(&new, "cannot get the keys of").await;
        self.issuer.start_again().await;
        self.gets_in_soon(&new).await;

        self.starts_again().await;
        self.gets_in(&new).await;
        // A pipeline can be shut out by its name, whatever its issuer says.
        self.gate.json(&["user", "disable", ORDERS]).expect("disabled");
        self.proves_nothing(&new, "disabled").await;
    }

    /// The session is the pipeline's, under the request that the policy approved, with the run's claims.
    async fn is_on_record(&self) {
        let all = records(&self.gate);
        let find = |event: &str| all.iter().find(|record| record["event"] == event).cloned();
        let session = find("session_started").expect("a session");
        assert_eq!((&session["identity"], &session["target"]), (&json!(ORDERS), &json!(TARGET)));
        assert_eq!(session["run"], "981", "as its token says");
        let of_run = |run| {
            self.gate
                .command(&["log", "--run", run, "--event", "session_started", "--output", "json"])
        };
        let lines = |run| {
            String::from_utf8_lossy(&of_run(run).expect("the command").stdout)
                .lines()
                .count()
        };
        assert_eq!((lines("981"), lines("982")), (1, 0));
        let request = find("request_changed").expect("a request");
        assert_eq!(request["policies"], json!(["main-of-orders-reads"]), "{request}");
        let path = format!("/v1/requests/{}", request["request"].as_str().expect("an id"));
        let request = api(&self.gate, &admin(&self.gate), "GET", &path, &Value::Null).await.good();
        assert_eq!(request["outcome"]["how"], "automatic", "{request}");
        assert_eq!(request["issuer"], self.issuer.url());
        assert_eq!(
            request["claims"],
            json!({"repository": "shop/orders", "ref": "refs/heads/main", "run_id": "981"})
        );
    }

    /// Good tokens that the policy gives nothing.
    async fn others_are_told_why(&mut self) {
        for (repository, branch, dbname) in [("shop/payments", "main", READ), ("shop/orders", "feature", "shop/read-write")] {
            let token = self.issuer.token(&run(repository, branch)).await;
            let said = self.psql(&format!("ci:{repository}"), &token, dbname).await;
            assert_eq!(said.code, Some(2), "{said:?}");
            assert!(said.errors.contains("no policy permits"), "{said:?}");
        }
        // Somebody else's name with a token that is good for another.
        let token = self.issuer.token(&run("shop/payments", "main")).await;
        let said = self.psql(ORDERS, &token, READ).await;
        assert!(said.errors.contains("password authentication failed"), "{said:?}");
    }

    /// The gate dies, and comes back. Of an address's failures it puts ten records a minute, two for each, and counts the others:
    /// so all of them are told one by one.
    async fn starts_again(&mut self) {
        self.gate.kill().expect("kill -9");
        eventually("it is dead", async || self.gate.ended().then_some(())).await;
        self.gate.start_again().expect("a gate");
    }

    async fn bad_tokens(&mut self, main: &Value, good: &str) {
        let expired = self.issuer.token(&changed(main, &times(-60))).await;
        self.proves_nothing(&expired, "expired").await;
        let elsewhere = self.issuer.token(&changed(main, &json!({"aud": "vault"}))).await;
        self.proves_nothing(&elsewhere, "the audience is \"vault\"").await;
        let kid = &header(good)["kid"];
        self.proves_nothing(&forged(good, &json!({"alg": "none", "kid": kid})), "the algorithm \"none\"")
            .await;
        // The public key, which everybody has, as if it were a shared secret.
        let claims = changed(&changed(main, &times(300)), &json!({"iss": self.issuer.url()}));
        let mut hs = Header::new(Algorithm::HS256);
        hs.kid = kid.as_str().map(str::to_owned);
        let secret = EncodingKey::from_secret(self.issuer.public_pem().await.as_bytes());
        let confused = jsonwebtoken::encode(&hs, &claims, &secret).expect("a token");
        self.proves_nothing(&confused, "the algorithm \"HS256\"").await;
        self.starts_again().await;
        // Somebody else's signature under the issuer's name and key id.
        let mut stranger = Own::start(free_port().expect("a port")).await;
        stranger.stop().await;
        let mut es = Header::new(Algorithm::ES256);
        es.kid = kid.as_str().map(str::to_owned);
        let key = EncodingKey::from_ec_der(&stranger.pair.serialize_der());
        let stolen = jsonwebtoken::encode(&es, &claims, &key).expect("a token");
        let reason = if header(good)["alg"] == "ES256" {
            "the signature is invalid"
        } else {
            "the issuer has no key"
        };
        self.proves_nothing(&stolen, reason).await;
        let other = changed(&claims, &json!({"iss": "https://issuer.example.org"}));
        let unknown = jsonwebtoken::encode(&es, &other, &key).expect("a token");
        self.proves_nothing(&unknown, "is not one of").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipelines_token_of_a_published_openid_provider() {
    let port = free_port().expect("a port");
    let Some(issuer) = Issuer::published(port).await else { return };
    Story::begin(issuer, port).tell().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipelines_token_of_a_key_pair() {
    let port = free_port().expect("a port");
    Story::begin(Issuer::own(port).await, port).tell().await;
}
