//! Access rules in force: built from settings, replaced as a whole at a reload, and every set of policies recorded.
//!
//! It neither parses nor validates policies: settings arrive validated.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::access::{AccessRules, LineLimits, LineRules, ProfileWords};
use crate::audit::event::{Event, PolicyLoaded};
use crate::audit::{AuditError, Journal};
use crate::base::error_chain::display_chain;
use crate::config::{GateSettings, ProfileSettings};
use crate::identity::Issuers;
use crate::model::line::UseMode;
use crate::model::names::{ProfileName, TargetName};

/// Access rules in force.
pub(super) struct ActivePolicies {
    rules: watch::Sender<Arc<AccessRules>>,
    journal: Journal,
}

impl ActivePolicies {
    /// Builds the rules at the start. They are on record when this returns.
    pub(super) async fn start(settings: &GateSettings, journal: Journal) -> Result<Self, AuditError> {
        let access = Self {
            rules: watch::Sender::new(Arc::new(rules(settings, &Issuers::default()))),
            journal,
        };
        let rules = access.rules.borrow().clone();
        access.record(true, &rules, in_force(settings)).await?;
        Ok(access)
    }

    /// Returns a receiver of the rules that are in force now and after every reload.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<AccessRules>> {
        self.rules.subscribe()
    }

    /// Replaces the rules, once the new ones are on record. If they cannot be recorded, the old ones stay in force.
    pub(super) async fn replace(&self, settings: &GateSettings) -> Result<(), AuditError> {
        let rules = Arc::new(rules(settings, &self.rules.borrow().issuers));
        self.record(true, &rules, in_force(settings)).await?;
        self.rules.send_replace(rules);
        Ok(())
    }

    /// Records a refused set of policies. The old set stays in force.
    pub(super) async fn refused(&self, mistakes: String) {
        let stays = self.rules.borrow().clone();
        if let Err(error) = self.record(false, &stays, mistakes).await {
            tracing::error!(error = %display_chain(&error), "cannot write the refusal of a policy set to the audit log");
        }
    }

    async fn record(&self, accepted: bool, rules: &AccessRules, detail: String) -> Result<(), AuditError> {
        let loaded = PolicyLoaded {
            accepted,
            policy_set: rules.policies.as_ref().map(|policies| policies.hash().to_owned()),
            detail,
        };
        self.journal.record(&Event::PolicyLoaded(Cow::Owned(loaded))).await
    }
}

fn in_force(settings: &GateSettings) -> String {
    if let Some(policies) = &settings.policies {
        match policies.ids().count() {
            1 => "1 policy".to_owned(),
            count => format!("{count} policies"),
        }
    } else {
        tracing::warn!("no policies are configured; requests are refused, and only an operator can create grants");
        "no policies are configured; requests are refused".to_owned()
    }
}

/// Builds the rules. Keys already fetched from issuers are kept.
fn rules(settings: &GateSettings, issuers: &Issuers) -> AccessRules {
    let targets = settings.targets.iter();
    let access = &settings.access;
    AccessRules {
        policies: settings.policies.clone(),
        targets: targets
            .map(|target| (target.upstream.name.clone(), target.profile_names()))
            .collect(),
        words: words(settings),
        issuers: Arc::new(issuers.renewed(settings.issuers.clone())),
        caps: access.caps(),
        default_window: access.default_window,
        default_sessions: access.default_sessions,
        pending_for: access.pending_for,
        activate_within: access.activate_within,
        requests_per_minute: access.requests_per_minute,
        sign_ins: settings.console.sign_ins(),
        console_address: settings.console.address.clone(),
        token_life: access.token_life,
        use_modes: use_modes(settings),
        line: LineRules {
            limits: LineLimits {
                grants: settings.limits.grants_in_line,
                of_one: settings.limits.grants_in_line_per_identity,
            },
            kept: access.exclusive_kept,
        },
    }
}

/// Returns the way in which grants use their target, for each profile where it is not beside each other.
fn use_modes(settings: &GateSettings) -> BTreeMap<(TargetName, ProfileName), UseMode> {
    let profiles = settings.targets.iter().flat_map(|target| {
        let name = &target.upstream.name;
        let mode = move |profile: &ProfileSettings| ((name.clone(), profile.name.clone()), profile.use_mode());
        target.profiles.iter().map(mode)
    });
    profiles.filter(|(_, mode)| *mode != UseMode::Shared).collect()
}

/// Returns the description of every profile.
fn words(settings: &GateSettings) -> BTreeMap<(TargetName, ProfileName), ProfileWords> {
    let profiles = settings.targets.iter().flat_map(|target| {
        let name = &target.upstream.name;
        target
            .profiles
            .iter()
            .map(move |profile| ((name.clone(), profile.name.clone()), profile.words()))
    });
    profiles.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jiff::Timestamp;

    use super::*;
    use crate::audit;
    use crate::base::clock::Clock;

    /// Settings with one policy of this name.
    fn settings(folder: &Path, id: &str) -> GateSettings {
        let policies = folder.join("policies");
        std::fs::create_dir_all(&policies).unwrap();
        let schema = include_str!("../../policies/schema.cedarschema");
        std::fs::write(policies.join("schema.cedarschema"), schema).unwrap();
        let policy = format!("@id(\"{id}\") permit (principal, action == Tidegate::Action::\"request\", resource);");
        std::fs::write(policies.join("a.cedar"), policy).unwrap();
        std::fs::write(folder.join("orders.password"), "s3cret\n").unwrap();
        let text = "[targets.orders]\naddress = \"127.0.0.1:5432\"\ndatabase = \"orders\"\nuser = \"orders_app\"\n";
        crate::config::from_text(&folder.join("tidegate.toml"), text).unwrap()
    }

    #[tokio::test]
    async fn a_set_that_is_not_on_record_is_not_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
        let log = audit::JournalSettings::in_folder(folder.path());
        let journal = Journal::open(&log, clock).unwrap();
        let access = ActivePolicies::start(&settings(folder.path(), "first"), journal.clone())
            .await
            .unwrap();
        let rules = access.subscribe();
        let in_force = || rules.borrow().policies.as_ref().unwrap().ids().next().unwrap().to_owned();
        access.replace(&settings(folder.path(), "second")).await.unwrap();
        assert_eq!(in_force(), "second");
        access.refused("a mistake".to_owned()).await;
        let second = rules.borrow().policies.as_ref().unwrap().hash().to_owned();
        // From here on nothing can be put on record.
        journal.close().await;
        assert!(access.replace(&settings(folder.path(), "third")).await.is_err());
        assert_eq!(in_force(), "second");
        let records = audit::read(&log.dir, &audit::Filter::default()).unwrap();
        let records: Vec<_> = records.map(Result::unwrap).collect();
        let shown = records
            .iter()
            .map(|record| audit::render::columns(record, &jiff::tz::TimeZone::UTC))
            .filter(|shown| shown.event == "policy_loaded")
            .map(|shown| shown.text);
        let expected = ["in force: 1 policy", "in force: 1 policy", "refused: a mistake"];
        assert_eq!(shown.collect::<Vec<_>>(), expected);
        let loaded = records.into_iter().filter_map(|record| match record.event {
            Event::PolicyLoaded(loaded) => Some((loaded.accepted, loaded.policy_set.clone().unwrap())),
            _ => None,
        });
        let loaded: Vec<_> = loaded.collect();
        assert_eq!(loaded[1..], [(true, second.clone()), (false, second)], "{loaded:?}");
    }
}
