//! Issuers of tokens that a test starts: an OpenID provider as it is published (npm's oauth2-mock-server, fetched by
//! `tests/oidc/setup.sh`), and a key pair whose JWKS this program serves.
#![expect(clippy::print_stdout, reason = "what is left out is said")]

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::within;

/// Signer of tokens.
pub(crate) enum Issuer {
    Published(Box<Published>),
    Own(Box<Own>),
}

/// `tests/oidc/server.mjs`; ends with this.
pub(crate) struct Published {
    _process: Child,
    input: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    url: String,
}

/// A key pair, and its public half on a port.
pub(crate) struct Own {
    port: u16,
    pub(crate) pair: rcgen::KeyPair,
    serial: u32,
    jwks: Arc<Mutex<Value>>,
    server: Option<JoinHandle<()>>,
}

impl Published {
    /// `None`: the packages are not there.
    pub(crate) async fn start(port: u16) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let home = root.join("target/oidc");
        if !home.join("node_modules/oauth2-mock-server").exists() {
            return None;
        }
        let mut process = Command::new("node")
            .arg(root.join("tests/oidc/server.mjs"))
            .arg(home)
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        let answers = BufReader::new(process.stdout.take().expect("its output")).lines();
        let mut this = Self {
            input: process.stdin.take().expect("its input"),
            _process: process,
            answers,
            url: String::new(),
        };
        let hello = this.answer().await;
        hello["issuer"].as_str().expect("an issuer").clone_into(&mut this.url);
        Some(this)
    }

    pub(crate) async fn ask(&mut self, question: &Value) -> Value {
        let line = format!("{question}\n");
        self.input.write_all(line.as_bytes()).await.expect("it listens");
        self.answer().await
    }

    pub(crate) async fn answer(&mut self) -> Value {
        let line = within("the issuer answers", self.answers.next_line()).await;
        serde_json::from_str(&line.expect("a line").expect("an answer")).expect("JSON")
    }
}

impl Own {
    pub(crate) async fn start(port: u16) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key pair");
        let mut own = Self {
            port,
            pair,
            serial: 0,
            jwks: Arc::default(),
            server: None,
        };
        own.rotate();
        own.serve().await;
        own
    }

    pub(crate) fn rotate(&mut self) {
        self.pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key pair");
        self.serial += 1;
        let point = self.pair.public_key_raw();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let key = json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": self.kid(), "x": part(&point[1..33]), "y": part(&point[33..])});
        *self.jwks.lock().expect("not poisoned") = json!({"keys": [key]});
    }

    pub(crate) fn kid(&self) -> String {
        format!("key-{}", self.serial)
    }

    pub(crate) async fn serve(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("its port");
        let jwks = async |State(jwks): State<Arc<Mutex<Value>>>| jwks.lock().expect("not poisoned").to_string();
        let router = axum::Router::new().route("/jwks", axum::routing::get(jwks));
        let router = router.with_state(Arc::clone(&self.jwks));
        self.server = Some(tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        }));
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            let _ = server.await;
        }
    }
}

impl Issuer {
    /// Starts an OpenID provider as it is published; `None`, and it says so, if the packages are not there.
    pub(crate) async fn published(port: u16) -> Option<Self> {
        let Some(published) = Published::start(port).await else {
            println!(
                "left out: node or the packages of tests/oidc are not there (tests/oidc/setup.sh fetches them); the same story \
                 is told with a key pair whose JWKS is served by the test"
            );
            return None;
        };
        println!("issuer: oauth2-mock-server at {}", published.url);
        Some(Self::Published(Box::new(published)))
    }

    /// Makes a key pair, and serves its public half.
    pub(crate) async fn own(port: u16) -> Self {
        println!("issuer: a key pair of this test at http://localhost:{port}");
        Self::Own(Box::new(Own::start(port).await))
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Published(published) => published.url.clone(),
            Self::Own(own) => format!("http://localhost:{}", own.port),
        }
    }

    /// A token of this moment with these claims besides its own.
    pub(crate) async fn token(&mut self, claims: &Value) -> String {
        match self {
            Self::Published(published) => {
                let token = published.ask(&json!({"do": "token", "claims": claims})).await;
                token.as_str().expect("a token").to_owned()
            }
            Self::Own(own) => {
                let mut all = times(300);
                all["iss"] = format!("http://localhost:{}", own.port).into();
                merge(&mut all, claims);
                let mut header = Header::new(Algorithm::ES256);
                header.kid = Some(own.kid());
                let key = EncodingKey::from_ec_der(&own.pair.serialize_der());
                jsonwebtoken::encode(&header, &all, &key).expect("a token")
            }
        }
    }

    /// The key it signs with, as everybody has it.
    pub(crate) async fn public_pem(&mut self) -> String {
        match self {
            Self::Published(published) => published.ask(&json!({"do": "pem"})).await.as_str().expect("a key").to_owned(),
            Self::Own(own) => own.pair.public_key_pem(),
        }
    }

    /// New keys; the old ones are gone.
    pub(crate) async fn rotate(&mut self) {
        match self {
            Self::Published(published) => drop(published.ask(&json!({"do": "rotate"})).await),
            Self::Own(own) => own.rotate(),
        }
    }

    pub(crate) async fn stop(&mut self) {
        match self {
            Self::Published(published) => drop(published.ask(&json!({"do": "stop"})).await),
            Self::Own(own) => own.stop().await,
        }
    }

    pub(crate) async fn start_again(&mut self) {
        match self {
            Self::Published(published) => drop(published.ask(&json!({"do": "start"})).await),
            Self::Own(own) => own.serve().await,
        }
    }
}

/// Times of a token that is good for so long from now.
pub(crate) fn times(seconds: i64) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let now = i64::try_from(now.as_secs()).expect("a time");
    json!({"iat": now.min(now + seconds) - 10, "exp": now + seconds})
}

fn merge(into: &mut Value, more: &Value) {
    for (name, value) in more.as_object().expect("claims") {
        into[name] = value.clone();
    }
}

/// Returns claims with others in their place.
pub(crate) fn changed(claims: &Value, more: &Value) -> Value {
    let mut claims = claims.clone();
    merge(&mut claims, more);
    claims
}
