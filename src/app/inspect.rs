//! Asks the targets whether a role for each grant can be made there: for `tidegate check`.
//!
//! It changes nothing, at the gate or at a target.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{StartError, build};
use crate::clock::Clock;
use crate::config::{Settings, TargetSettings};
use crate::names::TargetName;
use crate::provision::{Finding, inspect_roles};

/// What was found at one target.
#[derive(Debug)]
pub struct Inspected {
    /// Which.
    pub target: TargetName,
    /// What, a line each.
    pub lines: Vec<String>,
    /// Whether something is missing without which no role can be made.
    pub lacks: bool,
}

/// Asks all targets at once.
pub async fn inspect(settings: &Settings) -> Result<Vec<Inspected>, StartError> {
    let clock = Clock::system(None);
    let mut asked = Vec::new();
    for target in &settings.targets {
        asked.push((target, Arc::new(build::target(target)?)));
    }
    let ask = async |(settings, target): (&TargetSettings, Arc<_>)| {
        let found = match build::profiles(settings) {
            Some(profiles) => inspect_roles(&target, &profiles, &clock).await.unwrap_or_else(|fault| {
                // The configuration can be good while a database is away.
                vec![Finding::Warning(format!("it could not be asked: {fault}"))]
            }),
            None => vec![Finding::Warning(format!(
                "all sessions share the account `{}`: whoever has a grant can do what the account can, profiles are only names, and \
                 the server cannot tell one grant from another; with [targets.{}.profiles.NAME] each grant has its own role",
                settings.user, settings.name
            ))],
        };
        Inspected {
            target: settings.name.clone(),
            lines: found.iter().map(ToString::to_string).collect(),
            lacks: found.iter().any(|finding| matches!(finding, Finding::Lack(_))),
        }
    };
    Ok(join_all(asked.into_iter().map(ask)).await)
}
