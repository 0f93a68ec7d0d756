use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::access::policy::{Policies, PolicyFile};
use crate::access::quota::Quotas;
use crate::access::strangers::{ConnectionPermit, RefusalLog, StrangerLimits};
use crate::audit;
use crate::base::tls::{ServerTls, ServerTlsCell};
use crate::identity::Issuers;
use crate::ledger::Ledger;

mod audit_log;
mod chat;
mod forged;
mod limits;
mod people;
mod pipelines;
mod providers;
mod sign_ins;
mod tls;

/// A control API on a Unix socket of its own.
pub(crate) struct Served {
    pub(crate) dir: tempfile::TempDir,
    /// Where it is on TLS.
    pub(crate) tcp: Option<SocketAddr>,
    pub(crate) gate: Arc<ControlContext>,
    ready: Arc<AtomicBool>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    stop: oneshot::Sender<()>,
}

impl Served {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// With the shipped policies, and pages beside the API.
    pub(crate) async fn start_with_pages(pages: fn(Arc<ControlContext>) -> axum::Router) -> Self {
        let wanted = Wanted {
            policies: Some(people::policies()),
            pages: Some(pages),
            ..Wanted::default()
        };
        wanted.start().await
    }

    /// The same, in a folder that has the state of a gate.
    pub(crate) async fn start_in(dir: tempfile::TempDir, pages: fn(Arc<ControlContext>) -> axum::Router) -> Self {
        let wanted = Wanted {
            policies: Some(people::policies()),
            pages: Some(pages),
            dir: Some(dir),
            ..Wanted::default()
        };
        wanted.start().await
    }

    async fn start_with(policies: Option<Arc<Policies>>) -> Self {
        Self::start_on(policies, None).await
    }

    /// On TLS as well, with this certificate.
    pub(crate) async fn start_on(policies: Option<Arc<Policies>>, tls: Option<ServerTlsCell>) -> Self {
        let wanted = Wanted {
            policies,
            tcp: tls.is_some(),
            tls,
            ..Wanted::default()
        };
        wanted.start().await
    }
}

/// What kind of API it is to be; by default on the Unix socket alone.
#[derive(Default)]
struct Wanted {
    policies: Option<Arc<Policies>>,
    /// A folder with the state of a gate.
    dir: Option<tempfile::TempDir>,
    /// The pages beside it.
    pages: Option<fn(Arc<ControlContext>) -> axum::Router>,
    issuers: Issuers,
    limits: StrangerLimits,
    console_address: Option<String>,
    chat: Option<crate::chat::ChatSettings>,
    tcp: bool,
    tls: Option<ServerTlsCell>,
}

impl Wanted {
    #[expect(clippy::too_many_lines, reason = "a gate's parts, in order")]
    async fn start(self) -> Served {
        let Self {
            policies,
            dir,
            pages,
            issuers,
            limits,
            console_address,
            chat,
            tcp,
            tls,
        } = self;
        let dir = dir.unwrap_or_else(|| tempfile::tempdir().unwrap());
        let state = dir.path().join("tidegate-state");
        std::fs::create_dir_all(&state).unwrap();
        let clock = Clock::system(None);
        let settings = audit::JournalSettings::in_folder(&state);
        let journal = Journal::open(&settings, clock.clone()).unwrap();
        let ready = Arc::new(AtomicBool::new(true));
        let ledger = Ledger::open(&state.join("ledger.db"), journal.clone(), clock.clone()).unwrap();
        let mut rules = crate::access::testing::rules(policies);
        rules.issuers = Arc::new(issuers);
        rules.console_address = console_address;
        let rules = watch::channel(Arc::new(rules)).1;
        let certificate =
            ServerTlsCell::new(ServerTls::self_signed(&state, &["127.0.0.1".to_owned()], Clock::system(None).now()).unwrap());
        let gate = ControlContext {
            service: AccessService::new(
                ledger,
                journal.clone(),
                RefusalLog::new(journal.clone(), clock.clone()),
                clock.clone(),
                rules,
            ),
            registry: Arc::default(),
            quotas: Quotas::default(),
            journal,
            audit_dir: settings.dir,
            chat: Chat::new(chat, clock.clone()),
            clock,
            token: AdminToken::load_or_make(&state.join("admin.token")).unwrap(),
            strangers: Strangers::new(limits, Clock::system(None)),
            profiles: watch::channel(BTreeMap::new()).1,
            target_state: Box::new(|_| None),
            advertise: "127.0.0.1:7432".to_owned(),
            tls: certificate,
            ready: Box::new(readiness(Arc::clone(&ready))),
            alive: Box::new(|| Ok(())),
            forwarding: Box::new(|| None),
            reload: mpsc::channel(1).0,
            places: MAX_CONNECTIONS as usize,
            metrics: Box::new(|| "# EOF\n".to_owned()),
        };
        let listen = tcp.then(|| "127.0.0.1:0".parse().unwrap());
        let listeners = Listeners::bind(&state.join("control.sock"), listen, tls).await.unwrap();
        let tcp = listeners.tcp_address();
        let (stop, stopped) = oneshot::channel();
        let gate = Arc::new(gate);
        let server = tokio::spawn(serve(
            listeners,
            Arc::clone(&gate),
            pages.map(|pages| pages(Arc::clone(&gate))),
            async {
                let _ = stopped.await;
            },
        ));
        let config = "[targets.orders]\naddress = \"127.0.0.1:5432\"\nuser = \"orders_app\"\n";
        std::fs::write(dir.path().join("tidegate.toml"), config).unwrap();
        Served {
            dir,
            tcp,
            gate,
            ready,
            server,
            stop,
        }
    }
}

impl Served {
    /// The admin token.
    pub(crate) fn token(&self) -> String {
        std::fs::read_to_string(self.state("admin.token")).unwrap().trim().to_owned()
    }

    fn state(&self, name: &str) -> PathBuf {
        self.dir.path().join("tidegate-state").join(name)
    }

    /// One request, its answer whole; the date is cut out.
    async fn ask(&self, first: &str, token: bool, body: &str) -> String {
        let token = if token {
            let text = std::fs::read_to_string(self.state("admin.token")).unwrap();
            format!("authorization: Bearer {}\r\n", text.trim())
        } else {
            String::new()
        };
        self.call(first, &token, body).await
    }

    /// The same, with these headers.
    pub(crate) async fn call(&self, first: &str, headers: &str, body: &str) -> String {
        let stream = UnixStream::connect(self.state("control.sock")).await.unwrap();
        call(stream, first, headers, body).await
    }

    /// The same, over the network.
    async fn call_tcp(&self, first: &str, headers: &str, body: &str) -> String {
        let stream = tokio::net::TcpStream::connect(self.tcp.unwrap()).await.unwrap();
        call(stream, first, headers, body).await
    }

    /// The JSON an operator is answered.
    pub(crate) async fn json(&self, first: &str, body: &str) -> serde_json::Value {
        let answer = self.ask(first, true, body).await;
        serde_json::from_str(answer.lines().last().unwrap()).unwrap()
    }

    /// The lines of JSON that an operator is answered.
    pub(crate) async fn json_lines(&self, first: &str) -> Vec<serde_json::Value> {
        let answer = self.ask(first, true, "").await;
        let lines = answer.lines().filter(|line| line.starts_with('{'));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn document(&self) -> serde_json::Value {
        self.json("GET /v1/openapi.json", "").await
    }

    /// Makes so many logins fail at the wire that failures from this machine are held back here too, for as long as the permit is
    /// kept.
    fn fail_at_the_wire(&self, claimed: Option<&str>) -> ConnectionPermit {
        let wire = self.gate.strangers.beside(StrangerLimits::default());
        let client = wire.enter(self.tcp.unwrap().ip());
        for _ in 0..300 {
            let _ = client.proof().failed(claimed);
        }
        client
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.server.await.unwrap().unwrap();
        assert!(!self.dir.path().join("tidegate-state/control.sock").exists());
    }
}

fn readiness(ready: Arc<AtomicBool>) -> impl Fn() -> Result<(), String> {
    move || {
        if ready.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err("the audit log cannot be written".to_owned())
        }
    }
}

async fn call(mut stream: impl AsyncRead + AsyncWrite + Unpin, first: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let host = if headers.contains("host: ") { "" } else { "host: x\r\n" };
    let request = format!("{first} HTTP/1.1\r\n{host}connection: close\r\n{headers}content-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let lines = answer
        .lines()
        .filter(|line| !line.starts_with("date: ") && !line.starts_with("content-length: "));
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn problems_say_what_why_and_what_next() {
    let served = Served::start().await;
    let mut said = Vec::new();
    for (first, token, body) in [
        ("GET /v1/grants", false, ""),
        ("GET /v1/grants/gr_0000000000", true, ""),
        ("GET /v1/grants/orders", true, ""),
        ("GET /v1/grants?color=red", true, ""),
        ("GET /v2", true, ""),
        ("DELETE /v1/grants", true, ""),
        ("POST /v1/grants", true, "{"),
        (
            "POST /v1/grants",
            true,
            r#"{"identity":"a\nb","target":"orders","window_seconds":60}"#,
        ),
        (
            "POST /v1/grants",
            true,
            r#"{"identity":"ana","target":"order","window_seconds":60}"#,
        ),
        (
            "POST /v1/grants",
            true,
            r#"{"identity":"ana","target":"orders","window_seconds":0}"#,
        ),
        ("POST /v1/grants/gr_0000000000/revoke", true, ""),
        ("POST /v1/sessions/se_0000000000/kill", true, ""),
    ] {
        said.push(format!("> {first} {body}\n{}", served.ask(first, token, body).await));
    }
    insta::assert_snapshot!(said.join("\n\n"));
    served.stop().await;
}

#[tokio::test]
async fn health_needs_no_token() {
    let served = Served::start().await;
    assert!(served.ask("GET /healthz", false, "").await.starts_with("HTTP/1.1 200 OK"));
    assert!(served.ask("GET /readyz", false, "").await.starts_with("HTTP/1.1 200 OK"));
    served.ready.store(false, Ordering::Relaxed);
    let answer = served.ask("GET /readyz", false, "").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.ends_with("not ready: the audit log cannot be written"), "{answer}");
    assert!(
        served
            .ask("GET /metrics", false, "")
            .await
            .contains("application/openmetrics-text")
    );
    served.stop().await;
}

#[tokio::test]
async fn a_wrong_token_opens_nothing() {
    let served = Served::start().await;
    std::fs::write(served.state("admin.token"), "0".repeat(64)).unwrap();
    for path in [
        "GET /v1/grants",
        "GET /v1/sessions",
        "GET /v1/log",
        "POST /v1/grants/gr_0000000000/revoke",
    ] {
        assert!(served.ask(path, true, "").await.starts_with("HTTP/1.1 401"), "{path}");
    }
    served.stop().await;
}

#[tokio::test]
async fn a_grant_is_made_with_a_string_to_paste() {
    let served = Served::start().await;
    let body = r#"{"identity":"ana@example.com","target":"orders","window_seconds":1800,"reason":"BUG-812"}"#;
    let answer = served.ask("POST /v1/grants", true, body).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let issued: model::Issued = serde_json::from_str(answer.lines().last().unwrap()).unwrap();
    let (id, secret) = (issued.grant.grant.id(), &issued.secret);
    assert_eq!(
        issued.connection_string,
        format!("postgresql://{id}:{secret}@127.0.0.1:7432/orders?sslmode=require")
    );
    assert_eq!((issued.grant.status.as_str(), issued.grant.live_sessions), ("ready", 0));
    assert!(secret.len() >= 27, "160 bits in at most 6 bits a letter");
    let shown = served.ask(&format!("GET /v1/grants/{id}"), true, "").await;
    assert!(!shown.contains(secret.as_str()));
    served.stop().await;
}

#[tokio::test]
async fn the_socket_is_for_its_owner_and_for_one_gate() {
    let served = Served::start().await;
    let socket = served.state("control.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(
        Listeners::bind(&socket, None, None).await,
        Err(ListenError::InUse { .. })
    ));
    served.stop().await;
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let listeners = Listeners::bind(&socket, Some("127.0.0.1:0".parse().unwrap()), None)
        .await
        .unwrap();
    assert!(listeners.tcp_address().is_some());
    drop(listeners);
    assert!(!Path::new(&socket).exists());
}

#[tokio::test]
async fn the_log_says_what_it_cannot_read_and_follows() {
    let served = Served::start().await;
    let grant = r#"{"identity":"ana","target":"orders","window_seconds":60}"#;
    served.ask("POST /v1/grants", true, grant).await;
    let history = served.ask("GET /v1/log?event=grant_changed&identity=ana", true, "").await;
    assert!(
        history.contains("application/x-ndjson") && history.contains(r#""change":"created""#),
        "{history}"
    );
    let nothing = served.ask("GET /v1/log?identity=tom", true, "").await;
    assert!(!nothing.contains("grant_changed"), "{nothing}");
    let wrong = served.ask("GET /v1/log?event=statements", true, "").await;
    assert!(
        wrong.starts_with("HTTP/1.1 400") && wrong.contains("journal_healed"),
        "{wrong}"
    );

    // Followed, it gives what comes, and ends when the API does.
    let mut stream = UnixStream::connect(served.state("control.sock")).await.unwrap();
    let token = std::fs::read_to_string(served.state("admin.token")).unwrap();
    let request = format!(
        "GET /v1/log?follow=true&last=100 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        token.trim()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = String::new();
    let mut block = [0; 4096];
    while !seen.contains(r#""identity":"ana""#) {
        let read = stream.read(&mut block).await.unwrap();
        seen.push_str(&String::from_utf8_lossy(&block[..read]));
    }
    served.ask("POST /v1/grants", true, &grant.replace("ana", "tom")).await;
    while !seen.contains(r#""identity":"tom""#) {
        let read = stream.read(&mut block).await.unwrap();
        assert_ne!(read, 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&block[..read]));
    }
    let file = served.state("audit").join("audit-000001.jsonl");
    std::fs::write(&file, format!("{}not a record\n", std::fs::read_to_string(&file).unwrap())).unwrap();
    let damaged = served.ask("GET /v1/log", true, "").await;
    assert!(damaged.contains(r#"{"error":"#), "{damaged}");
    served.stop().await;
    while stream.read(&mut block).await.unwrap_or(0) > 0 {}
}

#[tokio::test]
async fn the_document_has_every_path_and_the_router_every_path_of_the_document() {
    let served = Served::start().await;
    let document = served.document().await;
    let mut told = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{path}");
            let id = path
                .replace("/grants/{id}", "/grants/gr_0000000000")
                .replace("/sessions/{id}", "/sessions/se_0000000000")
                .replace("/requests/{id}", "/requests/rq_0000000000")
                .replace("{name}", "ana");
            let answer = served.ask(&format!("{} {id}", method.to_uppercase()), false, "").await;
            let expected = match path.as_str() {
                // Without its section in the configuration.
                "/v1/chat/slack" => "404",
                path if path.starts_with("/v1/") => "401",
                // They prove something themselves, and nothing was sent.
                path if path.starts_with("/signin/") && path != "/signin/providers" => "4",
                _ => "200",
            };
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {expected}")),
                "{method} {path}: {answer}"
            );
            told.push(format!("{} {path}", method.to_uppercase()));
        }
    }
    // The router can get a path in one way only: the one that describes it too.
    let source = include_str!("serve.rs");
    assert!(!source.contains(".route(") && !source.contains(".nest("));
    insta::assert_snapshot!(told.join("\n"));
    served.stop().await;
}

#[tokio::test]
async fn answers_are_as_the_document_says() {
    let served = Served::start().await;
    let document = served.document().await;
    let made = r#"{"identity":"ana","target":"orders","window_seconds":60}"#;
    let issued = served.json("POST /v1/grants", made).await;
    let id = issued["grant"]["id"].as_str().unwrap().to_owned();
    for (method, path, first, body) in [
        ("get", "/v1/me", "GET /v1/me".to_owned(), ""),
        ("get", "/v1/targets", "GET /v1/targets".to_owned(), ""),
        ("post", "/v1/grants", "POST /v1/grants".to_owned(), made),
        ("get", "/v1/grants", "GET /v1/grants".to_owned(), ""),
        ("get", "/v1/grants/{id}", format!("GET /v1/grants/{id}"), ""),
        (
            "post",
            "/v1/grants/{id}/revoke",
            format!("POST /v1/grants/{id}/revoke"),
            r#"{"reason":"over"}"#,
        ),
        ("get", "/v1/sessions", "GET /v1/sessions".to_owned(), ""),
        ("get", "/v1/audit/checkpoint", "GET /v1/audit/checkpoint".to_owned(), ""),
        ("get", "/v1/audit/status", "GET /v1/audit/status".to_owned(), ""),
        ("get", "/v1/audit/verification", "GET /v1/audit/verification".to_owned(), ""),
        ("get", "/v1/status", "GET /v1/status".to_owned(), ""),
        ("get", "/v1/users", "GET /v1/users?limit=1&name=a".to_owned(), ""),
        ("get", "/v1/clock", "GET /v1/clock".to_owned(), ""),
        ("post", "/v1/clock/set-right", "POST /v1/clock/set-right".to_owned(), ""),
        ("post", "/v1/audit/rotate-key", "POST /v1/audit/rotate-key".to_owned(), ""),
        ("post", "/v1/requests", "POST /v1/requests".to_owned(), ""),
        ("get", "/v1/grants/{id}", "GET /v1/grants/gr_0000000000".to_owned(), ""),
    ] {
        let answer = served.json(&first, body).await;
        valid(&document, &document["paths"][path][method], &answer);
    }
    served.stop().await;
}

#[tokio::test]
async fn references_in_the_document_lead_somewhere() {
    let served = Served::start().await;
    let document = served.document().await;
    let text = document.to_string();
    let references: Vec<_> = text
        .split(r##""$ref":"#"##)
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(references.contains(&"/components/schemas/Grant"), "{references:?}");
    for reference in references {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
    served.stop().await;
}

/// Fails unless an answer has the form the document gives it: that of a success, or a problem.
fn valid(document: &serde_json::Value, operation: &serde_json::Value, answer: &serde_json::Value) {
    let responses = operation["responses"].as_object().unwrap();
    let problem = answer.get("type").is_some() && answer.get("detail").is_some();
    let (_, response) = responses
        .iter()
        .find(|(status, _)| (*status == "default") == problem)
        .unwrap();
    let (_, content) = response["content"].as_object().unwrap().iter().next().unwrap();
    let mut schema = content["schema"].clone();
    schema["components"] = document["components"].clone();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<_> = validator.iter_errors(answer).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{answer}: {errors:?}");
    // What the document does not know of is not answered either.
    let name = content["schema"]["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
    let known = &document["components"]["schemas"][name];
    if let (Some(known), Some(answered)) = (known["properties"].as_object(), answer.as_object()) {
        for field in answered.keys() {
            assert!(known.contains_key(field), "{name} has no {field}");
        }
    }
}
