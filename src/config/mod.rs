//! Configuration: turns one TOML file into checked settings, or into a list of all mistakes in it.
//!
//! It opens no socket, starts no task and keeps no state: a reload is a second [`load`], whose result is used as a whole or not
//! at all.
//!
//! INVARIANT: every mistake names the file, the line, the key, the reason and the remedy, and all of them are found in one run.

mod access;
mod address;
mod check;
mod checker;
mod file;
mod forward;
mod issuers;
mod mistake;
mod notify;
pub mod policies;
mod profiles;
mod reader;
mod secrets;
mod settings;
mod targets;
#[cfg(test)]
mod tests;
mod unknown;
mod words;

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

use crate::model::names::TargetName;

pub use access::AccessTable;
pub use check::reachable;
pub use mistake::ConfigMistake;
pub use profiles::ProfileSettings;
pub use settings::{
    AccountSettings, ConnectionLimits, ControlSettings, GateSettings, LogFormat, LoggingSettings, SessionTable, SharedAccount,
    TargetSettings, TlsFiles,
};
#[cfg(test)]
pub(crate) use targets::RESERVED_NAMES;
pub use unknown::unknown_names;

/// Configuration file to use if none is named.
pub const DEFAULT_FILE: &str = "tidegate.toml";

/// Reads the file and every file it names, checks everything, and returns usable settings, or all mistakes found.
pub fn load(path: &Path) -> Result<GateSettings, Vec<ConfigMistake>> {
    let text = read(path).map_err(|mistake| vec![mistake])?;
    from_text(path, &text)
}

/// Does the same as [`load`] for a text that is not (yet) in a file. Relative paths are resolved against the folder of `path`.
pub fn from_text(path: &Path, text: &str) -> Result<GateSettings, Vec<ConfigMistake>> {
    let (file, mut mistakes) = file::FileConfig::parse(path, text)?;
    let settings = check::settings(path, &file, &mut mistakes);
    mistakes.sort_by_key(ConfigMistake::line);
    match settings {
        Some(settings) if mistakes.is_empty() => Ok(settings),
        _ => Err(mistakes),
    }
}

/// Reads one target from the file, and the passwords of its accounts only if `passwords` is set: this works without the right
/// to read the other secrets in the file. An unknown target is an error that names the known ones.
pub fn target(path: &Path, name: &TargetName, passwords: bool) -> Result<TargetSettings, Vec<ConfigMistake>> {
    let text = read(path).map_err(|mistake| vec![mistake])?;
    let (mut file, mut mistakes) = file::FileConfig::parse(path, &text)?;
    let names: Vec<String> = file.targets.iter().map(|target| target.name.to_string()).collect();
    file.targets.retain(|target| target.name == *name);
    if !passwords {
        for target in &mut file.targets {
            target.forget_passwords();
        }
    }
    let mut checker = checker::SettingsChecker::new(path, &file.places, &mut mistakes);
    let settings = file.targets.first().map(|table| checker.target(table));
    match settings {
        Some(settings) if mistakes.is_empty() => Ok(settings),
        None if mistakes.is_empty() => {
            let reason = format!("no target is named {name}; configured: {}", names.join(", "));
            Err(vec![ConfigMistake::new(path, None, Some("targets".to_owned()), reason)])
        }
        _ => Err(mistakes),
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
    let text = read(path).map_err(|mistake| vec![mistake])?;
    let (file, mistakes) = file::FileConfig::parse(path, &text)?;
    if mistakes.is_empty() {
        Ok(check::control_address(path, &file))
    } else {
        Err(mistakes)
    }
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
            dir: checker::BaseFolder::of(path).join(Path::new(policies::DEFAULT_DIR)),
            zone: TimeZone::UTC,
        }
    }
}

/// Reads only [`PolicyLocation`] from the file: this works without the right to read the secrets that it names.
pub fn policy_place(path: &Path) -> Result<PolicyLocation, Vec<ConfigMistake>> {
    let text = read(path).map_err(|mistake| vec![mistake])?;
    let (file, mistakes) = file::FileConfig::parse(path, &text)?;
    if mistakes.is_empty() {
        Ok(file.policy.place(&checker::BaseFolder::of(path)))
    } else {
        Err(mistakes)
    }
}

fn read(path: &Path) -> Result<String, ConfigMistake> {
    std::fs::read_to_string(path).map_err(|error| {
        let mistake = ConfigMistake::new(path, None, None, format!("cannot be read: {error}"));
        if error.kind() == std::io::ErrorKind::NotFound {
            mistake.remedy("set the file with --config, or write one: docs/quickstart.md has one to start from")
        } else {
            mistake
        }
    })
}
