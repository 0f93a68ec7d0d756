//! What has begun and is to come back: each found by its secrets, until its end, and no more than so many.
//!
//! It does not know what comes back. INVARIANT: each comes back once at most, for the one that has all of its secrets, before its end.

use std::collections::VecDeque;

use jiff::Timestamp;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

/// Numbers of those that wait; one more displaces the oldest.
#[derive(Debug, Clone, Copy)]
pub(super) struct AwaitedLimits {
    /// In all.
    pub(super) all: usize,
    /// Of one group (a network, an identity).
    pub(super) of_group: usize,
}

struct Place<G, T> {
    /// Hash of the secrets, so that a comparison tells nothing about them.
    key: [u8; 32],
    group: Option<G>,
    until: Timestamp,
    value: T,
}

/// Values that wait, the oldest first.
pub(super) struct Awaited<G, T> {
    limits: AwaitedLimits,
    places: Mutex<VecDeque<Place<G, T>>>,
}

impl<G: PartialEq, T> Awaited<G, T> {
    pub(super) fn new(limits: AwaitedLimits) -> Self {
        Self {
            limits,
            places: Mutex::default(),
        }
    }

    /// Keeps a value until its end. Values of no group have the limit of all alone.
    pub(super) fn add(&self, secrets: &[&str], group: Option<G>, (now, until): (Timestamp, Timestamp), value: T) {
        let mut places = self.places.lock();
        places.retain(|place| now < place.until);
        let of_group = |place: &Place<G, T>| group.is_some() && place.group == group;
        if places.iter().filter(|place| of_group(place)).count() >= self.limits.of_group
            && let Some(oldest) = places.iter().position(of_group)
        {
            places.remove(oldest);
        }
        if places.len() >= self.limits.all {
            places.pop_front();
        }
        places.push_back(Place {
            key: key(secrets),
            group,
            until,
            value,
        });
    }

    /// Returns the value of these secrets, once. Who has only some of them does not use it up.
    pub(super) fn take(&self, secrets: &[&str], now: Timestamp) -> Option<T> {
        let mut places = self.places.lock();
        let place = find(&places, secrets, now)?;
        Some(places.remove(place)?.value)
    }

    /// Changes the value of these secrets, which goes on to wait.
    pub(super) fn change<R>(&self, secrets: &[&str], now: Timestamp, change: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut places = self.places.lock();
        let place = find(&places, secrets, now)?;
        Some(change(&mut places.get_mut(place)?.value))
    }
}

fn find<G, T>(places: &VecDeque<Place<G, T>>, secrets: &[&str], now: Timestamp) -> Option<usize> {
    let key = key(secrets);
    places.iter().position(|place| place.key == key && now < place.until)
}

fn key(secrets: &[&str]) -> [u8; 32] {
    let parts = secrets.iter().map(|secret| Sha256::digest(secret.as_bytes()));
    parts.fold(Sha256::new(), Sha256::chain_update).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AwaitedLimits = AwaitedLimits { all: 100, of_group: 10 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn each_comes_back_once_with_all_of_its_secrets_and_in_time() {
        let awaited = Awaited::<u32, _>::new(LIMITS);
        awaited.add(&["s1", "ana"], None, (at(0), at(600)), "a");
        awaited.add(&["s2", "ana"], None, (at(0), at(600)), "b");
        for secrets in [&["s1", "eve"][..], &["s3", "ana"], &["ana", "s1"], &["s1ana"], &["s1"], &[]] {
            assert_eq!(awaited.take(secrets, at(1)), None, "{secrets:?}");
        }
        assert_eq!(
            awaited.change(&["s1", "ana"], at(1), |value| std::mem::replace(value, "c")),
            Some("a")
        );
        assert_eq!(awaited.take(&["s1", "ana"], at(1)), Some("c"));
        assert_eq!(awaited.take(&["s1", "ana"], at(1)), None);
        assert_eq!(awaited.change(&["s2", "ana"], at(600), |_| ()), None);
        assert_eq!(awaited.take(&["s2", "ana"], at(600)), None);
        assert_eq!(awaited.take(&["s2", "ana"], at(599)), Some("b"));
    }

    #[test]
    fn a_crowd_displaces_its_own() {
        let awaited = Awaited::new(LIMITS);
        let add = |name: String, group, second| awaited.add(&[&name], group, (at(second), at(second + 600)), ());
        let is_there = |name: &str| awaited.change(&[name], at(1), |()| ()).is_some();
        add("hers".to_owned(), Some(1), 0);
        (0..50).for_each(|number| add(format!("g{number}"), Some(2), 0));
        assert_eq!(awaited.places.lock().len(), 1 + LIMITS.of_group);
        assert!(is_there("hers") && is_there("g49") && is_there("g40") && !is_there("g39"));
        (0..50).for_each(|number| add(format!("n{number}"), None, 0));
        assert!(is_there("n0") && is_there("hers"), "no group has no limit of its own");
        (0..200).for_each(|number| add(format!("o{number}"), Some(number), 0));
        assert_eq!(awaited.places.lock().len(), LIMITS.all);
        assert!(!is_there("hers") && is_there("o100") && !is_there("o99"));
        add("last".to_owned(), Some(1), 600);
        assert_eq!(awaited.places.lock().len(), 1, "the others are over");
    }
}
