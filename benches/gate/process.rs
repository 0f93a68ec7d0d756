//! Process figures from the kernel: CPU time, of each thread too, resident memory, and system calls.
//!
//! It starts nothing but `strace`, and judges nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Unit of times in /proc: USER_HZ, 100 on every Linux that runs here (proc_pid_stat(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Cpu {
    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }

    fn plus(self, other: Self) -> Self {
        Self {
            user: self.user + other.user,
            system: self.system + other.system,
        }
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            user: (self.user - before.user).max(0.0),
            system: (self.system - before.system).max(0.0),
        }
    }
}

/// Returns the CPU time of a process so far; with `children`, also that of its children that have ended and been waited for.
pub(crate) fn cpu(pid: i32, children: bool) -> Result<Cpu> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    let (_, own, of_children) = times(&stat).with_context(|| format!("unexpected /proc/{pid}/stat"))?;
    Ok(if children { own.plus(of_children) } else { own })
}

/// Returns the CPU time of each living thread of a process so far, summed up by name.
pub(crate) fn cpu_of_threads(pid: i32) -> Result<BTreeMap<String, f64>> {
    let mut threads = BTreeMap::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        if let Some((name, cpu, _)) = times(&stat) {
            *threads.entry(name.to_owned()).or_default() += cpu.total();
        }
    }
    Ok(threads)
}

/// Reads the name, the CPU time and that of the ended children from the text of a `stat` file (proc_pid_stat(5)).
fn times(stat: &str) -> Option<(&str, Cpu, Cpu)> {
    // The name, in parentheses, may contain anything; after it the state is field 3, utime 14, stime 15, cutime 16, cstime 17.
    let (name, fields) = stat.rsplit_once(") ")?;
    let (_, name) = name.split_once('(')?;
    let mut times = fields.split(' ').skip(11).map(str::parse::<f64>);
    let mut next = || Some(times.next()?.ok()? / TICKS_PER_SECOND);
    let mut pair = || {
        Some(Cpu {
            user: next()?,
            system: next()?,
        })
    };
    Some((name, pair()?, pair()?))
}

/// Waits until a process has used no CPU time to speak of for half a second, and returns its CPU time then; after a minute it
/// fails.
pub(crate) fn cpu_when_idle(pid: i32) -> Result<Cpu> {
    const PAUSE: Duration = Duration::from_millis(500);
    let mut before = cpu(pid, false)?;
    for _ in 0..120 {
        std::thread::sleep(PAUSE);
        let now = cpu(pid, false)?;
        if now.since(before).total() < 1.5 / TICKS_PER_SECOND {
            return Ok(now);
        }
        before = now;
    }
    bail!("process {pid} is still busy a minute after the work")
}

/// Returns the CPU seconds of a server with its living and ended children: PostgreSQL has one process per session.
pub(crate) fn cpu_of_family(pid: i32) -> Result<f64> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let living = children.split_whitespace().filter_map(|child| child.parse().ok());
    // A child that ends between these two lines is counted with its parent.
    let own = cpu(pid, true)?.total();
    Ok(own + living.filter_map(|child| cpu(child, false).ok()).map(Cpu::total).sum::<f64>())
}

/// Returns the CPU seconds that all cores have been busy since boot.
pub(crate) fn cpu_of_machine() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields: Vec<f64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq (proc_stat(5)); guest time is part of user.
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = fields[..] else {
        bail!("unexpected /proc/stat");
    };
    Ok((user + nice + system + irq + softirq) / TICKS_PER_SECOND)
}

/// Returns the resident memory of a process, in KiB.
pub(crate) fn resident(pid: i32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let value = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    value.context("no VmRSS in /proc/pid/status")
}

/// Number of system calls of a process.
pub(crate) struct Calls {
    pub(crate) total: f64,
    /// Numbers by name, the most frequent first.
    pub(crate) by_name: Vec<(String, f64)>,
}

/// Counts the system calls of a process while `work` runs; also returns the result of `work`.
pub(crate) fn system_calls(pid: i32, output: &Path, work: impl FnOnce() -> Result<f64>) -> Result<(f64, Calls)> {
    let mut strace = Command::new("strace")
        .args(["-c", "-f", "-qq", "-U", "calls,name", "-p", &pid.to_string(), "-o"])
        .arg(output)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("strace")?;
    let attached = wait_for(|| threads_traced(pid));
    let done = if attached {
        work()
    } else {
        Err(anyhow::anyhow!("strace could not attach"))
    };
    if let Some(tracer) = Pid::from_raw(strace.id().try_into()?) {
        kill_process(tracer, Signal::INT)?;
    }
    strace.wait()?;
    let done = done?;
    let table = fs::read_to_string(output)?;
    let mut calls: Vec<(String, f64)> = table
        .lines()
        .filter_map(|line| {
            let (count, name) = line.trim().split_once(char::is_whitespace)?;
            Some((name.trim().to_owned(), count.parse().ok()?))
        })
        .collect();
    let total = calls
        .iter()
        .position(|(name, _)| name == "total")
        .map(|place| calls.remove(place).1);
    calls.sort_by(|left, right| right.1.total_cmp(&left.1));
    let total = total.context("no total in strace's table")?;
    Ok((done, Calls { total, by_name: calls }))
}

fn threads_traced(pid: i32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    let traced = |thread: fs::DirEntry| {
        fs::read_to_string(thread.path().join("status")).is_ok_and(|status| {
            status
                .lines()
                .any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
        })
    };
    threads.flatten().all(traced)
}

/// Waits until the condition is true; returns false after ten seconds.
pub(crate) fn wait_for(mut so: impl FnMut() -> bool) -> bool {
    for _ in 0..1000 {
        if so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}
