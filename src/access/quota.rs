//! Quotas of each identity, over all its sessions and calls: memory for prepared statements, and bytes of the log per second.
//!
//! It ends nothing and waits for nothing: it counts, and returns the time to wait for. No record is dropped.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::model::names::IdentityName;

/// Maximum unused time that is saved: a burst of a minute's worth is not slowed down.
const BURST_WINDOW: Duration = Duration::from_mins(1);
/// Reciprocal of the share of the memory that is reserved for portals.
const PORTALS_SHARE: usize = 8;
/// Size that a record counts for if it is not about a statement (start or end of a session, refusal, decision), in bytes.
pub const RECORD_BYTES: usize = 1024;

/// Limits for each identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaLimits {
    /// Maximum size of tracked prepared statements and portals, in bytes.
    pub prepared_bytes: usize,
    /// Long-term rate of log output, in bytes per second.
    pub log_bytes_per_second: u32,
}

impl Default for QuotaLimits {
    fn default() -> Self {
        Self {
            prepared_bytes: 64 << 20,
            log_bytes_per_second: 8 << 20,
        }
    }
}

/// Quotas of all identities that hold memory or have logged recently. Cheap to clone; clones share their state.
#[derive(Debug, Clone, Default)]
pub struct Quotas(Arc<Mutex<QuotaTable>>);

#[derive(Debug, Default)]
struct QuotaTable {
    limits: QuotaLimits,
    quotas: HashMap<IdentityName, Arc<Quota>>,
}

/// Usage of one identity, shared by its sessions.
#[derive(Debug)]
pub struct Quota {
    limits: QuotaLimits,
    held: AtomicUsize,
    /// Time at which the log output so far is within the rate; at most [`BURST_WINDOW`] in the past.
    paid_until: Mutex<Option<Instant>>,
}

impl Quotas {
    /// Creates quotas with these limits.
    #[must_use]
    pub fn new(limits: QuotaLimits) -> Self {
        let quotas = HashMap::new();
        Self(Arc::new(Mutex::new(QuotaTable { limits, quotas })))
    }

    /// Replaces the limits, for sessions that begin from now on.
    pub fn set_limits(&self, limits: QuotaLimits) {
        self.0.lock().limits = limits;
    }

    /// Returns the quota of an identity. After a change of the limits it is a new one, which starts at zero.
    #[must_use]
    pub fn of(&self, identity: &IdentityName, now: Instant) -> Arc<Quota> {
        let mut all = self.0.lock();
        let limits = all.limits;
        let known = all.quotas.get(identity).filter(|quota| quota.limits == limits);
        if let Some(quota) = known {
            return Arc::clone(quota);
        }
        // New identities are much rarer than sessions, so cleaning up here is cheap and keeps the map small.
        all.quotas
            .retain(|_, quota| Arc::strong_count(quota) > 1 || quota.has_logged_lately(now));
        let quota = Arc::new(Quota::new(limits));
        all.quotas.insert(identity.clone(), Arc::clone(&quota));
        quota
    }
}

impl Default for Quota {
    fn default() -> Self {
        Self::new(QuotaLimits::default())
    }
}

impl Quota {
    /// Creates an unused quota.
    #[must_use]
    pub fn new(limits: QuotaLimits) -> Self {
        Self {
            limits,
            held: AtomicUsize::new(0),
            paid_until: Mutex::new(None),
        }
    }

    /// Adds bytes held for prepared statements and portals.
    pub fn hold(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Subtracts bytes that are no longer held.
    pub fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Returns the limit if there is no room for another prepared statement; an eighth is reserved for portals.
    pub fn full_for_statements(&self) -> Option<usize> {
        let limit = self.limits.prepared_bytes;
        (self.held.load(Ordering::Relaxed) >= limit - limit / PORTALS_SHARE).then_some(limit)
    }

    /// Returns the limit if there is no room for another portal either.
    pub fn full_for_portals(&self) -> Option<usize> {
        let limit = self.limits.prepared_bytes;
        (self.held.load(Ordering::Relaxed) >= limit).then_some(limit)
    }

    /// Counts bytes logged at `now`. If they exceed the rate, returns the time until which the identity's clients must not be
    /// read.
    pub fn log(&self, bytes: usize, now: Instant) -> Option<Instant> {
        let mut paid_until = self.paid_until.lock();
        Self::pay(self.limits, &mut paid_until, bytes, now)
    }

    /// Counts one record if the log output so far is within the rate, and returns true; otherwise returns false.
    #[must_use]
    pub fn affords_record(&self, now: Instant) -> bool {
        let mut paid_until = self.paid_until.lock();
        let even = paid_until.is_none_or(|until| until <= now);
        if even {
            Self::pay(self.limits, &mut paid_until, RECORD_BYTES, now);
        }
        even
    }

    fn pay(limits: QuotaLimits, paid_until: &mut Option<Instant>, bytes: usize, now: Instant) -> Option<Instant> {
        let rate = f64::from(limits.log_bytes_per_second.max(1));
        #[expect(clippy::cast_precision_loss, reason = "sizes of batches in memory")]
        let time = Duration::from_secs_f64(bytes as f64 / rate);
        let earliest = now.checked_sub(BURST_WINDOW).unwrap_or(now);
        let until = paid_until.unwrap_or(earliest).max(earliest) + time;
        *paid_until = Some(until);
        (until > now).then_some(until)
    }

    /// Returns true if a new quota would allow more than this one.
    fn has_logged_lately(&self, now: Instant) -> bool {
        self.paid_until.lock().is_some_and(|until| until + BURST_WINDOW > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const LIMITS: QuotaLimits = QuotaLimits {
        prepared_bytes: 1000,
        log_bytes_per_second: 100,
    };

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_what_goes_on_is_slowed_down() {
        let quota = Quota::new(LIMITS);
        let start = Instant::now();
        advance(BURST_WINDOW).await;
        let now = start + BURST_WINDOW;
        assert_eq!(quota.log(6000, now), None, "a minute's worth");
        assert_eq!(quota.log(100, now), Some(now + Duration::from_secs(1)));
        assert_eq!(
            quota.log(100, now),
            Some(now + Duration::from_secs(2)),
            "whichever session it is"
        );
        advance(Duration::from_secs(3)).await;
        assert_eq!(quota.log(100, now + Duration::from_secs(3)), None);
        let later = now + Duration::from_hours(5);
        assert_eq!(
            quota.log(6001, later),
            Some(later + Duration::from_millis(10)),
            "no more is saved up"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_sessions_of_an_identity_share_one_and_leave_nothing_behind() {
        let quotas = Quotas::new(LIMITS);
        let (ana, bo): (IdentityName, IdentityName) = ("ana".parse().unwrap(), "bo".parse().unwrap());
        let now = Instant::now();
        let (first, second) = (quotas.of(&ana, now), quotas.of(&ana, now));
        first.hold(600);
        assert_eq!(second.full_for_statements(), None);
        second.hold(300);
        assert_eq!((first.full_for_statements(), first.full_for_portals()), (Some(1000), None));
        second.hold(300);
        assert_eq!(first.full_for_portals(), Some(1000));
        assert_eq!(quotas.of(&bo, now).full_for_statements(), None);
        second.release(600);
        assert_eq!(first.full_for_statements(), None);
        drop((first, second));
        let _bos = quotas.of(&bo, now);
        let _cys = quotas.of(&"cy".parse().unwrap(), now);
        assert_eq!(quotas.0.lock().quotas.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_and_goes_has_no_more_than_who_stays() {
        let quotas = Quotas::new(LIMITS);
        let (ana, bo): (IdentityName, IdentityName) = ("ana".parse().unwrap(), "bo".parse().unwrap());
        advance(BURST_WINDOW).await;
        let start = Instant::now();
        let records = |seconds| {
            let now = start + Duration::from_secs(seconds);
            // Somebody else's first session is when those that are over are forgotten.
            let _bos = quotas.of(&bo, now);
            quotas.of(&ana, now).affords_record(now)
        };
        // A minute's worth: 6,000 bytes; the next second's are not enough for a sixth.
        assert_eq!((0..10).filter(|_| records(0)).count(), 6);
        assert!(!records(1));
        // So it goes on, one in ten seconds.
        let later = (1..=100).filter(|second| records(*second)).count();
        assert!((9..=10).contains(&later), "{later}");
    }
}
