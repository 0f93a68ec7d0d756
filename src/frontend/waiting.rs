//! Who is waiting to be authenticated, and from where logins fail: limits on both.
//!
//! It does not touch connections: a stranger whose place is taken learns it from its [`Place`] and closes itself.
//!
//! INVARIANT: silence never locks anybody out, for when the places are full the oldest stranger makes room for the newest; and
//! failed logins slow down, and in the end shut out, only the address they come from, never a user.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::clock::Clock;

/// Limits on strangers.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Unfinished logins at once, in all; at least 1.
    pub waiting: u32,
    /// Unfinished logins at once from one address (IPv6: one /64); at least 1.
    pub waiting_per_address: u32,
    /// Failed logins from one address before it is shut out; one is forgiven each second. 0: no limit.
    pub failures_per_address: u32,
    /// The longest time the answer to a failed login is held back; the first few are not. Zero: none is.
    pub failure_delay: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            waiting: 4096,
            waiting_per_address: 1024,
            failures_per_address: 200,
            failure_delay: Duration::from_secs(2),
        }
    }
}

impl Limits {
    /// How long it takes until enough of `failures` are forgiven, where there are too many.
    fn shut_out(&self, failures: f64) -> Option<Duration> {
        let limit = f64::from(self.failures_per_address);
        (limit > 0.0 && failures >= limit).then(|| Duration::from_secs_f64((failures - limit).floor() + 1.0))
    }
}

/// Why a connection is closed at once, unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overload {
    /// Too many failed logins came from its address lately.
    #[error("too many failed logins from {address} (more than {limit})")]
    FailedLogins {
        /// Where from.
        address: IpAddr,
        /// How many there may be.
        limit: u32,
    },
}

/// Failed logins from one address that are answered without delay: people mistype.
const FREE_FAILURES: f64 = 5.0;
/// The first delay; each further failure doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Addresses remembered for their failures only. Forgetting one costs nothing but its delay.
const REMEMBERED: usize = 4096;

/// The strangers. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Waiting(Arc<Inner>);

struct Inner {
    limits: Limits,
    clock: Clock,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    next: u64,
    taken: BTreeMap<u64, (Network, oneshot::Sender<u32>)>,
    networks: HashMap<Network, Counts>,
}

#[derive(Default)]
struct Counts {
    /// In order of arrival.
    waiting: BTreeSet<u64>,
    failures: f64,
    counted: Option<Instant>,
}

/// An address as far as it tells strangers apart: one host has a whole IPv6 /64 to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Network {
    V4(u32),
    V6(u64),
}

/// One stranger's place. Dropping it gives it back.
pub struct Place {
    waiting: Waiting,
    id: u64,
    network: Network,
    /// `None` once it has told that the place was taken.
    taken: Option<oneshot::Receiver<u32>>,
}

impl Waiting {
    /// Nobody waits yet.
    #[must_use]
    pub fn new(limits: Limits, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            limits,
            clock,
            places: Mutex::new(Places::default()),
        }))
    }

    /// A place for a connection from `address`, at the cost of the oldest stranger (from the same address, if that has too
    /// many) when there is none left. On [`Overload`] drop the connection unread.
    pub fn enter(&self, address: IpAddr) -> Result<Place, Overload> {
        let network = Network::of(address);
        let limits = &self.0.limits;
        let mut places = self.places();
        let now = self.0.clock.moment().instant;
        let Counts { waiting, failures, .. } = places.counts(network, now);
        if limits.shut_out(*failures).is_some() {
            let limit = limits.failures_per_address;
            return Err(Overload::FailedLogins { address, limit });
        }
        let oldest_here = waiting.first().copied();
        if over(waiting.len(), limits.waiting_per_address) {
            places.displace(oldest_here, limits.waiting_per_address);
        } else if over(places.taken.len(), limits.waiting) {
            let oldest = places.taken.keys().next().copied();
            places.displace(oldest, limits.waiting);
        }
        let (sender, taken) = oneshot::channel();
        let id = places.next;
        places.next += 1;
        places.counts(network, now).waiting.insert(id);
        places.taken.insert(id, (network, sender));
        places.forget(now, REMEMBERED);
        drop(places);
        Ok(Place {
            waiting: self.clone(),
            id,
            network,
            taken: Some(taken),
        })
    }

    /// How long nobody from `address` is listened to, for too many failed logins came from there lately; `None`: they are.
    #[must_use]
    pub fn shut_out(&self, address: IpAddr) -> Option<Duration> {
        let now = self.0.clock.moment().instant;
        let mut places = self.places();
        let counts = places.networks.get_mut(&Network::of(address))?;
        counts.forgive(now);
        self.0.limits.shut_out(counts.failures)
    }

    /// Counts a failed login against `address`, for whoever takes no place here; returns how long to hold the answer back.
    #[must_use]
    pub fn failed(&self, address: IpAddr) -> Duration {
        let delay = self.count(Network::of(address));
        let now = self.0.clock.moment().instant;
        self.places().forget(now, REMEMBERED);
        delay
    }

    fn count(&self, network: Network) -> Duration {
        let Inner { limits, clock, .. } = &*self.0;
        let now = clock.moment().instant;
        let mut places = self.places();
        let counts = places.counts(network, now);
        counts.failures += 1.0;
        let beyond = counts.failures - FREE_FAILURES;
        if beyond <= 0.0 {
            return Duration::ZERO;
        }
        // Beyond ten doublings (100 s) any cap is reached.
        FIRST_DELAY.mul_f64(beyond.min(10.0).exp2() / 2.0).min(limits.failure_delay)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places().taken.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        // Nothing between lock and unlock leaves the counts half changed.
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn over(count: usize, limit: u32) -> bool {
    usize::try_from(limit.max(1)).is_ok_and(|limit| count >= limit)
}

impl Place {
    /// Ends when a newer stranger took this place, with the limit that was reached.
    pub(super) async fn taken(&mut self) -> u32 {
        if let Some(taken) = &mut self.taken {
            let told = taken.await;
            self.taken = None;
            if let Ok(limit) = told {
                return limit;
            }
        }
        std::future::pending().await
    }

    /// Counts a failed login (or a cancel with a wrong key) against the address; returns how long to hold an answer back.
    #[must_use]
    pub fn failed(&self) -> Duration {
        self.waiting.count(self.network)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.waiting.places();
        places.remove(self.id);
        let now = self.waiting.0.clock.moment().instant;
        let counts = places.counts(self.network, now);
        if counts.is_idle() {
            places.networks.remove(&self.network);
        }
    }
}

impl Places {
    /// The counts of a network as of `now`: one failure a second is forgiven.
    fn counts(&mut self, network: Network, now: Instant) -> &mut Counts {
        let counts = self.networks.entry(network).or_default();
        counts.forgive(now);
        counts
    }

    fn remove(&mut self, id: u64) -> Option<oneshot::Sender<u32>> {
        let (network, sender) = self.taken.remove(&id)?;
        if let Some(counts) = self.networks.get_mut(&network) {
            counts.waiting.remove(&id);
        }
        Some(sender)
    }

    fn displace(&mut self, id: Option<u64>, limit: u32) {
        if let Some(sender) = id.and_then(|id| self.remove(id)) {
            // Its task may just be ending by itself.
            let _ = sender.send(limit);
        }
    }

    /// Keeps what is remembered bounded: first the forgiven are forgotten, then, should that not do, all who do not wait.
    fn forget(&mut self, now: Instant, remembered: usize) {
        if self.networks.len() <= self.taken.len() + remembered {
            return;
        }
        self.networks.retain(|_, counts| {
            counts.forgive(now);
            !counts.is_idle()
        });
        if self.networks.len() > self.taken.len() + remembered / 2 {
            self.networks.retain(|_, counts| !counts.waiting.is_empty());
        }
    }
}

impl Counts {
    fn forgive(&mut self, now: Instant) {
        let passed = self
            .counted
            .map_or(Duration::ZERO, |counted| now.saturating_duration_since(counted));
        self.failures = (self.failures - passed.as_secs_f64()).max(0.0);
        self.counted = Some(now);
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.failures <= 0.0
    }
}

impl Network {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6(u64::try_from(address.to_bits() >> 64).unwrap_or(u64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use tokio::time::advance;

    fn waiting(waiting: u32, waiting_per_address: u32) -> Waiting {
        let limits = Limits {
            waiting,
            waiting_per_address,
            failures_per_address: 20,
            failure_delay: Duration::from_secs(2),
        };
        Waiting::new(limits, Clock::manual(Timestamp::UNIX_EPOCH))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_taken(place: &mut Place) -> bool {
        place.taken.as_mut().is_some_and(|taken| taken.try_recv().is_ok())
    }

    #[tokio::test]
    async fn the_oldest_of_an_address_makes_room() {
        let waiting = waiting(10, 2);
        let mut first = waiting.enter(ip("10.0.0.1")).unwrap();
        let mut second = waiting.enter(ip("10.0.0.1")).unwrap();
        let mut elsewhere = waiting.enter(ip("10.0.0.2")).unwrap();
        let mut third = waiting.enter(ip("10.0.0.1")).unwrap();
        assert_eq!(first.taken().await, 2);
        assert!(!is_taken(&mut second) && !is_taken(&mut elsewhere) && !is_taken(&mut third));
        assert_eq!(waiting.len(), 3);
        drop((first, second, elsewhere, third));
        assert!(waiting.is_empty());
        assert!(waiting.places().networks.is_empty());
    }

    #[tokio::test]
    async fn the_oldest_of_all_makes_room() {
        let waiting = waiting(2, 2);
        let mut first = waiting.enter(ip("10.0.0.1")).unwrap();
        let mut second = waiting.enter(ip("10.0.0.2")).unwrap();
        let _third = waiting.enter(ip("10.0.0.3")).unwrap();
        assert!(is_taken(&mut first) && !is_taken(&mut second));
    }

    #[tokio::test]
    async fn places_come_back() {
        let waiting = waiting(1, 1);
        for _ in 0..10 {
            let mut place = waiting.enter(ip("::1")).unwrap();
            assert!(!is_taken(&mut place));
        }
    }

    #[tokio::test]
    async fn one_ipv6_network_is_one_address() {
        let waiting = waiting(10, 1);
        let mut first = waiting.enter(ip("2001:db8::1")).unwrap();
        let _second = waiting.enter(ip("2001:db8::2")).unwrap();
        assert!(is_taken(&mut first));
        let mut mapped = waiting.enter(ip("::ffff:10.0.0.1")).unwrap();
        let _plain = waiting.enter(ip("10.0.0.1")).unwrap();
        assert!(is_taken(&mut mapped));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_delay_then_shut_out_their_address_only() {
        let waiting = waiting(100, 100);
        let mut delays = Vec::new();
        for _ in 0..20 {
            delays.push(waiting.enter(ip("10.0.0.1")).unwrap().failed().as_millis());
        }
        assert_eq!(delays[..5], [0; 5]);
        assert_eq!(delays[5..10], [100, 200, 400, 800, 1600]);
        assert_eq!(delays[10..], [2000; 10]);
        assert!(matches!(
            waiting.enter(ip("10.0.0.1")),
            Err(Overload::FailedLogins { limit: 20, .. })
        ));
        assert_eq!(waiting.enter(ip("10.0.0.2")).unwrap().failed(), Duration::ZERO);
        advance(Duration::from_millis(1001)).await;
        assert!(waiting.enter(ip("10.0.0.1")).is_ok());
        advance(Duration::from_mins(1)).await;
        assert_eq!(waiting.enter(ip("10.0.0.1")).unwrap().failed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_no_place_is_counted_and_shut_out_with_all_others_of_the_address() {
        let waiting = waiting(100, 100);
        let here = ip("10.0.0.1");
        assert!(waiting.shut_out(here).is_none() && waiting.places().networks.is_empty());
        let mut delays: Vec<_> = (0..10).map(|_| waiting.failed(here).as_millis()).collect();
        for _ in 10..20 {
            assert_eq!(waiting.shut_out(here), None);
            delays.push(waiting.enter(here).unwrap().failed().as_millis());
        }
        assert_eq!(delays[4..10], [0, 100, 200, 400, 800, 1600]);
        assert_eq!(waiting.shut_out(here), Some(Duration::from_secs(1)));
        assert!(waiting.enter(here).is_err());
        let _ = waiting.failed(here);
        assert_eq!(waiting.shut_out(here), Some(Duration::from_secs(2)));
        assert_eq!(waiting.shut_out(ip("10.0.0.2")), None);
        advance(Duration::from_millis(2001)).await;
        assert_eq!(waiting.shut_out(here), None);
        for n in 0..3 * REMEMBERED {
            let _ = waiting.failed(IpAddr::from(u32::try_from(n).unwrap().to_be_bytes()));
        }
        assert!(waiting.places().networks.len() <= REMEMBERED + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let waiting = waiting(10, 10);
        for n in 0..3 * REMEMBERED {
            let address = IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
            let _ = waiting.enter(address).unwrap().failed();
        }
        assert!(waiting.places().networks.len() <= REMEMBERED + 11);
    }
}
