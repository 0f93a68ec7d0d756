//! People, as they work: a login, a request, an approver, psql and a test suite under a grant that is given back.
//!
//! Everything goes through the built program, each person with a home of their own.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tidegate::base::tls::ServerTls;
use tidegate::demo::testkit::TestGate;

use crate::support::{ANA, TARGET, binary, database, eventually, gate_before};

pub(crate) const TOM: &str = "tom@example.com";

/// A gate with the shipped policies.
pub(crate) fn shipped() -> TestGate {
    shipped_with("")
}

/// The same; `more` is added to its configuration.
pub(crate) fn shipped_with(more: &str) -> TestGate {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let more = format!("[policy]\ndir = \"{}\"\n{more}", policies.display());
    gate_before(database(), "profiles = [\"read-only\", \"read-write\"]\n", &more)
}

/// Somebody with a home of their own, logged in.
pub(crate) struct Person {
    home: TempDir,
}

impl Person {
    pub(crate) fn new(gate: &TestGate, name: &str, group: &str) -> Self {
        let issued = gate.json(&["user", "add", name, "--group", group]).expect("a user");
        let token = issued["token"].as_str().expect("a token").to_owned();
        let person = Self {
            home: tempfile::tempdir().expect("a home"),
        };
        let control = format!("unix:{}", gate.folder().join("state/control.sock").display());
        let mut login = person.start(&["login", "--control", &control], Stdio::piped());
        let mut input = login.stdin.take().expect("its input");
        input.write_all(token.as_bytes()).expect("the token is read");
        drop(input);
        let output = login.wait_with_output().expect("login ends");
        assert!(output.status.success(), "{output:?}");
        assert!(!text(&output).contains(&token));
        person
    }

    /// What proves who it is.
    pub(crate) fn token(&self) -> String {
        let token = std::fs::read_to_string(self.home.path().join("tidegate/token"));
        token.expect("a token").trim().to_owned()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let psql = database().server.binaries().tool("psql").expect("psql is part of PostgreSQL");
        let mut path = psql.parent().expect("a folder").as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("PG") || name.starts_with("TIDEGATE") || name == "NODE_EXTRA_CA_CERTS" {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .current_dir(self.home.path())
            .env("XDG_CONFIG_HOME", self.home.path())
            .env("PATH", path);
        command
    }

    pub(crate) fn start(&self, arguments: &[&str], input: Stdio) -> Child {
        let mut command = self.command(arguments);
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("tidegate starts")
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.start(arguments, Stdio::null())
            .wait_with_output()
            .expect("tidegate ends")
    }

    /// What a command that succeeds prints, as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--output", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// The request that waits, once there is one.
    async fn pending(&self) -> String {
        eventually("a request waits", async || {
            self.json(&["requests"])["requests"][0]["id"].as_str().map(str::to_owned)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exec_starts_verifies_the_gate() {
    let gate = shipped();
    let ana = Person::new(&gate, ANA, "qa");
    let exec = [
        "exec",
        TARGET,
        "--for",
        "10m",
        "--reason",
        "ci",
        "--no-welcome",
        "--",
        "sh",
        "-c",
    ];
    let shows = r#"echo "$PGSSLMODE"; cmp "$PGSSLROOTCERT" "$NODE_EXTRA_CA_CERTS" && psql -XAtc "SELECT 'verified'""#;
    let output = ana.run(&[&exec[..], &[shows]].concat());
    assert_eq!(output.stdout, b"verify-full\nverified\n", "{output:?}");
    assert!(!text(&output).contains("under grant"), "{output:?}");

    // What somebody has set themselves counts: here another's certificate, by which the gate cannot be verified.
    let other = tempfile::tempdir().expect("a folder");
    ServerTls::self_signed(other.path(), &["127.0.0.1".to_owned()], jiff::Timestamp::now()).expect("a certificate");
    let own = other.path().join("tls.crt");
    let psql = r#"echo "$PGSSLMODE"; psql -XAtc "SELECT 'verified'""#;
    let mut command = ana.command(&[&exec[..], &[psql]].concat());
    command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", &own);
    let output = command.output().expect("exec ends");
    assert_eq!(output.stdout, b"verify-full\n", "{output:?}");
    assert!(text(&output).contains("certificate verify failed"), "{output:?}");

    // Node.js reads one file: it gets both, the other's of two certificates.
    let both = r#"grep -c BEGIN "$NODE_EXTRA_CA_CERTS""#;
    let mut command = ana.command(&[&exec[..], &[both]].concat());
    let output = command.env("NODE_EXTRA_CA_CERTS", &own).output().expect("exec ends");
    assert_eq!(output.stdout, b"3\n", "{output:?}");
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_then_psql_at_once() {
    let gate = shipped();
    let ana = Person::new(&gate, ANA, "qa");
    let token = ana.home.path().join("tidegate/token");
    assert_eq!(std::fs::metadata(token).expect("a token").permissions().mode() & 0o777, 0o600);
    assert_eq!(ana.json(&["whoami"])["name"], ANA);

    let psql = [
        "psql",
        TARGET,
        "--for",
        "10m",
        "--reason",
        "BUG-812",
        "--",
        "-XAtc",
        "SELECT 40 + 2",
    ];
    let output = ana.run(&psql);
    assert_eq!((code(&output), said(&output).as_str()), (0, "42"), "{output:?}");
    // The second one joins the same grant and says so, and psql's exit code comes through.
    let output = ana.run(&["psql", TARGET, "--", "-XAtc", "SELECT no_such_column"]);
    assert_eq!(code(&output), 1, "{output:?}");
    let told = text(&output);
    assert!(
        told.contains("joining your live grant gr_") && told.contains("BUG-812"),
        "{told}"
    );
    let grants = ana.json(&["grants"]);
    assert_eq!(grants["grants"].as_array().expect("grants").len(), 1, "{grants}");
    assert_eq!(grants["grants"][0]["status"], "active");

    let id = grants["grants"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(
        ana.json(&["extend", &id, "--by", "10m", "--reason", "more"])["window_seconds"],
        1_200
    );
    assert_eq!(ana.json(&["release", &id])["status"], "released");
    assert_eq!(ana.json(&["grants"])["grants"], serde_json::json!([]));
    assert!(ana.run(&["logout"]).status.success());
    assert_eq!(code(&ana.run(&["whoami"])), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approver_says_yes_to_less_and_the_waiting_psql_goes_on() {
    let gate = shipped();
    let (ana, tom) = (Person::new(&gate, ANA, "qa"), Person::new(&gate, TOM, "leads"));
    let wish = ["--profile", "read-write", "--for", "30m", "--reason", "fix the totals"];
    let psql = [&["psql", TARGET], &wish[..], &["--", "-XAtc", "SELECT 42"]].concat();
    let waiting = ana.start(&psql, Stdio::null());
    let id = tom.pending().await;
    // Asked again, it is the same; and nobody approves their own.
    let again = ana.json(&[&["request", TARGET], &wish[..]].concat());
    assert_eq!(again["id"], id.as_str());
    assert_eq!(code(&ana.run(&["approve", &id])), 5);
    assert_eq!(
        tom.json(&["approve", &id, "--for", "15m", "--comment", "be quick"])["status"],
        "approved"
    );
    let output = waiting.wait_with_output().expect("psql ends");
    assert_eq!((code(&output), said(&output).as_str()), (0, "42"), "{output:?}");
    let told = text(&output);
    assert!(
        told.contains("waits for 1 approval") && told.contains(TOM) && told.contains("be quick"),
        "{told}"
    );
    let grant = ana.json(&["grants"])["grants"][0].clone();
    assert_eq!(grant["window_seconds"], 900);
    // The approver sees afterwards what became of it, and in words what the profile may do.
    let id_of_grant = grant["id"].as_str().expect("an id");
    assert_eq!(tom.json(&["grant", "show", id_of_grant])["id"], id_of_grant);
    assert_eq!(tom.json(&["requests", "--all"])["requests"][0]["id"], id.as_str());
    let briefing = tom.json(&["request", "show", &id]);
    assert_eq!(briefing["request"]["status"], "approved");
    assert!(
        briefing["profile"]["may"][0].as_str().expect("words").contains("account"),
        "{briefing}"
    );
    // And a tester can ask why, without any folder.
    let explained = ana.json(&["policy", "explain", "--target", TARGET, "--profile", "read-write"]);
    assert_eq!(
        (&explained["identity"], &explained["action"]),
        (&ANA.into(), &"request".into())
    );
    let refused = ana.run(&["policy", "explain", "--as", TOM, "--target", TARGET]);
    assert_eq!(code(&refused), 5, "{refused:?}");
    let targets = ana.json(&["targets"]);
    assert_eq!(targets["targets"][0]["details"][0]["profile"], "read-only", "{targets}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suite_gives_its_grant_back() {
    let gate = shipped();
    let ana = Person::new(&gate, ANA, "qa");
    let suite = "psql -XAtc 'SELECT 42' && psql -XAt \"$DATABASE_URL\" -c 'SELECT 43' && exit 7";
    let output = ana.run(&["exec", TARGET, "--for", "10m", "--reason", "ci 4711", "--", "sh", "-c", suite]);
    assert_eq!((code(&output), said(&output).as_str()), (7, "42\n43"), "{output:?}");
    assert_eq!(ana.json(&["grants"])["grants"], serde_json::json!([]));

    // One that is stopped is told so, and the grant goes back all the same.
    let stubborn = "trap 'echo stopped; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let mut running = ana.start(&["exec", TARGET, "--reason", "ci", "--", "sh", "-c", stubborn], Stdio::null());
    let mut first = [0_u8; 6];
    let out = running.stdout.as_mut().expect("its output");
    std::io::Read::read_exact(out, &mut first).expect("ready");
    signal(&running, rustix::process::Signal::TERM);
    let output = running.wait_with_output().expect("exec ends");
    assert_eq!((code(&output), said(&output).as_str()), (3, "stopped"), "{output:?}");
    assert_eq!(ana.json(&["grants"])["grants"], serde_json::json!([]));
    let output = ana.run(&["exec", TARGET, "--reason", "ci", "--", "sh", "-c", "kill -KILL $$"]);
    assert_eq!(code(&output), 137);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_waiting_takes_the_request_back() {
    let gate = shipped();
    let (ana, tom) = (Person::new(&gate, ANA, "qa"), Person::new(&gate, TOM, "leads"));
    let exec = ["exec", TARGET, "--profile", "read-write", "--reason", "a try", "--", "true"];
    let waiting = ana.start(&exec, Stdio::null());
    let id = tom.pending().await;
    // Not SIGINT: where these tests run in the background of a script it is ignored, and then `exec` leaves it so.
    signal(&waiting, rustix::process::Signal::TERM);
    let output = waiting.wait_with_output().expect("exec ends");
    assert_eq!((code(&output), output.status.signal()), (143, None), "{output:?}");
    assert!(text(&output).contains(&format!("withdrew request {id}")), "{output:?}");
    assert_eq!(ana.json(&["requests", "--mine"])["requests"][0]["status"], "withdrawn");

    let waiting = ana.start(&exec, Stdio::null());
    let id = tom.pending().await;
    assert_eq!(code(&tom.run(&["reject", &id, "--comment", "not today"])), 0);
    let output = waiting.wait_with_output().expect("exec ends");
    assert_eq!(code(&output), 5);
    assert!(text(&output).contains("not today"), "{output:?}");

    let line = [&exec[..6], &["--wait-at-most", "200ms", "--", "true"]].concat();
    assert_eq!(code(&ana.run(&line)), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_and_shut_doors() {
    let gate = shipped();
    let ana = Person::new(&gate, ANA, "qa");
    let output = ana.run(&["request", "shpo", "--for", "10m"]);
    assert_eq!(code(&output), 5);
    assert!(text(&output).contains(TARGET), "{output:?}");
    let output = ana.run(&["request", TARGET, "--profile", "raed-write", "--for", "10m"]);
    assert_eq!(code(&output), 5);
    assert!(text(&output).contains("read-write, read-only"), "{output:?}");
    let output = ana.run(&["request", TARGET, "--profile", "read-write", "--for", "10m"]);
    assert_eq!(code(&output), 5);
    assert!(text(&output).contains("say why: give a reason"), "{output:?}");
    gate.json(&["user", "disable", ANA]).expect("disabled");
    assert_eq!(code(&ana.run(&["grants"])), 5);
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("a process"), signal).expect("it is there");
}

#[test]
fn without_psql_nobody_is_asked_for_anything() {
    let gate = shipped();
    let ana = Person::new(&gate, ANA, "qa");
    let arguments = ["psql", TARGET, "--profile", "read-write", "--reason", "BUG-812"];
    let output = ana
        .command(&arguments)
        .env("PATH", "/nonexistent")
        .output()
        .expect("tidegate ends");
    assert_eq!(code(&output), 127, "{output:?}");
    assert!(
        text(&output).contains("postgresql-client") && text(&output).contains("tidegate env"),
        "{output:?}"
    );
    assert_eq!(ana.json(&["requests", "--mine"])["requests"], serde_json::json!([]));
    // And without a login the way to one is shown.
    let output = ana
        .command(&["grants"])
        .env("TIDEGATE_TOKEN", "tg_old")
        .output()
        .expect("tidegate ends");
    assert_eq!(code(&output), 5, "{output:?}");
    assert!(
        text(&output).contains("does not accept the token in TIDEGATE_TOKEN"),
        "{output:?}"
    );
}

#[test]
fn lists_and_the_log_have_pages() {
    let gate = shipped();
    for _ in 0..3 {
        crate::support::grant(&gate, "5m");
    }
    let table = |arguments: &[&str]| {
        let output = gate.command(arguments).expect("a command");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    // What follows the last word of what says where the next page is.
    let after = |text: &str, word: &str| {
        let (_, rest) = text.rsplit_once(word).unwrap_or_else(|| panic!("no {word} in:\n{text}"));
        rest.trim().to_owned()
    };
    let first = table(&["grant", "list", "--limit", "2"]);
    let rest = table(&["grant", "list", "--limit", "2", "--before", &after(&first, "--before")]);
    assert_eq!(
        (first.matches(ANA).count(), rest.matches(ANA).count()),
        (2, 1),
        "{first}\n{rest}"
    );
    assert!(!rest.contains("--before"), "{rest}");

    let mut seen = Vec::new();
    let mut last = "0".to_owned();
    for _ in 0..3 {
        let page = table(&["log", "--event", "grant_changed", "--limit", "1", "--after", &last]);
        seen.push(page.lines().next().expect("a record").to_owned());
        if seen.len() < 3 {
            last = after(&page, "--after");
        } else {
            assert!(!page.contains("more records match"), "{page}");
        }
    }
    seen.dedup();
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[test]
fn an_operator_reads_what_to_do() {
    let gate = shipped();
    // The admin token is nobody's.
    let output = gate.command(&["request", TARGET]).expect("a command");
    assert_eq!(code(&output), 5, "{output:?}");
    assert!(
        text(&output).contains("log in under your own name: tidegate login"),
        "{output:?}"
    );
    let output = gate.command(&["user", "add", ANA]).expect("a command");
    assert_eq!(code(&output), 0, "{output:?}");
    // A name that is mistyped shuts nobody out, and does not look as if.
    for verb in [&["disable"][..], &["enable"], &["rotate"], &["groups"]] {
        let output = gate
            .command(&[&["user"], verb, &["anna@example.com"]].concat())
            .expect("a command");
        assert_eq!(code(&output), 4, "{verb:?}: {output:?}");
        for said in ["no user anna@example.com", "did you mean ana@example.com?"] {
            assert!(text(&output).contains(said), "{verb:?}, {said}: {output:?}");
        }
    }
    let output = gate
        .command(&["user", "disable", "anna@example.com", "--unseen"])
        .expect("a command");
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(text(&output).contains("anna@example.com is not a local user"), "{output:?}");
    // Of a grant it is known, though no user.
    gate.grant("bo@example.com", TARGET, "10m", &[]).expect("a grant");
    let output = gate.command(&["user", "disable", "bo@example.com"]).expect("a command");
    assert_eq!(code(&output), 0, "{output:?}");
    let output = gate.command(&["user", "disable", ANA]).expect("a command");
    assert!(!text(&output).contains("note:"), "{output:?}");
}
