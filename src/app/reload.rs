//! Puts a changed configuration in force while the gate runs, all of it or nothing, and on record either way.
//!
//! It reads no file: whoever reloads brings settings, or the mistakes in them.
//!
//! INVARIANT: a set of policies decides nothing before it is on record.

use std::sync::Arc;

use super::{Gate, StartError, build, drift, inspect};
use crate::audit::event::{Event, Reloaded};
use crate::config::{Mistake, Settings};
use crate::session::Rules;

impl Gate {
    /// Takes new settings, for sessions that begin from now on. On an error the old ones stay in force.
    pub async fn reload(&mut self, settings: Settings) -> Result<(), StartError> {
        let (rules, looks) = match self.renewed(&settings).await {
            Ok(renewed) => renewed,
            Err(error) => {
                self.reloaded(false, error.to_string()).await;
                return Err(error);
            }
        };
        let detail = match build::needs_restart(&self.settings, &settings).as_slice() {
            [] => "in force".to_owned(),
            fixed => format!("in force, but for what needs a restart: {}", fixed.join(", ")),
        };
        self.shared.rules.send_replace(Arc::new(rules));
        self.looks.send_replace(looks);
        self.notifier.renew(settings.notify.clone());
        inspect::warn_of_shared_accounts(&settings);
        self.settings = settings;
        self.reloaded(true, detail).await;
        Ok(())
    }

    /// Everything that can fail; the last of it puts the policies in force.
    async fn renewed(&mut self, settings: &Settings) -> Result<(Rules, drift::Looks), StartError> {
        let (rules, looks) = (self.builder.rules(settings)?, drift::looks(settings)?);
        self.access.replace(settings).await?;
        Ok((rules, looks))
    }

    /// Puts a reload that came to nothing on record.
    pub async fn reload_refused(&self, mistakes: &[Mistake]) {
        let all = |mistakes: Vec<&Mistake>| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let of_policies: Vec<_> = mistakes.iter().filter(|mistake| mistake.is_of_policies()).collect();
        if !of_policies.is_empty() {
            self.access.refused(all(of_policies)).await;
        }
        self.reloaded(false, all(mistakes.iter().collect())).await;
    }

    async fn reloaded(&self, accepted: bool, detail: String) {
        tracing::info!(accepted, detail, "reload");
        if let Err(error) = self
            .shared
            .journal
            .record(&Event::Reloaded(Reloaded { accepted, detail }))
            .await
        {
            tracing::error!(%error, "a reload could not be put on record");
        }
    }
}
