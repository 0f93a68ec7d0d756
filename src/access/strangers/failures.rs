//! Failed proofs, counted by address and by name: the delay of the answer to the next failure, and the report to the owner of the
//! name at the next success.
//!
//! This module does not delay anything itself, and a success is never delayed. A name that does not exist counts like any other.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::network::Network;
use crate::base::clock::Moment;
use crate::model::ending::{HeldBack, HeldBackBy};

/// Number of failures of one name from one address that are answered without delay: people mistype.
const FREE_FAILURES: f64 = 5.0;
/// Number of failures of one address, under any names, that are answered without delay: many people share one address.
const FREE_FAILURES_PER_ADDRESS: u32 = 20;
/// First delay; each further failure doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Number of doublings after which any limit is reached (51 s).
const MAX_DOUBLINGS: f64 = 10.0;
/// Time that failures are kept after the last of them, if they have not been reported.
const MAX_UNTOLD_AGE: Duration = Duration::from_hours(1);
/// Maximum number of pairs of name and address that are remembered, and also of addresses. A forgotten one only loses its delay.
const MAX_REMEMBERED: usize = 4096;
/// Minimum number of failures of a name that are reported to its owner: fewer are the owner's own mistakes.
const MIN_TOLD: u64 = 3;

/// Report of failed logins to a client that has proved a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedLogins {
    /// Number of failures under the name, from any address.
    pub under_name: u64,
    /// Number of failures from the address, under any name.
    pub from_address: u64,
    /// Time of the first of them.
    pub since: Timestamp,
}

/// Delay of the answer to a failure, and its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// Duration of the delay; zero: none.
    pub time: Duration,
    /// Reason, if the answer is delayed.
    pub held: Option<HeldBack>,
}

/// Number of delayed answers to failures since the start, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeldBackCounts {
    /// Delays because of failures of the address.
    pub address: u64,
    /// Delays because of failures of the name from the address.
    pub name: u64,
}

/// Counts of failures by name and by address.
#[derive(Debug, Default)]
pub(super) struct FailureCounts {
    counts: HeldBackCounts,
    hasher: RandomState,
    by_name: HashMap<(Network, u64), FailureCount>,
    by_network: HashMap<Network, FailureCount>,
}

#[derive(Debug)]
struct FailureCount {
    /// Failures that still count; one is forgiven each second.
    recent: f64,
    last: Instant,
    untold: u64,
    since: Timestamp,
}

impl FailureCounts {
    /// Counts one more failure; `name` is the name that was to be proved, if the client came that far. Returns the delay of the
    /// answer, at most `longest`.
    pub(super) fn add(&mut self, network: Network, name: Option<&str>, longest: Duration, now: Moment) -> Delay {
        let beyond = count(&mut self.by_network, network, now) - f64::from(FREE_FAILURES_PER_ADDRESS);
        let of_address = Delay::of(beyond, HeldBackBy::Address, longest);
        let Some(name) = name else {
            return self.held(of_address);
        };
        let name = self.hasher.hash_one(name);
        let beyond = count(&mut self.by_name, (network, name), now) - FREE_FAILURES;
        let of_name = Delay::of(beyond, HeldBackBy::Name, longest);
        self.held(if of_name.time > of_address.time { of_name } else { of_address })
    }

    fn held(&mut self, delay: Delay) -> Delay {
        match delay.held.map(|held| held.by) {
            Some(HeldBackBy::Address) => self.counts.address += 1,
            Some(HeldBackBy::Name) => self.counts.name += 1,
            None => {}
        }
        delay
    }

    /// Returns the number of delayed answers since the start.
    pub(super) fn counts(&self) -> HeldBackCounts {
        self.counts
    }

    /// Returns the failures to report to the client that proved `name` from `network`, once. The delays stay unchanged: otherwise
    /// they would reveal to an unauthenticated client that the name exists.
    pub(super) fn told(&mut self, network: Network, name: &str, now: Moment) -> Option<FailedLogins> {
        let name = self.hasher.hash_one(name);
        let of_name = self.by_name.iter_mut().filter(|((_, other), _)| *other == name);
        let mut counts: Vec<_> = of_name.map(|(_, count)| count).filter(|count| !count.is_old(now)).collect();
        let under_name = counts.iter().map(|count| count.untold).sum();
        let of_address = self.by_network.get_mut(&network).filter(|count| !count.is_old(now));
        let from_address = of_address.as_ref().map_or(0, |count| count.untold);
        // Many clients share an address, so a few failures from it are not worth a report.
        let told = under_name >= MIN_TOLD || from_address > u64::from(FREE_FAILURES_PER_ADDRESS);
        if !told {
            return None;
        }
        counts.extend(of_address);
        let since = counts.iter().filter(|count| count.untold > 0).map(|count| count.since).min();
        for count in counts {
            count.untold = 0;
        }
        Some(FailedLogins {
            under_name,
            from_address,
            since: since.unwrap_or(now.time),
        })
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.by_name.len().max(self.by_network.len())
    }
}

impl FailureCount {
    fn forgive(&mut self, now: Moment) {
        let passed = now.instant.saturating_duration_since(self.last);
        self.recent = (self.recent - passed.as_secs_f64()).max(0.0);
        self.last = self.last.max(now.instant);
    }

    fn is_old(&self, now: Moment) -> bool {
        now.instant.saturating_duration_since(self.last) > MAX_UNTOLD_AGE
    }
}

/// Counts one more, and returns the number that is not yet forgiven.
fn count<K: Hash + Eq>(counts: &mut HashMap<K, FailureCount>, key: K, now: Moment) -> f64 {
    if counts.len() >= MAX_REMEMBERED && !counts.contains_key(&key) {
        forget(counts, now);
    }
    let count = counts.entry(key).or_insert(FailureCount {
        recent: 0.0,
        last: now.instant,
        untold: 0,
        since: now.time,
    });
    count.forgive(now);
    if count.untold == 0 {
        count.since = now.time;
    }
    count.recent += 1.0;
    count.untold += 1;
    count.recent
}

/// Frees entries: first the old ones, then those that are forgiven or failed once, then, if that is not enough, all.
fn forget<K: Hash + Eq>(counts: &mut HashMap<K, FailureCount>, now: Moment) {
    counts.retain(|_, count| !count.is_old(now));
    if counts.len() > MAX_REMEMBERED / 2 {
        counts.retain(|_, count| {
            let passed = now.instant.saturating_duration_since(count.last);
            count.recent - passed.as_secs_f64() > 1.0
        });
    }
    if counts.len() > MAX_REMEMBERED / 2 {
        counts.clear();
    }
}

impl Delay {
    /// Returns the delay after so many failures beyond the free ones. One is forgiven each second, so the delay ends after that
    /// many seconds.
    fn of(beyond: f64, by: HeldBackBy, longest: Duration) -> Self {
        let held = beyond > 0.0 && !longest.is_zero();
        if !held {
            return Self {
                time: Duration::ZERO,
                held: None,
            };
        }
        Self {
            time: FIRST_DELAY.mul_f64(beyond.min(MAX_DOUBLINGS).exp2() / 2.0).min(longest),
            held: Some(HeldBack {
                by,
                over_in: Duration::from_secs_f64(beyond.ceil()),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;
    use tokio::time::advance;

    const LONGEST: Duration = Duration::from_secs(2);

    fn network(text: &str) -> Network {
        Network::of(text.parse().unwrap())
    }

    fn delays(failures: &mut FailureCounts, from: &str, name: Option<&str>, clock: &Clock, times: usize) -> Vec<u128> {
        let add = |_| failures.add(network(from), name, LONGEST, clock.moment()).time.as_millis();
        (0..times).map(add).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_slowed_down_where_it_fails_and_no_other() {
        let (mut failures, clock) = (FailureCounts::default(), Clock::manual(Timestamp::UNIX_EPOCH));
        let slowed = delays(&mut failures, "10.0.0.1", Some("ana"), &clock, 12);
        assert_eq!(slowed[..5], [0; 5]);
        assert_eq!(slowed[5..], [100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(delays(&mut failures, "10.0.0.1", Some("bo"), &clock, 1), [0]);
        assert_eq!(delays(&mut failures, "10.0.0.2", Some("ana"), &clock, 1), [0]);
        advance(Duration::from_mins(1)).await;
        assert_eq!(delays(&mut failures, "10.0.0.1", Some("ana"), &clock, 1), [0], "forgiven");
    }

    #[tokio::test(start_paused = true)]
    async fn another_name_each_time_is_slowed_down_by_the_address() {
        let (mut failures, clock) = (FailureCounts::default(), Clock::manual(Timestamp::UNIX_EPOCH));
        for n in 0..20 {
            assert_eq!(delays(&mut failures, "10.0.0.1", Some(&n.to_string()), &clock, 1), [0]);
        }
        assert_eq!(delays(&mut failures, "10.0.0.1", Some("x"), &clock, 1), [100]);
        assert_eq!(delays(&mut failures, "10.0.0.1", None, &clock, 1), [200]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_back_has_a_reason_and_an_end() {
        let (mut failures, clock) = (FailureCounts::default(), Clock::manual(Timestamp::UNIX_EPOCH));
        let mut fail = |name: Option<&str>| failures.add(network("10.0.0.1"), name, LONGEST, clock.moment()).held;
        let by_name = |over_in| {
            Some(HeldBack {
                by: HeldBackBy::Name,
                over_in: Duration::from_secs(over_in),
            })
        };
        let held: Vec<_> = (0..7).map(|_| fail(Some("ana"))).collect();
        assert_eq!(held[4..], [None, by_name(1), by_name(2)]);
        // So long without a failure, and the next one is answered at once.
        advance(Duration::from_secs(3)).await;
        assert_eq!(fail(Some("ana")), None);
        for n in 0..16 {
            let _ = fail(Some(&n.to_string()));
        }
        let held = fail(None).expect("held back");
        assert_eq!((held.by, held.over_in), (HeldBackBy::Address, Duration::from_secs(2)));
        assert!(failures.counts().name >= 2 && failures.counts().address >= 1);
        let unheld = failures.add(network("10.0.0.1"), Some("ana"), Duration::ZERO, clock.moment());
        assert_eq!(
            (unheld.time, unheld.held),
            (Duration::ZERO, None),
            "the configuration holds none back"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_proves_the_name_is_told_once_and_strangers_learn_nothing_by_it() {
        let (mut failures, clock) = (FailureCounts::default(), Clock::manual(Timestamp::UNIX_EPOCH));
        let here = network("10.0.0.1");
        assert_eq!(failures.told(here, "ana", clock.moment()), None);
        delays(&mut failures, "10.0.0.1", Some("ana"), &clock, 2);
        assert_eq!(failures.told(here, "ana", clock.moment()), None, "slips");
        delays(&mut failures, "10.0.0.2", Some("ana"), &clock, 9);
        delays(&mut failures, "10.0.0.1", Some("bo"), &clock, 1);
        let told = failures.told(here, "ana", clock.moment());
        assert_eq!(
            told,
            Some(FailedLogins {
                under_name: 11,
                from_address: 3,
                since: Timestamp::UNIX_EPOCH
            })
        );
        assert_eq!(failures.told(here, "ana", clock.moment()), None, "once");
        // As if nobody had come in.
        assert_eq!(delays(&mut failures, "10.0.0.2", Some("ana"), &clock, 1), [1600]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let (mut failures, clock) = (FailureCounts::default(), Clock::manual(Timestamp::UNIX_EPOCH));
        delays(&mut failures, "10.0.0.1", Some("ana"), &clock, 50);
        for n in 0..3 * u32::try_from(MAX_REMEMBERED).unwrap() {
            let from = Network::of(n.to_be_bytes().into());
            let _ = failures.add(from, Some(&n.to_string()), LONGEST, clock.moment());
            assert!(failures.remembered() <= MAX_REMEMBERED);
        }
        assert_eq!(
            delays(&mut failures, "10.0.0.1", Some("ana"), &clock, 1),
            [2000],
            "those that go on are not forgotten for those that fail once"
        );
    }
}
