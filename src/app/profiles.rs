//! Definitions of a target's profiles, in the form that `provision` compares and applies, for the drift check and the command
//! line.
//!
//! It compares and applies nothing.

use std::sync::Arc;

use crate::config::{ProfileSettings, TargetSettings};
use crate::database::provision::profiles::{ProfileDefinition, ProfileDefinitions};
use crate::database::upstream::Target;

/// Target with the definitions of its profiles.
pub type TargetProfiles = (Arc<Target>, ProfileDefinitions);

/// Returns the target and the definitions of its profiles that work in its database; with a `template` of those that work in copies of
/// it. Profiles without rights in the configuration have no definition.
#[must_use]
pub fn profiles(settings: &TargetSettings, template: Option<&str>) -> TargetProfiles {
    let is_there = |profile: &&ProfileSettings| profile.copy.as_ref().map(|copy| copy.template.as_str()) == template;
    let (there, elsewhere): (Vec<_>, Vec<_>) = settings.profiles.iter().partition(is_there);
    let defined = there.into_iter().filter_map(|profile| {
        Some(ProfileDefinition {
            name: profile.name.clone(),
            rights: profile.rights.clone()?,
            settings: profile.settings.clone(),
            capture: profile.capture.clone(),
        })
    });
    let definitions = ProfileDefinitions {
        target: settings.upstream.name.clone(),
        account: settings.provisioner.clone(),
        profiles: defined.collect(),
        elsewhere: elsewhere.into_iter().map(|profile| profile.name.clone()).collect(),
    };
    (Arc::clone(&settings.upstream), definitions)
}
