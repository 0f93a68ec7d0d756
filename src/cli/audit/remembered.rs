//! End of the log as a gate's ledger remembers it, for verification without the gate.
//!
//! It compares nothing, and changes nothing in the ledger.

use std::path::Path;

use anyhow::Context;

use crate::audit::RememberedTip;
use crate::audit::verify::SavedCheckpoint;
use crate::config::control_address;
use crate::ledger::read_log_tip;

/// End of the log in a ledger, with remarks about that ledger.
#[derive(Debug, Default)]
pub(in crate::cli) struct RememberedEnd {
    pub(in crate::cli) kept: Option<SavedCheckpoint>,
    pub(in crate::cli) remarks: Vec<String>,
}

impl RememberedEnd {
    /// Reads the named ledger; otherwise the configured one, if the log in this folder is the configured one.
    pub(in crate::cli) fn find(config: &Path, dir: &Path, named: Option<&Path>) -> anyhow::Result<Self> {
        if named.is_some() {
            return Self::named(named);
        }
        let same = |here: &Path| matches!((here.canonicalize(), dir.canonicalize()), (Ok(here), Ok(dir)) if here == dir);
        match control_address(config) {
            // A configured ledger that cannot be read does not prevent the verification.
            Ok(here) if same(&here.audit_dir) => {
                Ok(Self::of(&here.ledger).unwrap_or_else(|error| Self::remark(format!("{error:#}"))))
            }
            _ => Ok(Self::default()),
        }
    }

    /// Reads the named ledger, if one is named.
    pub(in crate::cli) fn named(path: Option<&Path>) -> anyhow::Result<Self> {
        match path {
            None => Ok(Self::default()),
            Some(path) => {
                anyhow::ensure!(path.exists(), "no ledger at {}", path.display());
                Self::of(path)
            }
        }
    }

    fn of(path: &Path) -> anyhow::Result<Self> {
        let nothing = |why: &str| {
            Self::remark(format!(
                "the end of the log was not compared with the ledger {}: {why}",
                path.display()
            ))
        };
        if !path.exists() {
            return Ok(nothing("it does not exist"));
        }
        let found = read_log_tip(path).with_context(|| format!("cannot read the ledger {}", path.display()))?;
        Ok(match RememberedTip::of_ledger(found.as_ref().map(|tip| tip.line.as_str())) {
            RememberedTip::At(kept) => Self {
                kept: Some(kept),
                remarks: Vec::new(),
            },
            RememberedTip::Damaged => nothing("its entry is not a checkpoint"),
            _ => nothing("it has no checkpoint yet"),
        })
    }

    fn remark(text: String) -> Self {
        Self {
            kept: None,
            remarks: vec![text],
        }
    }
}
