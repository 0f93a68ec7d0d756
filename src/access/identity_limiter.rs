//! Limit on things that identities hold at the same time, such as waiting logins or open answers: in total and for each identity.
//!
//! It does not know the things. INVARIANT: dropping an [`IdentityPermit`] returns it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::names::IdentityName;

/// Counts of permits. Cheap to clone; clones share them.
#[derive(Debug, Clone, Default)]
pub struct IdentityLimiter(Arc<Mutex<PermitCounts>>);

#[derive(Debug, Default)]
struct PermitCounts {
    in_all: usize,
    /// Permits by identity; an identity without any has no entry.
    of: HashMap<IdentityName, usize>,
}

/// Permit for one thing. Dropping it returns it.
#[derive(Debug)]
pub struct IdentityPermit {
    limiter: IdentityLimiter,
    who: Option<IdentityName>,
}

/// Limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReachedLimit {
    /// That of the identity.
    OfOne,
    /// That of all together.
    InAll,
}

impl IdentityLimiter {
    /// Returns the number of permits in use.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.0.lock().in_all
    }

    /// Returns a permit if fewer than `in_all` are in use, and fewer than `of_one` by `who`; `None` has no limit of its own.
    pub fn enter(&self, who: Option<&IdentityName>, of_one: usize, in_all: usize) -> Result<IdentityPermit, ReachedLimit> {
        let mut counts = self.0.lock();
        if who.and_then(|who| counts.of.get(who)).is_some_and(|held| *held >= of_one) {
            return Err(ReachedLimit::OfOne);
        }
        if counts.in_all >= in_all {
            return Err(ReachedLimit::InAll);
        }
        counts.in_all += 1;
        if let Some(who) = who {
            *counts.of.entry(who.clone()).or_default() += 1;
        }
        drop(counts);
        Ok(IdentityPermit {
            limiter: self.clone(),
            who: who.cloned(),
        })
    }
}

impl Drop for IdentityPermit {
    fn drop(&mut self) {
        let mut counts = self.limiter.0.lock();
        counts.in_all = counts.in_all.saturating_sub(1);
        let Some(who) = &self.who else { return };
        match counts.of.get_mut(who) {
            Some(held) if *held > 1 => *held -= 1,
            _ => drop(counts.of.remove(who)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_remembered() {
        let limiter = IdentityLimiter::default();
        let ana = "ana".parse().unwrap();
        let held = [
            limiter.enter(Some(&ana), 2, 3),
            limiter.enter(Some(&ana), 2, 3),
            limiter.enter(None, 2, 3),
        ];
        assert_eq!(limiter.enter(Some(&ana), 2, 3).unwrap_err(), ReachedLimit::OfOne);
        assert_eq!(limiter.enter(None, 2, 3).unwrap_err(), ReachedLimit::InAll);
        drop(held);
        let counts = limiter.0.lock();
        assert!(counts.in_all == 0 && counts.of.is_empty());
    }
}
