//! Turns: whoever has the turn of something is alone with it.
//!
//! It does not know what a turn is for.

use std::hash::{BuildHasher as _, Hash, RandomState};

use tokio::sync::{Mutex, MutexGuard};

/// Turns at once; two that share one wait for each other without need, which does no harm.
const TURNS: usize = 64;

/// A bounded number of queues, one of which each thing belongs to.
#[derive(Debug)]
pub(crate) struct Turns {
    hash: RandomState,
    places: [Mutex<()>; TURNS],
    /// Never taken by anybody else; there is always a turn to take.
    spare: Mutex<()>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            hash: RandomState::new(),
            places: std::array::from_fn(|_| Mutex::default()),
            spare: Mutex::default(),
        }
    }
}

impl Turns {
    /// Waits for the turn of `what`; it is over when the guard is dropped.
    pub(crate) async fn take(&self, what: &(impl Hash + ?Sized)) -> MutexGuard<'_, ()> {
        let place = self.hash.hash_one(what) % TURNS as u64;
        let place = usize::try_from(place).unwrap_or(0);
        self.places.get(place).unwrap_or(&self.spare).lock().await
    }
}
