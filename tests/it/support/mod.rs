//! Support of the tests: one PostgreSQL per test program, gates, clients, and waiting with generous limits.
//!
//! It asserts nothing about the gate.
#![allow(dead_code, unused_imports, reason = "not every test file needs every helper")]

mod clients;
mod disk;
mod frozen;
pub(crate) mod issuer;
mod numbers;
mod people;
mod pipeline;
mod plug;
mod random;
mod raw;
pub(crate) mod script;
mod wait;
mod walls;
mod wrapped;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use tidegate::demo::testkit::{ServerOptions, ShopFixture, TestGate, TestLogin, TestPostgres};

pub(crate) use clients::{Said, psql, suite, suite_in_clear};
pub(crate) use disk::{ReadOnly, SmallDisk, Unkept};
pub(crate) use frozen::Frozen;
pub(crate) use numbers::{Numbers, WRITERS, proven};
pub(crate) use people::{Answer, House, admin, api, api_at, api_with, id, policies, psql_as, psql_command, said, user};
pub(crate) use pipeline::{Pipeline, Witness};
pub(crate) use plug::Plug;
pub(crate) use random::{Random, seed};
pub(crate) use raw::{Frame, Raw, Told};
pub(crate) use wait::{PATIENCE, eventually, within};
pub(crate) use walls::{ACCOUNT, ACTS_AS, READER, WRITER, Walls, code, gate_before as roles_gate_before, value};
pub(crate) use wrapped::{FullPipe, Wrapped, gate_through};

/// Name of the target in every test's configuration.
pub(crate) const TARGET: &str = "shop";
/// Identity of grants in tests where it does not matter.
pub(crate) const ANA: &str = "ana@example.com";

/// Database that all tests of this program share; it ends with the program.
pub(crate) struct Database {
    pub(crate) server: TestPostgres,
    pub(crate) shop: ShopFixture,
}

/// Returns the shared database; starts it on first use. Blocks; that is fine in async tests too.
pub(crate) fn database() -> &'static Database {
    static DATABASE: OnceLock<Database> = OnceLock::new();
    DATABASE.get_or_init(|| start(&ServerOptions::default()))
}

/// Starts a database for a single test that cannot use the shared one.
pub(crate) fn start(options: &ServerOptions) -> Database {
    let server = TestPostgres::start(options).expect("a throwaway PostgreSQL");
    // A test may be inside a runtime already, and runtimes do not nest in one thread.
    let shop = std::thread::scope(|scope| {
        let made = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(ShopFixture::make(&server))
        });
        made.join().expect("no panic").expect("the shop")
    });
    Database { server, shop }
}

/// Returns the built program; with the standard error that `TIDEGATE_STDERR` selects, if it is set (see
/// [`wrapped::stderr_script`]).
pub(crate) fn binary() -> &'static Path {
    static SCRIPT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let script = SCRIPT.get_or_init(|| {
        let stderr = std::env::var("TIDEGATE_STDERR").ok().filter(|mode| !mode.is_empty())?;
        Some(wrapped::stderr_script(&stderr))
    });
    script.as_deref().unwrap_or(built())
}

/// Returns the program as cargo built it.
fn built() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tidegate"))
}

/// Starts a gate in front of the shared database; `more` is added to its configuration (tables only).
pub(crate) fn gate_with(more: &str) -> TestGate {
    gate_before(database(), "", more)
}

/// Starts a gate in front of the shared database, with the default configuration.
pub(crate) fn gate() -> TestGate {
    gate_with("")
}

/// Starts a gate in front of any database; `lines` go into the target's table.
pub(crate) fn gate_before(database: &Database, lines: &str, more: &str) -> TestGate {
    let config = format!("{}{more}", database.shop.target_table(TARGET, lines));
    TestGate::start(binary(), &config, &[database.shop.password_file()]).expect("a gate")
}

/// Creates a grant for Ana.
pub(crate) fn grant(gate: &TestGate, window: &str) -> TestLogin {
    gate.grant(ANA, TARGET, window, &[]).expect("a grant")
}

/// Returns the audit log as it is on disk, packed or not, line by line.
pub(crate) fn records(gate: &TestGate) -> Vec<Value> {
    let mut text = String::new();
    for segment in tidegate::audit::segment::list(&gate.audit_folder()).expect("the audit folder") {
        let mut lines = segment.open().expect("a segment");
        lines.read_to_string(&mut text).expect("a readable log");
    }
    // A line still being written has no end yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).expect("valid JSON"))
        .collect()
}

/// Runs `tidegate audit`; returns its exit code and its JSON output.
pub(crate) fn audit(gate: &TestGate, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = gate
        .command(&[&["audit"], arguments, &["--output", "json"]].concat())
        .expect("the command");
    let said = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        said.unwrap_or_else(|_| String::from_utf8_lossy(&output.stderr).into()),
    )
}

/// Returns the answer of `/readyz`.
pub(crate) fn ready(gate: &TestGate) -> String {
    told(gate, "readyz")
}

/// Returns one of the gate's metrics.
pub(crate) fn counted(gate: &TestGate, name: &str) -> f64 {
    let metrics = told(gate, "metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|count| count.parse().ok()).expect("a count")
}

/// Returns the answer to a request without a token.
pub(crate) fn told(gate: &TestGate, path: &str) -> String {
    let mut control = UnixStream::connect(gate.folder().join("state/control.sock")).expect("the control API");
    control
        .write_all(format!("GET /{path} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n").as_bytes())
        .expect("asked");
    let mut answer = String::new();
    control.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Returns the number of repetitions: the value of this variable, or `few`.
pub(crate) fn trials(variable: &str, few: u64) -> u64 {
    std::env::var(variable).map_or(few, |number| number.parse().expect("a number"))
}

/// Returns the records of one kind about one grant.
pub(crate) fn records_of(gate: &TestGate, grant: &str, event: &str) -> Vec<Value> {
    records(gate)
        .into_iter()
        .filter(|record| record["event"] == event && record["grant"] == grant)
        .collect()
}

/// Returns the backends on the shop that are running a statement with this text.
pub(crate) async fn active(database: &Database, text: &str) -> Vec<i32> {
    let query = "SELECT pid FROM pg_stat_activity
        WHERE datname = 'shop' AND state = 'active' AND position($1 IN query) > 0 AND pid <> pg_backend_pid()";
    let client = database.server.client("postgres").await.expect("a connection");
    let rows = client.query(query, &[&text]).await.expect("the activity");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Returns true if a backend exists.
pub(crate) async fn alive(database: &Database, pid: i32) -> bool {
    let client = database.server.client("postgres").await.expect("a connection");
    let found = client.query("SELECT FROM pg_stat_activity WHERE pid = $1", &[&pid]).await;
    !found.expect("the activity").is_empty()
}

/// Returns the number of rows of a table of the shop, without going through a gate.
pub(crate) async fn count(database: &Database, table: &str) -> i64 {
    let client = database.server.client(ShopFixture::DATABASE).await.expect("a connection");
    let row = client
        .query_one(&format!("SELECT count(*) FROM {table}"), &[])
        .await
        .expect("a count");
    row.get(0)
}

/// Waits for the record of a session's end and returns it.
pub(crate) async fn ended(gate: &TestGate, grant: &str) -> Value {
    eventually("the end is on record", async || {
        records_of(gate, grant, "session_ended").pop()
    })
    .await
}
