//! What a run of a suite did, who else was in its tables, and what the red run did that the green one did not: of a real gate, by
//! command, by call and offline; with the pytest plugin of the documents, and with a published suite.
#![expect(clippy::print_stdout, reason = "what is left out is said")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tidegate::demo::testkit::{DriverConnection, ServerOptions, TestGate, TestLogin};
use tokio_postgres::Config;

use super::drivers::home;
use crate::support::{
    House, TARGET, code, ended, eventually, gate, gate_before, gate_with, grant, psql_as, records_of, said, start,
};

/// Opens a session that names its run and itself.
async fn session(gate: &TestGate, login: &TestLogin, run: &str, application: &str) -> DriverConnection {
    let mut config = Config::new();
    config
        .user(&login.grant)
        .password(login.secret.expose())
        .dbname(TARGET)
        .application_name(application)
        .options(format!("-c tidegate.run={run}"));
    DriverConnection::connect(gate.address(), &config, true)
        .await
        .expect("a session")
}

/// Waits until so many sessions of a grant have ended.
async fn over(gate: &TestGate, login: &TestLogin, sessions: usize) {
    eventually("the sessions are over", async || {
        (records_of(gate, &login.grant, "session_ended").len() == sessions).then_some(())
    })
    .await;
}

/// Returns the item of a list with this value of a field.
fn with<'v>(list: &'v Value, field: &str, value: &str) -> &'v Value {
    let items = list["items"].as_array().expect("items");
    let found = items.iter().find(|item| item[field] == value);
    found.unwrap_or_else(|| panic!("no {field} = {value} in {list:#}"))
}

fn texts(list: &Value, field: &str) -> Vec<String> {
    let items = list["items"].as_array().expect("items");
    items
        .iter()
        .map(|item| item[field].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn output(gate: &TestGate, arguments: &[&str]) -> String {
    let output = gate.command(arguments).expect("the command");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A run of two sessions, while another session changes its table.
async fn a_run(gate: &TestGate, ana: &TestLogin, ben: &TestLogin) {
    let other = session(gate, ben, "nightly", "psql").await;
    let other = &other.client;
    let setup = "CREATE TABLE run_report_orders (id int PRIMARY KEY, total int); INSERT INTO run_report_orders SELECT n, 0 FROM generate_series(1, 20) n";
    other.batch_execute(setup).await.expect("a table");
    let (one, two) = (
        session(gate, ana, "ci-4711", "pytest").await,
        session(gate, ana, "ci-4711", "pytest").await,
    );
    for id in 1..=12 {
        let sql = format!("SELECT total FROM run_report_orders WHERE id = {id} /*test='test_total'*/");
        one.client.simple_query(&sql).await.expect("a row");
    }
    let sql = "SELECT 1/0 /*test='test_total',traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'*/";
    assert_eq!(code(&one.client, sql).await, "22012");
    two.client
        .batch_execute("SET application_name = 'test_lock'")
        .await
        .expect("a name");
    let update = "UPDATE public.run_report_orders SET total = $1 WHERE id < $2";
    assert_eq!(two.client.execute(update, &[&7, &4]).await.expect("an update"), 3);
    other
        .batch_execute("BEGIN; UPDATE run_report_orders SET total = 9 WHERE id > 15")
        .await
        .expect("a lock");
    let locked = "SELECT * FROM run_report_orders WHERE id = 16 FOR UPDATE NOWAIT";
    assert_eq!(code(&two.client, locked).await, "55P03");
    other.batch_execute("COMMIT").await.expect("committed");
    drop((one, two));
    over(gate, ana, 2).await;
    other.batch_execute("DROP TABLE run_report_orders").await.expect("dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_told_by_test_with_those_who_changed_its_tables() {
    let gate = gate();
    let (ana, ben) = (
        grant(&gate, "10m"),
        gate.grant("ben@example.com", TARGET, "10m", &[]).expect("a grant"),
    );
    a_run(&gate, &ana, &ben).await;
    over(&gate, &ben, 1).await;
    let report = gate.json(&["run", "report", "ci-4711"]).expect("a report");

    let totals = &report["totals"];
    assert_eq!(
        (&totals["sessions"], &totals["statements"], &totals["failed"]),
        (&json!(2), &json!(16), &json!(2)),
        "{report:#}"
    );
    assert_eq!(
        (&totals["rows_changed"], &totals["open_sessions"]),
        (&json!(3), &json!(0)),
        "{report:#}"
    );
    let total = with(&report["tests"], "test", "test_total");
    assert_eq!(
        (&total["statements"], &total["failed"], &total["named_by"]),
        (&json!(13), &json!(1), &json!("comment"))
    );
    let lock = with(&report["tests"], "test", "test_lock");
    assert_eq!(
        (&lock["rows_changed"], &lock["named_by"]),
        (&json!(3), &json!("application_name"))
    );
    let division = with(&report["failures"], "sqlstate", "22012");
    assert_eq!(
        (&division["statement"], &division["first"]["trace"]),
        (&json!("SELECT ?/?"), &json!("4bf92f3577b34da6a3ce929d0e0e4736"))
    );
    assert_eq!(texts(&report["conflicts"], "sqlstate"), ["55P03"]);
    let changed = with(&report["tables"], "table", "public.run_report_orders");
    assert_eq!((&changed["writes"], &changed["rows_changed"]), (&json!(1), &json!(3)));
    assert_eq!(with(&report["tables"], "table", "run_report_orders")["reads"], 12);
    let repeated = with(&report["repeated"], "test", "test_total");
    assert_eq!(
        (&repeated["longest_row"], &repeated["statement"]),
        (&json!(12), &json!("SELECT total FROM run_report_orders WHERE id = ?"))
    );
    // What was done before the run and after it is not meanwhile.
    let writers = report["meanwhile"]["writers"]["items"].as_array().expect("writers");
    let [writer] = &writers[..] else {
        panic!("one writer: {report:#}")
    };
    assert_eq!(
        (&writer["identity"], &writer["rows_changed"], &writer["run_writes"]),
        (&json!("ben@example.com"), &json!(5), &json!(true))
    );
    assert_eq!(report["limits"], json!([]));

    // Offline it is the same, and by the id of the grant it has the same sums.
    let dir = gate.audit_folder();
    let offline = gate
        .json(&["run", "report", "ci-4711", "--dir", dir.to_str().unwrap()])
        .expect("a report");
    assert_eq!(offline, report);
    let of_grant = gate.json(&["run", "report", &ana.grant]).expect("a report");
    assert_eq!(
        (&of_grant["totals"], &of_grant["run"]),
        (&report["totals"], &json!(ana.grant))
    );

    let markdown = output(&gate, &["run", "report", "ci-4711", "--output", "markdown"]);
    assert!(
        markdown.starts_with("# Run ` ci-4711 `\n") && markdown.contains("| ` test_total ` |"),
        "{markdown}"
    );
    let page = output(&gate, &["run", "report", "ci-4711", "--output", "html"]);
    assert!(
        page.starts_with("<!DOCTYPE html>") && page.contains("ben@example.com"),
        "{page}"
    );
    let text = output(&gate, &["run", "report", "ci-4711"]);
    assert!(text.contains("Repeated statements") && text.contains("55P03"), "{text}");
    for told in [&markdown, &page, &text, &report.to_string()] {
        assert!(!told.contains("id = 16"), "a value: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_of_runs_takes_the_right_to_read_the_log_or_the_grant() {
    let house = House::open(&[("ana", "qa"), ("eve", "qa"), ("aud", "auditors")], "", &[]).await;
    let options = r"-c tidegate.run=ci-1 -c tidegate.reason=bug\ 17";
    let database = format!("{TARGET}.read-only");
    let used = said(psql_as(
        &house.gate,
        "ana",
        house.token("ana"),
        &database,
        options,
        "SELECT count(*) FROM customers",
    ))
    .await;
    assert_eq!(used.code, Some(0), "{used:?}");
    let grants = house.call("ana", "GET", "/v1/grants", &Value::Null).await.good();
    let grant = grants["grants"][0]["id"].as_str().expect("her grant").to_owned();
    ended(&house.gate, &grant).await;

    let report = async |who: &str, run: &str| {
        house
            .call(who, "GET", &format!("/v1/runs/report?run={run}"), &Value::Null)
            .await
    };
    let whole = report("aud", "ci-1").await.good();
    assert_eq!(
        (&whole["totals"]["statements"], whole["meanwhile"].is_object()),
        (&json!(1), true),
        "{whole:#}"
    );
    let own = report("ana", &grant).await.good();
    assert_eq!(
        (&own["totals"]["statements"], own.get("meanwhile")),
        (&json!(1), None),
        "{own:#}"
    );
    for (who, run) in [("ana", "ci-1"), ("eve", "ci-1"), ("eve", grant.as_str())] {
        assert_eq!(report(who, run).await.status, 403, "{who} {run}");
        let diff = house
            .call(who, "GET", &format!("/v1/runs/diff?green={grant}&red={run}"), &Value::Null)
            .await;
        assert_eq!(diff.status, 403, "{who} {run}");
    }
    let diff = house
        .call(
            "ana",
            "GET",
            &format!("/v1/runs/diff?green={grant}&red={grant}"),
            &Value::Null,
        )
        .await
        .good();
    assert_eq!(diff["same"], true, "{diff:#}");
    assert_eq!(report("aud", "ci-2").await.status, 404);
    assert_eq!(report("aud", "").await.status, 400);
}

#[test]
fn a_run_that_is_not_in_the_log_is_said_not_to_be() {
    let gate = gate();
    let dir = gate.audit_folder();
    let offline = ["run", "report", "ci-0", "--dir", dir.to_str().unwrap()];
    for arguments in [&["run", "report", "ci-0"][..], &offline, &["run", "diff", "ci-0", "ci-1"]] {
        let Output { status, stderr, .. } = gate.command(arguments).expect("the command");
        let said = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(4), "{arguments:?}: {said}");
        assert!(
            said.contains("no session of run ci-0") && said.contains("session_started"),
            "{arguments:?}: {said}"
        );
    }
}

/// Runs a suite of two tests in a session; `seeded` changes one statement of one of them.
async fn small_suite(gate: &TestGate, login: &TestLogin, run: &str, seeded: bool) {
    let session = session(gate, login, run, "suite").await;
    let client = &session.client;
    for id in 0..3 {
        let sql = format!("SELECT name FROM customers WHERE id = {id} /*test='test_names'*/");
        client.simple_query(&sql).await.expect("a name");
    }
    let count = if seeded { "count(DISTINCT customer_id)" } else { "count(*)" };
    let sql = format!(
        "SELECT {count} FROM cards WHERE customer_id IN (1, 2, {}) /*test='test_cards'*/",
        i32::from(seeded)
    );
    client.simple_query(&sql).await.expect("a count");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seeded_change_is_named_and_nothing_else() {
    let gate = gate();
    let login = grant(&gate, "10m");
    for (run, seeded) in [("green", false), ("again", false), ("red", true)] {
        small_suite(&gate, &login, run, seeded).await;
    }
    over(&gate, &login, 3).await;
    let same = gate.json(&["run", "diff", "green", "again"]).expect("a difference");
    assert_eq!(
        (&same["same"], &same["statements"]["items"]),
        (&json!(true), &json!([])),
        "{same:#}"
    );
    let diff = gate.json(&["run", "diff", "green", "red"]).expect("a difference");
    assert_eq!(diff["same"], false);
    let items = diff["statements"]["items"].as_array().expect("statements");
    let told: Vec<_> = items
        .iter()
        .map(|item| (&item["kind"], &item["test"], &item["statement"]))
        .collect();
    let lost = "SELECT count(*) FROM cards WHERE customer_id IN (?, ...)";
    let new = "SELECT count(DISTINCT customer_id) FROM cards WHERE customer_id IN (?, ...)";
    let test = json!("test_cards");
    let expected = [(json!("only_red"), new), (json!("only_green"), lost)].map(|(kind, text)| (kind, json!(text)));
    let expected: Vec<_> = expected.iter().map(|(kind, text)| (kind, &test, text)).collect();
    assert_eq!(told, expected, "{diff:#}");
    let dir = gate.audit_folder();
    let offline = gate
        .json(&["run", "diff", "green", "red", "--dir", dir.to_str().unwrap()])
        .expect("a difference");
    assert_eq!(offline, diff);
    let text = output(&gate, &["run", "diff", "green", "red"]);
    assert!(
        text.contains("The runs differ.") && text.contains(new) && text.contains(lost),
        "{text}"
    );
}

/// A run in a log of many packed segments is found by their summaries.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_found_in_packed_segments() {
    let gate = gate_with("[audit]\nsegment_bytes = 65536\n");
    let login = grant(&gate, "10m");
    small_suite(&gate, &login, "green", false).await;
    let noise = session(&gate, &login, "noise", "noise").await;
    let packed = || {
        let files = std::fs::read_dir(gate.audit_folder()).expect("the log");
        files
            .flatten()
            .filter(|file| file.path().extension() == Some("summary".as_ref()))
            .count()
    };
    while packed() < 4 {
        noise.client.batch_execute(&"SELECT 1;".repeat(50)).await.expect("noise");
    }
    small_suite(&gate, &login, "red", true).await;
    drop(noise);
    over(&gate, &login, 3).await;
    for run in ["green", "red"] {
        let report = gate.json(&["run", "report", run]).expect("a report");
        assert_eq!(report["totals"]["statements"], 4, "{report:#}");
    }
    assert_eq!(
        gate.json(&["run", "diff", "green", "red"]).expect("a difference")["statements"]["items"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
}

/// Returns the blocks of Python in the documents about runs.
fn documented_plugin() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runs.md");
    let text = std::fs::read_to_string(page).expect("the page");
    let blocks = text
        .split("```python\n")
        .skip(1)
        .filter_map(|block| block.split("```").next());
    blocks.collect::<Vec<_>>().join("\n")
}

/// Returns Python as `tests/drivers/setup.sh` has installed it, if it has these modules.
fn python(modules: &[&str]) -> Option<PathBuf> {
    let python = home().join("python/bin/python");
    let imports = format!("import {}", modules.join(", "));
    let has_all = Command::new(&python)
        .args(["-c", &imports])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_all {
        println!("left out, Python with {} is not installed", modules.join(", "));
    }
    has_all.then_some(python)
}

/// Runs pytest through the gate as a run of this name.
fn pytest(python: &Path, gate: &TestGate, login: &TestLogin, run: &str, arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(python);
    command
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
        .args(arguments)
        .current_dir(folder)
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", gate.port().to_string())
        .env("PGUSER", &login.grant)
        .env("PGPASSWORD", login.secret.expose())
        .env("PGDATABASE", TARGET)
        .env("PGSSLMODE", "require")
        .env("PGOPTIONS", format!("-c tidegate.run={run}"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONHASHSEED", "0");
    command
}

/// The pytest plugin of the documents names each test, and a change of one statement in one test is found.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_pytest_plugin_names_the_tests() {
    let Some(python) = python(&["psycopg", "pytest"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("conftest.py"), documented_plugin()).expect("the plugin");
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers/suite.py");
    std::fs::copy(suite, folder.path().join("test_shop.py")).expect("the suite");
    let gate = gate();
    let login = grant(&gate, "10m");
    for (run, seeded) in [("green", ""), ("red", "yes")] {
        let mut command = pytest(&python, &gate, &login, run, &["test_shop.py"], folder.path());
        let output = command.env("SEEDED", seeded).output().expect("pytest");
        assert!(output.status.success(), "{run}: {output:?}");
    }
    over(&gate, &login, 2).await;
    let report = gate.json(&["run", "report", "green"]).expect("a report");
    let tests = texts(&report["tests"], "test");
    for test in ["test_shop.py::test_customers", "test_shop.py::test_card[1, 'it''s 100%']"] {
        assert!(tests.iter().any(|known| known == test), "{test} is not in {tests:?}");
    }
    let diff = gate.json(&["run", "diff", "green", "red"]).expect("a difference");
    let items = diff["statements"]["items"].as_array().expect("statements");
    assert_eq!(items.len(), 2, "{diff:#}");
    for item in items {
        assert_eq!(item["test"], "test_shop.py::test_order", "{diff:#}");
    }
    let new = "SELECT total FROM orders WHERE id = ? ORDER BY total";
    assert_eq!(with(&diff["statements"], "kind", "only_red")["statement"], new);
}

/// Files of SQLAlchemy's tests that talk to the database, and not only compile texts.
const SQLALCHEMY_TESTS: [&str; 4] = [
    "test/sql/test_query.py",
    "test/sql/test_insert_exec.py",
    "test/sql/test_resultset.py",
    "test/orm/test_unitofwork.py",
];
/// The statement that is changed: so many SELECTs of tests come before it.
const SEEDED: &str = "150";

/// SQLAlchemy's own tests, twice as they are published, and once with another text in the place of one statement of one test.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SQLAlchemy's tests: make suites"]
async fn sqlalchemys_own_tests_with_a_seeded_change() {
    let fetched = std::fs::read_dir(home()).expect("make suites fetches them");
    let named = |path: &PathBuf| {
        path.is_dir()
            && path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("sqlalchemy-"))
    };
    let source = fetched
        .flatten()
        .map(|entry| entry.path())
        .find(named)
        .expect("make suites fetches them");
    let python = python(&["psycopg", "pytest"]).expect("make suites installs it");
    // They drop what they find in the database.
    let database = start(&ServerOptions::default());
    let gate = gate_before(&database, "", "");
    let login = gate
        .grant("ana@example.com", TARGET, "1h", &["--max-sessions", "50"])
        .expect("a grant");
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suites");
    let seeded = gate.folder().join("seeded.json");
    for (run, change) in [("green", ""), ("again", ""), ("red", SEEDED)] {
        let options = [
            "-p",
            "named",
            "--dburi",
            "postgresql+psycopg:///shop",
            "-o",
            "addopts=--tb=short --strict-markers",
        ];
        let mut command = pytest(
            &python,
            &gate,
            &login,
            run,
            &[&options[..], &SQLALCHEMY_TESTS].concat(),
            &source,
        );
        let output = command
            .env("PYTHONPATH", &plugins)
            .env("SEEDED", change)
            .env("SEEDED_FILE", &seeded)
            .output()
            .expect("pytest");
        let said = String::from_utf8_lossy(&output.stdout);
        println!("{run}: {}", said.lines().last().unwrap_or_default());
        assert!(output.status.success(), "{run}: {said}");
    }
    eventually("the sessions are over", async || {
        let count = |event| records_of(&gate, &login.grant, event).len();
        (count("session_started") == count("session_ended")).then_some(())
    })
    .await;
    let changed: Value = serde_json::from_slice(&std::fs::read(&seeded).expect("the change")).expect("JSON");
    println!("changed: {changed}");
    let began = std::time::Instant::now();
    let same = gate.json(&["run", "diff", "green", "again"]).expect("a difference");
    println!(
        "{} statements in {} tests, compared in {:?}",
        same["green"]["statements"],
        same["green"]["tests"],
        began.elapsed()
    );
    assert_eq!(same["statements"]["items"], json!([]), "{same:#}");
    let diff = gate.json(&["run", "diff", "green", "red"]).expect("a difference");
    let items = diff["statements"]["items"].as_array().expect("statements");
    assert!(
        items.len() == 2 && items.iter().all(|item| item["test"] == changed["test"]),
        "{diff:#}"
    );
    let new = with(&diff["statements"], "kind", "only_red")["statement"]
        .as_str()
        .expect("a text")
        .to_owned();
    assert!(new.starts_with("WITH seeded AS (SELECT ?) SELECT"), "{new}");
}
