//! Files and environment variables that keys name: they are read only where the reader may open them.
//!
//! The configuration never contains a secret, and no mistake does.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::reader::TableSection;
use crate::base::secret::Secret;

impl TableSection<'_> {
    /// Notes a file with a secret, if every user of the machine may read it.
    pub(super) fn guarded(&self, path: &Path) {
        const OTHERS_READ: u32 = 0o004;
        if std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & OTHERS_READ != 0) {
            self.expose(path);
        }
    }

    /// Reads a file, which has to be readable.
    pub(super) fn readable(&self, key: &str, path: &Path) -> Option<String> {
        if !self.opens(key) {
            return None;
        }
        match std::fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) => {
                let remedy = "set a file that the gate can read (relative paths start at the configuration's folder)";
                self.broken_rule(key, format!("cannot read {}: {error}", path.display()), remedy);
                None
            }
        }
    }

    /// Reads the secret named by `WORD_file` or `WORD_env`; `None` if neither is set.
    pub(super) fn secret(&self, word: &str, file: Option<PathBuf>, variable: Option<String>) -> Option<Secret<String>> {
        let (file_key, env_key) = (format!("{word}_file"), format!("{word}_env"));
        if !self.opens(&file_key) {
            return None;
        }
        match (file, variable) {
            (None, None) => None,
            (Some(_), Some(_)) => {
                self.broken_rule(&env_key, format!("{word}_file is set too"), "remove one");
                None
            }
            (Some(path), None) => {
                self.guarded(&path);
                let text = self.readable(&file_key, &path)?;
                // Editors end a file with a newline that is not part of the secret.
                let secret = text.strip_suffix('\n').unwrap_or(&text);
                let secret = secret.strip_suffix('\r').unwrap_or(secret);
                self.fit_secret(&file_key, word, secret)
            }
            (None, Some(variable)) => match std::env::var(&variable) {
                Ok(secret) => self.fit_secret(&env_key, word, &secret),
                Err(std::env::VarError::NotPresent) => {
                    let reason = format!("the environment variable {variable} is not set");
                    self.broken_rule(&env_key, reason, "set it in the gate's environment");
                    None
                }
                Err(std::env::VarError::NotUnicode(_)) => {
                    self.broken_rule(&env_key, format!("the environment variable {variable} is not UTF-8"), "");
                    None
                }
            },
        }
    }

    fn fit_secret(&self, key: &str, word: &str, secret: &str) -> Option<Secret<String>> {
        if secret.is_empty() || secret.contains(['\0', '\n']) {
            self.broken_rule(
                key,
                format!("the {word} is empty or has more than one line"),
                &format!("write only the {word}, on one line"),
            );
            return None;
        }
        Some(Secret::new(secret.to_owned()))
    }

    /// Checks that a folder is there, or can be made.
    pub(super) fn writable_folder(&self, key: &str, dir: &Path) {
        if !self.opens(key) {
            return;
        }
        match std::fs::metadata(dir) {
            Ok(found) if !found.is_dir() => {
                self.broken_rule(key, format!("{} is not a folder", dir.display()), "set the path of a folder");
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // The gate creates only the last part of the path: with a misspelt mount point, creating the whole tree would
                // hide the mistake.
                let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
                if parent.is_some_and(|parent| !parent.is_dir()) {
                    let reason = format!("the parent folder of {} does not exist", dir.display());
                    self.broken_rule(key, reason, "create it, or set another path");
                }
            }
            Err(error) => self.broken_rule(
                key,
                format!("{}: {error}", dir.display()),
                "set a folder that the gate can write to",
            ),
        }
    }
}
