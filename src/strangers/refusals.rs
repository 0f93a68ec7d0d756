//! Records of strangers that were refused: the first few each, the rest counted, so that the log grows with time and not with
//! what strangers do.
//!
//! It decides nothing. What is counted goes on record at the end of each interval, by address and kind.
//!
//! INVARIANT: a stranger's record is written only while the disk has more room than the reserve. What is not written is counted,
//! and the count is written as soon as there is room.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::network::Network;
use super::reserve::DiskReserve;
use crate::audit::event::{Event, RefusalsCounted};
use crate::audit::{Batch, Journal};
use crate::causes::in_one_line;
use crate::clock::Clock;

/// How often counts go on record. A gate that is killed loses those of the interval it was in.
const INTERVAL: Duration = Duration::from_mins(1);
/// Records of their own within an interval: of one address, and in all.
const MAX_ALONE_PER_ADDRESS: u32 = 10;
const MAX_ALONE: u32 = 100;
/// Addresses told apart within an interval, and pairs of address and kind that get a count of their own.
const MAX_ADDRESSES: usize = 1024;
const MAX_COUNTS: usize = 64;

/// The records of strangers. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct RefusalLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    journal: Journal,
    clock: Clock,
    reserve: DiskReserve,
    interval: Mutex<Interval>,
}

/// What came since the last counts went on record.
#[derive(Debug, Default)]
struct Interval {
    alone: HashMap<Network, u32>,
    alone_in_all: u32,
    counts: BTreeMap<Key, Count>,
}

/// An address (none: one of those that are not told apart) and a kind of refusal.
type Key = (Option<Network>, &'static str);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    times: u64,
    first: Timestamp,
    last: Timestamp,
}

impl RefusalLog {
    /// Writes to this journal; [`Self::run`] has to be running too.
    #[must_use]
    pub fn new(journal: Journal, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            reserve: DiskReserve::of(&journal.settings().dir),
            journal,
            clock,
            interval: Mutex::default(),
        }))
    }

    /// Puts on record that somebody from `address` was refused (none: at the gate's own socket, which is its operator's alone), or
    /// counts it. Never fails: what cannot be written is counted.
    pub async fn record(&self, address: Option<IpAddr>, kind: &'static str, event: &Event<'_>) {
        let Inner {
            journal, clock, reserve, ..
        } = &*self.0;
        let Some(network) = address.map(Network::of) else {
            if let Err(error) = journal.record(event).await {
                tracing::error!(error = %in_one_line(&error), "cannot write a refusal to the audit log");
            }
            return;
        };
        let alone = self.interval().alone(network) && reserve.has_room();
        let count = || self.interval().count((Some(network), kind), Count::one(clock.now()));
        if !alone {
            return count();
        }
        if let Err(error) = journal.record(event).await {
            tracing::error!(error = %in_one_line(&error), "cannot write the refusal of an unauthenticated client to the audit log; its count will be written later");
            count();
        }
    }

    /// Puts the counts on record each minute, until it is dropped.
    pub async fn run(self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.end_interval().await;
        }
    }

    /// Puts the counts on record that there are, if there is room; a new interval begins.
    pub async fn end_interval(&self) {
        let Inner {
            journal, clock, reserve, ..
        } = &*self.0;
        let room = reserve.has_room();
        let counts = {
            let mut interval = self.interval();
            (interval.alone, interval.alone_in_all) = (HashMap::new(), 0);
            if room {
                std::mem::take(&mut interval.counts)
            } else {
                BTreeMap::new()
            }
        };
        let mut batch = Batch::new();
        for (key, count) in &counts {
            batch.push(clock.now(), &Event::RefusalsCounted(record(*key, *count)));
        }
        if batch.is_empty() {
            return;
        }
        if let Err(error) = journal.submit(&mut batch).wait().await {
            tracing::error!(error = %in_one_line(&error), "cannot write the counts of refused unauthenticated clients to the audit log; will retry");
            let mut interval = self.interval();
            for (key, count) in counts {
                interval.count(key, count);
            }
        }
    }

    fn interval(&self) -> MutexGuard<'_, Interval> {
        // Nothing between lock and unlock leaves the counts half changed.
        self.0.interval.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interval {
    /// Whether one more from there may have a record of its own; it is taken to have it.
    fn alone(&mut self, network: Network) -> bool {
        let known = self.alone.contains_key(&network) || self.alone.len() < MAX_ADDRESSES;
        if !known || self.alone_in_all >= MAX_ALONE {
            return false;
        }
        let here = self.alone.entry(network).or_default();
        let alone = *here < MAX_ALONE_PER_ADDRESS;
        *here += u32::from(alone);
        self.alone_in_all += u32::from(alone);
        alone
    }

    fn count(&mut self, key: Key, more: Count) {
        let own = self.counts.contains_key(&key) || self.counts.len() < MAX_COUNTS;
        let key = if own { key } else { (None, key.1) };
        self.counts.entry(key).and_modify(|count| count.add(more)).or_insert(more);
    }
}

impl Count {
    fn one(now: Timestamp) -> Self {
        Self {
            times: 1,
            first: now,
            last: now,
        }
    }

    fn add(&mut self, more: Self) {
        self.times += more.times;
        self.first = self.first.min(more.first);
        self.last = self.last.max(more.last);
    }
}

fn record((network, kind): Key, count: Count) -> RefusalsCounted {
    RefusalsCounted {
        network: network.map(|network| network.to_string()),
        ending: kind.to_owned(),
        count: count.times,
        first: count.first,
        last: count.last,
    }
}

#[cfg(test)]
mod tests;
