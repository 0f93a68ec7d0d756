//! A gate whose session threads hang, as they do with a disk that does not answer: the grant's end is kept at the database.

use std::fs;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use tidegate::demo::testkit::TestGate;

use crate::support::{Raw, active, alive, binary, database, ended, eventually, gate_with, grant};

/// The gate's session threads, stopped for as long as this lives. Only the thread that stopped them can let them go.
pub(crate) struct Stopped(Vec<Pid>);

impl Stopped {
    pub(crate) fn stop(gate: &TestGate) -> Self {
        let tasks = format!("/proc/{}/task", gate.pid().expect("it runs"));
        let threads = fs::read_dir(tasks).expect("the threads").filter_map(|task| {
            let task = task.expect("a thread");
            let name = fs::read_to_string(task.path().join("comm")).ok()?;
            let id = task.file_name().to_str().and_then(|id| id.parse().ok())?;
            (name.trim() == "session").then(|| Pid::from_raw(id))
        });
        let threads: Vec<Pid> = threads.collect();
        assert!(!threads.is_empty(), "session threads are known by their name");
        for thread in &threads {
            ptrace::seize(*thread, ptrace::Options::empty()).expect("a child's thread can be traced");
            ptrace::interrupt(*thread).expect("stopped");
            waitpid(*thread, Some(WaitPidFlag::__WALL)).expect("it says so");
        }
        Self(threads)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for thread in &self.0 {
            // If the gate is gone there is nothing to let go.
            let _ = ptrace::detach(*thread, None);
        }
    }
}

#[tokio::test]
async fn a_session_that_cannot_end_itself_loses_its_backend_at_the_deadline_all_the_same() {
    let gate = gate_with("[limits]\nsession_threads = 2\n");
    let login = grant(&gate, "2s");
    let mut session = Raw::session(&gate, &login).await;
    let pid = session.backend().await;
    session.query("SELECT pg_sleep(3602)").await;
    eventually("it runs", async || active(database(), "pg_sleep(3602)").await.pop()).await;
    let stopped = Stopped::stop(&gate);
    eventually("its backend is gone", async || (!alive(database(), pid).await).then_some(())).await;
    assert!(gate.log().contains("missed its end"), "the operator is told: {}", gate.log());
    // Control answers meanwhile.
    gate.json(&["session", "list"]).expect("the sessions");

    drop(stopped);
    let end = ended(&gate, &login.grant).await;
    assert_eq!((&end["ending"], &end["backend_gone"]), (&"expired".into(), &true.into()));
    assert!(end["overshoot_us"].as_u64().is_some_and(|overshoot| overshoot > 0), "{end}");
}

/// A file that nobody writes into stands for a disk that does not answer: reading it waits for ever.
#[tokio::test]
async fn a_start_that_hangs_is_ended_by_a_signal() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    fs::create_dir(&state).expect("the state folder");
    let made = std::process::Command::new("mkfifo")
        .args(["-m", "600"])
        .arg(state.join("audit-key.pem"))
        .status();
    assert!(made.expect("mkfifo runs").success());
    let config = folder.path().join("tidegate.toml");
    let text = "listen = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n\
                [targets.orders]\naddress = \"127.0.0.1:1\"\ndatabase = \"orders\"\nuser = \"a\"\npassword_file = \"p\"\n";
    fs::write(&config, text).expect("a configuration");
    let password = folder.path().join("p");
    fs::write(&password, "s3cret").expect("a password");
    fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
    let mut gate = tokio::process::Command::new(binary())
        .args(["serve", "--config"])
        .arg(&config)
        .kill_on_drop(true)
        .spawn()
        .expect("a gate");
    let pid = gate.id().expect("it runs");
    // What signals it catches: SIGTERM is the 15th.
    let catches = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        (caught & (1 << 14) != 0).then_some(())
    };
    eventually("it listens to signals", async || catches()).await;
    nix::sys::signal::kill(
        Pid::from_raw(i32::try_from(pid).expect("a pid")),
        nix::sys::signal::Signal::SIGTERM,
    )
    .expect("told");
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), gate.wait()).await;
    assert!(ended.expect("it ends").expect("its status").success());
}
