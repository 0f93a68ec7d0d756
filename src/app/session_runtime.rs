//! Thread pool of the sessions: a few threads, separate from all others.
//!
//! It is small, because sessions on one thread share its wake-ups: on two cores, one thread for eight busy sessions costs 15 to
//! 20 percent less CPU per statement than two threads that steal work from each other (docs/adr/0027 has the figures). It is
//! separate, because a session writes its records itself: if a disk hangs, its thread hangs, while session ends, the control
//! API and the clock must go on ([`super::overdue`] ends the backends of sessions that cannot do it themselves).

use std::io;
use std::num::NonZero;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// Session threads. They stop when this is dropped, and their tasks are dropped with them.
pub(super) struct SessionRuntime(Option<Runtime>);

impl SessionRuntime {
    /// Starts the given number of threads; by default one for every two processors, which leaves the others to the database and
    /// its clients.
    pub(super) fn new(threads: Option<u32>) -> io::Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = threads.map_or((processors / 2).max(1), |threads| threads as usize);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("session")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Runs a task, and every task that it spawns, on the session threads.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Option<JoinHandle<()>> {
        self.0.as_ref().map(|runtime| runtime.spawn(task))
    }
}

impl Drop for SessionRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Do not wait: this may itself run within a runtime.
            runtime.shutdown_background();
        }
    }
}
