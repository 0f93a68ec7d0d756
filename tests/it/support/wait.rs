//! Waiting for a condition, never for a fixed time.

use std::time::Duration;

/// Upper limit of every wait, sufficient even on a machine that compiles on all its cores meanwhile.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(10);

/// Repeats `look` until it returns a value.
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

/// Waits for a future; fails the test after [`PATIENCE`].
pub(crate) async fn within<T>(what: &str, awaited: impl Future<Output = T>) -> T {
    let bounded = tokio::time::timeout(PATIENCE, awaited).await;
    bounded.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}
