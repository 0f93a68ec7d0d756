//! Processes that hear no signal: stopped (SIGSTOP) until they are let go on.
//!
//! It asserts nothing.

use rustix::process::{Pid, Signal, kill_process};

/// Stopped processes; on drop they go on.
pub(crate) struct Frozen(Vec<i32>);

impl Frozen {
    /// Stops them.
    pub(crate) fn now(pids: Vec<i32>) -> Self {
        let frozen = Self(pids);
        frozen.signal(Signal::STOP);
        frozen
    }

    fn signal(&self, signal: Signal) {
        for pid in &self.0 {
            // One that has ended is nobody's business any more.
            let _ = kill_process(Pid::from_raw(*pid).expect("a process"), signal);
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
    }
}
