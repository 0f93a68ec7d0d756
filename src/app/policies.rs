//! The rules of access in force: made of settings, replaced whole at a reload, each set of policies on record.
//!
//! It does not read or judge policies: settings bring them validated.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::sync::watch;

use crate::access::Rules;
use crate::audit::event::{Event, PolicyLoaded};
use crate::audit::{AuditError, Journal};
use crate::config::Settings;
use crate::identity::Issuers;

/// The rules of access in force.
pub(super) struct Access {
    rules: watch::Sender<Arc<Rules>>,
    journal: Journal,
}

impl Access {
    /// The rules at the start; they are on record when this returns.
    pub(super) async fn start(settings: &Settings, journal: Journal) -> Result<Self, AuditError> {
        let access = Self {
            rules: watch::Sender::new(Arc::new(rules(settings, &Issuers::default()))),
            journal,
        };
        access.record(true, in_force(settings)).await?;
        Ok(access)
    }

    /// The rules, now and after every reload.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Rules>> {
        self.rules.subscribe()
    }

    /// Puts others in their place.
    pub(super) async fn replace(&self, settings: &Settings) {
        let rules = rules(settings, &self.rules.borrow().issuers);
        self.rules.send_replace(Arc::new(rules));
        self.note(true, in_force(settings)).await;
    }

    /// Puts a set on record that was not taken; the one before stays.
    pub(super) async fn refused(&self, mistakes: String) {
        self.note(false, mistakes).await;
    }

    async fn note(&self, accepted: bool, detail: String) {
        if let Err(error) = self.record(accepted, detail).await {
            tracing::error!(%error, "a set of policies could not be put on record");
        }
    }

    async fn record(&self, accepted: bool, detail: String) -> Result<(), AuditError> {
        let policies = self.rules.borrow().policies.clone();
        let loaded = PolicyLoaded {
            accepted,
            policy_set: policies.map(|policies| policies.hash().to_owned()),
            detail,
        };
        self.journal.record(&Event::PolicyLoaded(Cow::Owned(loaded))).await
    }
}

fn in_force(settings: &Settings) -> String {
    if let Some(policies) = &settings.policies {
        format!("{} policies in force", policies.ids().count())
    } else {
        tracing::warn!("there are no policies: nobody can ask for access, grants are made by hand");
        "there are no policies: nobody can ask for access".to_owned()
    }
}

/// Keys of issuers that are there already are not fetched again.
fn rules(settings: &Settings, issuers: &Issuers) -> Rules {
    let targets = settings.targets.iter();
    let access = &settings.access;
    Rules {
        policies: settings.policies.clone(),
        targets: targets.map(|target| (target.name.clone(), target.profiles.clone())).collect(),
        issuers: Arc::new(issuers.renewed(settings.issuers.clone())),
        default_window: access.default_window,
        pending_for: access.pending_for,
        activate_within: access.activate_within,
        requests_per_minute: access.requests_per_minute,
    }
}
