//! Definitions of a target's profiles, in the form that `provision` compares and applies, for the drift check and the command
//! line.
//!
//! It compares and applies nothing.

use std::sync::Arc;

use super::build;
use crate::base::tls::TlsError;
use crate::config::{AccountSettings, TargetSettings};
use crate::database::provision::profiles::{ProfileDefinition, ProfileDefinitions};
use crate::database::upstream::Target;

/// Target with the definitions of its profiles.
pub type TargetProfiles = (Arc<Target>, ProfileDefinitions);

/// Returns the target, with `account` in place of the provisioning account if given, and the definitions of its profiles.
/// Profiles without rights in the configuration have no definition.
pub fn profiles(settings: &TargetSettings, account: Option<&AccountSettings>) -> Result<TargetProfiles, TlsError> {
    let mut target = build::target(settings)?;
    if let Some(account) = account {
        target.admin = Some(build::account(account));
    }
    let defined = settings.profiles.iter().filter_map(|profile| {
        Some(ProfileDefinition {
            name: profile.name.clone(),
            rights: profile.rights.clone()?,
            settings: profile.settings.clone(),
        })
    });
    let definitions = ProfileDefinitions {
        target: settings.name.clone(),
        account: settings.provisioner().to_owned(),
        profiles: defined.collect(),
    };
    Ok((Arc::new(target), definitions))
}
