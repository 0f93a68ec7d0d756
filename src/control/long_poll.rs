//! Limits on the resources that callers hold: connections, open answers (a long poll, a stream) and readings of the log. Each
//! is limited in total and per identity, and ends with the API.
//!
//! INVARIANT: dropping a [`IdentityPermit`] frees it.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use super::problem::ApiError;
use crate::access::identity_limiter::{IdentityLimiter, IdentityPermit, ReachedLimit};
use crate::access::{Caller, Principal};

/// Number of simultaneous long polls; each is one small task.
const MAX_WAITERS: usize = 2_000;
/// Number of simultaneous long polls of one identity. All jobs of a pipeline share its name, and a large matrix has a hundred
/// jobs.
pub(super) const MAX_WAITERS_PER_IDENTITY: usize = 100;
/// Number of simultaneous event streams; each receives every change.
const MAX_SUBSCRIBERS: usize = 200;
/// Number of simultaneous event streams of one identity: a person has a few windows open on a few machines.
pub(super) const MAX_SUBSCRIBERS_PER_IDENTITY: usize = 10;

/// Number of simultaneous authenticated TCP connections of one identity: its long polls, its streams, and some for other calls.
const MAX_CONNECTIONS_PER_IDENTITY: usize = 150;
/// Number of simultaneous readings of existing records; each unpacks a few segments, which takes megabytes.
const MAX_READINGS: usize = 24;
/// Number of simultaneous readings of one identity.
pub(super) const MAX_READINGS_PER_IDENTITY: usize = 6;
/// Number of threads that read the log at once, for readings and for followers.
const MAX_READING_THREADS: usize = 8;
/// Number of simultaneous followers of the log, and of those of one identity.
const MAX_FOLLOWERS: usize = 100;
const MAX_FOLLOWERS_PER_IDENTITY: usize = 10;
/// The same numbers for those who read the records of single grants, who are many more.
const MAX_GRANT_READINGS: usize = 12;
pub(super) const MAX_GRANT_READINGS_PER_IDENTITY: usize = 3;
const MAX_GRANT_READING_THREADS: usize = 4;
const MAX_GRANT_FOLLOWERS: usize = 50;
const MAX_GRANT_FOLLOWERS_PER_IDENTITY: usize = 5;

/// Limits on the resources of all callers.
#[derive(Debug, Clone)]
pub struct LongPollLimiter {
    stopped: watch::Receiver<bool>,
    pub(super) connections: CallerLimit,
    /// Readers of the whole log.
    pub(super) log: ReaderPool,
    /// Readers of the records of one grant: a crowd of them leaves the others their places.
    pub(super) grants: ReaderPool,
    /// Long polls.
    pub(super) waiters: CallerLimit,
    /// Event streams.
    pub(super) subscribers: CallerLimit,
}

/// Places and threads of readers of the log.
#[derive(Debug, Clone)]
pub(super) struct ReaderPool {
    /// Readings of existing records.
    pub(super) readings: CallerLimit,
    /// Readings that go on with new records.
    pub(super) followers: CallerLimit,
    /// Threads that all of them share.
    pub(super) threads: Arc<Semaphore>,
}

/// Limiter with its limits in total and per identity.
#[derive(Debug, Clone)]
pub(super) struct CallerLimit {
    in_all: usize,
    of_one: usize,
    held: IdentityLimiter,
}

impl LongPollLimiter {
    /// `connections` is the number of simultaneous authenticated TCP connections.
    pub(super) fn new(stopped: watch::Receiver<bool>, connections: usize) -> Self {
        Self {
            stopped,
            connections: CallerLimit::new(connections, MAX_CONNECTIONS_PER_IDENTITY),
            log: ReaderPool {
                readings: CallerLimit::new(MAX_READINGS, MAX_READINGS_PER_IDENTITY),
                followers: CallerLimit::new(MAX_FOLLOWERS, MAX_FOLLOWERS_PER_IDENTITY),
                threads: Arc::new(Semaphore::new(MAX_READING_THREADS)),
            },
            grants: ReaderPool {
                readings: CallerLimit::new(MAX_GRANT_READINGS, MAX_GRANT_READINGS_PER_IDENTITY),
                followers: CallerLimit::new(MAX_GRANT_FOLLOWERS, MAX_GRANT_FOLLOWERS_PER_IDENTITY),
                threads: Arc::new(Semaphore::new(MAX_GRANT_READING_THREADS)),
            },
            waiters: CallerLimit::new(MAX_WAITERS, MAX_WAITERS_PER_IDENTITY),
            subscribers: CallerLimit::new(MAX_SUBSCRIBERS, MAX_SUBSCRIBERS_PER_IDENTITY),
        }
    }

    /// Waits until the API stops. Open answers must end then, since they would hold up the stop.
    pub(super) async fn stopped(&mut self) {
        let _ = self.stopped.wait_for(|stopped| *stopped).await;
    }
}

impl ReaderPool {
    /// Runs a reading on one of the threads that all readings share, in a place among them. The reading goes on when
    /// its caller hangs up, and holds both until it ends.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        caller: &Caller,
        reading: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let place = self.readings.enter(caller)?;
        let thread = Arc::clone(&self.threads).acquire_owned().await;
        let thread = thread.map_err(|_| ApiError::Stopping)?;
        let read = tokio::task::spawn_blocking(move || {
            let _held = (place, thread);
            reading()
        });
        read.await.map_err(|_| ApiError::Stopping)
    }
}

impl CallerLimit {
    fn new(in_all: usize, of_one: usize) -> Self {
        let held = IdentityLimiter::default();
        Self { in_all, of_one, held }
    }

    /// Takes a place. The limit per identity does not apply to the admin token, whose bearer could end the other calls anyway.
    pub(super) fn enter(&self, caller: &Caller) -> Result<IdentityPermit, ApiError> {
        let who = caller.person().ok().map(Principal::name);
        let entered = self.held.enter(who, self.of_one, self.in_all);
        entered.map_err(|reached| match (reached, who) {
            (ReachedLimit::OfOne, Some(who)) => ApiError::HoldsTooMany {
                identity: who.clone(),
                limit: self.of_one,
            },
            _ => ApiError::Busy,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::authenticate::tests::person;
    use super::*;

    #[test]
    fn places_are_counted_for_each_and_in_all_and_come_back() {
        let room = CallerLimit::new(5, 2);
        let admin = Caller::Admin {
            operator: "ops".to_owned(),
        };
        let (ana, bob) = (person("ana"), person("bob"));
        let first = room.enter(&ana).unwrap();
        let second = room.enter(&ana).unwrap();
        let refused = room.enter(&ana).unwrap_err();
        assert!(matches!(&refused, ApiError::HoldsTooMany { limit: 2, identity } if identity.as_str() == "ana"));
        let others = [
            room.enter(&bob).unwrap(),
            room.enter(&admin).unwrap(),
            room.enter(&admin).unwrap(),
        ];
        assert!(matches!(room.enter(&bob), Err(ApiError::Busy)));
        assert!(matches!(room.enter(&admin), Err(ApiError::Busy)));
        // Whoever has too many is told so, and not that others have.
        assert!(matches!(room.enter(&ana), Err(ApiError::HoldsTooMany { .. })));
        drop(first);
        let third = room.enter(&ana).unwrap();
        drop((second, third, others));
        assert_eq!(room.held.in_use(), 0);
    }
}
