//! The end of the journal's thread, whatever brought it about.

use super::{Health, Life, Shared};

/// Closes the journal when its thread ends, however it does: nobody is left who would write what waits.
pub(super) struct ThreadsEnd<'a>(pub(super) &'a Shared);

impl Drop for ThreadsEnd<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if state.life == Life::Closed {
            return;
        }
        // Whoever waits is told by the end of its channel.
        state.life = Life::Closed;
        state.waiting.clear();
        state.errands.clear();
        state.closers.clear();
        drop(state);
        self.0.health.send_replace(Health::Failed { disk_full: false });
    }
}
