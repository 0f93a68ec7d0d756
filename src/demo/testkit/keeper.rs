//! Ties the lifetime of a command and its folder to this process; see `keeper.sh`.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::binaries::SystemAccount;
use super::scratch::ScratchFolder;
use super::tail;

const SCRIPT: &str = include_str!("keeper.sh");
/// Interval between two checks whether a server is ready.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Time limit for a server to be ready; long enough for a machine that compiles on all its cores meanwhile.
const READY_TIMEOUT: Duration = Duration::from_mins(1);

/// Description of a command to run.
pub(super) struct KeptCommand<'a> {
    pub(super) what: &'static str,
    /// Signal that ends it: the name without `SIG`.
    pub(super) signal: &'static str,
    pub(super) account: Option<SystemAccount>,
    pub(super) command: &'a [&'a str],
    /// Environment variables set for it; those of libpq (`PG...`) are not inherited.
    pub(super) environment: &'a [(&'a str, &'a str)],
}

/// Running command. On drop it is ended and its folder removed.
#[derive(Debug)]
pub(super) struct ProcessKeeper {
    what: &'static str,
    folder: PathBuf,
    /// Keeper process; its standard input is the pipe.
    process: Child,
}

impl ProcessKeeper {
    pub(super) fn start(scratch: ScratchFolder, run: &KeptCommand<'_>) -> anyhow::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SCRIPT, "keeper"])
            .arg(scratch.path())
            .arg(run.signal)
            .args(run.command)
            .current_dir(scratch.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A terminal's Ctrl-C must not reach it.
            .process_group(0);
        for (name, _) in std::env::vars_os() {
            if name
                .to_str()
                .is_some_and(|name| name.starts_with("PG") || name.starts_with("LC_"))
            {
                command.env_remove(name);
            }
        }
        command.envs(run.environment.iter().copied());
        if let Some(SystemAccount { uid, gid }) = run.account {
            command.uid(uid).gid(gid);
        }
        let process = command
            .spawn()
            .with_context(|| format!("starting the keeper of {}", run.what))?;
        Ok(Self {
            what: run.what,
            folder: scratch.hand_over(),
            process,
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Returns true if the command has ended by itself.
    pub(super) fn ended(&self) -> bool {
        self.folder.join("ended").exists()
    }

    /// Returns the command's process id.
    pub(super) fn pid(&self) -> Option<i32> {
        let pid = fs::read_to_string(self.folder.join("pid")).ok()?;
        pid.trim().parse().ok()
    }

    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        // The id of an ended process may belong to another process by now.
        match self.pid().and_then(Pid::from_raw) {
            Some(pid) if !self.ended() => kill_process(pid, signal).with_context(|| format!("signalling {}", self.what)),
            _ => Ok(()),
        }
    }

    /// Blocks until the command has ended.
    pub(super) fn wait_for_its_end(&self) -> anyhow::Result<()> {
        for _ in 0..READY_TIMEOUT.as_millis() / POLL_INTERVAL.as_millis() {
            if self.ended() {
                return Ok(());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        bail!("{} has not ended after {} s", self.what, READY_TIMEOUT.as_secs())
    }

    /// Blocks until `ready` returns true.
    pub(super) fn wait_until(&mut self, ready: impl Fn(&Path) -> bool) -> anyhow::Result<()> {
        for _ in 0..READY_TIMEOUT.as_millis() / POLL_INTERVAL.as_millis() {
            if ready(&self.folder) {
                return Ok(());
            }
            if self.ended() || matches!(self.process.try_wait(), Ok(Some(_)) | Err(_)) {
                bail!("{} did not start; its log ends with:\n{}", self.what, tail(&self.log()));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        let (seconds, log) = (READY_TIMEOUT.as_secs(), tail(&self.log()));
        bail!("{} was not ready after {seconds} s; its log ends with:\n{log}", self.what)
    }
}

impl Drop for ProcessKeeper {
    fn drop(&mut self) {
        // `wait` closes the pipe first. The keeper ends when the command is gone and the folder removed. It waits for `initdb`
        // and for an immediate shutdown, both bounded by PostgreSQL itself.
        let _ = self.process.wait();
        // In case the keeper was killed.
        if self.folder.exists() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
