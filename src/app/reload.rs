//! Puts a changed configuration in force while the gate runs, as a whole or not at all, and records either result.
//!
//! It reads no file: its caller passes the settings, or the mistakes in them.
//!
//! INVARIANT: a set of policies decides nothing before it is on record.

use std::sync::Arc;

use super::{RunningGate, StartError, build, drift, inspect};
use crate::audit::event::{Event, Reloaded};
use crate::base::error_chain::display_chain;
use crate::config::{ConfigMistake, GateSettings};

impl RunningGate {
    /// Applies new settings to sessions that begin from now on, and returns a description of the parts in force. On an error
    /// the old settings stay in force.
    pub async fn reload(&mut self, settings: GateSettings) -> Result<String, StartError> {
        let (prepared, looks) = match self.prepared(&settings).await {
            Ok(prepared) => prepared,
            Err(error) => {
                self.reloaded(false, error.to_string()).await;
                return Err(error);
            }
        };
        let detail = match build::needs_restart(&self.settings, &settings).as_slice() {
            [] => "in force".to_owned(),
            fixed => format!("in force, except for settings that need a restart: {}", fixed.join(", ")),
        };
        let rules = self.builder.put_in_force(prepared, &settings);
        self.shared.rules.send_replace(Arc::new(rules));
        self.looks.send_replace(looks);
        self.shared.quotas.set_limits(settings.limits.quota());
        self.notifier.renew(settings.notify.clone());
        self.chat.renew(settings.chat.clone());
        inspect::warn_of_shared_accounts(&settings);
        self.settings = settings;
        self.reloaded(true, detail.clone()).await;
        Ok(detail)
    }

    /// Does every step that can fail. The last of them puts the policies in force.
    async fn prepared(&self, settings: &GateSettings) -> Result<(build::PreparedSettings, drift::DriftTargets), StartError> {
        let prepared = build::ReloadBuilder::prepare(settings, self.shared.clock.now())?;
        self.access.replace(settings).await?;
        Ok((prepared, drift::looks(settings)))
    }

    /// Records a reload that was refused because of mistakes in the configuration.
    pub async fn reload_refused(&self, mistakes: &[ConfigMistake]) {
        let all = |mistakes: Vec<&ConfigMistake>| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
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
            tracing::error!(error = %display_chain(&error), "cannot write a reload to the audit log");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::base::diagnostics::Diagnostics;

    fn settings(folder: &Path, port: u16) -> GateSettings {
        std::fs::write(folder.join("orders.password"), "s3cret\n").unwrap();
        let text = format!(
            "listen = [\"127.0.0.1:0\"]\nstate_dir = \"state\"\n\
             [targets.orders]\naddress = \"127.0.0.1:{port}\"\ndatabase = \"orders\"\nuser = \"orders_app\"\n"
        );
        crate::config::from_text(&folder.join("tidegate.toml"), &text).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_reload_that_fails_late_has_changed_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut gate = RunningGate::start(settings(folder.path(), 1), Diagnostics::default())
            .await
            .unwrap();
        // The last of what can fail: the policies cannot be put on record.
        gate.shared.journal.break_thread();
        let _ = gate.supervisor.failed().await;
        let refused = gate.reload(settings(folder.path(), 2)).await;
        assert!(refused.is_err());
        let target = "orders".parse().unwrap();
        let rules = gate.shared.rules.borrow().clone();
        let in_force = gate.builder.room_in_force(&target).unwrap();
        assert!(Arc::ptr_eq(&in_force, rules.targets.get(&target).unwrap()));
        assert_eq!(in_force.target.port, 1);
    }
}
