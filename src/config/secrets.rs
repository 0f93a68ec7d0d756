//! Secrets, read from the files and environment variables that the configuration names. The configuration never contains them.
//!
//! No mistake contains a secret.

use std::path::PathBuf;

use super::checker::SettingsChecker;
use crate::base::secret::Secret;

impl SettingsChecker<'_> {
    /// Reads the secret named by `WORD_file` or `WORD_env` of a table; `None` if neither is set.
    pub(super) fn secret(
        &mut self,
        table: &str,
        word: &str,
        file: Option<&PathBuf>,
        variable: Option<&String>,
    ) -> Option<Secret<String>> {
        let (file_key, env_key) = (format!("{table}.{word}_file"), format!("{table}.{word}_env"));
        match (file, variable) {
            (None, None) => None,
            (Some(_), Some(_)) => {
                let reason = format!("{word}_file is set too");
                self.note(&env_key, reason, "remove one");
                None
            }
            (Some(file), None) => {
                let path = self.base.join(file);
                self.guarded(&path);
                let text = self.readable(&file_key, &path)?;
                // Editors end a file with a newline that is not part of the secret.
                let secret = text.strip_suffix('\n').unwrap_or(&text);
                let secret = secret.strip_suffix('\r').unwrap_or(secret);
                self.fit_secret(&file_key, word, secret)
            }
            (None, Some(variable)) => match std::env::var(variable) {
                Ok(secret) => self.fit_secret(&env_key, word, &secret),
                Err(std::env::VarError::NotPresent) => {
                    let reason = format!("the environment variable {variable} is not set");
                    self.note(&env_key, reason, "set it in the gate's environment");
                    None
                }
                Err(std::env::VarError::NotUnicode(_)) => {
                    self.note(&env_key, format!("the environment variable {variable} is not UTF-8"), "");
                    None
                }
            },
        }
    }

    fn fit_secret(&mut self, key: &str, word: &str, secret: &str) -> Option<Secret<String>> {
        if secret.is_empty() || secret.contains(['\0', '\n']) {
            self.note(
                key,
                format!("the {word} is empty or has more than one line"),
                &format!("write only the {word}, on one line"),
            );
            return None;
        }
        Some(Secret::new(secret.to_owned()))
    }
}
