//! The limits on what one identity may use up, whichever of its sessions and calls that is: memory for prepared statements, and the log's
//! bytes a second.
//!
//! It ends nothing and waits for nothing: it counts, and says until when somebody is to wait. Nothing is lost by it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::names::IdentityName;

/// The time that is saved up while nothing is logged: a burst of a minute's worth passes unhindered.
const SAVED_UP: Duration = Duration::from_mins(1);
/// One part in so many of what may be held is for portals alone.
const PORTALS_SHARE: usize = 8;
/// The size that a record counts for which is about no statement: of a session's start or end, a refusal, a decision.
pub const RECORD_BYTES: usize = 1024;

/// Limits for each identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaLimits {
    /// Bytes of prepared statements and portals that are kept account of.
    pub prepared_bytes: usize,
    /// Bytes of the log a second, in the long run.
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

/// The quotas of all identities that hold something or have lately been heard of. Cheap to clone; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Quotas(Arc<Mutex<All>>);

#[derive(Debug, Default)]
struct All {
    limits: QuotaLimits,
    quotas: HashMap<IdentityName, Arc<Quota>>,
}

/// What one identity uses. Its sessions share it.
#[derive(Debug)]
pub struct Quota {
    limits: QuotaLimits,
    held: AtomicUsize,
    /// When the log has been given time for all that was written; at most [`SAVED_UP`] ago.
    paid_until: Mutex<Option<Instant>>,
}

impl Quotas {
    /// Quotas with these limits.
    #[must_use]
    pub fn new(limits: QuotaLimits) -> Self {
        let quotas = HashMap::new();
        Self(Arc::new(Mutex::new(All { limits, quotas })))
    }

    /// Takes other limits, for sessions that begin from now on.
    pub fn set_limits(&self, limits: QuotaLimits) {
        self.lock().limits = limits;
    }

    /// Returns the quota of an identity. With other limits than before it is another one, which counts from nothing.
    #[must_use]
    pub fn of(&self, identity: &IdentityName, now: Instant) -> Arc<Quota> {
        let mut all = self.lock();
        let limits = all.limits;
        let known = all.quotas.get(identity).filter(|quota| quota.limits == limits);
        if let Some(quota) = known {
            return Arc::clone(quota);
        }
        // Sessions are many more than identities: this is seldom, and keeps the list as short as it can be.
        all.quotas
            .retain(|_, quota| Arc::strong_count(quota) > 1 || quota.has_logged_lately(now));
        let quota = Arc::new(Quota::new(limits));
        all.quotas.insert(identity.clone(), Arc::clone(&quota));
        quota
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, All> {
        // Nothing between lock and unlock leaves the list half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Quota {
    fn default() -> Self {
        Self::new(QuotaLimits::default())
    }
}

impl Quota {
    /// A quota of which nothing is used.
    #[must_use]
    pub fn new(limits: QuotaLimits) -> Self {
        Self {
            limits,
            held: AtomicUsize::new(0),
            paid_until: Mutex::new(None),
        }
    }

    /// Counts bytes held for prepared statements.
    pub fn hold(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes held no longer.
    pub fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Returns the limit where there is no room for another prepared statement; an eighth is left to portals.
    pub fn full_for_statements(&self) -> Option<usize> {
        let limit = self.limits.prepared_bytes;
        (self.held.load(Ordering::Relaxed) >= limit - limit / PORTALS_SHARE).then_some(limit)
    }

    /// Returns the limit where there is no room for another portal either.
    pub fn full_for_portals(&self) -> Option<usize> {
        let limit = self.limits.prepared_bytes;
        (self.held.load(Ordering::Relaxed) >= limit).then_some(limit)
    }

    /// Counts bytes that go into the log at `now`. Returns until when its clients are not to be read, where there were too many.
    pub fn log(&self, bytes: usize, now: Instant) -> Option<Instant> {
        let mut paid_until = self.paid();
        Self::pay(self.limits, &mut paid_until, bytes, now)
    }

    /// Counts one record, if the log has been given time for all that was written before. Returns false where it has not.
    #[must_use]
    pub fn affords_record(&self, now: Instant) -> bool {
        let mut paid_until = self.paid();
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
        let earliest = now.checked_sub(SAVED_UP).unwrap_or(now);
        let until = paid_until.unwrap_or(earliest).max(earliest) + time;
        *paid_until = Some(until);
        (until > now).then_some(until)
    }

    /// Whether forgetting it would give it more than it has.
    fn has_logged_lately(&self, now: Instant) -> bool {
        self.paid().is_some_and(|until| until + SAVED_UP > now)
    }

    fn paid(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.paid_until.lock().unwrap_or_else(PoisonError::into_inner)
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
        advance(SAVED_UP).await;
        let now = start + SAVED_UP;
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
        assert_eq!(quotas.lock().quotas.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_and_goes_has_no_more_than_who_stays() {
        let quotas = Quotas::new(LIMITS);
        let (ana, bo): (IdentityName, IdentityName) = ("ana".parse().unwrap(), "bo".parse().unwrap());
        advance(SAVED_UP).await;
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
