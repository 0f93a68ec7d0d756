//! Waiting for something to become true, never for a length of time to pass.

use std::time::Duration;

/// More than anything takes on a machine that compiles on all its cores meanwhile.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(10);

/// Asks again and again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    within(what, looking).await
}

/// Waits for something that must not take for ever.
pub(crate) async fn within<T>(what: &str, awaited: impl Future<Output = T>) -> T {
    let bounded = tokio::time::timeout(PATIENCE, awaited).await;
    bounded.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}
