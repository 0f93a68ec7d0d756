//! Stop of a gate: an orderly drain when told to stop, an immediate end when an essential part has failed.
//!
//! INVARIANT: nothing can hold up the stop. Each step has a time limit, and so has the whole ([`last_resort`]), which a thread
//! enforces that depends on nothing else in the gate.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::tick::remember_in_store;
use super::{RunningGate, roles};
use crate::audit::event::Event;
use crate::base::diagnostics::Diagnostics;
use crate::base::error_chain::display_chain;
use crate::gate::session::SharedState;

/// Time that the last sessions have to end themselves after the drain's limit ...
const LAST_SESSIONS_TIMEOUT: Duration = Duration::from_secs(2);
/// ... and time that their backends have after that, when they are ended from outside.
const LAST_BACKENDS_TIMEOUT: Duration = Duration::from_secs(6);
/// Time that the receiver of the log has to take the last records. Records that it does not take are sent at the next start.
const LAST_RECORDS_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit of each of the last steps, so that a hanging disk cannot hold up the stop.
const STEP_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit of all steps after the drain's limit together.
const LAST_STEPS_TIMEOUT: Duration = Duration::from_secs(16);
/// Time limit of writing the last messages, before the process is ended unconditionally.
const LAST_MESSAGES_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest duration of a stop beyond the drain's limit. A service manager must wait at least this long.
pub const MAX_STOP_AFTER_DRAIN: Duration = LAST_STEPS_TIMEOUT.saturating_add(LAST_MESSAGES_TIMEOUT);

impl RunningGate {
    /// Shuts down: refuses new sessions, ends idle sessions at once and the others when they become idle, or after `patience`.
    pub async fn stop(self, patience: Duration) {
        let Self {
            shared,
            tasks,
            compactor,
            forwarder,
            // Held to the end, since the last sessions run on it.
            runtime: _crew,
            ..
        } = self;
        shared.draining.store(true, Ordering::SeqCst);
        shared.waiters.close();
        end_sessions(&shared, patience).await;
        for task in &tasks {
            task.abort();
        }
        roles::close(&shared).await;
        step("writing the counts of refusals", shared.refusals.end_interval()).await;
        if let Some(Err(error)) = step(
            "writing the stop to the audit log",
            shared.journal.record(&Event::GateStopped {}),
        )
        .await
        {
            tracing::error!(error = %display_chain(&error), "cannot write the stop to the audit log");
        }
        if !shared.ledger.finish(STEP_TIMEOUT).await {
            tracing::error!("some revocations are missing in the store or in the audit log; the next start applies all of them");
        }
        // It may be packing a segment just now.
        let packed = tokio::task::spawn_blocking(move || drop(compactor));
        step("packing an audit segment", packed).await;
        step("closing the audit log", shared.journal.close()).await;
        // The stored end of the log includes the last checkpoint.
        step("storing the time and the end of the audit log", remember_in_store(&shared)).await;
        if let Some(forwarder) = forwarder {
            forwarder.finish(LAST_RECORDS_TIMEOUT).await;
        }
    }
}

/// Runs one of the last steps, within its time limit.
async fn step<T>(what: &str, doing: impl Future<Output = T>) -> Option<T> {
    let done = timeout(STEP_TIMEOUT, doing).await.ok();
    if done.is_none() {
        tracing::error!(limit = ?STEP_TIMEOUT, "timed out: {what}; the stop goes on");
    }
    done
}

/// Ends all sessions: idle ones now, others as they become idle, those left after `patience` at once. Sessions that cannot end
/// themselves have their backends ended.
async fn end_sessions(shared: &SharedState, patience: Duration) {
    shared.registry.drain(patience.is_zero());
    if none_left(shared, patience).await {
        return;
    }
    if !patience.is_zero() {
        tracing::warn!(
            sessions = shared.registry.unfinished(),
            "the drain limit is reached; ending the remaining sessions"
        );
        shared.registry.drain(true);
    }
    if none_left(shared, LAST_SESSIONS_TIMEOUT).await {
        return;
    }
    let left = shared.registry.live();
    tracing::error!(
        sessions = left.len(),
        "sessions do not end in time; terminating their backends"
    );
    let ended = join_all(left.iter().map(|live| live.end_backend()));
    let both = async { tokio::join!(ended, none_left(shared, LAST_BACKENDS_TIMEOUT)) };
    let _ = timeout(LAST_BACKENDS_TIMEOUT, both).await;
}

/// Waits until no session is left, and returns false if `limit` passes first. Handshakes in progress end in a refusal by
/// themselves.
async fn none_left(shared: &SharedState, limit: Duration) -> bool {
    let none_left = async {
        while shared.registry.unfinished() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(limit, none_left).await.is_ok()
}

/// Ends the process if the stop takes longer than its limit, whatever holds it up. Dropping the returned sender cancels that.
pub(super) fn last_resort(patience: Duration, diagnostics: &Diagnostics) -> mpsc::Sender<()> {
    let diagnostics = diagnostics.clone();
    at_limit(patience.saturating_add(LAST_STEPS_TIMEOUT), move |limit| {
        tracing::error!(
            ?limit,
            "the stop takes too long; ending the process; the next start cleans up"
        );
        let _ = diagnostics.flush(LAST_MESSAGES_TIMEOUT);
        std::process::exit(1);
    })
}

/// Calls `end` at the limit, on a thread of its own, unless the returned sender is dropped before.
fn at_limit(limit: Duration, end: impl FnOnce(Duration) + Send + 'static) -> mpsc::Sender<()> {
    let (stopped, wait) = mpsc::channel();
    let watch = move || {
        if wait.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            end(limit);
        }
    };
    let started = std::thread::Builder::new().name("last-resort".to_owned()).spawn(watch);
    if let Err(error) = started {
        tracing::warn!(error = %display_chain(&error), "cannot start the thread that limits the duration of the stop");
    }
    stopped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_that_takes_too_long_is_ended_and_one_in_time_is_not() {
        let (ended, end) = mpsc::channel();
        let limit = Duration::from_millis(20);
        let watch = |ended: mpsc::Sender<Duration>| at_limit(limit, move |limit| ended.send(limit).unwrap());
        let hung = watch(ended.clone());
        assert_eq!(end.recv_timeout(Duration::from_secs(20)), Ok(limit));
        drop(hung);
        drop(watch(ended));
        assert_eq!(end.recv(), Err(mpsc::RecvError), "it is gone, and has ended nothing");
    }
}
