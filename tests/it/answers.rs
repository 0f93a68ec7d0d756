//! What `tidegate log` answers of a real gate: a session's story, who touched a table, any conditions together, as a table, JSON or
//! CSV, at once or as it goes on; and nothing that would steer a terminal.

use std::collections::BTreeSet;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tidegate::demo::testkit::{TestGate, TestLogin};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::script::{bind, execute, frame, parse, query, sync};
use crate::support::{House, Raw, binary, ended, eventually, gate, grant, psql_command, records, records_of, user, within};

/// What a command has to answer without a complaint. Whatever it is asked for, it has to be harmless.
#[track_caller]
pub(crate) fn told(gate: &TestGate, arguments: &[&str]) -> String {
    let output = gate.command(arguments).expect("the command");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    harmless(&output);
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Nothing in it does something to a terminal instead of being seen.
#[track_caller]
fn harmless(output: &Output) {
    for bytes in [&output.stdout, &output.stderr] {
        let text = std::str::from_utf8(bytes).expect("UTF-8");
        let odd = |c: char| {
            (c.is_control() && c != '\n')
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert!(!text.contains(odd), "a raw control character in {text:?}");
    }
}

/// The records that conditions find: what the gate says, which is what is read from its folder.
#[track_caller]
pub(crate) fn found(gate: &TestGate, conditions: &[&str]) -> Vec<Value> {
    let answer = told(gate, &[&["log", "--output", "json"], conditions].concat());
    let folder = gate.audit_folder();
    let dir = ["--dir", folder.to_str().expect("UTF-8")];
    let read = told(gate, &[&["log", "--output", "json"], conditions, &dir].concat());
    assert_eq!(answer, read, "{conditions:?}");
    answer.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Whether the parts are there, in this order.
#[track_caller]
pub(crate) fn in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let at = rest.find(part).unwrap_or_else(|| panic!("no `{part}` there in:\n{text}"));
        rest = &rest[at + part.len()..];
    }
}

/// The id of an identity's last session, once it has ended.
async fn over(gate: &TestGate, identity: &str) -> String {
    eventually("the session has ended", async || {
        let all = records(gate);
        let ended = all
            .iter()
            .rfind(|record| record["event"] == "session_ended" && record["identity"] == identity)?;
        Some(ended["session"].as_str().expect("an id").to_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_told_from_its_request_to_its_end() {
    let house = House::open(&[("ana", "qa"), ("lea", "leads")], "", &[]).await;
    let gate = &house.gate;
    let write = house.asked("ana", "read-write").await;
    house.step("lea", &write, "approve").await.good();
    let update = "UPDATE customers SET city = city WHERE id = 7";
    let ran = psql_command(
        gate,
        "ana",
        house.token("ana"),
        "shop/read-write",
        r"-c tidegate.run=ci\ 42",
        update,
    )
    .args(["-c", "SELECT 1/0 FROM orders"])
    .output()
    .expect("psql");
    assert_eq!(ran.status.code(), Some(1), "the last statement fails: {ran:?}");
    let session = over(gate, "ana").await;

    let story = told(gate, &["log", "session", &session]);
    in_order(
        &story,
        &[
            &format!("Session {session} of ana on shop/read-write, under grant gr_"),
            &format!("submitted {write} shop/read-write by ana via api: bug 17 [testers-ask]"),
            &format!("approved {write} shop/read-write by lea via api: as discussed [leads-approve]"),
            "activated gr_",
            " shop/read-write",
            "on shop/read-write from 127.0.0.1 (psql, TLS TLSv1.3) until",
            &format!("#1 {update}"),
            "-> #1 completed UPDATE 1, 1 rows",
            "#2 SELECT 1/0 FROM orders",
            "-> #2 failed 22012, 0 rows",
            "quit (00000)",
            "2 statements: 1 failed, 0 with outcome unknown; 1 rows",
            "What: update, select",
            "Tables: customers, orders",
            "It ended after ",
            "quit (00000), transaction none; the gate counted 2 statements, 1 rows.",
        ],
    );
    let json = told(gate, &["log", "session", &session, "--output", "json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["identity"], &json["totals"]["failed"]), (&json!("ana"), &json!(1)));
    assert_eq!(json["statements"][1]["outcome"]["sqlstate"], "22012");
    assert_eq!(json["statements"][0]["reading"]["tables"][0], "customers");
    assert_eq!(json["events"][0]["run"], "ci 42");
    // The same of a gate that is gone.
    gate.terminate().expect("SIGTERM");
    eventually("it is gone", async || gate.ended().then_some(())).await;
    let folder = gate.audit_folder();
    assert_eq!(
        told(gate, &["log", "session", &session, "--dir", folder.to_str().unwrap()]),
        story
    );
    let unknown = gate
        .command(&["log", "session", "se_0000000000", "--dir", folder.to_str().unwrap()])
        .expect("the command");
    assert_eq!(unknown.status.code(), Some(4), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_when_the_gate_died_has_an_unknown_outcome() {
    let mut gate = gate();
    let login = grant(&gate, "10m");
    let mut session = Raw::session(&gate, &login).await;
    session.query("SELECT pg_sleep(600) FROM cards").await;
    let statement = eventually("it is on record", async || records_of(&gate, &login.grant, "statement").pop()).await;
    gate.kill().expect("kill -9");
    eventually("it is dead", async || gate.ended().then_some(())).await;
    gate.start_again().expect("a gate");
    ended(&gate, &login.grant).await;
    let session = statement["session"].as_str().expect("an id");
    let story = told(&gate, &["log", "session", session]);
    in_order(
        &story,
        &[
            "#1 SELECT pg_sleep(600)",
            "-> outcome unknown",
            "gate_died",
            "1 with outcome unknown",
        ],
    );
    let listed = told(&gate, &["log", "--session", session]);
    assert!(
        listed.ends_with(&format!("\nstatement #1 of {session}: outcome unknown\n")),
        "{listed}"
    );
    let touched = told(&gate, &["log", "who-touched", "cards", "--output", "json"]);
    let touched: Value = serde_json::from_str(&touched).expect("JSON");
    assert_eq!(touched[0]["outcome_unknown"], 1, "{touched}");
}

/// Runs statements one after the other in a session of its own.
pub(crate) async fn session(gate: &TestGate, login: &TestLogin, run: Option<&str>, statements: &[&[u8]]) {
    let mut parameters = vec![("database", "shop")];
    parameters.extend(run.map(|run| ("tidegate.run", run)));
    let mut raw = Raw::connect(gate).await.login_with(login, &parameters).await.expect("let in");
    for bytes in statements {
        raw.send(bytes).await;
        raw.until(b'Z').await;
    }
    raw.send(&frame(b'X', b"")).await;
    drop(raw);
    ended(gate, &login.grant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_touched_a_table() {
    let gate = gate();
    let login = |name: &str| gate.grant(name, "shop", "10m", &[]).expect("a grant");
    let (ana, ben, kim) = (login("ana"), login("ben"), login("kim"));
    let read = query("SELECT name FROM customers WHERE id < 4");
    let write = query(
        "WITH old AS (SELECT id FROM public.customers WHERE id = 7) UPDATE public.customers SET city = city FROM old WHERE old.id = customers.id",
    );
    session(&gate, &ana, None, &[&read, &write]).await;
    let wrong = query("DELETE FROM Customers WHERE no_such_column");
    let opaque = query("DO $$ BEGIN PERFORM 1 FROM customers; END $$");
    let unread = query("SELEC * FROM customers");
    session(&gate, &ben, None, &[&wrong, &opaque, &unread]).await;
    session(
        &gate,
        &kim,
        None,
        &[&query("SELECT count(*) FROM orders WHERE 'customers' <> ''")],
    )
    .await;

    let json = |arguments: &[&str]| -> Value {
        let said = told(&gate, &[&["log", "who-touched"], arguments, &["--output", "json"]].concat());
        serde_json::from_str(&said).expect("JSON")
    };
    for table in ["customers", "public.customers", "CUSTOMERS"] {
        let touched = json(&[table, "--since", "7d"]);
        let short: Vec<_> = touched
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| {
                (
                    &one["identity"],
                    &one["statements"],
                    &one["failed"],
                    &one["not_read"],
                    &one["rows"],
                )
            })
            .collect();
        let expected = [
            (&json!("ana"), &json!(2), &json!(0), &json!(0), &json!(4)),
            (&json!("ben"), &json!(3), &json!(2), &json!(2), &json!(0)),
        ];
        assert_eq!(short, expected, "{table}");
    }
    let deleted = json(&["customers", "--class", "delete"]);
    assert_eq!(
        (deleted.as_array().unwrap().len(), &deleted[0]["identity"]),
        (1, &json!("ben"))
    );
    assert_eq!(
        json(&["customers", "--identity", "ana"])[0]["sessions"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    // Whichever schema a name without one is in.
    assert_eq!(
        json(&["other.customers"])[0]["statements"],
        1,
        "{}",
        json(&["other.customers"])
    );

    let table = told(&gate, &["log", "who-touched", "customers", "--since", "yesterday"]);
    in_order(&table, &["IDENTITY", "ana", "select update", "ben", "delete"]);
    assert!(
        table.contains("2 of these statements contain the word, but could not be parsed"),
        "{table}"
    );
    let nobody = told(&gate, &["log", "who-touched", "customers", "--until", "yesterday"]);
    assert_eq!(nobody, "No access to this table in the log.\n");
    let csv = told(&gate, &["log", "who-touched", "customers", "--output", "csv"]);
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    assert_eq!(&rows.headers().expect("a header")[0], "identity");
    let names: Vec<_> = rows.records().map(|row| row.expect("a row")[0].to_owned()).collect();
    assert_eq!(names, ["ana", "ben"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_read_is_never_nobody() {
    let gate = gate();
    let login = |name: &str| gate.grant(name, "shop", "10m", &[]).expect("a grant");
    let (ana, ben) = (login("ana"), login("ben"));
    // Nothing in what is kept of it names the table; and one that is read.
    let long = query(format!("/*{}*/ SELECT count(*) FROM customers", "x".repeat(66_000)));
    session(&gate, &ana, None, &[&long, &query("SELECT 1")]).await;
    session(&gate, &ben, None, &[&query("SELECT count(*) FROM orders")]).await;

    let touched = told(&gate, &["log", "who-touched", "customers"]);
    in_order(
        &touched,
        &[
            "No parsed statement uses this table.",
            "1 other statements could not be parsed",
            "ana on shop: 1",
            "log --unread",
        ],
    );
    let said = told(&gate, &["log", "who-touched", "customers", "--output", "json"]);
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        (&said[0]["identity"], &said[0]["statements"], &said[0]["unread"]),
        (&json!("ana"), &json!(0), &json!(1))
    );
    assert_eq!(said.as_array().expect("a list").len(), 1);
    let listed = told(&gate, &["log", "--unread", "--event", "statement", "--output", "json"]);
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0]["reading"]["unparsed"], &listed[0]["reading"]["classes"]),
        (&json!("cut"), &json!(["other"]))
    );
    // A search by table says so beside what it finds.
    let found = gate.command(&["log", "--table", "customers"]).expect("the command");
    let said = String::from_utf8_lossy(&found.stderr).into_owned();
    assert!(
        found.stdout.is_empty() && said.contains("1 other statements could not be parsed"),
        "{said}"
    );
}

/// The marks of the statements that were found.
pub(crate) fn marks(found: &[Value]) -> BTreeSet<String> {
    let texts = found.iter().filter_map(|record| record["sql"]["text"].as_str());
    texts
        .filter_map(|text| Some(text.split("/*").nth(1)?.split("*/").next()?.to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_joined_by_and() {
    let gate = gate();
    user(&gate, "ana", &["qa", "night"]).await;
    user(&gate, "ben", &["dev"]).await;
    let (ana, ben) = (
        gate.grant("ana", "shop", "10m", &[]).expect("a grant"),
        gate.grant("ben", "shop", "10m", &[]).expect("a grant"),
    );
    let ten = |mark: &str| query(format!("SELECT * FROM customers WHERE id < 11 /*{mark}*/"));
    let prepared = [
        parse("", "SELECT name FROM public.customers WHERE id = $1 /*a4*/", &[]),
        bind("", "", &[(false, Some(b"4711"))]),
        execute("", 0),
        sync(),
    ];
    let (slow, failing) = (
        query("SELECT pg_sleep(0.3) /*a2*/"),
        query("SELECT 1/0 FROM customers /*a3*/"),
    );
    session(&gate, &ana, Some("7"), &[&ten("a1"), &slow, &failing, &prepared.concat()]).await;
    session(&gate, &ana, Some("8"), &[&ten("b1")]).await;
    session(
        &gate,
        &ben,
        Some("7"),
        &[&ten("c1"), &query("DELETE FROM customers WHERE false /*c2*/")],
    )
    .await;
    let whose = records_of(&gate, &ben.grant, "session_started").remove(0);
    let of_ben = whose["session"].as_str().expect("an id");

    for (conditions, expected) in [
        ("--group qa", "a1 a2 a3 a4 b1"),
        ("--group night --run 7", "a1 a2 a3 a4"),
        ("--group dev --run 7", "c1 c2"),
        ("--group dev --run 8", ""),
        ("--run 7 --table customers --min-rows 10", "a1 c1"),
        ("--run 7 --table customers --min-rows 11", ""),
        (
            "--group qa --run 7 --table public.customers --kind query --min-rows 10 --max-rows 10 --text =id\u{a0}<\u{a0}11",
            "a1",
        ),
        ("--sqlstate 22012 --identity ana", "a3"),
        ("--sqlstate 22 --table orders", ""),
        ("--sqlstate 22 --identity ben", ""),
        ("--min-duration 250ms --text PG_SLEEP", "a2"),
        ("--max-duration 250ms --text PG_SLEEP", ""),
        ("--kind execute --table customers", "a4"),
        ("--text 4711 --class select", "a4"),
        ("--class delete --since 1h", "c2"),
        ("--class delete --since yesterday --until 2100-01-01", "c2"),
        ("--class delete --until yesterday", ""),
        ("--class delete --since 2100-01-01T00:00Z", ""),
        (
            "--target shop --max-rows 0 --table customers --min-duration 0s --kind query",
            "a3 c2",
        ),
        ("--target other", ""),
    ] {
        let arguments: Vec<_> = conditions
            .split(' ')
            .map(|word| word.trim_start_matches('=').replace('\u{a0}', " "))
            .collect();
        let mut arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        arguments.extend(["--event", "statement"]);
        let expected = expected
            .split(' ')
            .filter(|mark| !mark.is_empty())
            .map(str::to_owned)
            .collect();
        assert_eq!(marks(&found(&gate, &arguments)), expected, "{conditions}");
    }
    assert_eq!(
        marks(&found(
            &gate,
            &["--session", of_ben, "--grant", &ben.grant, "--text", "false"]
        )),
        ["c2".to_owned()].into()
    );
    assert!(found(&gate, &["--session", of_ben, "--grant", &ana.grant]).is_empty());
    // A statement comes with what became of it.
    let both = found(&gate, &["--sqlstate", "22012"]);
    assert_eq!((both.len(), &both[1]["event"]), (2, &json!("outcome")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spreadsheet_gets_rows_that_do_nothing() {
    let gate = gate();
    let login = grant(&gate, "10m");
    session(
        &gate,
        &login,
        None,
        &[
            &query("SELECT id, 'a \"quoted\", comma' FROM customers\nWHERE id < 3"),
            &query("=HYPERLINK(\"http://x\")"),
        ],
    )
    .await;
    let csv = told(&gate, &["log", "--grant", &login.grant, "--output", "csv"]);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let head = reader.headers().expect("a header").clone();
    let rows: Vec<_> = reader.records().map(|row| row.expect("a row")).collect();
    let cell = |event: &str, number: &str, name: &str| -> String {
        let at = |name: &str| head.iter().position(|column| column == name).expect("a column");
        let row = rows
            .iter()
            .find(|row| &row[at("event")] == event && &row[at("statement")] == number);
        row.unwrap_or_else(|| panic!("no {event} {number} in {csv}"))[at(name)].to_owned()
    };
    assert_eq!(
        cell("statement", "1", "text"),
        "SELECT id, 'a \"quoted\", comma' FROM customers\\nWHERE id < 3"
    );
    assert_eq!(
        (cell("statement", "1", "classes"), cell("statement", "1", "tables")),
        ("select".to_owned(), "customers".to_owned())
    );
    assert_eq!(
        (cell("outcome", "1", "result"), cell("outcome", "1", "rows")),
        ("completed".to_owned(), "2".to_owned())
    );
    assert_eq!(cell("statement", "2", "text"), "'=HYPERLINK(\"http://x\")");
    assert_eq!(
        (cell("outcome", "2", "result"), cell("outcome", "2", "sqlstate")),
        ("failed".to_owned(), "42601".to_owned())
    );
    assert!(cell("outcome", "1", "duration_us").parse::<u64>().is_ok());
}

/// `tidegate log --follow` as it runs.
pub(crate) struct Following {
    _process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Following {
    pub(crate) fn start(gate: &TestGate, conditions: &[&str]) -> Self {
        let mut process = Command::new(binary())
            .arg("--config")
            .arg(gate.config_file())
            .args(["log", "--follow", "--output", "json"])
            .args(conditions)
            .env_remove("TIDEGATE_CONTROL")
            .env_remove("TIDEGATE_TOKEN")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        Self {
            _process: process,
            lines,
        }
    }

    pub(crate) async fn next(&mut self) -> Value {
        let line = within("a line", self.lines.next_line()).await.expect("readable");
        serde_json::from_str(&line.expect("it goes on")).expect("JSON")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_with_what_comes() {
    let gate = gate();
    user(&gate, "ana", &["qa"]).await;
    let (ana, ben) = (gate.grant("ana", "shop", "10m", &[]).expect("a grant"), grant(&gate, "10m"));
    session(&gate, &ana, None, &[&query("SELECT 'marked, before'")]).await;
    let mut following = Following::start(&gate, &["--group", "qa", "--text", "marked", "--since", "1h"]);
    let is = |record: &Value, event: &str, text: Option<&str>| {
        assert_eq!(
            (&record["event"], record["sql"]["text"].as_str()),
            (&json!(event), text),
            "{record}"
        );
    };
    is(&following.next().await, "statement", Some("SELECT 'marked, before'"));
    is(&following.next().await, "outcome", None);
    // It waits: now somebody else's, then another session of hers, and one that is not asked for.
    session(&gate, &ben, None, &[&query("SELECT 'marked, by another'")]).await;
    let mut raw = Raw::session(&gate, &ana).await;
    for sql in [
        "SELECT 'not this'",
        "SELECT 'marked, after'",
        "SELECT 'marked, at last' FROM pg_sleep(600)",
    ] {
        raw.query(sql).await;
        if !sql.contains("at last") {
            raw.until(b'Z').await;
        }
    }
    is(&following.next().await, "statement", Some("SELECT 'marked, after'"));
    is(&following.next().await, "outcome", None);
    // What runs is told while it runs.
    is(
        &following.next().await,
        "statement",
        Some("SELECT 'marked, at last' FROM pg_sleep(600)"),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_the_groups_and_the_run_of_its_request() {
    let house = House::open(&[("ana", "qa")], "", &[]).await;
    let gate = &house.gate;
    let enter = |options: &str| {
        let ran = psql_command(gate, "ana", house.token("ana"), "shop/read-only", options, "SELECT 1")
            .output()
            .expect("psql");
        assert!(ran.status.success(), "{ran:?}");
    };
    enter(r"-c tidegate.reason=bug -c tidegate.run=ci-42");
    // What she is in now is not what she was let in for.
    house
        .call("operator", "POST", "/v1/users/ana/groups", &json!({"groups": ["guests"]}))
        .await
        .good();
    enter("-c tidegate.run=ci-43");
    enter("");
    let started = |conditions: &[&str]| found(gate, &[&["--event", "session_started"], conditions].concat());
    let all = started(&["--identity", "ana"]);
    let grants: BTreeSet<_> = all.iter().map(|record| record["grant"].to_string()).collect();
    assert_eq!((all.len(), grants.len()), (3, 1), "{all:?}");
    assert!(all.iter().all(|record| record["groups"] == json!(["qa"])), "{all:?}");
    assert_eq!(
        (&all[0]["run"], &all[1]["run"], &all[2]["run"]),
        (&json!("ci-42"), &json!("ci-43"), &Value::Null)
    );
    assert_eq!(started(&["--group", "qa"]).len(), 3);
    assert_eq!(started(&["--group", "guests"]).len(), 0);
    assert_eq!(started(&["--group", "qa", "--run", "ci-43"]), all[1..2]);
    // Which a statement, an outcome and an end of it are found by.
    assert_eq!(found(gate, &["--run", "ci-42", "--event", "statement"]).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_grant_has_its_profile_on_record() {
    let house = House::open(&[], "", &[]).await;
    let gate = &house.gate;
    let made = gate
        .grant("kim", "shop", "10m", &["--profile", "read-write"])
        .expect("a grant");
    gate.json(&["grant", "extend", &made.grant, "--by", "5m"]).expect("extended");
    let changes = records_of(gate, &made.grant, "grant_changed");
    assert_eq!(changes.len(), 2);
    assert!(changes.iter().all(|change| change["profile"] == "read-write"), "{changes:?}");
    let listed = told(gate, &["log", "--grant", &made.grant]);
    assert!(
        listed.contains(&format!("created {} shop/read-write by ", made.grant)),
        "{listed}"
    );
}

/// Moves the cursor, sets the title, writes the clipboard, turns the reading direction.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;x\u{7}\u{1b}]52;c;cm0=\u{7}\u{9b}31m\u{202e}\u{2066}\u{8}\u{85}\u{7f}\u{200f}";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_from_outside_steers_a_terminal() {
    let gate = gate();
    let reason = format!("why {HOSTILE}");
    let login = gate.grant("ana", "shop", "10m", &["--reason", &reason]).expect("a grant");
    // As a user's name, a database's, an application's.
    let mut stranger = Raw::connect(&gate).await;
    stranger
        .startup(&[("user", &format!("gr_{HOSTILE}")), ("database", HOSTILE)])
        .await;
    while stranger.frame().await.is_some_and(|frame| frame.kind != b'R') {}
    drop(stranger);
    let parameters = [("database", "shop"), ("application_name", HOSTILE), ("tidegate.run", HOSTILE)];
    let mut raw = Raw::connect(&gate)
        .await
        .login_with(&login, &parameters)
        .await
        .expect("let in");
    let sent = [
        query(format!("SELECT '{HOSTILE}' FROM customers WHERE id = 1")),
        query(format!("SELECT * FROM \"{HOSTILE}\"")),
        query(b"SELECT '\xff\xc0\xaf'"),
        query(b"SELECT 'before'\0SELECT 'behind'"),
        [
            parse("", "SELECT $1 FROM customers", &[25]),
            bind("", "", &[(false, Some(HOSTILE.as_bytes()))]),
            execute("", 1),
            sync(),
        ]
        .concat(),
    ];
    for bytes in &sent {
        raw.send(bytes).await;
        raw.until(b'Z').await;
    }
    raw.send(&frame(b'X', b"")).await;
    let ended = ended(&gate, &login.grant).await;
    let session = ended["session"].as_str().expect("an id");
    let out = gate.folder().join("report");
    let out = out.to_str().expect("UTF-8");
    for words in [
        "log",
        "log --output json",
        "log --output csv",
        "log who-touched customers",
        "log who-touched customers --output json",
        "log who-touched customers --output csv",
        "audit verify",
        "audit verify --output json",
        "audit checkpoint",
        "grant list --all",
        "session list",
    ] {
        told(&gate, &words.split(' ').collect::<Vec<_>>());
    }
    for more in [&[][..], &["--output", "json"]] {
        let story = told(&gate, &[&["log", "session", session], more].concat());
        assert!(story.contains("SELECT"), "{story}");
    }
    // What was sent can still be told from what is shown, and found.
    let shown = told(&gate, &["log", "--text", "\u{202e}", "--event", "statement"]);
    assert_eq!(shown.matches(r"\u{1b}[2J\u{1b}]0;x\u{7}").count(), 3, "{shown}");
    told(&gate, &["audit", "report", "--since", "1h", "--out", out]);
    for file in std::fs::read_dir(out).expect("the report") {
        let bytes = std::fs::read(file.expect("a file").path()).expect("readable");
        assert!(
            !bytes.iter().any(|byte| *byte < b' ' && !b"\r\n\t".contains(byte))
                && !String::from_utf8_lossy(&bytes).contains('\u{202e}')
        );
    }
    // Complaints repeat what they were given.
    harmless(
        &gate
            .command(&["log", "--dir", &format!("/nowhere/{HOSTILE}")])
            .expect("the command"),
    );
    harmless(&gate.command(&["audit", "verify", "--key", HOSTILE]).expect("the command"));
}
