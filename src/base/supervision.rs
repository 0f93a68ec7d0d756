//! Supervision of the gate's long-lived tasks and threads: their end is noticed and handled here.
//!
//! It does not know their work. There are three kinds:
//! - *essential* ([`Supervisor::essential`]): a promise depends on it, so the gate ends when it ends or panics;
//! - *restarted* ([`restarted`]): it notifies or maintains something, and is started again after a panic;
//! - all others belong to one session or one call, which a panic ends.

use std::any::Any;
use std::io;
use std::panic::AssertUnwindSafe;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;

use crate::base::backoff::Backoff;

/// Waits before a start after a panic.
const RESTART: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));

/// Reason why a gate cannot continue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part} {cause}; the gate cannot work without it and stops")]
pub struct FailedError {
    /// Name of the part that failed.
    pub part: &'static str,
    /// Kind of failure, with the text of a panic.
    pub cause: String,
}

/// Failure state of a gate's essential parts. Cheap to clone; clones share their state.
#[derive(Debug, Clone)]
pub struct Supervisor(watch::Sender<Option<FailedError>>);

impl Default for Supervisor {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Supervisor {
    /// Wraps a task so that its end is a failure of the gate; the caller spawns it. Aborting the task is no failure.
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

    /// Records the failure of an essential part. Only the first one counts, because others may be its consequences.
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
                // Cannot happen while `self` has the sender.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Runs a task until it ends by itself; starts it again after a panic.
pub async fn restarted<T: Future<Output = ()>>(part: &'static str, mut begin: impl FnMut() -> T) {
    let mut backoff = RESTART;
    while let Err(panic) = AssertUnwindSafe(async { begin().await }).catch_unwind().await {
        let pause = backoff.next_wait();
        tracing::error!(part, panic = panic_text(&*panic), again_in = ?pause, "a task panicked; restarting it");
        tokio::time::sleep(pause).await;
    }
}

/// Notification of the end of a thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ThreadEnd(watch::Receiver<()>);

impl ThreadEnd {
    /// Waits until the thread has returned or panicked.
    pub async fn wait(mut self) {
        // Nothing is ever sent: the call fails when the thread has dropped the sender.
        while self.0.changed().await.is_ok() {}
    }
}

/// Starts a thread and returns it with the notification of its end.
pub fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<(JoinHandle<()>, ThreadEnd)> {
    let (alive, end) = watch::channel(());
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Dropped with the thread, also by a panic.
        let _alive = alive;
        work();
    })?;
    Ok((thread, ThreadEnd(end)))
}

/// Returns the message of a panic, if it is text.
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
