//! Processes that are stopped (SIGSTOP), so that they handle no other signal until they continue.
//!
//! It asserts nothing.

use rustix::process::{Pid, Signal, kill_process};

/// Stopped processes; they continue on drop.
pub(crate) struct Frozen(Vec<i32>);

impl Frozen {
    /// Stops the processes.
    pub(crate) fn now(pids: Vec<i32>) -> Self {
        let frozen = Self(pids);
        frozen.signal(Signal::STOP);
        frozen
    }

    fn signal(&self, signal: Signal) {
        for pid in &self.0 {
            // An ended process is ignored.
            let _ = kill_process(Pid::from_raw(*pid).expect("a process"), signal);
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
    }
}
