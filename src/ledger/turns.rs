//! Turns: locks by key, so that a task is alone with the object whose turn it holds.
//!
//! This module does not know the purpose of a turn.

use std::hash::{BuildHasher as _, Hash, RandomState};

use tokio::sync::{Mutex, MutexGuard};

/// Number of locks; two keys with the same lock wait for each other without need, which does no harm.
const TURN_QUEUES: usize = 64;

/// Fixed number of locks, to which keys are assigned by hash.
#[derive(Debug)]
pub(crate) struct TurnQueues {
    hash: RandomState,
    places: [Mutex<()>; TURN_QUEUES],
    /// Lock for an index out of range, which does not occur.
    spare: Mutex<()>,
}

impl Default for TurnQueues {
    fn default() -> Self {
        Self {
            hash: RandomState::new(),
            places: std::array::from_fn(|_| Mutex::default()),
            spare: Mutex::default(),
        }
    }
}

impl TurnQueues {
    /// Waits for the turn of `what`; it ends when the guard is dropped.
    pub(crate) async fn take(&self, what: &(impl Hash + ?Sized)) -> MutexGuard<'_, ()> {
        let place = self.hash.hash_one(what) % TURN_QUEUES as u64;
        let place = usize::try_from(place).unwrap_or(0);
        self.places.get(place).unwrap_or(&self.spare).lock().await
    }
}
