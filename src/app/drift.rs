//! Looks whether the targets' databases still are as their profiles say, and says so where they are not: as a metric, and in the
//! gate's own log once for each change.
//!
//! It changes nothing at a database: `tidegate target apply` does, when somebody has looked at what differs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::profiles::profiles;
use crate::causes::in_one_line;
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::names::{ProfileName, TargetName};
use crate::provision::profiles::{Compared, Definitions, compare};
use crate::tls::TlsError;
use crate::upstream::Target;

/// How often it looks, besides at the start and at each reload.
const EVERY: Duration = Duration::from_mins(5);
/// How long one look may take: a catalogue with very many tables is read in seconds.
const LIMIT: Duration = Duration::from_mins(1);

/// What is looked at: the targets whose profiles say what they may do.
pub(super) type Looks = Arc<Vec<(Arc<Target>, Definitions)>>;

pub(super) fn looks(settings: &Settings) -> Result<Looks, TlsError> {
    let defined = settings.targets.iter().filter(|target| target.has_rights());
    Ok(Arc::new(
        defined.map(|target| profiles(target, None)).collect::<Result<_, _>>()?,
    ))
}

/// Looks for as long as the gate runs.
pub(super) async fn watch(mut looks: watch::Receiver<Looks>, metrics: Metrics) {
    let mut said = Said::default();
    loop {
        let now = looks.borrow_and_update().clone();
        for (target, definitions) in now.iter() {
            said.look(target, definitions, &metrics).await;
        }
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
    async fn look(&mut self, target: &Arc<Target>, definitions: &Definitions, metrics: &Metrics) {
        let name = &definitions.target;
        let compared = match tokio::time::timeout(LIMIT, compare(target, definitions)).await {
            Ok(Ok(comparison)) => Ok(comparison.profiles),
            Ok(Err(error)) => Err(in_one_line(&error)),
            Err(_) => Err(format!("it took longer than {LIMIT:?}")),
        };
        match compared {
            Ok(compared) => {
                self.failed.remove(name);
                for compared in compared {
                    metrics.profile(name, &compared.profile, !compared.plan.in_step());
                    self.say(name, compared);
                }
            }
            Err(reason) => {
                if self.failed.get(name) != Some(&reason) {
                    tracing::warn!(target_name = %name, reason, "it cannot be seen whether the database is as the profiles say");
                    self.failed.insert(name.clone(), reason);
                }
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
