//! Exponential back-off: each wait before another attempt is twice as long as the one before, up to a maximum.
//!
//! It does not wait itself, and does not know the attempts.

use std::time::Duration;

/// Wait before the next attempt, and the maximum of later ones. A copy of a constant starts with the first wait again.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    /// Creates a back-off from its first and its longest wait.
    #[must_use]
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { next: first, max }
    }

    /// Returns the longest wait.
    #[must_use]
    pub fn max(self) -> Duration {
        self.max
    }

    /// Returns the wait before the next attempt, and doubles the one after it.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next.min(self.max);
        self.next = wait.saturating_mul(2);
        wait
    }

    /// Returns the wait after some more failures.
    #[must_use]
    pub fn after(self, failures: u32) -> Duration {
        self.next.saturating_mul(1 << failures.min(20)).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum() {
        let first = Backoff::new(Duration::from_millis(100), Duration::from_millis(700));
        let mut backoff = first;
        for (failures, wait) in (0..).zip([100, 200, 400, 700, 700]) {
            assert_eq!(backoff.next_wait(), Duration::from_millis(wait));
            assert_eq!(first.after(failures), Duration::from_millis(wait));
        }
        assert_eq!(first.after(u32::MAX), first.max());
    }
}
