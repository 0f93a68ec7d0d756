//! A log that is not what was written before: what a start, `audit verify` and a report say of it; and a log folder that somebody made
//! to take all memory of who reads it.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tidegate::demo::testkit::TestGate;

use crate::support::{audit, binary, counted, eventually, gate, grant, records};

async fn stopped(gate: &TestGate) {
    gate.terminate().expect("SIGTERM");
    eventually("it is gone", async || gate.ended().then_some(())).await;
}

/// The first record that the present run has written.
fn first_of_run(gate: &TestGate, before: u64) -> Value {
    let framing = |record: &&Value| !matches!(record["event"].as_str(), Some("segment_began" | "checkpoint"));
    let all = records(gate);
    let found = all
        .iter()
        .filter(framing)
        .find(|record| record["seq"].as_u64() > Some(before));
    found.expect("a record").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_vanished_while_the_gate_was_down_is_the_first_thing_on_record_and_told_for_ever() {
    let mut gate = gate();
    grant(&gate, "10m");
    let old = records(&gate)[0]["log"].clone();
    let (code, verdict) = audit(&gate, &["verify"]);
    assert_eq!(code, Some(0), "{verdict}");
    let sources: Vec<&str> = verdict["held_against"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|held| held["source"].as_str().expect("a source"))
        .collect();
    assert!(sources.contains(&"beside"), "{verdict}");
    assert!(gate_counts(&gate, 0.0));
    stopped(&gate).await;
    fs::remove_dir_all(gate.audit_folder()).expect("the log is taken away");
    let (code, verdict) = audit(&gate, &["verify"]);
    assert_ne!(code, Some(0), "{verdict}");
    gate.start_again().expect("it starts");
    let first = first_of_run(&gate, 0);
    assert_eq!(
        (&first["event"], &first["fault"]),
        (&"journal_healed".into(), &"log_missing".into())
    );
    assert!(
        first["detail"]
            .as_str()
            .expect("words")
            .contains(old.as_str().expect("an id")),
        "{first}"
    );
    assert!(gate_counts(&gate, 1.0));
    assert!(
        gate.log().contains("the audit log is incomplete or was changed"),
        "{}",
        gate.log()
    );
    for _ in 0..2 {
        let (code, verdict) = audit(&gate, &["verify"]);
        assert_eq!(code, Some(1), "{verdict}");
        assert_eq!(verdict["flaw"]["flaw"], "gap", "{verdict}");
        assert_eq!(verdict["flaw"]["fault"], "log_missing", "{verdict}");
        let report = gate.folder().join("report");
        let made = gate
            .command(&["audit", "report", "--since", "1d", "--out", report.to_str().expect("UTF-8")])
            .expect("a report");
        assert!(!made.status.success());
        let page = fs::read_to_string(report.join("report.html")).expect("a page");
        assert!(page.contains("the previous log is missing"), "{page}");
        stopped(&gate).await;
        gate.start_again().expect("it starts again");
    }
    // It is told once: the next starts found the log as they had left it.
    let told_of = records(&gate)
        .iter()
        .filter(|record| record["fault"] == "log_missing")
        .count();
    assert_eq!(told_of, 1);
    assert!(gate_counts(&gate, 0.0));
    // Who has understood it goes on from there.
    let kept = gate.folder().join("kept.json");
    fs::write(&kept, gate.command(&["audit", "checkpoint"]).expect("a checkpoint").stdout).expect("kept");
    let (code, verdict) = audit(&gate, &["verify", "--checkpoint", kept.to_str().expect("UTF-8")]);
    assert_eq!(code, Some(0), "{verdict}");
}

fn gate_counts(gate: &TestGate, gaps: f64) -> bool {
    (counted(gate, "tidegate_audit_gap") - gaps).abs() < 0.5
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_cut_with_the_checkpoint_rewound_are_missed_by_the_ledger() {
    let mut gate = gate();
    for _ in 0..5 {
        grant(&gate, "10m");
    }
    stopped(&gate).await;
    let file = gate.audit_folder().join("audit-000001.jsonl");
    let text = fs::read_to_string(&file).expect("the log");
    let lines: Vec<&str> = text.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.contains("\"event\":\"checkpoint\""))
        .expect("a checkpoint");
    fs::write(&file, lines[..=at].join("\n") + "\n").expect("cut");
    fs::write(gate.audit_folder().join("checkpoint.json"), lines[at]).expect("rewound");
    // A copy of it elsewhere looks whole; here the ledger knows better, as it does where it is named.
    let copy = tempfile::tempdir().expect("a folder");
    for name in ["audit-000001.jsonl", "checkpoint.json"] {
        fs::copy(gate.audit_folder().join(name), copy.path().join(name)).expect("a copy");
    }
    let there = copy.path().to_str().expect("UTF-8");
    assert_eq!(audit(&gate, &["verify", there]).0, Some(0));
    let ledger = gate.folder().join("state/ledger.sqlite");
    for arguments in [
        vec!["verify"],
        vec!["verify", there, "--ledger", ledger.to_str().expect("UTF-8")],
    ] {
        let (code, verdict) = audit(&gate, &arguments);
        assert_eq!((code, &verdict["flaw"]["flaw"]), (Some(1), &"truncated".into()), "{verdict}");
        assert_eq!(verdict["flaw"]["held_against"], "ledger", "{verdict}");
    }
    gate.start_again().expect("it starts");
    let first = first_of_run(&gate, at as u64 + 1);
    assert_eq!(first["fault"], "lines_missing", "{first}");
    stopped(&gate).await;
    // The ledger without a word while the log is there.
    for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let _ = fs::remove_file(gate.folder().join("state").join(name));
    }
    let before = records(&gate).last().expect("a record")["seq"].as_u64().expect("a number");
    gate.start_again().expect("it starts");
    let first = first_of_run(&gate, before);
    assert_eq!(first["fault"], "ledger_missing", "{first}");
}

/// Runs the program with so much memory to use (`ulimit -v`), in megabytes.
fn confined(folder: &Path, megabytes: u64, arguments: &[&str]) -> Output {
    let script = format!("ulimit -v {}; exec \"$0\" \"$@\"", megabytes * 1024);
    // One arena of malloc for each thread would be most of it.
    Command::new("sh")
        .args(["-c", &script])
        .arg(binary())
        .args(arguments)
        .env("MALLOC_ARENA_MAX", "2")
        .current_dir(folder)
        .output()
        .expect("it runs")
}

/// Writes a packed segment in many frames, each of so many bytes of one line that does not end.
fn endless_line(path: &Path, megabytes: usize) {
    let piece = zstd::bulk::compress(&vec![b'x'; 1 << 20], 1).expect("packed");
    let mut file = fs::File::create(path).expect("a file");
    for _ in 0..megabytes {
        file.write_all(&piece).expect("written");
    }
}

/// A summary with a right checksum whose sets have no end.
fn endless_summary() -> String {
    let content = r#"{"version":1,"summary":"#.to_owned() + &"[".repeat(1 << 20);
    data_encoding::HEXLOWER.encode(&Sha256::digest(&content)) + &content
}

#[test]
fn a_log_made_to_take_all_memory_takes_little() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("log");
    fs::create_dir(&log).expect("a folder");
    endless_line(&log.join("audit-000001.jsonl.zst"), 3000);
    let head = r#"{"v":2,"seq":1,"time":"2026-11-23T09:05:07.000042Z","event":"statement","sql":{"text":""}"#;
    let many = format!("{head},\"x\":[{}0]}}\n", "0,".repeat(20 << 20));
    fs::write(
        log.join("audit-000002.jsonl.zst"),
        zstd::bulk::compress(many.as_bytes(), 1).expect("packed"),
    )
    .expect("written");
    let small = zstd::bulk::compress(b"{}\n", 1).expect("packed");
    fs::write(log.join("audit-000003.jsonl.zst"), &small).expect("written");
    fs::write(log.join("audit-000003.summary"), endless_summary()).expect("written");
    fs::write(log.join("audit-000004.jsonl"), vec![b'y'; 200 << 20]).expect("written");
    let place = log.to_str().expect("UTF-8");
    for arguments in [
        vec!["audit", "verify", place],
        vec!["log", "--dir", place],
        vec!["log", "--dir", place, "--text", "orders", "--sqlstate", "42"],
        vec!["audit", "report", "--since", "1d", "--dir", place],
    ] {
        let said = confined(dir.path(), 1200, &arguments);
        let text = String::from_utf8_lossy(&said.stderr);
        assert!(
            said.status.code().is_some_and(|code| code <= 3),
            "{arguments:?}: {:?} {text}",
            said.status
        );
        assert!(!text.contains("memory"), "{arguments:?}: {text}");
    }
}
