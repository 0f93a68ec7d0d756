//! A log that cannot be written: the statement does not run, its client is told, the gate says it is not ready, and all heals by
//! itself. The disk is really full: a tmpfs, where the tests run as root; else a folder that is gone.

use std::fs;
use std::path::Path;

use tidegate::demo::testkit::TestGate;

use crate::support::{Raw, SmallDisk, Told, binary, count, database, eventually, grant, ready, records, records_of};

/// Sends statements until one is refused.
async fn refused_statement(session: &mut Raw) -> Told {
    eventually("a statement is refused", async || {
        session.query("SELECT 1").await;
        while let Some(frame) = session.frame().await {
            match frame.kind {
                b'Z' => return None,
                b'E' => return Some(Told::read(&frame.body)),
                _ => {}
            }
        }
        panic!("closed without a word")
    })
    .await
}

fn gate_logging_to(folder: &Path) -> TestGate {
    let audit = format!("[audit]\ndir = \"{}\"\n", folder.display());
    let config = database().shop.target_table("shop", "") + &audit;
    TestGate::start(binary(), &config, &[database().shop.password_file()]).expect("a gate")
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_no_statement_runs_until_there_is_room() {
    let Some(disk) = SmallDisk::mount("128k") else { return };
    database()
        .server
        .batch("shop", "SET ROLE shop_app; CREATE TABLE unlogged (n integer)")
        .await
        .expect("a table");
    let gate = gate_logging_to(&disk.folder("audit"));
    // The folder of the records is not the usual one: it is linked there for the tests' eyes.
    std::os::unix::fs::symlink(disk.folder("audit"), gate.audit_folder()).expect("a link");
    let login = grant(&gate, "10m");
    let mut simple = Raw::session(&gate, &login).await;
    let mut extended = Raw::session(&gate, &login).await;
    let mut asleep = Raw::session(&gate, &login).await;
    assert!(ready(&gate).starts_with("HTTP/1.1 200"));
    asleep.query("SELECT pg_sleep(1.5), 'slept'").await;
    eventually("it is on record", async || records_of(&gate, &login.grant, "statement").pop()).await;
    disk.fill();
    // The file's last page still has room for some.
    let mut filler = Raw::session(&gate, &login).await;
    refused_statement(&mut filler)
        .await
        .says("FATAL", "53100", &["nothing was run"]);

    // Longer than whatever is left now.
    let long = format!("/* {} */", "x".repeat(9000));
    simple.query(&format!("INSERT INTO unlogged VALUES (1) {long}")).await;
    let (told, before) = simple.last_word().await;
    told.says(
        "FATAL",
        "53100",
        &[
            "nothing was run",
            "could not be put on record",
            "disk of the audit log is full",
            "operator",
        ],
    );
    assert_eq!(before, 0);
    extended
        .write(|out| {
            use postgres_protocol::message::frontend;
            frontend::parse("", &format!("INSERT INTO unlogged VALUES (2) {long}"), [], out).expect("parse");
            frontend::bind("", "", [], [(); 0], |(), _| unreachable!(), [], out)
                .map_err(|_| ())
                .expect("bind");
            frontend::execute("", 0, out).expect("execute");
            frontend::sync(out);
        })
        .await;
    extended.last_word().await.0.says("FATAL", "53100", &["nothing was run"]);
    assert_eq!(count(database(), "unlogged").await, 0);
    let unready = eventually("it is not ready", async || {
        let answer = ready(&gate);
        answer.starts_with("HTTP/1.1 503").then_some(answer)
    })
    .await;
    assert!(unready.contains("full"), "{unready}");
    // Nor is anybody let in, or a grant made.
    Raw::refused(&gate, &login).await.says("FATAL", "53100", &["record"]);
    assert!(gate.grant("ben@example.com", "shop", "10m", &[]).is_err());
    // What ran already is not ended by it.
    let row = asleep.until(b'D').await;
    assert!(row.body.ends_with(b"slept"));
    asleep.until(b'Z').await;

    disk.clear();
    // The next who comes in finds it healed; nobody has to be told.
    let mut again = eventually("somebody is let in", async || Raw::login(&gate, &login).await.ok()).await;
    again.query("INSERT INTO unlogged VALUES (3)").await;
    again.until(b'Z').await;
    asleep.query("SELECT 'and on'").await;
    asleep.until(b'Z').await;
    eventually("it is ready", async || ready(&gate).starts_with("HTTP/1.1 200").then_some(())).await;
    assert_eq!(count(database(), "unlogged").await, 1);
    let all = eventually("the ends are on record too", async || {
        let all = records(&gate);
        (all.iter()
            .filter(|record| record["ending"] == "audit_failed" && record["event"] == "session_ended")
            .count()
            == 3)
            .then_some(all)
    })
    .await;
    let healed = all
        .iter()
        .find(|record| record["event"] == "journal_healed")
        .expect("the fault is on record");
    assert_eq!(healed["fault"], "disk_full", "{healed}");
    let numbers: Vec<_> = all.iter().filter_map(|record| record["seq"].as_u64()).collect();
    assert!(
        numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "without a gap: {numbers:?}"
    );
    let texts: Vec<_> = all.iter().filter_map(|record| record["sql"]["text"].as_str()).collect();
    assert!(
        !texts.iter().any(|text| text.contains("(1)") || text.contains("(2)")),
        "what did not run is not on record: {texts:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_folder_no_statement_runs_either() {
    let home = tempfile::tempdir().expect("a folder");
    let folder = home.path().join("audit");
    let gate = gate_logging_to(&folder);
    let login = grant(&gate, "10m");
    let mut session = Raw::session(&gate, &login).await;
    fs::remove_dir_all(&folder).expect("removed");
    // A file in its place: the folder cannot come back by itself.
    fs::write(&folder, "").expect("a file");
    // The gate looks after its file several times a second.
    let told = refused_statement(&mut session).await;
    told.says("FATAL", "58030", &["nothing was run", "audit log cannot be written"]);
    fs::remove_file(&folder).expect("removed");
    fs::create_dir(&folder).expect("a folder");
    eventually("somebody is let in", async || Raw::login(&gate, &login).await.ok()).await;
    std::os::unix::fs::symlink(&folder, gate.audit_folder()).expect("a link");
}
