//! Mistake in the configuration, in words that lead to its repair.
//!
//! It does not look for mistakes. It formats them, always as `file:line: key: reason; remedy`.

use std::fmt;
use std::path::{Path, PathBuf};

/// Key that mistakes in the policies are reported under.
pub(super) const POLICIES_KEY: &str = "policy.dir";

/// Mistake in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMistake {
    file: PathBuf,
    line: Option<usize>,
    key: Option<String>,
    reason: String,
    remedy: Option<String>,
}

impl ConfigMistake {
    pub(super) fn new(file: &Path, line: Option<usize>, key: Option<String>, reason: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            key,
            reason: reason.into(),
            remedy: None,
        }
    }

    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Returns the line in the file, counted from 1; `None` if the mistake has no single place.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// Returns the key with its tables, such as `targets.orders.user`.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Returns true if the mistake is in the policies.
    #[must_use]
    pub fn is_of_policies(&self) -> bool {
        self.key.as_deref() == Some(POLICIES_KEY)
    }
}

impl fmt::Display for ConfigMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.reason)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}
