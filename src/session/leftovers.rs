//! Holds a target's door shut until what a former run of the gate left there is ended.
//!
//! It ends nothing. INVARIANT: once the door is open it stays open; each target has its own, and holds up no other.

use std::time::Duration;

use tokio::sync::watch;

/// How long a login waits for the door. The start gives up before that, so a client is refused only where the gate has no time left
/// for its own work.
const WAIT_LIMIT: Duration = Duration::from_secs(15);

/// Whether what a former run left at a target is ended. Cheap to clone; clones are one.
#[derive(Debug, Clone)]
pub struct Leftovers(watch::Sender<bool>);

impl Leftovers {
    /// Those of a target at which nothing was left.
    #[must_use]
    pub fn none() -> Self {
        Self(watch::Sender::new(true))
    }

    /// Those of a target at which nobody has looked yet.
    #[must_use]
    pub fn unknown() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Opens the door: they are ended, or the time for that is over.
    pub fn settle(&self) {
        self.0.send_replace(true);
    }

    /// Returns true once they are ended.
    #[must_use]
    pub fn settled(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until they are ended, for a bounded time; false where they are not by then.
    pub async fn wait(&self) -> bool {
        let mut changes = self.0.subscribe();
        let settled = changes.wait_for(|settled| *settled);
        matches!(tokio::time::timeout(WAIT_LIMIT, settled).await, Ok(Ok(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_login_waits_for_the_door_and_not_for_ever() {
        let leftovers = Leftovers::unknown();
        let waits = leftovers.clone();
        let waiting = tokio::spawn(async move { waits.wait().await });
        tokio::time::sleep(WAIT_LIMIT / 2).await;
        leftovers.settle();
        assert!(waiting.await.unwrap() && leftovers.settled());
        assert!(!Leftovers::unknown().wait().await, "it ends at the limit");
        assert!(Leftovers::none().wait().await);
    }
}
