//! Answers that are held back (a long poll, a stream): how many at once, and that they end when the API does.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::problem::ApiError;

/// Long polls at once: each is one small task.
const WAITERS: usize = 2_000;
/// Event streams at once: each is told of every change.
const SUBSCRIBERS: usize = 200;

/// What handlers need that hold their answer back.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    stopped: watch::Receiver<bool>,
    waiters: Arc<Semaphore>,
    subscribers: Arc<Semaphore>,
}

impl Hold {
    pub(super) fn new(stopped: watch::Receiver<bool>) -> Self {
        Self {
            stopped,
            waiters: Arc::new(Semaphore::new(WAITERS)),
            subscribers: Arc::new(Semaphore::new(SUBSCRIBERS)),
        }
    }

    /// Done when the API stops: whoever follows something would otherwise keep it up.
    pub(super) async fn stopped(&mut self) {
        let _ = self.stopped.wait_for(|stopped| *stopped).await;
    }

    /// A place for a long poll.
    pub(super) fn wait(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        place(&self.waiters)
    }

    /// A place for an event stream.
    pub(super) fn subscribe(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        place(&self.subscribers)
    }
}

fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ApiError> {
    Arc::clone(places).try_acquire_owned().map_err(|_| ApiError::Busy)
}
