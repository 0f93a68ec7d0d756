//! What the sessions of one identity may use up together: memory for prepared statements, and the log's bytes a second.
//!
//! It ends nothing and waits for nothing: it counts, and says until when a session is not to be read. Nothing is lost by it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::names::IdentityName;

/// What was not logged is saved up for so long: a burst of a minute's worth passes unhindered.
const SAVED_UP: Duration = Duration::from_mins(1);

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

/// The quotas of those who have sessions.
#[derive(Debug, Default)]
pub struct Quotas(Mutex<HashMap<IdentityName, Weak<Quota>>>);

/// One identity's use. Its sessions share it; it is forgotten with the last of them.
#[derive(Debug)]
pub(super) struct Quota {
    limits: QuotaLimits,
    held: AtomicUsize,
    /// When the log has been given time for all that was written; at most [`SAVED_UP`] ago.
    paid_until: Mutex<Option<Instant>>,
}

impl Quotas {
    /// The quota of an identity. With other limits than before it is another one, which counts from nothing.
    pub(super) fn of(&self, identity: &IdentityName, limits: QuotaLimits) -> Arc<Quota> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(identity).and_then(Weak::upgrade);
        if let Some(quota) = known.filter(|quota| quota.limits == limits) {
            return quota;
        }
        // Sessions are many more than identities: this is seldom, and keeps the list as short as it can be.
        all.retain(|_, quota| quota.strong_count() > 0);
        let quota = Arc::new(Quota::new(limits));
        all.insert(identity.clone(), Arc::downgrade(&quota));
        quota
    }
}

impl Default for Quota {
    fn default() -> Self {
        Self::new(QuotaLimits::default())
    }
}

impl Quota {
    pub(super) fn new(limits: QuotaLimits) -> Self {
        Self {
            limits,
            held: AtomicUsize::new(0),
            paid_until: Mutex::new(None),
        }
    }

    /// Bytes held for prepared statements.
    pub(super) fn hold(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes held no longer.
    pub(super) fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The limit on prepared statements, where it is exceeded.
    pub(super) fn exceeded(&self) -> Option<usize> {
        let limit = self.limits.prepared_bytes;
        (self.held.load(Ordering::Relaxed) > limit).then_some(limit)
    }

    /// Bytes go into the log at `now`: until when its clients are not to be read, where there were too many.
    pub(super) fn log(&self, bytes: usize, now: Instant) -> Option<Instant> {
        let rate = f64::from(self.limits.log_bytes_per_second.max(1));
        #[expect(clippy::cast_precision_loss, reason = "sizes of batches in memory")]
        let time = Duration::from_secs_f64(bytes as f64 / rate);
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(SAVED_UP).unwrap_or(now);
        let until = paid_until.unwrap_or(earliest).max(earliest) + time;
        *paid_until = Some(until);
        (until > now).then_some(until)
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

    #[test]
    fn the_sessions_of_an_identity_share_one_and_leave_nothing_behind() {
        let quotas = Quotas::default();
        let (ana, bo): (IdentityName, IdentityName) = ("ana".parse().unwrap(), "bo".parse().unwrap());
        let (first, second) = (quotas.of(&ana, LIMITS), quotas.of(&ana, LIMITS));
        first.hold(600);
        assert_eq!(second.exceeded(), None);
        second.hold(600);
        assert_eq!(first.exceeded(), Some(1000));
        assert_eq!(quotas.of(&bo, LIMITS).exceeded(), None);
        second.release(600);
        assert_eq!(first.exceeded(), None);
        drop((first, second));
        let _bos = quotas.of(&bo, LIMITS);
        assert_eq!(quotas.0.lock().unwrap().len(), 1);
    }
}
