//! Limits on the connections of strangers, in total and per address, and the choice of the one that a newer connection displaces.
//!
//! This module does not touch connections: a displaced stranger is notified by its [`ConnectionPermit`] and closes itself.
//!
//! INVARIANT: neither idle connections nor failures lock anybody out. If all permits are used, the newest stranger displaces the
//! oldest, so a new connection is always accepted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::failures::{Delay, FailedLogins, FailureCounts, HeldBackCounts};
use super::network::Network;
use crate::base::clock::Clock;

/// Limits on strangers.
#[derive(Debug, Clone)]
pub struct StrangerLimits {
    /// Maximum number of unauthenticated connections, in total; at least 1.
    pub connections: u32,
    /// Maximum number of these from one address (IPv6: one /64); at least 1.
    pub connections_per_address: u32,
    /// Maximum delay of the answer to a failed proof; the first few are not delayed. Zero: no delays.
    pub failure_delay: Duration,
}

impl Default for StrangerLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_address: 1024,
            failure_delay: Duration::from_secs(2),
        }
    }
}

/// Strangers at one entrance (the wire or the control API). Cheap to clone; clones share their counts.
#[derive(Clone)]
pub struct Strangers(Arc<StrangersInner>);

struct StrangersInner {
    limits: StrangerLimits,
    clock: Clock,
    permits: Mutex<Permits>,
    /// Failures, shared by all entrances.
    failures: Arc<Mutex<FailureCounts>>,
}

#[derive(Default)]
struct Permits {
    next: u64,
    /// Permits by order of arrival.
    given: BTreeMap<u64, (Network, oneshot::Sender<Displaced>)>,
    of: HashMap<Network, BTreeSet<u64>>,
}

/// Limit that cost a stranger its permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Displaced {
    /// Maximum number of strangers under that limit.
    pub limit: u32,
    /// True for the limit of the stranger's own address, false for the total.
    pub of_address: bool,
}

/// Permit of one stranger to be connected. Dropping it returns it.
pub struct ConnectionPermit {
    proof: Proof,
    /// Notification that the permit was taken; `None` once it was delivered.
    taken: Option<oneshot::Receiver<Displaced>>,
}

/// Receiver of the result of a connection's proof. Cheap to clone.
#[derive(Clone)]
pub struct Proof(Arc<PermitHolder>);

struct PermitHolder {
    strangers: Strangers,
    id: u64,
    network: Network,
}

impl Strangers {
    /// Creates an entrance without strangers.
    #[must_use]
    pub fn new(limits: StrangerLimits, clock: Clock) -> Self {
        Self::with_failures(limits, clock, Arc::default())
    }

    /// Creates another entrance with its own permits; failures at one of them count at both.
    #[must_use]
    pub fn beside(&self, limits: StrangerLimits) -> Self {
        Self::with_failures(limits, self.0.clock.clone(), Arc::clone(&self.0.failures))
    }

    fn with_failures(limits: StrangerLimits, clock: Clock, failures: Arc<Mutex<FailureCounts>>) -> Self {
        Self(Arc::new(StrangersInner {
            limits,
            clock,
            permits: Mutex::default(),
            failures,
        }))
    }

    /// Returns a permit for a connection from `address`. If none is left, the oldest stranger (from the same address, if that has
    /// too many) loses its permit.
    #[must_use]
    pub fn enter(&self, address: IpAddr) -> ConnectionPermit {
        let network = Network::of(address);
        let limits = &self.0.limits;
        let mut permits = self.0.permits.lock();
        let here = permits.of.entry(network).or_default();
        let oldest_here = here.first().copied();
        if over(here.len(), limits.connections_per_address) {
            permits.displace(oldest_here, limits.connections_per_address, true);
        } else if over(permits.given.len(), limits.connections) {
            let oldest = permits.given.keys().next().copied();
            permits.displace(oldest, limits.connections, false);
        }
        let (sender, taken) = oneshot::channel();
        let id = permits.next;
        permits.next += 1;
        permits.of.entry(network).or_default().insert(id);
        permits.given.insert(id, (network, sender));
        drop(permits);
        ConnectionPermit {
            proof: Proof(Arc::new(PermitHolder {
                strangers: self.clone(),
                id,
                network,
            })),
            taken: Some(taken),
        }
    }

    /// Returns the number of strangers.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.permits.lock().given.len()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of delayed answers to failures since the start, at all entrances.
    #[must_use]
    pub fn held_back(&self) -> HeldBackCounts {
        self.0.failures.lock().counts()
    }
}

fn over(count: usize, limit: u32) -> bool {
    usize::try_from(limit.max(1)).is_ok_and(|limit| count >= limit)
}

impl ConnectionPermit {
    /// Waits until a newer stranger takes this permit, and returns the limit that was reached. Never returns once the connection
    /// has proved itself.
    pub async fn taken(&mut self) -> Displaced {
        if let Some(taken) = &mut self.taken {
            let told = taken.await;
            self.taken = None;
            if let Ok(displaced) = told {
                return displaced;
            }
        }
        std::future::pending().await
    }

    /// Returns the receiver of the proof's result.
    #[must_use]
    pub fn proof(&self) -> &Proof {
        &self.proof
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.proof.leave();
    }
}

impl Proof {
    /// Counts a failure of the address and of the name that was to be proved, if the client came that far; returns the delay of
    /// the answer.
    #[must_use]
    pub fn failed(&self, name: Option<&str>) -> Delay {
        let PermitHolder { strangers, network, .. } = &*self.0;
        let StrangersInner { limits, clock, .. } = &*strangers.0;
        let now = clock.moment();
        strangers.0.failures.lock().add(*network, name, limits.failure_delay, now)
    }

    /// Returns the earlier failures to report to the client that proved `name`; each is reported once.
    #[must_use]
    pub fn failures_before(&self, name: &str) -> Option<FailedLogins> {
        let PermitHolder { strangers, network, .. } = &*self.0;
        let now = strangers.0.clock.moment();
        strangers.0.failures.lock().told(*network, name, now)
    }

    /// Ends the connection's time as a stranger: it is not counted or displaced any more.
    pub fn leave(&self) {
        let PermitHolder { strangers, id, .. } = &*self.0;
        strangers.0.permits.lock().remove(*id);
    }
}

impl Permits {
    fn remove(&mut self, id: u64) -> Option<oneshot::Sender<Displaced>> {
        let (network, sender) = self.given.remove(&id)?;
        if let Some(here) = self.of.get_mut(&network) {
            here.remove(&id);
            if here.is_empty() {
                self.of.remove(&network);
            }
        }
        Some(sender)
    }

    fn displace(&mut self, id: Option<u64>, limit: u32, of_address: bool) {
        if let Some(sender) = id.and_then(|id| self.remove(id)) {
            // Its task may be ending already.
            let _ = sender.send(Displaced { limit, of_address });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn strangers(connections: u32, connections_per_address: u32) -> Strangers {
        let limits = StrangerLimits {
            connections,
            connections_per_address,
            ..StrangerLimits::default()
        };
        Strangers::new(limits, Clock::manual(Timestamp::UNIX_EPOCH))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_taken(permit: &mut ConnectionPermit) -> bool {
        permit.taken.as_mut().is_some_and(|taken| taken.try_recv().is_ok())
    }

    #[tokio::test]
    async fn the_oldest_of_an_address_makes_room() {
        let strangers = strangers(10, 2);
        let mut first = strangers.enter(ip("10.0.0.1"));
        let mut second = strangers.enter(ip("10.0.0.1"));
        let mut elsewhere = strangers.enter(ip("10.0.0.2"));
        let mut third = strangers.enter(ip("10.0.0.1"));
        let displaced = Displaced {
            limit: 2,
            of_address: true,
        };
        assert_eq!(first.taken().await, displaced);
        assert!(!is_taken(&mut second) && !is_taken(&mut elsewhere) && !is_taken(&mut third));
        assert_eq!(strangers.len(), 3);
        drop((first, second, elsewhere, third));
        assert!(strangers.is_empty());
        assert!(strangers.0.permits.lock().of.is_empty());
    }

    #[tokio::test]
    async fn the_oldest_of_all_makes_room() {
        let strangers = strangers(2, 2);
        let mut first = strangers.enter(ip("10.0.0.1"));
        let mut second = strangers.enter(ip("10.0.0.2"));
        let _third = strangers.enter(ip("10.0.0.3"));
        assert!(is_taken(&mut first) && !is_taken(&mut second));
    }

    #[tokio::test]
    async fn permits_come_back_and_who_has_proved_something_keeps_its_connection() {
        let strangers = strangers(1, 1);
        for _ in 0..10 {
            let mut permit = strangers.enter(ip("::1"));
            assert!(!is_taken(&mut permit));
        }
        let mut proved = strangers.enter(ip("::1"));
        proved.proof().clone().leave();
        assert!(strangers.is_empty());
        let mut next = strangers.enter(ip("::1"));
        assert!(!is_taken(&mut proved) && !is_taken(&mut next));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_shut_nobody_out_and_count_at_every_door() {
        let wire = strangers(10, 10);
        let other = wire.beside(StrangerLimits {
            failure_delay: Duration::from_millis(150),
            ..StrangerLimits::default()
        });
        for _ in 0..300 {
            let _ = wire.enter(ip("10.0.0.1")).proof().failed(Some("ana"));
        }
        let elsewhere = other.enter(ip("10.0.0.1"));
        assert_eq!(elsewhere.proof().failed(Some("ana")).time, Duration::from_millis(150));
        let told = elsewhere.proof().failures_before("ana").unwrap();
        assert_eq!((told.under_name, told.from_address), (301, 301));
        assert!(wire.is_empty() && other.len() == 1);
    }
}
