//! Looks whether the targets' databases still are as their profiles say, and says so where they are not: as a metric, and in the
//! gate's own log once for each change.
//!
//! It changes nothing at a database: `tidegate target apply` does, when somebody has looked at what differs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::profiles::profiles;
use crate::causes::in_one_line;
use crate::clock::Clock;
use crate::config::Settings;
use crate::control::model::ProfileStatus;
use crate::metrics::Metrics;
use crate::names::{ProfileName, TargetName};
use crate::provision::profiles::{Compared, Definition, Definitions, compare};
use crate::tls::TlsError;
use crate::upstream::Target;

/// How often it looks, besides at the start and at each reload.
const EVERY: Duration = Duration::from_mins(5);
/// How long one look may take: a catalogue with very many tables is read in seconds.
const LIMIT: Duration = Duration::from_mins(1);

/// How many differences of a profile are named.
const MAX_SHOWN: usize = 5;

/// What is looked at: the targets whose profiles say what they may do.
pub(super) type Looks = Arc<Vec<(Arc<Target>, Definitions)>>;

pub(super) fn looks(settings: &Settings) -> Result<Looks, TlsError> {
    let defined = settings.targets.iter().filter(|target| target.has_rights());
    Ok(Arc::new(
        defined.map(|target| profiles(target, None)).collect::<Result<_, _>>()?,
    ))
}

/// How the databases stood at the last look.
pub(super) type Seen = BTreeMap<TargetName, Vec<ProfileStatus>>;

/// Looks for as long as the gate runs.
pub(super) async fn watch(mut looks: watch::Receiver<Looks>, metrics: Metrics, clock: Clock, seen: watch::Sender<Seen>) {
    let mut said = Said::default();
    loop {
        let now = looks.borrow_and_update().clone();
        for (target, definitions) in now.iter() {
            let statuses = said.look(target, definitions, &metrics, clock.now()).await;
            seen.send_modify(|seen| drop(seen.insert(definitions.target.clone(), statuses)));
        }
        seen.send_modify(|seen| seen.retain(|target, _| now.iter().any(|(_, there)| there.target == *target)));
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            changed = looks.changed() => {
                if changed.is_err() {
                    return;
                }
                metrics.no_profiles();
            }
        }
    }
}

/// What was said last, so that it is said once.
#[derive(Default)]
struct Said {
    differs: HashMap<(TargetName, ProfileName), Compared>,
    failed: HashMap<TargetName, String>,
}

impl Said {
    async fn look(
        &mut self,
        target: &Arc<Target>,
        definitions: &Definitions,
        metrics: &Metrics,
        looked_at: Timestamp,
    ) -> Vec<ProfileStatus> {
        let name = &definitions.target;
        let compared = match tokio::time::timeout(LIMIT, compare(target, definitions)).await {
            Ok(Ok(comparison)) => Ok(comparison.profiles),
            Ok(Err(error)) => Err(in_one_line(&error)),
            Err(_) => Err(format!("it took longer than {LIMIT:?}")),
        };
        match compared {
            Ok(compared) => {
                self.failed.remove(name);
                let mut statuses = Vec::new();
                for compared in compared {
                    metrics.profile(name, &compared.profile, !compared.plan.in_step());
                    statuses.push(ProfileStatus {
                        profile: compared.profile.clone(),
                        looked_at,
                        differences: Some(compared.plan.differences()),
                        first: compared.plan.first(MAX_SHOWN),
                        problem: None,
                    });
                    self.say(name, compared);
                }
                statuses
            }
            Err(reason) => {
                if self.failed.get(name) != Some(&reason) {
                    tracing::warn!(target_name = %name, reason, "it cannot be seen whether the database is as the profiles say");
                    self.failed.insert(name.clone(), reason.clone());
                }
                let status = |definition: &Definition| ProfileStatus {
                    profile: definition.name.clone(),
                    looked_at,
                    differences: None,
                    first: Vec::new(),
                    problem: Some(reason.clone()),
                };
                definitions.profiles.iter().map(status).collect()
            }
        }
    }

    fn say(&mut self, target: &TargetName, compared: Compared) {
        let key = (target.clone(), compared.profile.clone());
        let (profile, plan) = (&compared.profile, &compared.plan);
        if plan.in_step() {
            if self.differs.remove(&key).is_some() {
                tracing::info!(target_name = %target, %profile, "the database is as the profile says again");
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
            "the database is not as the profile says: see `tidegate target plan {target}`"
        );
        self.differs.insert(key, compared);
    }
}
