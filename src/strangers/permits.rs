//! Connections of strangers: how many there may be, in all and of one address, and which gives way to a newer one.
//!
//! It does not touch connections: a stranger whose permit is taken learns it from its [`ConnectionPermit`] and closes itself.
//!
//! INVARIANT: neither silence nor failures lock anybody out. When the permits are used up the oldest stranger makes room for the
//! newest, so a connection is always let in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::failures::{Delay, FailedLogins, Failures, HeldBackCounts};
use super::network::Network;
use crate::clock::Clock;

/// Limits on strangers.
#[derive(Debug, Clone)]
pub struct StrangerLimits {
    /// Connections that have proved nothing, in all; at least 1.
    pub connections: u32,
    /// Of these, those of one address (IPv6: one /64); at least 1.
    pub connections_per_address: u32,
    /// The longest time the answer to a failed proof is held back; the first few are not. Zero: none is.
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

/// The strangers at one door. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Strangers(Arc<Inner>);

struct Inner {
    limits: StrangerLimits,
    clock: Clock,
    permits: Mutex<Permits>,
    /// The same at every door.
    failures: Arc<Mutex<Failures>>,
}

#[derive(Default)]
struct Permits {
    next: u64,
    /// By order of arrival.
    given: BTreeMap<u64, (Network, oneshot::Sender<Displaced>)>,
    of: HashMap<Network, BTreeSet<u64>>,
}

/// The limit that cost a stranger its permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Displaced {
    /// How many there may be.
    pub limit: u32,
    /// Of the stranger's own address, and not of all.
    pub of_address: bool,
}

/// One stranger's permit to be connected. Dropping it gives it back.
pub struct ConnectionPermit {
    proof: Proof,
    /// `None` once it has told that the permit was taken.
    taken: Option<oneshot::Receiver<Displaced>>,
}

/// Where it is told what came of a connection's proof. Cheap to clone.
#[derive(Clone)]
pub struct Proof(Arc<Seat>);

struct Seat {
    strangers: Strangers,
    id: u64,
    network: Network,
}

impl Strangers {
    /// A door at which nobody waits yet.
    #[must_use]
    pub fn new(limits: StrangerLimits, clock: Clock) -> Self {
        Self::with_failures(limits, clock, Arc::default())
    }

    /// Another door, with permits of its own: what fails at one of them counts at both.
    #[must_use]
    pub fn beside(&self, limits: StrangerLimits) -> Self {
        Self::with_failures(limits, self.0.clock.clone(), Arc::clone(&self.0.failures))
    }

    fn with_failures(limits: StrangerLimits, clock: Clock, failures: Arc<Mutex<Failures>>) -> Self {
        Self(Arc::new(Inner {
            limits,
            clock,
            permits: Mutex::default(),
            failures,
        }))
    }

    /// A permit for a connection from `address`, at the cost of the oldest stranger (from the same address, if that has too
    /// many) when there is none left.
    #[must_use]
    pub fn enter(&self, address: IpAddr) -> ConnectionPermit {
        let network = Network::of(address);
        let limits = &self.0.limits;
        let mut permits = self.permits();
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
            proof: Proof(Arc::new(Seat {
                strangers: self.clone(),
                id,
                network,
            })),
            taken: Some(taken),
        }
    }

    /// How many strangers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.permits().given.len()
    }

    /// How many answers to failures were held back since the start, at every door.
    #[must_use]
    pub fn held_back(&self) -> HeldBackCounts {
        self.failures().counts()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn permits(&self) -> MutexGuard<'_, Permits> {
        // Nothing between lock and unlock leaves the counts half changed.
        self.0.permits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        // As above.
        self.0.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn over(count: usize, limit: u32) -> bool {
    usize::try_from(limit.max(1)).is_ok_and(|limit| count >= limit)
}

impl ConnectionPermit {
    /// Ends when a newer stranger took this permit, with the limit that was reached; never once the connection has proved itself.
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

    /// Where it is told what came of the proof.
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
    /// Counts a failure against the address and the name it was for, where it came that far; returns how long to hold the answer
    /// back.
    #[must_use]
    pub fn failed(&self, name: Option<&str>) -> Delay {
        let Seat { strangers, network, .. } = &*self.0;
        let Inner { limits, clock, .. } = &*strangers.0;
        let now = clock.moment();
        strangers.failures().add(*network, name, limits.failure_delay, now)
    }

    /// What there is to tell of failures before to whoever proved `name`; once.
    #[must_use]
    pub fn failures_before(&self, name: &str) -> Option<FailedLogins> {
        let Seat { strangers, network, .. } = &*self.0;
        let now = strangers.0.clock.moment();
        strangers.failures().told(*network, name, now)
    }

    /// The connection is no stranger's any more: nobody takes its place, and it has none among them.
    pub fn leave(&self) {
        let Seat { strangers, id, .. } = &*self.0;
        strangers.permits().remove(*id);
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
            // Its task may just be ending by itself.
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
        assert!(strangers.permits().of.is_empty());
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
