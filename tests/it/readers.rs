//! What readers of the log get of a real gate: the newest, the largest, what comes from now on; by profile and break-glass; in their
//! own time; and, from another machine, its verification and the report.

use std::os::unix::fs::FileExt as _;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tidegate::base::secret::Secret;
use tidegate::demo::testkit::TestGate;

use crate::answers::{Following, found, marks, session, told};
use crate::support::script::query;
use crate::support::{House, ended, eventually, gate, grant, id, records, said};

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_and_the_largest_are_asked_for() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let statements = [
        query("SELECT * FROM customers WHERE id < 4 /*three*/"),
        query("SELECT * FROM customers WHERE id < 21 /*twenty*/"),
        query("SELECT pg_sleep(0.3) /*slow*/"),
        query("SELECT 1 /*last*/"),
    ];
    session(&gate, &login, None, &statements.each_ref().map(Vec::as_slice)).await;
    let of_grant = ["--grant", &*login.grant];
    let asked = |more: &[&str]| found(&gate, &[&of_grant, more].concat());
    let all = asked(&[]);
    for last in [1, 2, 5] {
        assert_eq!(asked(&["--last", &last.to_string()]), all[all.len() - last..], "{last}");
    }
    // Back by pages of two, until nothing is left; each page says where the one before it ends.
    let (mut pages, mut before) = (Vec::new(), None);
    loop {
        let end: Vec<String> = before.map_or_else(Vec::new, |before: u64| vec!["--before".to_owned(), before.to_string()]);
        let end: Vec<&str> = end.iter().map(String::as_str).collect();
        let page = asked(&[&["--last", "2"][..], &end].concat());
        let Some(first) = page.first().and_then(|record| record["seq"].as_u64()) else {
            break;
        };
        let said = gate
            .command(&[&["log", "--last", "2"][..], &of_grant, &end].concat())
            .expect("the command");
        let hint = format!("for older records add --before {first}");
        assert_eq!(
            String::from_utf8_lossy(&said.stderr).contains(&hint),
            page.len() == 2,
            "{said:?}"
        );
        pages.splice(0..0, page);
        before = Some(first);
    }
    assert_eq!(pages, all);
    let statement = ["--event", "statement"];
    let ordered = |records: &[Value]| -> Vec<String> {
        let of = |record: &Value| marks(std::slice::from_ref(record)).pop_first();
        records.iter().filter_map(of).collect()
    };
    assert_eq!(
        ordered(&asked(&[&statement[..], &["--last", "2"]].concat())),
        ["slow", "last"]
    );
    // A text finds a statement with its outcome, which is looked for in another record.
    let two = asked(&["--text", "customers", "--last", "2"]);
    assert_eq!(
        (ordered(&two), &two[1]["event"]),
        (vec!["twenty".to_owned()], &json!("outcome"))
    );
    assert_eq!(ordered(&asked(&["--sort", "rows"]))[..2], ["twenty", "three"]);
    assert_eq!(ordered(&asked(&["--sort", "duration", "--limit", "1"])), ["slow"]);
    let pair = asked(&["--sort", "rows", "--limit", "1"]);
    assert_eq!((pair.len(), &pair[1]["rows"]), (2, &json!(20)));
    assert_eq!(
        ordered(&asked(
            &[&statement[..], &["--sort", "rows", "--max-rows", "3", "--limit", "1"]].concat()
        )),
        ["three"]
    );
    assert_eq!(asked(&["--event", "session_ended", "--sort", "rows"]).len(), 1);
    // The earliest, and how to go on.
    let output = gate
        .command(&[&["log", "--limit", "1"][..], &of_grant].concat())
        .expect("the command");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--after"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn following_begins_now_or_with_the_newest() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let run = async |sql: &str| session(&gate, &login, None, &[&query(sql)]).await;
    run("SELECT 'marked before'").await;
    run("SELECT 'marked at last'").await;
    let conditions = ["--text", "marked", "--event", "statement"];
    let mut newest = Following::start(&gate, &[&conditions[..], &["--last", "1"]].concat());
    let text = |record: &Value| record["sql"]["text"].as_str().expect("a text").to_owned();
    assert_eq!(text(&newest.next().await), "SELECT 'marked at last'");
    run("SELECT 'marked, and new'").await;
    assert_eq!(text(&newest.next().await), "SELECT 'marked, and new'");
    // The other one shows nothing of all this, whenever it has begun.
    let mut now = Following::start(&gate, &conditions);
    let mut next = Box::pin(now.next());
    let first = loop {
        run("SELECT 'marked later'").await;
        if let Ok(first) = tokio::time::timeout(std::time::Duration::from_millis(200), &mut next).await {
            break first;
        }
    };
    assert_eq!(text(&first), "SELECT 'marked later'");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_and_break_glass_find_what_happened_under_them() {
    let house = House::open(&[("ana", "qa"), ("lea", "leads"), ("oli", "oncall")], "", &[]).await;
    let gate = &house.gate;
    let write = house.asked("ana", "read-write").await;
    house.step("lea", &write, "approve").await.good();
    let ran = |who: &str, profile: &str, mark: &str| said(house.psql(who, profile, &format!("SELECT 1 /*{mark}*/")));
    assert_eq!(ran("ana", "read-only", "read").await.code, Some(0));
    assert_eq!(ran("ana", "read-write", "write").await.code, Some(0));
    let wish = json!({"target": "shop", "profile": "read-only", "window_seconds": 600, "reason": "INC-77", "break_glass": true});
    let glass = id(&house.call("oli", "POST", "/v1/requests", &wish).await.good());
    assert_eq!(ran("oli", "read-only", "glass").await.code, Some(0));
    eventually("all sessions have ended", async || {
        let ends = records(gate)
            .iter()
            .filter(|record| record["event"] == "session_ended")
            .count();
        (ends == 3).then_some(())
    })
    .await;

    let asked = |conditions: &str| found(gate, &conditions.split(' ').collect::<Vec<_>>());
    for (conditions, expected) in [
        ("--profile read-only", "glass read"),
        ("--profile read-write", "write"),
        ("--target shop/read-write", "write"),
        ("--target shop/migrate", ""),
        ("--break-glass", "glass"),
        ("--break-glass --profile read-write", ""),
        ("--break-glass --target shop/read-only --identity oli", "glass"),
        ("--profile read-only --identity ana --text SELECT", "read"),
        ("--profile read-only --min-rows 1 --last 2", "glass"),
    ] {
        let found = marks(&asked(conditions));
        assert_eq!(found.into_iter().collect::<Vec<_>>().join(" "), expected, "{conditions}");
    }
    // Its request and its grant are among it, and of the others nothing is.
    let broken = asked("--break-glass");
    assert!(broken.iter().all(|record| record["identity"] == "oli"), "{broken:?}");
    for event in ["request_changed", "grant_changed", "session_started", "session_ended"] {
        assert!(broken.iter().any(|record| record["event"] == event), "{event}: {broken:?}");
    }
    assert!(broken.iter().any(|record| record["request"] == glass.as_str()));
    // Each record says under which profile it happened.
    let of_write = asked("--target shop/read-write --event statement");
    assert_eq!(of_write[0]["profile"], "read-write", "{of_write:?}");
    let table = told(gate, &["log", "--identity", "oli", "--event", "statement"]);
    assert!(table.contains("  shop/read-only  "), "{table}");
    let csv = told(gate, &["log", "--event", "outcome", "--output", "csv"]);
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    let place = rows
        .headers()
        .expect("a header")
        .iter()
        .position(|name| name == "profile")
        .expect("a column");
    let mut profiles: Vec<_> = rows.records().map(|row| row.expect("a row")[place].to_owned()).collect();
    profiles.sort();
    assert_eq!(profiles, ["read-only", "read-only", "read-write"]);
    let refused = gate
        .command(&["log", "--target", "shop/read-only", "--profile", "read-write"])
        .expect("the command");
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("read-write"),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_those_of_the_reader_and_said_to_be() {
    let gate = gate();
    let login = grant(&gate, "10m");
    session(&gate, &login, None, &[&query("SELECT 1 FROM customers")]).await;
    let over = ended(&gate, &login.grant).await;
    let utc: jiff::Timestamp = over["time"].as_str().and_then(|time| time.parse().ok()).expect("a time");
    // Without a database of zones: an offset that nobody else has.
    let there = |arguments: &[&str]| -> String {
        let output = gate.operator(arguments).env("TZ", "XYZ-5:45").output().expect("the command");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let offset = jiff::tz::Offset::from_seconds(5 * 3_600 + 45 * 60).expect("an offset");
    let local = format!("{}+05:45", offset.to_datetime(utc).strftime("%Y-%m-%d %H:%M:%S%.3f"));
    let zulu = format!("{}Z", utc.strftime("%Y-%m-%d %H:%M:%S%.3f"));
    let of_end = ["log", "--event", "session_ended", "--grant", &*login.grant];
    assert!(there(&of_end).starts_with(&local), "{}", there(&of_end));
    assert!(there(&[&of_end[..], &["--utc"]].concat()).starts_with(&zulu));
    let session = over["session"].as_str().expect("an id");
    assert!(there(&["log", "session", session]).contains(&format!("{local}  session_ended")));
    let touched = there(&["log", "who-touched", "customers"]);
    assert!(touched.contains("+05:45"), "{touched}");
    assert!(there(&["grant", "list", "--all"]).lines().count() > 1);
    assert!(there(&["grant", "show", &*login.grant]).contains("+05:45"));
    // Files and scripts have UTC.
    for form in ["json", "csv"] {
        let text = there(&[&of_end[..], &["--output", form]].concat());
        assert!(
            text.contains(over["time"].as_str().expect("a time")) || text.contains(&utc.to_string()),
            "{form}: {text}"
        );
        assert!(!text.contains("+05:45"), "{form}: {text}");
    }
    let report = there(&["audit", "report", "--since", "1h"]);
    assert!(report.contains("+05:45") && report.contains(&*login.grant), "{report}");
    // What is written without a zone is meant in the reader's: this is what the log has just shown.
    let shown = local.trim_end_matches("+05:45");
    assert_eq!(there(&[&of_end[..], &["--since", shown]].concat()).lines().count(), 1);
    assert_eq!(there(&[&of_end[..], &["--since", shown, "--utc"]].concat()), "");
    assert_eq!(there(&[&of_end[..], &["--until", shown]].concat()), "");
    let refused = gate.command(&["log", "--since", "last teusday"]).expect("the command");
    assert_eq!(refused.status.code(), Some(2));
    let text = String::from_utf8_lossy(&refused.stderr);
    for words in ["`last teusday`", "`teusday` is not a weekday", "last tuesday"] {
        assert!(text.contains(words), "{text}");
    }
}

/// A command of somebody on another machine: nothing of the gate's is there.
fn elsewhere(gate: &TestGate, token: &str, arguments: &[&str]) -> Output {
    let token = Secret::new(token.to_owned());
    let mut command: Command = gate.command_of(&token, arguments);
    let nowhere = gate.folder().join("no-such.toml");
    command.env("TIDEGATE_CONFIG", nowhere).output().expect("the command")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_verified_and_reported_from_another_machine() {
    let people = [("ana", "qa"), ("aud", "auditors")];
    let house = House::open(&people, "[audit]\nsegment_bytes = 65536\n", &[]).await;
    let gate = &house.gate;
    for _ in 0..3 {
        let sql = format!("SELECT id FROM customers LIMIT 3 /*{}*/", "x".repeat(60_000));
        assert_eq!(said(house.psql("ana", "read-only", &sql)).await.code, Some(0));
    }
    let (ana, aud) = (house.token("ana"), house.token("aud"));
    let key = gate.folder().join("state/audit-key.pub");
    let kept = gate.folder().join("kept.json");
    std::fs::write(&kept, told(gate, &["audit", "checkpoint"])).expect("kept");
    let with_key = ["--key", key.to_str().expect("UTF-8")];

    let output = elsewhere(gate, aud, &[&["audit", "verify"][..], &with_key].concat());
    let said_of_it = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for words in [
        "The log is whole.",
        "compared with the ledger (line ",
        "the checkpoint beside the log (line ",
        "came from the gate at unix:",
    ] {
        assert!(said_of_it.contains(words), "{words}: {said_of_it}");
    }
    // Against what was kept elsewhere, which the answer names, too; without a key it says that it proves little.
    let since = [
        "audit",
        "verify",
        "--since",
        kept.to_str().expect("UTF-8"),
        "--output",
        "json",
    ];
    let output = elsewhere(gate, aud, &since);
    let verdict: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (output.status.code(), &verdict["whole"]),
        (Some(0), &json!(true)),
        "{output:?}"
    );
    let sources: Vec<_> = verdict["held_against"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|held| &held["source"])
        .collect();
    // The ledger's is among them if it is not in what the given one spares.
    assert!(sources[0] == "given" && sources.contains(&&json!("beside")), "{sources:?}");
    assert_eq!(verdict["key_from"], Value::Null);

    // The report is the same as the one that is made beside the log.
    let out = gate.folder().join("july");
    let report = ["audit", "report", "--since", "1h", "--out", out.to_str().expect("UTF-8")];
    let output = elsewhere(gate, aud, &[&report[..], &with_key].concat());
    assert!(output.status.success(), "{output:?}");
    let grants = std::fs::read_to_string(out.join("grants.csv")).expect("a sheet");
    assert!(grants.contains("ana") && grants.contains("read-only"), "{grants}");
    let page = std::fs::read_to_string(out.join("report.html")).expect("a page");
    assert!(
        page.contains("the log is whole") && page.contains("came from the gate at unix:"),
        "{page}"
    );

    // Who may not read the log gets nothing of it.
    for arguments in [&["audit", "verify"][..], &report] {
        let refused = elsewhere(gate, ana, arguments);
        let text = String::from_utf8_lossy(&refused.stderr);
        assert!(
            !refused.status.success() && text.contains("no policy lets you read the audit log"),
            "{text}"
        );
    }
    let answer = house.call("ana", "GET", "/v1/audit/files", &Value::Null).await;
    assert_eq!(answer.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_changed_is_found_out_from_another_machine() {
    let house = House::open(&[("aud", "auditors"), ("ana", "qa")], "", &[]).await;
    let gate = &house.gate;
    assert_eq!(said(house.psql("ana", "read-only", "SELECT 1")).await.code, Some(0));
    let file = gate.audit_folder().join("audit-000001.jsonl");
    let text = std::fs::read_to_string(&file).expect("the log");
    // In place, for the gate goes on writing.
    let changed = text.replacen("\"ana\"", "\"eve\"", 1);
    let at = text.find("\"ana\"").expect("her name");
    let open = std::fs::OpenOptions::new().write(true).open(&file).expect("the log");
    open.write_all_at(&changed.as_bytes()[at..at + 5], at as u64)
        .expect("changed");
    let output = elsewhere(gate, house.token("aud"), &["audit", "verify"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said.starts_with("NOT WHOLE: audit-000001.jsonl, line "), "{said}");
}
