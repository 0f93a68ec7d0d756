//! The profiles of a configured target, as `provision` compares and applies them: for the gate's own look and for the command line.
//!
//! It compares and applies nothing.

use std::sync::Arc;

use super::build;
use crate::config::TargetSettings;
use crate::provision::profiles::{Definition, Definitions};
use crate::secret::Secret;
use crate::tls::TlsError;
use crate::upstream::{self, Target};

/// An account beside the target's own.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: Option<Secret<String>>,
}

/// The way to a target, as its own account or another, and the definitions of its profiles; those that are only names have none.
pub fn profiles(settings: &TargetSettings, account: Option<Account>) -> Result<(Arc<Target>, Definitions), TlsError> {
    let mut target = build::target(settings)?;
    if let Some(account) = account {
        target.account = upstream::Account::own(account.user);
        target.account.password = account.password;
    }
    let defined = settings.profiles.iter().filter_map(|profile| {
        Some(Definition {
            name: profile.name.clone(),
            rights: profile.rights.clone()?,
            settings: profile.session_settings(&settings.name),
        })
    });
    let definitions = Definitions {
        target: settings.name.clone(),
        account: settings.user.clone(),
        profiles: defined.collect(),
    };
    Ok((Arc::new(target), definitions))
}
