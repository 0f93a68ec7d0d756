//! A disk that fails the log, again and again: what is refused is told so, what ran is on record, readiness follows, and all heals
//! without anybody's help. Where the tests may mount, as root; elsewhere they say that they are skipped.

use std::fs;
use std::path::Path;

use tidegate::demo::testkit::TestGate;

use crate::support::{
    ANA, Numbers, Raw, ReadOnly, SmallDisk, Unkept, WRITERS, audit, binary, database, eventually, grant, proven, ready, records,
    trials,
};

fn gate_logging_to(folder: &Path) -> TestGate {
    gate_with(folder, "segment_bytes = 65536\n")
}

fn gate_with(folder: &Path, settings: &str) -> TestGate {
    let audit = format!("[audit]\ndir = \"{}\"\n{settings}", folder.display());
    let config = database().shop.target_table("shop", "") + &audit;
    let gate = TestGate::start(binary(), &config, &[database().shop.password_file()]).expect("a gate");
    // The folder of the records is not the usual one: it is linked there for the tests' eyes.
    std::os::unix::fs::symlink(folder, gate.audit_folder()).expect("a link");
    gate
}

/// A segment that was packed meanwhile has made room once more: so the disk is failed again, and somebody asks for a record.
async fn unready(gate: &TestGate, why: &[(&str, &str)], fail: impl Fn()) {
    let answer = eventually("it is not ready", async || {
        fail();
        let _ = gate.grant(ANA, "shop", "10m", &[]);
        let answer = ready(gate);
        answer.starts_with("HTTP/1.1 503").then_some(answer)
    })
    .await;
    assert!(why.iter().any(|(_, words)| answer.contains(words)), "{answer}");
}

async fn ready_again(gate: &TestGate) {
    eventually("it is ready", async || ready(gate).starts_with("HTTP/1.1 200").then_some(())).await;
}

const FULL: (&str, &str) = ("53100", "full");
const FAILED: (&str, &str) = ("58030", "cannot be written");

/// Writers write; the disk is taken from the log, and all are refused for one of these reasons; it is given back.
async fn trial(gate: &TestGate, numbers: &Numbers, round: u64, why: &[(&str, &str)], disk: &impl Faulty) {
    let login = eventually("a grant can be made", async || gate.grant(ANA, "shop", "10m", &[]).ok()).await;
    let begun = numbers.sent();
    let writers = numbers.write(gate, &login).await;
    let some = 60 + 17 * (round % 11);
    eventually("they write", async || (numbers.sent() > begun + some).then_some(())).await;
    disk.fail();
    for writer in writers {
        let told = writer.await.expect("a writer").expect("told why");
        assert!(why.iter().any(|(code, _)| *code == told.code), "{told:?}");
        told.says("FATAL", &told.code, &["nothing was run", "could not be put on record"]);
    }
    unready(gate, why, || disk.fail()).await;
    disk.heal();
    ready_again(gate).await;
}

trait Faulty {
    /// Takes the disk from the log; again makes no difference.
    fn fail(&self);
    fn heal(&self);
}

impl Faulty for SmallDisk {
    fn fail(&self) {
        self.fill();
    }

    fn heal(&self) {
        self.clear();
    }
}

impl Faulty for ReadOnly {
    fn fail(&self) {
        self.mount();
    }

    fn heal(&self) {
        self.umount();
    }
}

/// `TIDEGATE_DISKS` sets how often.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_ran_is_on_record_however_often_the_disk_is_full() {
    let Some(disk) = SmallDisk::mount("32m") else { return };
    let numbers = Numbers::into("full_disk_numbers").await;
    let gate = gate_logging_to(&disk.folder("audit"));
    let rounds = trials("TIDEGATE_DISKS", 5);
    for round in 0..rounds {
        trial(&gate, &numbers, round, &[FULL], &disk).await;
        proven(&gate);
    }
    let count = |key: &str, value: &str| records(&gate).iter().filter(|record| record[key] == value).count() as u64;
    eventually("every session's end is on record", async || {
        (count("ending", "audit_failed") == rounds * u64::from(WRITERS)).then_some(())
    })
    .await;
    assert!(count("fault", "disk_full") >= rounds, "each time is on record");
    let said = numbers.all_on_record(&gate).await;
    println!("{rounds} times a full disk: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_file_system_that_can_only_be_read_no_statement_runs() {
    let Some(disk) = SmallDisk::mount("32m") else { return };
    let numbers = Numbers::into("read_only_numbers").await;
    let folder = disk.folder("audit");
    let gate = gate_logging_to(&folder);
    let cover = ReadOnly::over(&folder);
    for round in 0..trials("TIDEGATE_DISKS", 5).min(20) {
        trial(&gate, &numbers, round, &[FAILED], &cover).await;
        proven(&gate);
    }
    println!("read-only: {}", numbers.all_on_record(&gate).await);
}

impl Faulty for Unkept {
    fn fail(&self) {
        self.fill();
    }

    fn heal(&self) {
        self.clear();
    }
}

/// The write was well and the sync behind it was not: no statement has run on such a record, and none that ran before is lost.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_disk_did_not_keep_was_not_run() {
    let Some(disk) = Unkept::mount() else { return };
    let numbers = Numbers::into("unkept_numbers").await;
    let gate = gate_with(&disk.folder("audit"), "durability = \"power\"\n");
    let rounds = trials("TIDEGATE_DISKS", 5);
    for round in 0..rounds {
        trial(&gate, &numbers, round, &[FULL, FAILED], &disk).await;
        proven(&gate);
    }
    let begun = records(&gate)
        .iter()
        .filter(|record| record["event"] == "segment_began")
        .count() as u64;
    assert!(
        begun > rounds,
        "behind a sync that failed nothing is written: {begun} segments"
    );
    println!(
        "{rounds} times a disk that did not keep: {}",
        numbers.all_on_record(&gate).await
    );
}

/// The records that were deleted are gone, and the proof says so; what runs from then on is on record.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_deleted_is_missed_and_begun_anew() {
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join("audit");
    let gate = gate_logging_to(&folder);
    let login = grant(&gate, "10m");
    let mut session = Raw::session(&gate, &login).await;
    session.query("SELECT 'before'").await;
    session.until(b'Z').await;
    fs::remove_dir_all(&folder).expect("removed");
    // The gate looks after its file several times a second.
    let lost = eventually("it is noticed", async || {
        session.query("SELECT 'after'").await;
        session.until(b'Z').await;
        let there = folder.join("audit-000002.jsonl").exists();
        there
            .then(|| records(&gate).into_iter().find(|record| record["fault"] == "file_lost"))
            .flatten()
    })
    .await;
    assert_eq!(lost["event"], "journal_healed");
    assert!(ready(&gate).starts_with("HTTP/1.1 200"));
    session.query("SELECT 'still on record'").await;
    session.until(b'Z').await;
    assert!(
        records(&gate)
            .iter()
            .any(|record| record["sql"]["text"] == "SELECT 'still on record'")
    );
    let (code, verdict) = audit(&gate, &["verify"]);
    assert_eq!((code, &verdict["flaw"]["flaw"]), (Some(1), &"missing".into()), "{verdict:#}");
    assert_eq!((&verdict["flaw"]["first"], &verdict["flaw"]["last"]), (&1.into(), &1.into()));
}
