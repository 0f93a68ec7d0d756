//! Metrics of requests for access: pending requests, the time that decisions take, requests refused because they came too
//! often; and of failed logins whose answers were held back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{ByOutcome, ByReason};
use super::{Counters, Metrics};

/// Upper bounds of the decision histogram in seconds: policies decide in milliseconds, people in minutes.
const DECISION_BOUNDS: [f64; 9] = [0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];

/// Returns an empty histogram of decisions.
pub(super) fn decisions() -> Histogram {
    Histogram::new(DECISION_BOUNDS)
}

impl Metrics {
    /// Sets the number of requests that wait for approvers.
    pub fn requests_pending(&self, requests: usize) {
        self.0.requests_pending.set(i64::try_from(requests).unwrap_or(i64::MAX));
    }

    /// Counts a settled request and the time from its submission.
    pub fn request_settled(&self, outcome: &'static str, after: Duration) {
        let histogram = self.0.histograms.decisions.get_or_create(&ByOutcome { outcome });
        histogram.observe(after.as_secs_f64());
    }
}

impl Metrics {
    /// Sets the number, since the start, of requests refused because their identity asked too often, and of answers to failed
    /// logins that were held back because of failures of an address or of a name.
    pub fn held_up(&self, requests: u64, address: u64, name: u64) {
        let Counters {
            requests_refused,
            held_back,
            ..
        } = &*self.0;
        for (family, reason, count) in [
            (requests_refused, "too_many_requests", requests),
            (held_back, "address", address),
            (held_back, "name", name),
        ] {
            let counter = family.get_or_create(&ByReason { reason });
            counter.inner().store(count, Ordering::Relaxed);
        }
    }
}

impl Counters {
    pub(super) fn register_requests(&self, registry: &mut Registry) {
        registry.register(
            "requests_pending",
            "Requests that wait for approvers",
            self.requests_pending.clone(),
        );
        registry.register_with_unit(
            "request_decision",
            "From a request's submission until it was settled, by what it came to",
            Unit::Seconds,
            self.histograms.decisions.clone(),
        );
        registry.register(
            "requests_refused",
            "Requests that were not even decided, by the reason",
            self.requests_refused.clone(),
        );
        registry.register(
            "answers_held_back",
            "Answers to failed logins and calls that were held back, by whose failures before were too many",
            self.held_back.clone(),
        );
    }
}
