//! File descriptors: the limit is raised as far as it goes, and where it does not go far, strangers do not get those that the
//! log and its sessions need.

use std::fs;

use tokio::net::TcpStream;

use crate::support::{Raw, database, eventually, gate_through, grant, records};

/// The soft and the hard limit of open files of a process.
fn limits(pid: i32) -> (String, String) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("its limits");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .expect("a limit");
    let mut words = line.split_whitespace().skip(3);
    let mut word = || words.next().expect("a number").to_owned();
    (word(), word())
}

fn open(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_soft_limit_is_raised_to_the_hard_one() {
    let gate = gate_through(database(), "ulimit -Sn 256", "", "");
    let (soft, hard) = limits(gate.pid().expect("it runs"));
    assert_eq!(soft, hard);
    assert_ne!(soft, "256");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_take_all_they_can_stop_neither_the_log_nor_its_sessions() {
    // Segments so small that many are begun meanwhile.
    let more = "[audit]\nsegment_bytes = 65536\n";
    let gate = gate_through(database(), "ulimit -n 256", "", more);
    let pid = gate.pid().expect("it runs");
    assert!(gate.log().contains("limits.connections"), "said at the start: {}", gate.log());
    let login = grant(&gate, "10m");
    let mut session = Raw::session(&gate, &login).await;
    let mut strangers = Vec::new();
    let mut most = 0;
    for _ in 0..600 {
        // Beyond what is accepted they wait in the system's queue, and then are not let in by it.
        let knocked = tokio::time::timeout(std::time::Duration::from_millis(20), TcpStream::connect(gate.address()));
        if let Ok(Ok(stranger)) = knocked.await {
            strangers.push(stranger);
        }
        most = most.max(open(pid));
    }
    assert!(strangers.len() > 200, "{} strangers", strangers.len());
    let text = format!("SELECT '{}'", "x".repeat(8_000));
    for _ in 0..40 {
        session.query(&text).await;
        session.until(b'Z').await;
    }
    assert!(most < 256 - 32, "{most} of 256 are taken: none are in reserve");
    let segments = eventually("segments are begun", async || {
        let numbers = records(&gate);
        let begun = numbers.iter().filter(|record| record["event"] == "segment_began").count();
        (begun > 3).then_some(begun)
    })
    .await;
    assert!(segments > 3);
    assert!(!gate.log().contains("Too many open files"), "{}", gate.log());
    drop(strangers);
    // Who has a grant gets in.
    let mut second = Raw::session(&gate, &login).await;
    second.query("SELECT 1").await;
    second.until(b'Z').await;
}
