//! Users: the control API with their tokens, and psql under their names.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate::demo::testkit::TestGate;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::{Said, TARGET, binary, database, within};

/// Answer of the control API.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    /// Returns the body; fails the test unless the call succeeded.
    #[track_caller]
    pub(crate) fn good(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.body
    }
}

/// Calls the control API once.
pub(crate) async fn api(gate: &TestGate, token: &str, method: &str, path: &str, body: &Value) -> Answer {
    api_with(gate, token, method, path, body, "").await
}

/// Calls the control API once with further header lines, each ended by CR LF.
pub(crate) async fn api_with(gate: &TestGate, token: &str, method: &str, path: &str, body: &Value, headers: &str) -> Answer {
    call(
        &gate.folder().join("state/control.sock"),
        token,
        (method, path),
        body,
        headers,
    )
    .await
}

/// Calls the control API at a socket once.
pub(crate) async fn api_at(socket: &Path, token: &str, method: &str, path: &str, body: &Value) -> Answer {
    call(socket, token, (method, path), body, "").await
}

async fn call(socket: &Path, token: &str, (method, path): (&str, &str), body: &Value, headers: &str) -> Answer {
    let mut stream = UnixStream::connect(socket).await.expect("the control API");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n{headers}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let read = within("an answer", stream.read_to_string(&mut answer));
    read.await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer {
        status: status.expect("a status"),
        body: serde_json::from_str(body).unwrap_or(Value::Null),
    }
}

/// Returns the operator's token.
pub(crate) fn admin(gate: &TestGate) -> String {
    let token = std::fs::read_to_string(gate.folder().join("state/admin.token"));
    token.expect("the admin token").trim().to_owned()
}

/// Creates a user and returns its token.
pub(crate) async fn user(gate: &TestGate, name: &str, groups: &[&str]) -> String {
    let body = json!({"name": name, "groups": groups});
    let made = api(gate, &admin(gate), "POST", "/v1/users", &body).await.good();
    made["token"].as_str().expect("a token").to_owned()
}

/// Returns a plain psql command with a user name and a token, without this process's own settings.
pub(crate) fn psql_command(gate: &TestGate, name: &str, token: &str, dbname: &str, options: &str, sql: &str) -> Command {
    let program = database().server.binaries().tool("psql").expect("psql is part of PostgreSQL");
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG")) {
            command.env_remove(name);
        }
    }
    let connection = format!(
        "host=127.0.0.1 port={} dbname={dbname} user={name} sslmode=require connect_timeout=15",
        gate.port()
    );
    command
        .args(["--no-psqlrc", "-At", "--dbname", &connection, "-c", sql])
        .env("PGPASSWORD", token)
        .env("PGOPTIONS", options)
        .env("LC_ALL", "C.UTF-8");
    command
}

/// Starts the command of [`psql_command`] in the background.
pub(crate) fn psql_as(gate: &TestGate, name: &str, token: &str, dbname: &str, options: &str, sql: &str) -> tokio::process::Child {
    let mut command = psql_command(gate, name, token, dbname, options, sql);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true).spawn().expect("psql starts")
}

/// Waits for the end of a psql and returns its output.
pub(crate) async fn said(psql: tokio::process::Child) -> Said {
    let output = within("psql ends", psql.wait_with_output()).await.expect("psql ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said {
        output: text(&output.stdout),
        errors: text(&output.stderr),
        code: output.status.code(),
    }
}

/// Creates a folder with these policies and the shipped schema; removed on drop.
pub(crate) fn policies(text: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/schema.cedarschema");
    std::fs::copy(shipped, dir.path().join("schema.cedarschema")).expect("the schema");
    std::fs::write(dir.path().join("house.cedar"), text).expect("a policy");
    dir
}

/// Policies of a small team: testers read at once, write with one approval and migrate with two, given by leads; on-call staff
/// breaks the glass, auditors read the log, operators administer.
const HOUSE: &str = r#"
@id("testers-ask")
permit (principal in Tidegate::Group::"qa", action == Tidegate::Action::"request", resource);
@id("migrations-take-two")
@approvals("2")
permit (principal in Tidegate::Group::"qa", action == Tidegate::Action::"request", resource == Tidegate::Access::"shop/migrate");
@id("reading-is-automatic")
@max_duration("2h")
permit (principal in Tidegate::Group::"qa", action == Tidegate::Action::"auto-approve", resource == Tidegate::Access::"shop/read-only");
@id("leads-approve")
permit (principal in Tidegate::Group::"leads", action == Tidegate::Action::"approve", resource);
@id("auditors-read-the-log")
permit (principal in Tidegate::Group::"auditors", action == Tidegate::Action::"read-log", resource);
@id("operators-administer")
permit (
  principal in Tidegate::Group::"operators",
  action in [Tidegate::Action::"administer", Tidegate::Action::"read-log"],
  resource
);
@id("oncall-breaks-the-glass")
@max_duration("30m")
permit (
  principal in Tidegate::Group::"oncall",
  action in [Tidegate::Action::"request", Tidegate::Action::"break-glass"],
  resource
)
when { context has reason };
@id("nothing-of-migrations-from-chat")
forbid (
  principal,
  action in [Tidegate::Action::"approve", Tidegate::Action::"extend"],
  resource in Tidegate::Access::"shop/migrate"
)
when { context has via && context.via == "slack" };
"#;

/// Gate with the small team's policies and these users.
pub(crate) struct House {
    pub(crate) gate: TestGate,
    tokens: HashMap<String, String>,
    _policies: TempDir,
}

impl House {
    /// Starts the gate. `people`: names and groups; `more` is added to the configuration (tables only, not `[policy]`), with
    /// files beside it.
    pub(crate) async fn open(people: &[(&str, &str)], more: &str, files: &[(&str, &str)]) -> Self {
        let policies = policies(HOUSE);
        let table = database()
            .shop
            .target_table(TARGET, "profiles = [\"read-only\", \"read-write\", \"migrate\"]\n");
        let config = format!("{table}[policy]\ndir = \"{}\"\n{more}", policies.path().display());
        let files = [files, &[database().shop.password_file()]].concat();
        let mut house = Self {
            gate: TestGate::start(binary(), &config, &files).expect("a gate"),
            tokens: HashMap::new(),
            _policies: policies,
        };
        house.tokens.insert("operator".to_owned(), admin(&house.gate));
        for (name, group) in people {
            let token = user(&house.gate, name, &[group]).await;
            house.tokens.insert((*name).to_owned(), token);
        }
        house
    }

    pub(crate) fn token(&self, who: &str) -> &str {
        &self.tokens[who]
    }

    /// Calls the control API as `who`; `operator` is the operator.
    pub(crate) async fn call(&self, who: &str, method: &str, path: &str, body: &Value) -> Answer {
        api(&self.gate, self.token(who), method, path, body).await
    }

    /// Submits a request for a profile; with an idempotency key, as a script that may have to retry.
    pub(crate) async fn ask(&self, who: &str, profile: &str, key: Option<&str>) -> Answer {
        let body = json!({"target": TARGET, "profile": profile, "window_seconds": 1_800, "reason": "bug 17"});
        let header = key.map(|key| format!("Idempotency-Key: {key}\r\n")).unwrap_or_default();
        api_with(&self.gate, self.token(who), "POST", "/v1/requests", &body, &header).await
    }

    /// Submits a request, which has to be accepted, and returns its id.
    pub(crate) async fn asked(&self, who: &str, profile: &str) -> String {
        id(&self.ask(who, profile, None).await.good())
    }

    /// Takes a step: `approve`, `reject`, `withdraw`, `review`.
    pub(crate) async fn step(&self, who: &str, request: &str, step: &str) -> Answer {
        let body = if step == "withdraw" {
            json!({})
        } else {
            json!({"comment": "as discussed"})
        };
        self.call(who, "POST", &format!("/v1/requests/{request}/{step}"), &body).await
    }

    /// Returns the present state of a request.
    pub(crate) async fn request(&self, id: &str) -> Value {
        let path = format!("/v1/requests/{id}");
        self.call("operator", "GET", &path, &Value::Null).await.good()
    }

    /// Returns the present state of all grants, including ended ones, without their number of sessions.
    pub(crate) async fn grants(&self) -> Vec<Value> {
        let all = self.call("operator", "GET", "/v1/grants?all=true", &Value::Null).await.good();
        let mut grants = all["grants"].as_array().expect("grants").clone();
        for grant in &mut grants {
            grant.as_object_mut().expect("a grant").remove("live_sessions");
        }
        grants
    }

    /// Starts psql as `who`, with their token.
    pub(crate) fn psql(&self, who: &str, profile: &str, sql: &str) -> tokio::process::Child {
        let dbname = format!("{TARGET}/{profile}");
        psql_as(&self.gate, who, self.token(who), &dbname, r"-c tidegate.reason=bug\ 17", sql)
    }
}

/// Returns the `id` of a body.
pub(crate) fn id(body: &Value) -> String {
    body["id"].as_str().expect("an id").to_owned()
}
