//! What others are given of a real gate's log: a report that is true, a table that DuckDB reads, and every line at a receiver,
//! whatever happens to the gate or to the receiver.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;
use tidegate::demo::testkit::{ServerOptions, TestGate};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{
    ANA, House, Raw, Walls, code, eventually, gate, gate_with, grant, id, psql, records, records_of, said, within,
};

const PEOPLE: [(&str, &str); 4] = [("ana", "qa"), ("lea", "leads"), ("oli", "oncall"), ("fay", "guests")];

fn run(gate: &TestGate, arguments: &[&str]) -> Output {
    let output = gate.command(arguments).expect("the command");
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn sheet(folder: &Path, name: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(folder.join(name)).expect("a sheet");
    reader.deserialize().map(|row| row.expect("a row")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_tells_who_was_let_in_by_whom_and_what_they_did() {
    let house = House::open(&PEOPLE, "", &[]).await;
    let write = house.asked("ana", "read-write").await;
    house.step("lea", &write, "approve").await.good();
    let used = said(house.psql("ana", "read-write", "SELECT id FROM customers LIMIT 3")).await;
    assert_eq!(used.code, Some(0), "{used:?}");
    assert_eq!(house.ask("fay", "read-only", None).await.status, 403);
    let wish =
        json!({"target": "shop", "profile": "read-write", "window_seconds": 600, "reason": "=it <burns>", "break_glass": true});
    let glass = id(&house.call("oli", "POST", "/v1/requests", &wish).await.good());
    let gate = &house.gate;
    let out = gate.folder().join("report");
    let key = gate.folder().join("state/audit-key.pub");
    let arguments = [
        "audit",
        "report",
        "--since",
        "1h",
        "--key",
        key.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ];
    run(gate, &arguments);

    let grants = sheet(&out, "grants.csv");
    let ana = grants.iter().find(|row| row["identity"] == "ana").expect("her grant");
    let field = |name: &str| ana[name].as_str();
    assert_eq!(
        (field("profile"), field("approvers"), field("reason")),
        ("read-write", "lea", "bug 17")
    );
    assert_eq!((field("sessions"), field("statements"), field("rows")), ("1", "1", "3"));
    assert_eq!(
        (field("policies"), field("policy set").len()),
        ("testers-ask, leads-approve", 64)
    );
    let denials = sheet(&out, "denials.csv");
    assert!(
        denials.iter().any(|row| row["identity"] == "fay" && row["how"] == "denied"),
        "{denials:?}"
    );
    let broken = sheet(&out, "break_glass.csv");
    assert_eq!(
        (broken.len(), &*broken[0]["reviewed by"], &*broken[0]["reason"]),
        (1, "NOT REVIEWED", "'=it <burns>")
    );
    assert_eq!(sheet(&out, "unused.csv").len(), 1);
    let page = std::fs::read_to_string(out.join("report.html")).expect("the page");
    for words in [
        "the log is whole",
        key.to_str().unwrap(),
        "without a review: 1.",
        "it &lt;burns&gt;",
    ] {
        assert!(page.contains(words), "{words} is not in {page}");
    }

    // Reviewed, it is no alarm any more. A key that is not named is the one configured here.
    house.step("lea", &glass, "review").await.good();
    let output = run(gate, &["audit", "report", "--since", "1h", "--out", out.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stdout);
    let by_default = format!(
        "the log was verified with the key {}, from the configuration here",
        key.display()
    );
    assert!(said.contains(&by_default), "{said}");
    let page = std::fs::read_to_string(out.join("report.html")).expect("the page");
    assert!(!page.contains("without a review"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_tells_of_roles_of_refusals_and_of_what_was_undone() {
    let walls = Walls::build_with(&ServerOptions::default(), "rails = { need_where = true }\n").await;
    let (login, session) = walls.session("read-write").await;
    let client = &session.client;
    for _ in 0..2 {
        assert_eq!(code(client, "DELETE FROM orders").await, "42501");
    }
    let table = "CREATE TABLE once (n integer UNIQUE DEFERRABLE INITIALLY DEFERRED)";
    for sql in [table, "BEGIN", "INSERT INTO once VALUES (1), (1)"] {
        client.batch_execute(sql).await.expect(sql);
    }
    assert_eq!(code(client, "COMMIT").await, "23505");
    walls.revoke(&login);
    walls.empty().await;
    eventually("the role's end is on record", async || {
        let changes = records_of(&walls.gate, &login.grant, "role_changed");
        changes.iter().any(|record| record["change"] == "retired").then_some(())
    })
    .await;
    let out = walls.gate.folder().join("report");
    run(
        &walls.gate,
        &["audit", "report", "--since", "1h", "--out", out.to_str().unwrap()],
    );
    let [role] = &sheet(&out, "roles.csv")[..] else {
        panic!("one role")
    };
    assert_eq!(
        (role["grant"].as_str(), role["state"].as_str()),
        (login.grant.as_str(), "gone"),
        "{role:?}"
    );
    let [refused] = &sheet(&out, "rails.csv")[..] else {
        panic!("one rule")
    };
    let told = ["identity", "profile", "rule", "count"].map(|name| refused[name].as_str());
    assert_eq!(told, ["ana@example.com", "read-write", "need_where", "2"]);
    let [undone] = &sheet(&out, "undone.csv")[..] else {
        panic!("one range")
    };
    assert_eq!(undone["sqlstate"], "23505", "{undone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_changed_is_reported_as_such() {
    let gate = gate();
    let login = grant(&gate, "10m");
    psql(&gate, &login, "require", &["-c", "SELECT 1"], "");
    gate.terminate().expect("terminated");
    eventually("it has ended", async || gate.ended().then_some(())).await;
    let file = gate.audit_folder().join("audit-000001.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen(ANA, "eve@example.com", 1)).unwrap();
    let out = gate.folder().join("report");
    let output = gate
        .command(&["audit", "report", "--since", "1h", "--out", out.to_str().unwrap()])
        .expect("the command");
    assert_eq!(output.status.code(), Some(1));
    let page = std::fs::read_to_string(out.join("report.html")).expect("a page all the same");
    assert!(page.contains("The log is not whole") && page.contains("NOT WHOLE"), "{page}");
}

/// DuckDB reads the segments as they lie there, packed or not.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs DuckDB: make drivers"]
async fn duckdb_reads_the_segments() {
    let python = super::drivers::home().join("python/bin/python");
    let gate = gate_with("[audit]\nsegment_bytes = 65536\n");
    let login = grant(&gate, "10m");
    let log = gate.folder().join("state/audit");
    let is_packed =
        || std::fs::read_dir(&log).is_ok_and(|files| files.flatten().any(|file| file.path().extension() == Some("zst".as_ref())));
    let mut statements = 0;
    while !is_packed() {
        let sql = "SELECT count(*) FROM customers;\nSELECT 'é';\n".repeat(50);
        psql(&gate, &login, "require", &["-At"], &sql);
        statements += 100;
    }
    let script = format!(
        "import duckdb; print(duckdb.sql(\"SELECT identity, sql.text, count(*), min(typeof(time)) \
         FROM read_json(['{0}/*.jsonl', '{0}/*.jsonl.zst'], format = 'newline_delimited', union_by_name = true) \
         WHERE event = 'statement' GROUP BY ALL ORDER BY 2\").fetchall())",
        log.display()
    );
    let output = Command::new(python).args(["-c", &script]).output().expect("python");
    let row = |sql: &str| format!("('{ANA}', {sql}, {}, 'TIMESTAMP WITH TIME ZONE')", statements / 2);
    let expected = format!("[{}, {}]\n", row("\"SELECT 'é';\""), row("'SELECT count(*) FROM customers;'"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
}

/// Takes messages until one has this text; the frames have to be right.
async fn up_to(stream: &mut BufReader<TcpStream>, text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let read = async {
        loop {
            let mut length = Vec::new();
            stream.read_until(b' ', &mut length).await.expect("a frame");
            let length = String::from_utf8(length).unwrap().trim_end().parse().expect("a length");
            let mut message = vec![0; length];
            stream.read_exact(&mut message).await.expect("a message");
            let message = String::from_utf8(message).expect("UTF-8");
            let line = &message[message.find("] {").expect("structured data, then the line") + 2..];
            lines.push(line.to_owned());
            if line.contains(text) {
                break;
            }
        }
    };
    within(&format!("a message with {text}"), read).await;
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_reaches_the_receiver_through_deaths_of_the_gate() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut gate = gate_with(&format!(
        "[audit.forward]\naddress = \"tcp://127.0.0.1:{port}\"\nhostname = \"gate\"\n"
    ));
    let login = grant(&gate, "10m");
    let mut received = BTreeMap::new();
    for (round, end) in ["kill", "terminate", "nothing"].into_iter().enumerate() {
        if round > 0 {
            gate.start_again().expect("started again");
        }
        let mut stream = BufReader::new(within("it dials", listener.accept()).await.unwrap().0);
        let text = format!("round {round}.");
        let mut session = Raw::session(&gate, &login).await;
        session.query(&format!("SELECT '{text}'")).await;
        session.until(b'Z').await;
        let mut lines = up_to(&mut stream, &text).await;
        match end {
            "kill" => gate.kill().expect("killed"),
            "terminate" => {
                gate.terminate().expect("terminated");
                // In order: to the last line, with nobody asking.
                lines.extend(up_to(&mut stream, "gate_stopped").await);
            }
            _ => lines.extend(up_to(&mut stream, "\"checkpoint\"").await),
        }
        for line in lines {
            let number = serde_json::from_str::<serde_json::Value>(&line).expect("a record")["seq"]
                .as_u64()
                .unwrap();
            let before = received.insert(number, line.clone());
            assert!(before.is_none_or(|before| before == line), "sent twice, it is the same");
        }
        if end != "nothing" {
            eventually("it has ended", async || gate.ended().then_some(())).await;
        }
    }
    let written: BTreeMap<_, _> = records(&gate)
        .into_iter()
        .map(|record| (record["seq"].as_u64().unwrap(), record))
        .collect();
    let last = *received.last_key_value().expect("records").0;
    assert!((1..=last).eq(received.keys().copied()), "none is missing");
    for (number, line) in &received {
        assert_eq!(serde_json::from_str::<serde_json::Value>(line).unwrap(), written[number]);
    }
}
