//! Records of refused strangers: the first few are written each, the rest are counted, so that the log grows with time and not
//! with the number of attempts.
//!
//! This module does not decide on refusals. Counts are recorded at the end of each interval, by address and kind.
//!
//! INVARIANT: the record of a stranger is written only while the disk has more room than the reserve. A record that is not
//! written is counted, and the count is written as soon as there is room.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::network::Network;
use super::reserve::DiskReserve;
use crate::audit::event::{Event, RefusalKind, RefusalsCounted};
use crate::audit::{Journal, RecordBatch};
use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;

/// Interval between records of counts. A gate that is killed loses the counts of the current interval.
const COUNT_INTERVAL: Duration = Duration::from_mins(1);
/// Number of individual records within an interval: per address, and in total.
const MAX_ALONE_PER_ADDRESS: u32 = 10;
const MAX_ALONE: u32 = 100;
/// Number of addresses that are distinguished within an interval, and of pairs of address and kind that have their own count.
const MAX_ADDRESSES: usize = 1024;
const MAX_COUNTS: usize = 64;

/// Writer of the records of strangers. Cheap to clone; clones share their counts.
#[derive(Debug, Clone)]
pub struct RefusalLog(Arc<RefusalLogInner>);

#[derive(Debug)]
struct RefusalLogInner {
    journal: Journal,
    clock: Clock,
    reserve: DiskReserve,
    interval: Mutex<RefusalInterval>,
}

/// Refusals since the last record of counts.
#[derive(Debug, Default)]
struct RefusalInterval {
    alone: HashMap<Network, u32>,
    alone_in_all: u32,
    counts: BTreeMap<RefusalKey, RefusalCount>,
}

/// Address (`None`: one of those that are not distinguished) and kind of refusal.
type RefusalKey = (Option<Network>, RefusalKind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RefusalCount {
    times: u64,
    first: Timestamp,
    last: Timestamp,
}

impl RefusalLog {
    /// Creates a writer to this journal; [`Self::run`] must be running too.
    #[must_use]
    pub fn new(journal: Journal, clock: Clock) -> Self {
        Self(Arc::new(RefusalLogInner {
            reserve: DiskReserve::of(&journal.settings().dir),
            journal,
            clock,
            interval: Mutex::default(),
        }))
    }

    /// Records the refusal of a client from `address` (`None`: at the gate's own socket, which only its operator can use), or
    /// counts it. Never fails: a record that cannot be written is counted.
    pub async fn record(&self, address: Option<IpAddr>, kind: RefusalKind, event: &Event<'_>) {
        let RefusalLogInner {
            journal, clock, reserve, ..
        } = &*self.0;
        let Some(network) = address.map(Network::of) else {
            if let Err(error) = journal.record(event).await {
                tracing::error!(error = %display_chain(&error), "cannot write a refusal to the audit log");
            }
            return;
        };
        let alone = self.0.interval.lock().alone(network) && reserve.has_room();
        let count = || {
            let refusal = RefusalCount::one(clock.now());
            self.0.interval.lock().count((Some(network), kind), refusal);
        };
        if !alone {
            return count();
        }
        if let Err(error) = journal.record(event).await {
            tracing::error!(error = %display_chain(&error), "cannot write the refusal of an unauthenticated client to the audit log; its count will be written later");
            count();
        }
    }

    /// Records the counts each minute, until it is dropped.
    pub async fn run(self) {
        loop {
            tokio::time::sleep(COUNT_INTERVAL).await;
            self.end_interval().await;
        }
    }

    /// Records the current counts, if there is room, and begins a new interval.
    pub async fn end_interval(&self) {
        let RefusalLogInner {
            journal, clock, reserve, ..
        } = &*self.0;
        let room = reserve.has_room();
        let counts = {
            let mut interval = self.0.interval.lock();
            (interval.alone, interval.alone_in_all) = (HashMap::new(), 0);
            if room {
                std::mem::take(&mut interval.counts)
            } else {
                BTreeMap::new()
            }
        };
        let mut batch = RecordBatch::new();
        for (key, count) in &counts {
            batch.push(clock.now(), &Event::RefusalsCounted(record(*key, *count)));
        }
        if batch.is_empty() {
            return;
        }
        if let Err(error) = journal.submit(&mut batch).wait().await {
            tracing::error!(error = %display_chain(&error), "cannot write the counts of refused unauthenticated clients to the audit log; will retry");
            let mut interval = self.0.interval.lock();
            for (key, count) in counts {
                interval.count(key, count);
            }
        }
    }
}

impl RefusalInterval {
    /// Returns true if one more refusal from this address gets an individual record, and counts that record.
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

    fn count(&mut self, key: RefusalKey, more: RefusalCount) {
        let own = self.counts.contains_key(&key) || self.counts.len() < MAX_COUNTS;
        let key = if own { key } else { (None, key.1) };
        self.counts.entry(key).and_modify(|count| count.add(more)).or_insert(more);
    }
}

impl RefusalCount {
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

fn record((network, kind): RefusalKey, count: RefusalCount) -> RefusalsCounted {
    RefusalsCounted {
        network: network.map(|network| network.to_string()),
        ending: kind.into(),
        count: count.times,
        first: count.first,
        last: count.last,
    }
}

#[cfg(test)]
mod tests;
