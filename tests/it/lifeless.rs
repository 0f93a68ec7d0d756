//! A gate that is frozen, or whose session threads hang, says so by silence: to its service manager, and at `/livez`.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::hang::Stopped;
use crate::support::{PATIENCE, Wrapped, database, eventually, gate_through, told};

/// How often the service manager wants a sign of life.
const WITHIN: Duration = Duration::from_secs(4);

/// A service manager as far as the gate sees it.
struct ServiceManager {
    folder: TempDir,
    socket: UnixDatagram,
}

impl ServiceManager {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        Self { folder, socket }
    }

    fn gate(&self) -> Wrapped {
        let path: PathBuf = self.folder.path().join("notify");
        let environment = format!(
            "export NOTIFY_SOCKET='{}' WATCHDOG_USEC={}",
            path.display(),
            WITHIN.as_micros()
        );
        gate_through(database(), &environment, "", "[limits]\nsession_threads = 2\n")
    }

    /// The next message within this time.
    fn hears(&self, within: Duration) -> Option<String> {
        let mut buffer = [0; 256];
        self.socket.set_read_timeout(Some(within)).expect("a limit");
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    fn waits_for(&self, message: &str) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.hears(PATIENCE).as_deref() == Some(message) {
                return;
            }
        }
        panic!("no {message}");
    }

    /// Hears nothing for twice the time it wants a sign in, but for what was on its way.
    fn hears_nothing(&self) {
        while self.hears(Duration::from_millis(50)).is_some() {}
        assert_eq!(self.hears(WITHIN * 2), None, "no sign of life");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_hears_of_start_reload_and_stop() {
    let manager = ServiceManager::start();
    let gate = manager.gate();
    assert_eq!(manager.hears(PATIENCE).as_deref(), Some("READY=1"));
    manager.waits_for("WATCHDOG=1");
    gate.reload().expect("SIGHUP");
    manager.waits_for("RELOADING=1");
    manager.waits_for("READY=1");
    gate.terminate().expect("SIGTERM");
    manager.waits_for("STOPPING=1");
    eventually("the gate has gone", async || gate.ended().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_gate_gives_no_sign_of_life() {
    let manager = ServiceManager::start();
    let gate = manager.gate();
    manager.waits_for("WATCHDOG=1");
    let pid = Pid::from_raw(gate.pid().expect("it runs"));
    kill(pid, Signal::SIGSTOP).expect("frozen");
    manager.hears_nothing();
    kill(pid, Signal::SIGCONT).expect("thawed");
    manager.waits_for("WATCHDOG=1");
}

// In one thread: only the one that stopped the gate's threads can let them go.
#[tokio::test]
async fn session_threads_that_hang_are_no_sign_of_life() {
    let manager = ServiceManager::start();
    let gate = manager.gate();
    manager.waits_for("WATCHDOG=1");
    assert!(told(&gate, "livez").contains("\r\n\r\nalive"), "{}", told(&gate, "livez"));
    let stopped = Stopped::stop(&gate);
    // The last sign may have been given just before: it is good for half of the time.
    eventually("silence", async || manager.hears(WITHIN).is_none().then_some(())).await;
    eventually("/livez says so", async || {
        told(&gate, "livez").contains("503").then(|| {
            let said = told(&gate, "livez");
            assert!(
                said.contains("not alive: the session threads have made no progress"),
                "{said}"
            );
        })
    })
    .await;
    drop(stopped);
    manager.waits_for("WATCHDOG=1");
    eventually("/livez says so", async || {
        told(&gate, "livez").contains("alive").then_some(())
    })
    .await;
}
