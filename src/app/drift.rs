//! Checks at intervals that the targets' databases still match their profiles, and reports differences: as a metric, and in the
//! gate's own log once for each change.
//!
//! It changes nothing at a database. `tidegate target apply` does that, after an operator has read the differences.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::profiles::profiles;
use crate::base::clock::Clock;
use crate::base::error_chain::display_chain;
use crate::config::GateSettings;
use crate::control::model::ProfileStatus;
use crate::database::provision::profiles::{ProfileComparison, ProfileDefinition, ProfileDefinitions, compare_if_changed};
use crate::database::upstream::Target;
use crate::gate::metrics::Metrics;
use crate::model::names::{ProfileName, TargetName};

/// Interval between two checks for a change since the last comparison. A check is one short connection of a few milliseconds,
/// which is not kept open.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Pause after a check, as a multiple of its duration: checks of a large catalogue take longer and run less often.
const PAUSE_FACTOR: u32 = 20;
/// Time after which everything is compared again, even if no change was detected.
const COMPARE_INTERVAL: Duration = Duration::from_mins(5);
/// Time limit of one check; a catalogue with very many tables is compared in seconds.
const COMPARE_TIMEOUT: Duration = Duration::from_mins(1);

/// Number of a profile's differences that are listed.
const MAX_NAMED_DIFFERENCES: usize = 5;

/// Targets to check: those whose profiles define rights.
pub(super) type DriftTargets = Arc<Vec<(Arc<Target>, ProfileDefinitions)>>;

pub(super) fn looks(settings: &GateSettings) -> DriftTargets {
    let defined = settings.targets.iter().filter(|target| target.has_rights());
    let defined = defined.map(|target| profiles(target, None));
    // Templates are looked at by `tidegate target plan` alone: whoever is in one keeps it from being copied.
    Arc::new(defined.filter(|(_, there)| !there.profiles.is_empty()).collect())
}

/// Status of the profiles at the last check, by target.
pub(super) type DriftStatus = BTreeMap<TargetName, Vec<ProfileStatus>>;

/// Checks the targets for as long as the gate runs, each at its own interval.
pub(super) async fn watch(
    mut looks: watch::Receiver<DriftTargets>,
    metrics: Metrics,
    clock: Clock,
    seen: watch::Sender<DriftStatus>,
) {
    let watch = DriftWatch {
        metrics,
        clock,
        seen,
        said: Mutex::default(),
    };
    loop {
        let now = looks.borrow_and_update().clone();
        watch
            .seen
            .send_modify(|seen| seen.retain(|target, _| now.iter().any(|(_, there)| there.target == *target)));
        let followed = join_all(now.iter().map(|(target, definitions)| watch.follow(target, definitions)));
        tokio::select! {
            _ = followed, if !now.is_empty() => {}
            changed = looks.changed() => {
                if changed.is_err() {
                    return;
                }
                watch.metrics.no_profiles();
            }
        }
    }
}

/// State that the checks of all targets share.
struct DriftWatch {
    metrics: Metrics,
    clock: Clock,
    seen: watch::Sender<DriftStatus>,
    said: Mutex<ReportedDrift>,
}

/// Result of the last comparison with a target.
struct LastComparison {
    fingerprint: String,
    statuses: Vec<ProfileStatus>,
    compared_at: Instant,
}

impl DriftWatch {
    /// Checks one target at intervals, until dropped.
    async fn follow(&self, target: &Arc<Target>, definitions: &ProfileDefinitions) {
        let mut known = None;
        loop {
            let begun = self.clock.moment().instant;
            self.look(target, definitions, &mut known).await;
            let took = self.clock.moment().instant.duration_since(begun);
            tokio::time::sleep(CHECK_INTERVAL.max(took * PAUSE_FACTOR)).await;
        }
    }

    async fn look(&self, target: &Arc<Target>, definitions: &ProfileDefinitions, known: &mut Option<LastComparison>) {
        let name = &definitions.target;
        let now = self.clock.moment();
        let fresh = known
            .as_ref()
            .filter(|known| now.instant.duration_since(known.compared_at) < COMPARE_INTERVAL);
        let asked = compare_if_changed(target, definitions, fresh.map(|known| known.fingerprint.as_str()));
        let looked = match tokio::time::timeout(COMPARE_TIMEOUT, asked).await {
            Ok(Ok(looked)) => Ok(looked),
            Ok(Err(error)) => Err(display_chain(&error)),
            Err(_) => Err(format!("no result within {COMPARE_TIMEOUT:?}")),
        };
        let mut said = self.said.lock();
        let statuses = match looked {
            Ok(Some((fingerprint, comparison))) => {
                let statuses = said.compared(name, comparison.profiles, &self.metrics, now.time);
                *known = Some(LastComparison {
                    fingerprint,
                    statuses: statuses.clone(),
                    compared_at: now.instant,
                });
                statuses
            }
            Ok(None) => {
                let mut statuses = known.as_ref().map(|known| known.statuses.clone()).unwrap_or_default();
                for status in &mut statuses {
                    status.looked_at = now.time;
                }
                statuses
            }
            Err(reason) => {
                *known = None;
                said.failed(definitions, &reason, now.time)
            }
        };
        if known.is_some() {
            self.metrics.profiles_looked_at(name, now.time);
        }
        self.seen.send_modify(|seen| drop(seen.insert(name.clone(), statuses)));
    }
}

/// Last reported state, so that each change is reported once.
#[derive(Default)]
struct ReportedDrift {
    differs: HashMap<(TargetName, ProfileName), ProfileComparison>,
    failed: HashMap<TargetName, String>,
}

impl ReportedDrift {
    fn compared(
        &mut self,
        target: &TargetName,
        compared: Vec<ProfileComparison>,
        metrics: &Metrics,
        looked_at: Timestamp,
    ) -> Vec<ProfileStatus> {
        if self.failed.remove(target).is_some() {
            tracing::info!(target_name = %target, "comparing the database with its profiles works again");
        }
        let mut statuses = Vec::new();
        for compared in compared {
            metrics.profile(target, &compared.profile, !compared.plan.in_step());
            statuses.push(ProfileStatus {
                profile: compared.profile.clone(),
                looked_at,
                differences: Some(compared.plan.differences()),
                first: compared.plan.first(MAX_NAMED_DIFFERENCES),
                problem: None,
            });
            self.say(target, compared);
        }
        statuses
    }

    fn failed(&mut self, definitions: &ProfileDefinitions, reason: &str, looked_at: Timestamp) -> Vec<ProfileStatus> {
        let target = &definitions.target;
        if self.failed.get(target).is_none_or(|before| before != reason) {
            tracing::warn!(target_name = %target, reason, "cannot compare the database with its profiles");
            self.failed.insert(target.clone(), reason.to_owned());
        }
        let status = |definition: &ProfileDefinition| ProfileStatus {
            profile: definition.name.clone(),
            looked_at,
            differences: None,
            first: Vec::new(),
            problem: Some(reason.to_owned()),
        };
        definitions.profiles.iter().map(status).collect()
    }

    fn say(&mut self, target: &TargetName, compared: ProfileComparison) {
        let key = (target.clone(), compared.profile.clone());
        let (profile, plan) = (&compared.profile, &compared.plan);
        if plan.in_step() {
            if self.differs.remove(&key).is_some() {
                tracing::info!(target_name = %target, %profile, "the database matches its profile again");
            }
            return;
        }
        if self.differs.get(&key) == Some(&compared) {
            return;
        }
        let first = plan.steps.first().map_or("", |step| step.sql.as_str());
        tracing::warn!(
            target_name = %target,
            %profile,
            statements = plan.steps.len(),
            first,
            "the database differs from its profile; see `tidegate target plan {target}`"
        );
        self.differs.insert(key, compared);
    }
}
