//! Configuration: one TOML file becomes checked settings, or a list of everything that is wrong with it.
//!
//! It opens no socket, starts nothing and keeps nothing: a reload is a second [`load`], whose result is used whole or not at all.
//!
//! INVARIANT: every mistake names the file, the line, the key, the reason and the way out, and all of them are found in one run.

mod access;
mod check;
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

use crate::names::TargetName;

pub use access::AccessTable;
pub use check::reachable;
pub use file::{Control, Limits, LogFormat, Logging, SessionTable};
pub use mistake::Mistake;
pub use profiles::ProfileSettings;
pub use settings::{AccountSettings, Settings, TargetSettings, TlsFiles};
pub use targets::SharedAccount;
pub use unknown::unknown_names;

/// The file that is looked for when none is named.
pub const DEFAULT_FILE: &str = "tidegate.toml";

/// Reads the file and every file it names, checks everything, and returns settings that can be used, or all mistakes found.
pub fn load(path: &Path) -> Result<Settings, Vec<Mistake>> {
    let text = read(path).map_err(|mistake| vec![mistake])?;
    from_text(path, &text)
}

/// As [`load`], for a text that is not (yet) in a file; relative paths in it start at the folder of `path`.
pub fn from_text(path: &Path, text: &str) -> Result<Settings, Vec<Mistake>> {
    let (file, mut mistakes) = file::FileConfig::parse(path, text)?;
    let settings = check::settings(path, &file, &mut mistakes);
    mistakes.sort_by_key(Mistake::line);
    match settings {
        Some(settings) if mistakes.is_empty() => Ok(settings),
        _ => Err(mistakes),
    }
}

/// Reads one target from the file, and the passwords of its accounts only if asked to: works for someone who may not read the other
/// secrets it names. A target that is not there is an error that names those that are.
pub fn target(path: &Path, name: &TargetName, passwords: bool) -> Result<TargetSettings, Vec<Mistake>> {
    let text = read(path).map_err(|mistake| vec![mistake])?;
    let (mut file, mut mistakes) = file::FileConfig::parse(path, &text)?;
    let names: Vec<String> = file.targets.iter().map(|target| target.name.to_string()).collect();
    file.targets.retain(|target| target.name == *name);
    if !passwords {
        for target in &mut file.targets {
            target.forget_passwords();
        }
    }
    let mut checker = check::Checker::new(path, &file, &mut mistakes);
    let settings = file.targets.first().map(|table| checker.target(table));
    match settings {
        Some(settings) if mistakes.is_empty() => Ok(settings),
        None if mistakes.is_empty() => {
            let reason = format!("there is no target {name}; there are: {}", names.join(", "));
            Err(vec![Mistake::new(path, None, Some("targets".to_owned()), reason)])
        }
        _ => Err(mistakes),
    }
}

/// What a client of the control API has to know: where the gate listens for it, and where its token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlAddress {
    /// The Unix socket.
    pub socket: PathBuf,
    /// The file with the admin token.
    pub token_file: PathBuf,
    /// The folder of the audit log.
    pub audit_dir: PathBuf,
    /// The file with the key that signs it.
    pub audit_key: PathBuf,
    /// The store that remembers the log's end.
    pub ledger: PathBuf,
}

/// Reads only [`ControlAddress`] from the file: works for someone who may not read the secrets it names.
pub fn control_address(path: &Path) -> Result<ControlAddress, Vec<Mistake>> {
    let text = read(path).map_err(|mistake| vec![mistake])?;
    let (file, mistakes) = file::FileConfig::parse(path, &text)?;
    if mistakes.is_empty() {
        Ok(check::control_address(path, &file))
    } else {
        Err(mistakes)
    }
}

/// Where the policies are, and where their hours and weekdays are.
#[derive(Debug, Clone)]
pub struct PolicyPlace {
    /// The folder.
    pub dir: PathBuf,
    /// The zone.
    pub zone: TimeZone,
}

impl PolicyPlace {
    /// Of a gate whose configuration says nothing of it, and of a folder without a configuration.
    #[must_use]
    pub fn beside(path: &Path) -> Self {
        Self {
            dir: check::Base::of(path).join(Path::new(policies::DEFAULT_DIR)),
            zone: TimeZone::UTC,
        }
    }
}

/// Reads only [`PolicyPlace`] from the file: works for someone who may not read the secrets it names.
pub fn policy_place(path: &Path) -> Result<PolicyPlace, Vec<Mistake>> {
    let text = read(path).map_err(|mistake| vec![mistake])?;
    let (file, mistakes) = file::FileConfig::parse(path, &text)?;
    if mistakes.is_empty() {
        Ok(file.policy.place(&check::Base::of(path)))
    } else {
        Err(mistakes)
    }
}

fn read(path: &Path) -> Result<String, Mistake> {
    std::fs::read_to_string(path).map_err(|error| {
        let mistake = Mistake::new(path, None, None, format!("cannot be read: {error}"));
        if error.kind() == std::io::ErrorKind::NotFound {
            mistake.remedy("name the file with --config, or write one: docs/quickstart.md has one to start from")
        } else {
            mistake
        }
    })
}
