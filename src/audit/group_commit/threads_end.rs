//! End of the journal's thread, for whatever reason.

use super::{GroupCommit, JournalHealth, QueueLife};

/// Closes the journal when its thread ends, because no thread is left that would write waiting lines.
pub(super) struct ThreadsEnd<'a>(pub(super) &'a GroupCommit);

impl Drop for ThreadsEnd<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        if state.life == QueueLife::Closed {
            return;
        }
        // Waiting submitters are notified by the end of their channels.
        state.life = QueueLife::Closed;
        state.waiting.clear();
        state.commands.clear();
        state.closers.clear();
        drop(state);
        self.0.health.send_replace(JournalHealth::Failed { disk_full: false });
    }
}
