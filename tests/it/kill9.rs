//! `kill -9` of the gate: its backends end by themselves, the next start reaps and says so, and nothing ran off the record.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tidegate::demo::testkit::TestGate;

use crate::support::{
    Numbers, Raw, WRITERS, active, alive, database, ended, eventually, gate, gate_with, grant, proven, records, trials, within,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_gate_ends_a_sleeping_statement_within_seconds_and_the_next_start_says_so() {
    let mut gate = gate();
    let login = grant(&gate, "10m");
    let mut session = Raw::session(&gate, &login).await;
    let pid = session.backend().await;
    session.query("SELECT pg_sleep(3600)").await;
    eventually("it runs", async || active(database(), "pg_sleep(3600)").await.pop()).await;
    gate.kill().expect("kill -9");
    let killed = Instant::now();
    eventually("its backend is gone", async || (!alive(database(), pid).await).then_some(())).await;
    let took = killed.elapsed();
    println!("kill -9 in pg_sleep(3600): the backend is gone after {took:.1?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(session.frame().await.is_none(), "the client sees its connection end");

    gate.start_again().expect("a gate");
    let end = ended(&gate, &login.grant).await;
    assert_eq!(
        (&end["ending"], &end["backend_gone"], &end["fate"]),
        (&"gate_died".into(), &true.into(), &"unknown".into())
    );
    // The grant has survived, its window too.
    Raw::session(&gate, &login).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_comes_back_at_once_reaps_before_it_lets_anybody_in() {
    let mut gate = gate();
    let login = grant(&gate, "10m");
    let mut session = Raw::session(&gate, &login).await;
    session.query("SELECT pg_sleep(3601)").await;
    eventually("it runs", async || active(database(), "pg_sleep(3601)").await.pop()).await;
    gate.kill().expect("kill -9");
    eventually("it is dead", async || gate.ended().then_some(())).await;
    gate.start_again().expect("a gate");
    // No waiting: somebody is in, so it has reaped.
    let _next = Raw::session(&gate, &login).await;
    assert!(active(database(), "pg_sleep(3601)").await.is_empty());
    assert_eq!(ended(&gate, &login.grant).await["ending"], "gate_died");
}

/// A login waits for what is left at its own target, before its window is touched, and no longer than that takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_waits_until_what_a_dead_gate_left_is_gone() {
    let mut gate = gate();
    let login = grant(&gate, "10m");
    let mut session = Raw::session(&gate, &login).await;
    let pid = session.backend().await;
    let process = Pid::from_raw(pid).expect("a process");
    session.query("SELECT pg_sleep(3603)").await;
    eventually("it runs", async || active(database(), "pg_sleep(3603)").await.pop()).await;
    // It cannot go for now, and so cannot notice that its gate is dead.
    kill_process(process, Signal::STOP).expect("SIGSTOP");
    gate.kill().expect("kill -9");
    eventually("it is dead", async || gate.ended().then_some(())).await;
    gate.start_again().expect("a gate");
    let mut waits = std::pin::pin!(Raw::session(&gate, &login));
    let early = tokio::time::timeout(Duration::from_secs(1), &mut waits).await;
    assert!(early.is_err(), "let in while a backend of the former run is there");
    kill_process(process, Signal::CONT).expect("SIGCONT");
    let _next = within("it is let in", waits).await;
    assert!(!alive(database(), pid).await);
}

/// Targets that do not answer: the start takes no longer for them, and whoever goes to another is let in.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_away_holds_nobody_elses_door_shut() {
    // It takes connections, and says nothing.
    let away = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = away.local_addr().expect("its address");
    let dead = [1, 2, 3, 4].map(|n| {
        format!(
            "[targets.away{n}]\naddress = \"{address}\"\nuser = \"gate\"\n[targets.away{n}.profiles.read-only]\nselect = [\"public.*\"]\n"
        )
    });
    let started = Instant::now();
    let gate = gate_with(&dead.concat());
    let login = grant(&gate, "10m");
    Raw::session(&gate, &login).await;
    let took = started.elapsed();
    println!("with four targets that are away, somebody was let in at another {took:.1?} after the start");
    assert!(took < Duration::from_secs(8), "{took:?}");
}

/// The gate is killed again and again while statements write; `TIDEGATE_KILLS` sets how often. The log is proven after each kill,
/// before the next start has put anything right: all that is left of a line being written is a remark.
/// With `packing`, every other time in the moment in which a segment is being packed.
async fn killed_again_and_again(mut gate: TestGate, numbers: &Numbers, packing: bool) -> String {
    let rounds = trials("TIDEGATE_KILLS", 5);
    let (mut cut, mut halfway) = (0, 0);
    for round in 0..rounds {
        let login = grant(&gate, "10m");
        let begun = numbers.sent();
        let writers = numbers.write(&gate, &login).await;
        // Not always after as many: the kill falls into other moments.
        let some = 150 + 37 * (round % 11);
        eventually("they write", async || (numbers.sent() > begun + some).then_some(())).await;
        if packing && round % 2 == 1 {
            let begun = async {
                while !interrupted(&gate) {
                    tokio::task::yield_now().await;
                }
            };
            within("a segment is being packed", begun).await;
        }
        gate.kill().expect("kill -9");
        for writer in writers {
            writer.await.expect("a writer");
        }
        eventually("it is dead", async || gate.ended().then_some(())).await;
        let verdict = proven(&gate);
        cut += u64::from(verdict["remarks"].to_string().contains("bytes at the end"));
        halfway += u64::from(interrupted(&gate));
        gate.start_again().expect("a gate");
    }
    let said = numbers.all_on_record(&gate).await;
    let all = records(&gate);
    let died = all.iter().filter(|record| record["ending"] == "gate_died").count();
    assert_eq!(died as u64, u64::from(WRITERS) * rounds, "every session's end is on record");
    let torn = all.iter().filter(|record| record["fault"] == "torn_tail").count();
    assert_eq!(torn as u64, cut, "every tail that was cut off is on record");
    format!("{rounds} kills: {said}, {torn} torn tails were cut and said, packing was interrupted {halfway} times")
}

/// Whether a segment is being packed, or was when the gate died: half a copy is there, or the copy and the original.
fn interrupted(gate: &TestGate) -> bool {
    let files = std::fs::read_dir(gate.audit_folder()).expect("the audit folder");
    let names: HashSet<String> = files
        .map(|file| file.expect("a file").file_name().to_string_lossy().into_owned())
        .collect();
    names
        .iter()
        .any(|name| name.ends_with(".zst.new") || name.strip_suffix(".zst").is_some_and(|original| names.contains(original)))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ran_is_on_record_however_often_the_gate_is_killed() {
    let numbers = Numbers::into("numbers").await;
    println!("{}", killed_again_and_again(gate(), &numbers, false).await);
}

/// Small segments: the kill also falls into closing one, beginning the next, and packing.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_ran_is_on_record_in_segments_that_roll_and_are_packed() {
    let numbers = Numbers::into("rolled_numbers").await;
    let gate = gate_with("[audit]\nsegment_bytes = 65536\n");
    println!("{}", killed_again_and_again(gate, &numbers, true).await);
}

/// The log is cut where the gate died while writing; a line that is not whole never stands in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_cut_and_said() {
    let mut gate = gate();
    let login = grant(&gate, "10m");
    Raw::session(&gate, &login).await.backend().await;
    gate.kill().expect("kill -9");
    eventually("it is dead", async || gate.ended().then_some(())).await;
    let file = gate.audit_folder().join("audit-000001.jsonl");
    let mut log = std::fs::read(&file).expect("the log");
    let torn = b"{\"v\":1,\"seq\":4711,\"event\":\"statem";
    log.extend_from_slice(torn);
    std::fs::write(&file, &log).expect("a torn log");
    gate.start_again().expect("a gate");
    let healed = eventually("it is said", async || {
        records(&gate).into_iter().find(|record| record["fault"] == "torn_tail")
    })
    .await;
    assert_eq!(healed["cut_bytes"], torn.len(), "{healed}");
}
