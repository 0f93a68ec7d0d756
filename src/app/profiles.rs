//! The profiles of a configured target, as `provision` compares and applies them: for the gate's own look and for the command line.
//!
//! It compares and applies nothing.

use std::sync::Arc;

use super::build;
use crate::config::{AccountSettings, TargetSettings};
use crate::provision::profiles::{Definition, Definitions};
use crate::tls::TlsError;
use crate::upstream::Target;

/// A target and the definitions of its profiles.
pub type TargetProfiles = (Arc<Target>, Definitions);

/// The way to a target, as the account that provisions there or another, and the definitions of its profiles; those that are only names have none.
pub fn profiles(settings: &TargetSettings, account: Option<&AccountSettings>) -> Result<TargetProfiles, TlsError> {
    let mut target = build::target(settings)?;
    if let Some(account) = account {
        target.admin = Some(build::account(account));
    }
    let defined = settings.profiles.iter().filter_map(|profile| {
        Some(Definition {
            name: profile.name.clone(),
            rights: profile.rights.clone()?,
            settings: profile.settings.clone(),
        })
    });
    let definitions = Definitions {
        target: settings.name.clone(),
        account: settings.provisioner().to_owned(),
        profiles: defined.collect(),
    };
    Ok((Arc::new(target), definitions))
}
