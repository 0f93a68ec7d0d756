//! The threads that carry sessions: few, and apart from all others.
//!
//! Few, because sessions that share a thread share its wake-ups: on two cores, one thread for eight busy sessions costs 15 to
//! 20 percent less CPU per statement than two that steal from each other (docs/adr/0027 has the figures). Apart, because a
//! session writes its records itself: while a disk hangs its thread hangs, and ends, control and the clock must go on
//! ([`super::overdue`] ends the backends of sessions that cannot do it themselves).

use std::io;
use std::num::NonZero;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// The session threads; they stop when it is dropped, and what they were at is dropped with them.
pub(super) struct Crew(Option<Runtime>);

impl Crew {
    /// As many as asked for, or one for every two processors: the others are for the database and its clients.
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

    /// Runs a task, and everything it spawns, on these threads.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Option<JoinHandle<()>> {
        self.0.as_ref().map(|runtime| runtime.spawn(task))
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Not waited for: this may itself be within a runtime.
            runtime.shutdown_background();
        }
    }
}
