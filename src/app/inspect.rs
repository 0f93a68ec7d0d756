//! Checks that sessions can be opened and ended at each target, for `tidegate check`.
//!
//! It changes nothing, at the gate or at a target.

use futures_util::future::join_all;

use super::build;
use crate::base::clock::Clock;
use crate::config::{GateSettings, SharedAccount, TargetSettings};
use crate::database::provision::{RoleFault, TargetFinding, inspect_roles, inspect_shared};
use crate::model::names::TargetName;

/// Findings of the check of one target.
#[derive(Debug)]
pub struct TargetInspection {
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
    fn of(configured: Option<&TargetFinding>, found: &[TargetFinding]) -> Self {
        let refused =
            configured.is_some_and(TargetFinding::stops) || found.iter().any(|one| matches!(one, TargetFinding::Refused(_)));
        match (refused, found.iter().any(TargetFinding::stops)) {
            (true, _) => Self::Refused,
            (false, true) => Self::Lacking,
            (false, false) => Self::Ready,
        }
    }
}

/// Checks all targets concurrently: their configuration and, unless `offline`, their servers.
pub async fn inspect(settings: &GateSettings, offline: bool) -> Vec<TargetInspection> {
    let clock = Clock::system(None);
    let look = async |settings: &TargetSettings| {
        let configured = shared_account(settings);
        let found = if offline {
            Vec::new()
        } else {
            let asked = ask(settings, &clock).await;
            asked.unwrap_or_else(|fault| vec![unasked(&fault)])
        };
        TargetInspection {
            target: settings.upstream.name.clone(),
            lines: configured.iter().chain(&found).map(ToString::to_string).collect(),
            state: Readiness::of(configured.as_ref(), &found),
        }
    };
    join_all(settings.targets.iter().map(look)).await
}

async fn ask(settings: &TargetSettings, clock: &Clock) -> Result<Vec<TargetFinding>, RoleFault> {
    match build::profiles(settings) {
        Some(profiles) => inspect_roles(&settings.upstream, &profiles, clock).await,
        None => inspect_shared(&settings.upstream, clock).await,
    }
}

fn unasked(fault: &RoleFault) -> TargetFinding {
    if fault.unreachable() {
        // An unreachable database does not make the configuration wrong.
        TargetFinding::Warning(format!("cannot check the database: {fault}"))
    } else {
        TargetFinding::Lack(format!("access to the database: {fault}"))
    }
}

/// Returns the consequences of sessions that share one account at the target; `None` if each grant has its own role.
pub(super) fn shared_account(settings: &TargetSettings) -> Option<TargetFinding> {
    if settings.has_rights() {
        return None;
    }
    let (user, name) = (&settings.upstream.account.user, &settings.upstream.name);
    if !settings.is_ended_by_its_sessions_account() {
        return Some(TargetFinding::Warning(format!(
            "all sessions share the account `{user}`: every grant has all rights of the account, profiles are only names, and \
             the server cannot distinguish grants; define [targets.{name}.profiles.NAME] to give each grant its own role"
        )));
    }
    let what = format!(
        "all sessions share the account `{user}`, which also ends them: every tester can change its password, end \
         the gate's connection, stay past the deadline and lock others out"
    );
    Some(match settings.shared_account {
        SharedAccount::Accepted => TargetFinding::Warning(format!("{what}; the configuration accepts that")),
        SharedAccount::Refused => TargetFinding::Lack(format!(
            "a separate account that ends sessions; {what}. As superuser: CREATE ROLE gate LOGIN PASSWORD '...'; \
             GRANT pg_signal_backend, pg_read_all_stats TO gate; then set admin_user = \"gate\" in [targets.{name}]. Better: give \
             each grant its own role with [targets.{name}.profiles.NAME]. Or accept it with shared_account = \"accepted\""
        )),
    })
}

/// Warns, at the start and at each reload, of targets whose sessions share the account that ends them.
pub(super) fn warn_of_shared_accounts(settings: &GateSettings) {
    for target in &settings.targets {
        if let Some(finding @ TargetFinding::Lack(_)) = shared_account(target) {
            tracing::warn!(target_name = %target.upstream.name, "{finding}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_lacks_is_not_what_must_not_be_served() {
        let (lack, refused) = (
            || TargetFinding::Lack("x".to_owned()),
            || TargetFinding::Refused("x".to_owned()),
        );
        let (good, warning) = (TargetFinding::Good("x".to_owned()), TargetFinding::Warning("x".to_owned()));
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
