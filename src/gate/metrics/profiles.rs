//! Metrics of the differences between targets' databases and their profiles.

use prometheus_client::registry::Registry;

use super::labels::{ByProfile, ByTarget};
use super::{Counters, Metrics};
use crate::model::names::{ProfileName, TargetName};

impl Metrics {
    /// Sets whether a target's database differs from a profile.
    pub fn profile(&self, target: &TargetName, profile: &ProfileName, differs: bool) {
        let (target, profile) = (target.clone(), profile.clone());
        let gauge = self.0.drift.get_or_create(&ByProfile { target, profile });
        gauge.set(i64::from(differs));
    }

    /// Removes the metrics of all profiles, because a reload has replaced them.
    pub fn no_profiles(&self) {
        self.0.drift.clear();
        self.0.looked_at.clear();
    }

    /// Sets the time at which a target's database was last compared with its profiles, or seen unchanged since.
    pub fn profiles_looked_at(&self, target: &TargetName, at: jiff::Timestamp) {
        let gauge = self.0.looked_at.get_or_create(&ByTarget { target: target.clone() });
        gauge.set(at.as_second());
    }
}

impl Counters {
    pub(super) fn register_profiles(&self, registry: &mut Registry) {
        registry.register(
            "profile_drift",
            "1 while the target's database differs from what the profile says",
            self.drift.clone(),
        );
        registry.register(
            "profile_checked_timestamp_seconds",
            "when the target's database was last seen to be as its drift says (Unix time)",
            self.looked_at.clone(),
        );
    }
}
