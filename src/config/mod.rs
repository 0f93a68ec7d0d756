//! Configuration: turns one TOML file into checked settings, or into a list of all mistakes in it.
//!
//! It opens no socket, starts no task and keeps no state: a reload is a second [`load`], whose result is used as a whole or not
//! at all.
//!
//! INVARIANT: every mistake names the file, the line, the key, the reason and the remedy, and all of them are found in one run.

mod access;
mod address;
mod chat;
mod console;
mod files;
mod gate;
mod issuers;
mod key;
mod mistake;
mod outbound;
pub mod policies;
mod profiles;
mod reader;
mod settings;
mod targets;
#[cfg(test)]
mod tests;
mod unknown;
mod words;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::database::upstream::TargetAccount;
use crate::model::names::TargetName;
use reader::{Found, TableReader};

pub use access::{AccessTable, DEFAULT_WINDOW};
pub use console::ConsoleTable;
pub use gate::reachable;
pub use mistake::ConfigMistake;
pub use profiles::ProfileSettings;
pub use reader::KeyReference;
pub use settings::{
    ConnectionLimits, ControlSettings, GateSettings, LogFormat, LoggingSettings, SessionTable, SharedAccount, TargetSettings,
    TlsFiles,
};
#[cfg(test)]
pub(crate) use targets::RESERVED_NAMES;
pub use unknown::unknown_names;

/// Configuration file to use if none is named.
pub const DEFAULT_FILE: &str = "tidegate.toml";

/// Reads the file and every file it names, checks everything, and returns usable settings, or all mistakes found.
pub fn load(path: &Path) -> Result<GateSettings, Vec<ConfigMistake>> {
    from_text(path, &text(path)?)
}

/// Does the same as [`load`] for a text that is not (yet) in a file. Relative paths are resolved against the folder of `path`.
pub fn from_text(path: &Path, text: &str) -> Result<GateSettings, Vec<ConfigMistake>> {
    let (settings, found) = read(path, text, &|_| true)?;
    let mut mistakes = found.mistakes;
    mistakes.extend(found.broken_rules);
    mistakes.sort_by_key(ConfigMistake::line);
    if mistakes.is_empty() {
        Ok(GateSettings {
            exposed: found.exposed,
            ..settings
        })
    } else {
        Err(mistakes)
    }
}

/// Reads one target from the file; `account` takes the place of its provisioning account, and then no password is read. This
/// works without the right to read the other secrets in the file. An unknown target is an error that names the known ones.
pub fn target(path: &Path, name: &TargetName, account: Option<TargetAccount>) -> Result<TargetSettings, Vec<ConfigMistake>> {
    let table = format!("targets.{name}");
    let of_target = |key: &str| {
        let own = key.rsplit_once('.').filter(|(parent, _)| *parent == table);
        own.is_some_and(|(_, key)| account.is_none() || !key.contains("password"))
    };
    let (settings, found) = read(path, &text(path)?, &of_target)?;
    let mut mistakes = found.mistakes;
    let of_target = |mistake: &ConfigMistake| mistake.key().is_some_and(of_target);
    mistakes.extend(found.broken_rules.into_iter().filter(of_target));
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let names: Vec<_> = settings
        .targets
        .iter()
        .map(|target| target.upstream.name.to_string())
        .collect();
    let Some(mut settings) = settings.targets.into_iter().find(|target| target.upstream.name == *name) else {
        let reason = format!("no target is named {name}; configured: {}", names.join(", "));
        return Err(vec![ConfigMistake::new(path, None, Some("targets".to_owned()), reason)]);
    };
    if let (Some(account), Some(target)) = (account, Arc::get_mut(&mut settings.upstream)) {
        target.admin = Some(account);
    }
    Ok(settings)
}

/// Returns the keys with their types, limits, defaults and meanings, in the order of reading.
#[must_use]
pub fn reference() -> Vec<KeyReference> {
    const EVERY_TABLE: &str = "[targets.orders]\n[[identity.issuers]]\n[[notify.webhooks]]\n";
    read(Path::new(DEFAULT_FILE), EVERY_TABLE, &|_| false).map_or_else(|_| Vec::new(), |(_, found)| found.keys)
}

/// Reads a text; only the files and variables of keys that `opens` are read.
fn read(path: &Path, text: &str, opens: &dyn Fn(&str) -> bool) -> Result<(GateSettings, Found), Vec<ConfigMistake>> {
    TableReader::new(path, text, opens).read(gate::read)
}

/// Reads the file without any file that it names.
fn without_files(path: &Path) -> Result<GateSettings, Vec<ConfigMistake>> {
    let (settings, found) = read(path, &text(path)?, &|_| false)?;
    if found.mistakes.is_empty() {
        Ok(settings)
    } else {
        Err(found.mistakes)
    }
}

/// Addresses and files that the command line needs from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlAddress {
    /// Unix socket of the control API.
    pub socket: PathBuf,
    /// File with the admin token.
    pub token_file: PathBuf,
    /// Folder of the audit log.
    pub audit_dir: PathBuf,
    /// File with the key that signs the audit log.
    pub audit_key: PathBuf,
    /// Store that remembers the end of the log.
    pub ledger: PathBuf,
}

/// Reads only [`ControlAddress`] from the file: this works without the right to read the secrets that it names.
pub fn control_address(path: &Path) -> Result<ControlAddress, Vec<ConfigMistake>> {
    let settings = without_files(path)?;
    Ok(ControlAddress {
        socket: settings.control.socket,
        token_file: settings.control.token_file,
        audit_dir: settings.audit.dir,
        audit_key: settings.audit.key,
        ledger: settings.state_dir.join("ledger.sqlite"),
    })
}

/// Place of the policies, and the time zone of their hours and weekdays.
#[derive(Debug, Clone)]
pub struct PolicyLocation {
    /// Folder of the policies.
    pub dir: PathBuf,
    /// Time zone in which policies see hours and weekdays.
    pub zone: TimeZone,
}

impl PolicyLocation {
    /// Returns the defaults, for a configuration that does not mention policies and for a folder without a configuration.
    #[must_use]
    pub fn beside(path: &Path) -> Self {
        Self {
            dir: reader::base(path).join(policies::DEFAULT_DIR),
            zone: TimeZone::UTC,
        }
    }
}

/// Reads only [`PolicyLocation`] from the file: this works without the right to read the secrets that it names.
pub fn policy_place(path: &Path) -> Result<PolicyLocation, Vec<ConfigMistake>> {
    without_files(path).map(|settings| settings.policy)
}

fn text(path: &Path) -> Result<String, Vec<ConfigMistake>> {
    std::fs::read_to_string(path).map_err(|error| {
        let mistake = ConfigMistake::new(path, None, None, format!("cannot be read: {error}"));
        if error.kind() == std::io::ErrorKind::NotFound {
            vec![mistake.remedy("set the file with --config, or write one: docs/quickstart.md has one to start from")]
        } else {
            vec![mistake]
        }
    })
}
