//! The log is proven by command line: while the gate runs, on copies, against a checkpoint kept elsewhere; and its key changes.

use std::fs;
use std::path::Path;

use tidegate::demo::testkit::TestGate;

use crate::support::{
    ANA, Numbers, Raw, TARGET, audit, binary, counted, database, eventually, gate, gate_with, grant, proven, records,
};

fn copied(gate: &TestGate) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(gate.audit_folder()).expect("the log") {
        let entry = entry.expect("a file");
        fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("a copy");
    }
    copy
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_proven_while_it_is_written_rolled_and_packed() {
    let numbers = Numbers::into("proven_numbers").await;
    let gate = gate_with("[audit]\nsegment_bytes = 65536\n");
    let login = grant(&gate, "10m");
    let writers = numbers.write(&gate, &login).await;
    let mut packed = 0;
    for _ in 0..500 {
        if packed >= 3 {
            break;
        }
        let verdict = proven(&gate);
        assert!(
            verdict["key_from"].as_str().expect("a key").contains("audit-key.pub"),
            "{verdict}"
        );
        let names = fs::read_dir(gate.audit_folder()).expect("the log");
        packed = names
            .filter(|file| {
                file.as_ref()
                    .expect("a file")
                    .path()
                    .extension()
                    .is_some_and(|it| it == "zst")
            })
            .count();
        assert!(writers.iter().all(|writer| !writer.is_finished()));
    }
    assert!(packed >= 3, "closed segments are packed");
    gate.terminate().expect("SIGTERM");
    for writer in writers {
        writer.await.expect("a writer");
    }
    eventually("it is gone", async || gate.ended().then_some(())).await;
    // A log that was closed in order is signed to its last line.
    let verdict = proven(&gate);
    assert_eq!(verdict["proven"], verdict["last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_or_cut_in_a_copy_is_found() {
    let gate = gate();
    let login = grant(&gate, "10m");
    let mut session = Raw::session(&gate, &login).await;
    session.query("SELECT 'the statement that somebody wants to be gone'").await;
    session.until(b'Z').await;
    let kept = gate.folder().join("kept.json");
    let line = gate.command(&["audit", "checkpoint"]).expect("a checkpoint");
    fs::write(&kept, line.stdout).expect("kept");
    let key = gate.folder().join("kept.pub");
    fs::write(&key, gate.command(&["audit", "key"]).expect("the key").stdout).expect("kept");
    session.query("SELECT 'and on'").await;
    session.until(b'Z').await;
    let copy = copied(&gate);
    let file = copy.path().join("audit-000001.jsonl");
    let verify = |more: &[&str]| audit(&gate, &[&["verify", text(copy.path()), "--key", text(&key)], more].concat());
    let since = ["--checkpoint", text(&kept)];
    let (code, verdict) = verify(&since);
    assert_eq!(code, Some(0), "{verdict:#}");

    let whole = fs::read_to_string(&file).expect("the copy");
    fs::write(&file, whole.replace("wants to be gone", "wants to be seen")).expect("changed");
    let (code, verdict) = verify(&[]);
    let line = 1 + whole
        .lines()
        .position(|line| line.contains("wants to be gone"))
        .expect("on record");
    assert_eq!((code, &verdict["flaw"]["line"]), (Some(1), &line.into()), "{verdict:#}");
    // Cut to before the checkpoint, with whatever would tell so in the copy itself.
    let cut: Vec<_> = whole.lines().take(line - 1).collect();
    fs::write(&file, cut.join("\n") + "\n").expect("cut");
    let _ = fs::remove_file(copy.path().join("checkpoint.json"));
    assert_eq!(verify(&[]).0, Some(0), "nobody can tell");
    let (code, verdict) = verify(&since);
    assert_eq!(
        (code, &verdict["flaw"]["flaw"]),
        (Some(1), &"truncated".into()),
        "{verdict:#}"
    );
}

/// A folder that is another gate's, a key that is, a segment of its log among these, a line that is half there.
#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_elsewhere_or_is_half_there_is_named() {
    let (gate, other) = (gate(), gate());
    let kept = gate.folder().join("kept.json");
    for gate in [&gate, &other] {
        // A line of a session between two checkpoints.
        gate.command(&["audit", "checkpoint"]).expect("a checkpoint");
        let mut session = Raw::session(gate, &grant(gate, "10m")).await;
        session.query("SELECT 'half there'").await;
        session.until(b'Z').await;
    }
    fs::write(&kept, gate.command(&["audit", "checkpoint"]).expect("a checkpoint").stdout).expect("kept");
    let shared = format!(
        "{}[audit]\ndir = \"{}\"\n",
        database().shop.target_table(TARGET, ""),
        text(&gate.audit_folder())
    );
    let refused = TestGate::start(binary(), &shared, &[database().shop.password_file()]).expect_err("not a second one");
    let words = format!("the audit log at {} is in use by another gate", text(&gate.audit_folder()));
    assert!(refused.to_string().contains(&words), "{refused}");

    let copy = copied(&gate);
    let (first, second) = (copy.path().join("audit-000001.jsonl"), copy.path().join("audit-000002.jsonl"));
    // Without a key it is the one configured here; named, it has to be the right one.
    let key_of = |gate: &TestGate| gate.folder().join("state/audit-key.pub");
    let verify = |key: &Path, more: &[&str]| audit(&gate, &[&["verify", text(copy.path()), "--key", text(key)], more].concat());
    let (code, verdict) = audit(&gate, &["verify", text(copy.path())]);
    assert_eq!((code, &verdict["key_given"]), (Some(0), &true.into()), "{verdict:#}");
    let (code, verdict) = verify(&key_of(&other), &[]);
    assert_eq!(
        (code, &verdict["flaw"]["flaw"]),
        (Some(1), &"wrong_key".into()),
        "{verdict:#}"
    );
    fs::copy(other.audit_folder().join("audit-000001.jsonl"), &second).expect("another log's segment");
    let (code, verdict) = verify(&key_of(&gate), &[]);
    let reason = verdict["reason"].as_str().unwrap_or_default();
    assert!(code == Some(1) && reason.contains("audit-000002.jsonl"), "{verdict:#}");
    fs::remove_file(&second).expect("removed");
    // A line that is half there is where the writing stopped, or, against a checkpoint kept elsewhere, what is missing.
    let whole = fs::read_to_string(&first).expect("the copy");
    fs::write(&first, &whole[..whole.find("half there").expect("on record")]).expect("cut");
    let _ = fs::remove_file(copy.path().join("checkpoint.json"));
    let (code, verdict) = verify(&key_of(&gate), &[]);
    assert_eq!(code, Some(0), "{verdict:#}");
    assert!(verdict["remarks"].to_string().contains("an incomplete line"), "{verdict:#}");
    let (code, verdict) = verify(&key_of(&gate), &["--checkpoint", text(&kept)]);
    assert_eq!(
        (code, &verdict["flaw"]["flaw"]),
        (Some(1), &"truncated".into()),
        "{verdict:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_changes_while_the_gate_runs_and_a_kill_afterwards_changes_nothing() {
    let mut gate = gate();
    let key = gate.folder().join("first.pub");
    fs::write(&key, gate.command(&["audit", "key"]).expect("the key").stdout).expect("kept");
    let login = grant(&gate, "10m");
    let mut session = Raw::session(&gate, &login).await;
    session.query("SELECT 'before'").await;
    session.until(b'Z').await;
    let (code, rotated) = audit(&gate, &["rotate-key"]);
    assert_eq!(code, Some(0), "{rotated}");
    session.query("SELECT 'after'").await;
    session.until(b'Z').await;
    gate.kill().expect("kill -9");
    eventually("it is dead", async || gate.ended().then_some(())).await;
    gate.start_again().expect("a gate");
    for more in [&[][..], &["--key", text(&key)]] {
        let (code, verdict) = audit(&gate, &[&["verify"], more].concat());
        assert_eq!(code, Some(0), "{verdict:#}");
        let keys = verdict["keys"].as_array().expect("keys");
        assert_eq!((keys.len(), &keys[1]), (2, &rotated["id"]), "{verdict:#}");
    }
    let changed = records(&gate).into_iter().find(|record| record["event"] == "key_changed");
    assert_eq!(changed.expect("on record")["vouched"], true);
}

/// Prints how many syncs a statement costs with durability `power` and 64 clients.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, not a test"]
async fn with_power_many_sessions_share_a_sync() {
    let numbers = Numbers::into("power_numbers").await;
    let gate = gate_with("[audit]\ndurability = \"power\"\n");
    let login = gate.grant(ANA, TARGET, "10m", &["--max-sessions", "64"]).expect("a grant");
    let writers = numbers.write_at_once(&gate, &login, 64).await;
    let syncs = || counted(&gate, "tidegate_audit_syncs_total");
    let (before, sent) = (syncs(), numbers.sent());
    eventually("they write", async || (numbers.sent() > sent + 10_000).then_some(())).await;
    let statements = f64::from(u32::try_from(numbers.sent() - sent).expect("few"));
    let shared = (syncs() - before) / statements;
    gate.kill().expect("kill -9");
    for writer in writers {
        writer.await.expect("a writer");
    }
    println!("power, 64 clients: {shared:.4} syncs per statement");
    assert!(shared < 0.1, "{shared}");
}
