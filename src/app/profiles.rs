//! Definitions of a target's profiles, in the form that `provision` compares and applies, for the drift check and the command
//! line.
//!
//! It compares and applies nothing.

use std::sync::Arc;

use crate::config::TargetSettings;
use crate::database::provision::profiles::{ProfileDefinition, ProfileDefinitions};
use crate::database::upstream::Target;

/// Target with the definitions of its profiles.
pub type TargetProfiles = (Arc<Target>, ProfileDefinitions);

/// Returns the target and the definitions of its profiles. Profiles without rights in the configuration have no definition.
#[must_use]
pub fn profiles(settings: &TargetSettings) -> TargetProfiles {
    let defined = settings.profiles.iter().filter_map(|profile| {
        Some(ProfileDefinition {
            name: profile.name.clone(),
            rights: profile.rights.clone()?,
            settings: profile.settings.clone(),
        })
    });
    let definitions = ProfileDefinitions {
        target: settings.upstream.name.clone(),
        account: settings.provisioner.clone(),
        profiles: defined.collect(),
    };
    (Arc::clone(&settings.upstream), definitions)
}
