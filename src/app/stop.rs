//! How a gate goes down: in order when it is told to, at once when a part of it is gone without which it keeps no promise.
//!
//! The law: nothing holds it up. Each step has a limit, and all of them together have one too ([`last_resort`]), kept by a thread
//! that needs nothing of the gate.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use super::tick::remember_in_store;
use super::{Gate, roles};
use crate::audit::event::Event;
use crate::causes::in_one_line;
use crate::diagnostics::Diagnostics;
use crate::session::Shared;

/// After the drain's limit, how long the last sessions have to end themselves ...
const LAST_SESSIONS: Duration = Duration::from_secs(2);
/// ... and how long, after that, their backends have when they are ended without them.
const LAST_BACKENDS: Duration = Duration::from_secs(6);
/// At the end, how long a receiver of the log has to take the last records; what it does not take is sent at the next start.
const LAST_RECORDS: Duration = Duration::from_secs(2);
/// How long each of the last steps may take: a disk that hangs has had its time.
const STEP: Duration = Duration::from_secs(2);
/// All that comes after the drain's limit, in any case.
const LAST_STEPS: Duration = Duration::from_secs(16);
/// The last messages, before the process is ended whatever it is at.
const LAST_MESSAGES: Duration = Duration::from_millis(500);
/// The longest that a stop takes behind the drain's limit: what runs the gate has to wait for so long.
pub const MAX_STOP_AFTER_DRAIN: Duration = LAST_STEPS.saturating_add(LAST_MESSAGES);

impl Gate {
    /// Shuts down: lets nobody new in, ends idle sessions at once and the others when they are idle or after `patience`.
    pub async fn stop(self, patience: Duration) {
        let Self {
            shared,
            tasks,
            compactor,
            forwarder,
            // Held to the end: the last sessions run on it.
            crew: _crew,
            ..
        } = self;
        shared.draining.store(true, Ordering::SeqCst);
        shared.lobby.close();
        end_sessions(&shared, patience).await;
        for task in &tasks {
            task.abort();
        }
        roles::close(&shared).await;
        step("the counts of refusals are put on record", shared.refusals.end_interval()).await;
        if let Some(Err(error)) = step("the stop is put on record", shared.journal.record(&Event::GateStopped {})).await {
            tracing::error!(error = %in_one_line(&error), "the stop could not be put on record");
        }
        if !shared.ledger.finish(STEP).await {
            tracing::error!(
                "changes that took rights away are not stored or not on record: the next start holds to the stricter of both"
            );
        }
        // It may be packing a segment just now.
        let packed = tokio::task::spawn_blocking(move || drop(compactor));
        step("a segment of the log is packed", packed).await;
        step("the log is closed", shared.journal.close()).await;
        // The last checkpoint is among what is noted.
        step("the time and the log's tip are noted", remember_in_store(&shared)).await;
        if let Some(forwarder) = forwarder {
            forwarder.finish(LAST_RECORDS).await;
        }
    }
}

/// Does one of the last steps, within its limit.
async fn step<T>(what: &str, doing: impl Future<Output = T>) -> Option<T> {
    let done = timeout(STEP, doing).await.ok();
    if done.is_none() {
        tracing::error!(limit = ?STEP, "the gate stops before {what}: that takes too long");
    }
    done
}

/// Ends all sessions: those that are idle now, the others by and by, those left after `patience` at once; and the backends of
/// those that cannot end themselves.
async fn end_sessions(shared: &Shared, patience: Duration) {
    shared.registry.drain(patience.is_zero());
    if none_left(shared, patience).await {
        return;
    }
    if !patience.is_zero() {
        tracing::warn!(
            sessions = shared.registry.unfinished(),
            "the drain's limit is reached: the last sessions are ended"
        );
        shared.registry.drain(true);
    }
    if none_left(shared, LAST_SESSIONS).await {
        return;
    }
    let left = shared.registry.live();
    tracing::error!(
        sessions = left.len(),
        "sessions do not end themselves: their backends are ended without them"
    );
    let ended = join_all(left.iter().map(|live| live.end_backend()));
    let both = async { tokio::join!(ended, none_left(shared, LAST_BACKENDS)) };
    let _ = timeout(LAST_BACKENDS, both).await;
}

/// True when there are none left. Sessions of handshakes in flight are refused by themselves.
async fn none_left(shared: &Shared, limit: Duration) -> bool {
    let none_left = async {
        while shared.registry.unfinished() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(limit, none_left).await.is_ok()
}

/// Ends the process when the stop takes longer than it may, whatever holds it up; until what it returns is dropped.
pub(super) fn last_resort(patience: Duration, diagnostics: &Diagnostics) -> mpsc::Sender<()> {
    let diagnostics = diagnostics.clone();
    at_limit(patience.saturating_add(LAST_STEPS), move |limit| {
        tracing::error!(
            ?limit,
            "the stop takes too long: the process is ended; the next start ends what is left"
        );
        let _ = diagnostics.flush(LAST_MESSAGES);
        std::process::exit(1);
    })
}

/// Has a thread of its own call `end` at the limit, unless what it returns is dropped before.
fn at_limit(limit: Duration, end: impl FnOnce(Duration) + Send + 'static) -> mpsc::Sender<()> {
    let (stopped, wait) = mpsc::channel();
    let watch = move || {
        if wait.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            end(limit);
        }
    };
    let started = std::thread::Builder::new().name("last-resort".to_owned()).spawn(watch);
    if let Err(error) = started {
        tracing::warn!(error = %in_one_line(&error), "nothing watches over the stop");
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
