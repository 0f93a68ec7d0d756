//! The tasks and threads the gate lives by: their end is noticed, and what follows from it is decided here.
//!
//! It does not know what any of them does. There are three kinds:
//! - *essential* ([`Supervisor::essential`]): without it a promise is not kept, so when it ends or panics the gate ends;
//! - *restarted* ([`restarted`]): it tells others, or looks after things; when it panics it begins again;
//! - all others belong to one session or one call: a panic ends that one.

use std::any::Any;
use std::io;
use std::panic::AssertUnwindSafe;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;

/// From a panic to the next beginning; twice as long after each further one ...
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// ... up to this.
const MAX_RESTART_PAUSE: Duration = Duration::from_mins(1);

/// Why a gate cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part} {cause}; the gate cannot work without it and stops")]
pub struct FailedError {
    /// What ended.
    pub part: &'static str,
    /// How.
    pub cause: String,
}

/// The essential parts of one gate. Cheap to clone; clones are the same.
#[derive(Debug, Clone)]
pub struct Supervisor(watch::Sender<Option<FailedError>>);

impl Default for Supervisor {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Supervisor {
    /// Returns the task with its end watched, ready to be spawned. A task that is aborted was ended on purpose.
    pub fn essential<T>(&self, part: &'static str, task: T) -> impl Future<Output = ()> + Send + use<T>
    where
        T: Future<Output = ()> + Send,
    {
        let supervisor = self.clone();
        async move {
            let cause = match AssertUnwindSafe(task).catch_unwind().await {
                Ok(()) => "has ended".to_owned(),
                Err(panic) => format!("has panicked ({})", panic_text(&*panic)),
            };
            supervisor.fail(part, cause);
        }
    }

    /// Notes that an essential part is gone. The first one counts: the others may follow from it.
    pub fn fail(&self, part: &'static str, cause: String) {
        self.0.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert(FailedError { part, cause });
            first
        });
    }

    /// Returns the first failure, if there is one.
    #[must_use]
    pub fn failure(&self) -> Option<FailedError> {
        self.0.borrow().clone()
    }

    /// Waits for the first failure.
    pub async fn failed(&self) -> FailedError {
        let mut failed = self.0.subscribe();
        loop {
            if let Some(failure) = failed.borrow_and_update().clone() {
                return failure;
            }
            if failed.changed().await.is_err() {
                // Not while `self` has the sender.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Runs a task until it ends by itself; after a panic it is begun anew.
pub async fn restarted<T: Future<Output = ()>>(part: &'static str, mut begin: impl FnMut() -> T) {
    let mut pause = RESTART_PAUSE;
    while let Err(panic) = AssertUnwindSafe(async { begin().await }).catch_unwind().await {
        tracing::error!(part, panic = panic_text(&*panic), again_in = ?pause, "a task panicked; restarting it");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_RESTART_PAUSE);
    }
}

/// The end of a thread, to be waited for. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ThreadEnd(watch::Receiver<()>);

impl ThreadEnd {
    /// Waits until the thread has returned or panicked.
    pub async fn wait(mut self) {
        // Nothing is ever sent: it errs when the thread has dropped its end.
        while self.0.changed().await.is_ok() {}
    }
}

/// Starts a thread whose end can be waited for.
pub fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<(JoinHandle<()>, ThreadEnd)> {
    let (alive, end) = watch::channel(());
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Dropped with the thread, and by a panic too.
        let _alive = alive;
        work();
    })?;
    Ok((thread, ThreadEnd(end)))
}

/// Returns what a panic says, as far as it is text.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a text")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn an_essential_task_that_panics_or_ends_is_the_end_of_the_gate() {
        let supervisor = Supervisor::default();
        let aborted = tokio::spawn(supervisor.essential("the first", std::future::pending()));
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_cancelled());
        assert_eq!(supervisor.failure(), None, "that was on purpose");
        let failed = tokio::spawn({
            let supervisor = supervisor.clone();
            async move { supervisor.failed().await }
        });
        tokio::spawn(supervisor.essential("the second", async { panic!("by {}", "accident") }))
            .await
            .unwrap();
        tokio::spawn(supervisor.essential("the third", async {})).await.unwrap();
        let failure = failed.await.unwrap();
        assert_eq!(
            (failure.part, failure.cause.as_str()),
            ("the second", "has panicked (by accident)")
        );
        assert_eq!(supervisor.failure(), Some(failure), "the first failure counts");
    }

    #[tokio::test]
    async fn the_end_of_a_thread_is_noticed_whatever_ends_it() {
        let (returned, end) = thread("returns", || {}).unwrap();
        end.wait().await;
        returned.join().unwrap();
        let (panicked, end) = thread("panics", || panic!("by accident")).unwrap();
        end.wait().await;
        assert_eq!(panic_text(&*panicked.join().unwrap_err()), "by accident");
    }

    #[tokio::test(start_paused = true)]
    async fn a_restarted_task_begins_again_after_a_panic_and_ends_by_itself() {
        let begun = AtomicU32::new(0);
        restarted("a look", async || {
            assert!(begun.fetch_add(1, Ordering::Relaxed) == 2, "not yet");
        })
        .await;
        assert_eq!(begun.load(Ordering::Relaxed), 3);
    }
}
