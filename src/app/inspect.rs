//! Checks that sessions can be opened and ended at each target, for `tidegate check`.
//!
//! It changes nothing, at the gate or at a target.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{StartError, build};
use crate::clock::Clock;
use crate::config::{Settings, SharedAccount, TargetSettings};
use crate::names::TargetName;
use crate::provision::{Fault, Finding, inspect_roles, inspect_shared};
use crate::upstream::Target;

/// Findings of the check of one target.
#[derive(Debug)]
pub struct Inspected {
    /// Name of the target.
    pub target: TargetName,
    /// Findings in words, one per line.
    pub lines: Vec<String>,
    /// Readiness that follows from the findings.
    pub state: Readiness,
}

/// The readiness of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Readiness {
    /// The target can be served, or is unreachable and may be ready when it is back.
    Ready,
    /// The target's server lacks something or does not let the gate in. Its sessions are refused until that is mended; other
    /// targets are unaffected.
    Lacking,
    /// The configuration, or the rights of an account at the target, would give a grant more than its profile says.
    Refused,
}

impl Readiness {
    fn of(configured: Option<&Finding>, found: &[Finding]) -> Self {
        let refused = configured.is_some_and(Finding::stops) || found.iter().any(|one| matches!(one, Finding::Refused(_)));
        match (refused, found.iter().any(Finding::stops)) {
            (true, _) => Self::Refused,
            (false, true) => Self::Lacking,
            (false, false) => Self::Ready,
        }
    }
}

/// Checks all targets concurrently: their configuration and, unless `offline`, their servers.
pub async fn inspect(settings: &Settings, offline: bool) -> Result<Vec<Inspected>, StartError> {
    let clock = Clock::system(None);
    let mut asked = Vec::new();
    for target in &settings.targets {
        asked.push((target, Arc::new(build::target(target)?)));
    }
    let look = async |(settings, target): (&TargetSettings, Arc<Target>)| {
        let configured = shared_account(settings);
        let found = if offline {
            Vec::new()
        } else {
            let asked = ask(settings, &target, &clock).await;
            asked.unwrap_or_else(|fault| vec![unasked(&fault)])
        };
        Inspected {
            target: settings.name.clone(),
            lines: configured.iter().chain(&found).map(ToString::to_string).collect(),
            state: Readiness::of(configured.as_ref(), &found),
        }
    };
    Ok(join_all(asked.into_iter().map(look)).await)
}

async fn ask(settings: &TargetSettings, target: &Arc<Target>, clock: &Clock) -> Result<Vec<Finding>, Fault> {
    match build::profiles(settings) {
        Some(profiles) => inspect_roles(target, &profiles, clock).await,
        None => inspect_shared(target, clock).await,
    }
}

fn unasked(fault: &Fault) -> Finding {
    if fault.unreachable() {
        // An unreachable database does not make the configuration wrong.
        Finding::Warning(format!("cannot check the database: {fault}"))
    } else {
        Finding::Lack(format!("access to the database: {fault}"))
    }
}

/// Returns the consequences of sessions that share one account at the target; `None` if each grant has its own role.
pub(super) fn shared_account(settings: &TargetSettings) -> Option<Finding> {
    if settings.has_rights() {
        return None;
    }
    let (user, name) = (&settings.user, &settings.name);
    if !settings.is_ended_by_its_sessions_account() {
        return Some(Finding::Warning(format!(
            "all sessions share the account `{user}`: every grant has all rights of the account, profiles are only names, and \
             the server cannot distinguish grants; define [targets.{name}.profiles.NAME] to give each grant its own role"
        )));
    }
    let what = format!(
        "all sessions share the account `{user}`, which also ends them: every tester can change its password, end \
         the gate's connection, stay past the deadline and lock others out"
    );
    Some(match settings.shared_account {
        SharedAccount::Accepted => Finding::Warning(format!("{what}; the configuration accepts that")),
        SharedAccount::Refused => Finding::Lack(format!(
            "a separate account that ends sessions; {what}. As superuser: CREATE ROLE gate LOGIN PASSWORD '...'; \
             GRANT pg_signal_backend, pg_read_all_stats TO gate; then set admin_user = \"gate\" in [targets.{name}]. Better: give \
             each grant its own role with [targets.{name}.profiles.NAME]. Or accept it with shared_account = \"accepted\""
        )),
    })
}

/// Warns, at the start and at each reload, of targets whose sessions share the account that ends them.
pub(super) fn warn_of_shared_accounts(settings: &Settings) {
    for target in &settings.targets {
        if let Some(finding @ Finding::Lack(_)) = shared_account(target) {
            tracing::warn!(target_name = %target.name, "{finding}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_lacks_is_not_what_must_not_be_served() {
        let (lack, refused) = (|| Finding::Lack("x".to_owned()), || Finding::Refused("x".to_owned()));
        let (good, warning) = (Finding::Good("x".to_owned()), Finding::Warning("x".to_owned()));
        assert_eq!(Readiness::of(None, &[good, warning]), Readiness::Ready);
        assert_eq!(Readiness::of(None, &[lack()]), Readiness::Lacking);
        assert_eq!(Readiness::of(None, &[lack(), refused()]), Readiness::Refused);
        assert_eq!(
            Readiness::of(Some(&lack()), &[]),
            Readiness::Refused,
            "the configuration itself"
        );
    }
}
