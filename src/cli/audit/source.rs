//! Sources of a verification: the log, the key and the checkpoint.
//!
//! It verifies nothing.

use std::path::{Path, PathBuf};

use super::copy::LogCopy;
use super::remembered::RememberedEnd;
use crate::audit::key::{PublicKey, public_path};
use crate::audit::verify::{CheckpointError, SavedCheckpoint, UnreadableError, VerifyExpectation, VerifyReport, verify_folder};
use crate::cli::args::GatePlace;
use crate::cli::client_error::ClientError;
use crate::config::{self, ControlAddress};

/// Fetches the log of the named gate or, if none is configured on this machine, of the gate of the login. Returns `None` if the
/// log of the configured gate is meant.
pub(in crate::cli) async fn fetched(config: &Path, place: &GatePlace) -> anyhow::Result<Option<LogCopy>> {
    if !place.is_named() && here(config).is_some() {
        return Ok(None);
    }
    let client = match place.operator(config) {
        Err(ClientError::Nowhere | ClientError::Config(_)) if !place.is_named() => return Ok(None),
        client => client?,
    };
    Ok(Some(LogCopy::fetch(&client).await?))
}

/// Log in a folder: where it is written, or a copy of it.
pub(in crate::cli) enum LogSource {
    Folder(PathBuf),
    Copy(LogCopy),
}

impl LogSource {
    pub(in crate::cli) fn folder(&self) -> &Path {
        match self {
            Self::Folder(dir) => dir,
            Self::Copy(copy) => copy.folder(),
        }
    }

    /// Returns the key that must have signed the log, if one is known, and the end of the log as a ledger remembers it.
    pub(in crate::cli) fn expected(
        &self,
        config: &Path,
        key: Option<&str>,
        ledger: Option<&Path>,
    ) -> anyhow::Result<(Option<TrustedKey>, RememberedEnd)> {
        Ok(match self {
            Self::Copy(copy) => (TrustedKey::named(key)?, copy.remembered()),
            Self::Folder(dir) => (TrustedKey::find(config, key)?, RememberedEnd::find(config, dir, ledger)?),
        })
    }

    /// Verifies it; a copy's own folder is in no text.
    pub(in crate::cli) fn verify(
        &self,
        expected: &VerifyExpectation,
        progress: impl Fn(u64) + Sync,
    ) -> Result<VerifyReport, UnreadableError> {
        let report = verify_folder(self.folder(), expected, progress)?;
        Ok(match self {
            Self::Folder(_) => report,
            Self::Copy(copy) => report.without_folder(copy.folder()),
        })
    }
}

/// Returns the addresses and files of the gate that is configured on this machine.
pub(super) fn here(config: &Path) -> Option<ControlAddress> {
    config::control_address(config).ok()
}

/// Key to verify a log with, and its source.
pub(in crate::cli) struct TrustedKey {
    pub(in crate::cli) key: PublicKey,
    pub(in crate::cli) from: String,
}

impl TrustedKey {
    /// Returns the named key, or none: the key that is configured here belongs to another gate.
    pub(in crate::cli) fn named(name: Option<&str>) -> anyhow::Result<Option<Self>> {
        let trusted = |from: &str| {
            Ok(Self {
                key: named(from)?,
                from: from.to_owned(),
            })
        };
        name.map(trusted).transpose()
    }

    /// Returns the named key; otherwise the public half of the configured one, if it can be read.
    pub(in crate::cli) fn find(config: &Path, name: Option<&str>) -> anyhow::Result<Option<Self>> {
        if name.is_some() {
            return Self::named(name);
        }
        let Some(file) = here(config).map(|here| public_path(&here.audit_key)) else {
            return Ok(None);
        };
        let Ok(text) = std::fs::read_to_string(&file) else {
            return Ok(None);
        };
        let key = text
            .parse()
            .map_err(|error| anyhow::anyhow!("{}: {error}; set the key with --key", file.display()))?;
        let from = format!("{}, from the configuration here", file.display());
        Ok(Some(Self { key, from }))
    }
}

/// Reads a public key from its base 64 or from a file.
pub(super) fn named(text: &str) -> anyhow::Result<PublicKey> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let found = std::fs::read_to_string(text).map_err(|error| anyhow::anyhow!("cannot read the key {text}: {error}"))?;
    found.parse().map_err(|error| anyhow::anyhow!("{text}: {error}"))
}

/// Reads a stored checkpoint from a file or, for `-`, from standard input.
pub(super) fn kept(name: &str) -> anyhow::Result<SavedCheckpoint> {
    let read = if name == "-" {
        SavedCheckpoint::read(std::io::stdin())
    } else {
        std::fs::File::open(name).and_then(SavedCheckpoint::read)
    };
    let read = read.map_err(|error| anyhow::anyhow!("cannot read the checkpoint {name}: {error}"))?;
    read.map_err(|CheckpointError| anyhow::anyhow!("{name}: {CheckpointError}"))
}
