//! Rate limit: counts what each one (an identity, a network) did within the last minute of gate time.
//!
//! It does not know what is counted.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

/// Length of the sliding window.
const RATE_WINDOW: Duration = Duration::from_mins(1);
/// Maximum number of keys remembered. Beyond it, the one that has been silent the longest is forgotten.
const MAX_KEYS: usize = 4096;

/// Times of what was done in the last minute, by who did it.
#[derive(Debug)]
pub(super) struct RateLimiter<K>(Mutex<HashMap<K, VecDeque<Timestamp>>>);

impl<K> Default for RateLimiter<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone> RateLimiter<K> {
    /// Counts one thing that `who` did at `now`. If `limit` were counted within the minute before, returns the time until the next
    /// one is accepted, in whole seconds.
    pub(super) fn admit(&self, who: &K, limit: u32, now: Timestamp) -> Result<(), Duration> {
        let since = now.checked_sub(RATE_WINDOW).unwrap_or(Timestamp::MIN);
        let mut asked = self.0.lock();
        if asked.len() >= MAX_KEYS && !asked.contains_key(who) {
            asked.retain(|_, times| times.back().is_some_and(|time| *time > since));
            if asked.len() >= MAX_KEYS {
                let quietest = asked
                    .iter()
                    .min_by_key(|(_, times)| times.back().copied())
                    .map(|(name, _)| name.clone());
                quietest.map(|name| asked.remove(&name));
            }
        }
        let times = asked.entry(who.clone()).or_default();
        // Times after `now` come from a clock that was since set back; they no longer count.
        while times.front().is_some_and(|time| *time <= since || *time > now) {
            times.pop_front();
        }
        if times.len() < usize::try_from(limit).unwrap_or(usize::MAX) {
            times.push_back(now);
            return Ok(());
        }
        // After a reload with a lower limit, more than one request has to leave the window.
        let over = times.len() - usize::try_from(limit).unwrap_or(usize::MAX).min(times.len());
        let leaving = times.get(over).or(times.back()).copied().unwrap_or(now);
        let passed = now.duration_since(leaving).unsigned_abs();
        Err(Duration::from_secs_f64(
            RATE_WINDOW.saturating_sub(passed).as_secs_f64().ceil(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::IdentityName;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn a_minute_slides() {
        let floods = RateLimiter::default();
        let (ana, bo): (IdentityName, IdentityName) = ("ana".parse().unwrap(), "bo".parse().unwrap());
        let wait = |seconds| Err(Duration::from_secs(seconds));
        assert_eq!(floods.admit(&ana, 2, at(0)), Ok(()));
        assert_eq!(floods.admit(&ana, 2, at(30)), Ok(()));
        assert_eq!(floods.admit(&ana, 2, at(59)), wait(1));
        assert_eq!(floods.admit(&bo, 2, at(59)), Ok(()), "everybody has a minute of their own");
        assert_eq!(
            floods.admit(&ana, 2, at(60)),
            Ok(()),
            "the first is a minute ago; what was refused does not count"
        );
        assert_eq!(floods.admit(&ana, 2, at(61)), wait(29));
        assert_eq!(floods.admit(&ana, 1, at(61)), wait(59), "with a lower limit");
        assert_eq!(floods.admit(&ana, 1, at(120)), Ok(()));
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let floods = RateLimiter::<IdentityName>::default();
        let count = i64::try_from(MAX_KEYS).unwrap();
        for i in 0..count * 2 {
            assert_eq!(floods.admit(&format!("u{i}").parse().unwrap(), 1, at(0)), Ok(()));
        }
        assert_eq!(floods.0.lock().len(), MAX_KEYS);
        assert_eq!(floods.admit(&"late".parse().unwrap(), 1, at(120)), Ok(()));
        assert_eq!(floods.0.lock().len(), 1, "the quiet ones are forgotten");
    }
}
