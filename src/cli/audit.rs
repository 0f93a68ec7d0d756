//! `audit`: verifies the log from its files, and prints what a verification needs: the public key, and a checkpoint to keep
//! elsewhere.
//!
//! [`crate::audit::verify`] verifies. This module changes nothing: the gate itself rotates its key.

pub(super) mod copy;
pub(super) mod remembered;
pub(super) mod source;
mod verify;

use std::path::Path;

use clap::Subcommand;

use super::args::{GatePlace, OutputFormat, RemoteArgs};
use super::client_error::ClientError;
use super::evidence;
use super::render::{print, show, visible};
use super::speech::{complain, note};
use crate::audit::key::public_path;
use crate::audit::verify::SavedCheckpoint;
use crate::control::model::{AuditKeyBody, EmptyBody};

use source::here;
pub use verify::VerifyArgs;

/// API path of the gate's last checkpoint.
const CHECKPOINT_PATH: &str = "/v1/audit/checkpoint";

/// Verifies and exports the audit log, and manages its key.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Verifies that a log is complete and unchanged, or names the first bad line: this gate's, a copy's or another gate's
    #[command(after_help = "\
Examples:
  tidegate audit verify                                     the log of the gate configured here
  tidegate audit verify --control https://gate:7433 --key audit-key.pub --checkpoint kept.json
                                                            the log of another gate
  tidegate audit verify /backup/audit --key audit-key.pub   a copy
  tidegate audit verify --checkpoint last-week.json         only records after that checkpoint
  ssh gate tidegate audit checkpoint | tidegate audit verify copy/ --key audit-key.pub --checkpoint -

The log of another gate is copied to a new folder below TMPDIR, which is removed after verification.
This needs the right to read the log.

Exit codes: 0 the log is whole, 1 it is not, 2 it cannot be read.

Without a key, a log that was rewritten from the start passes. The checkpoint beside the log and the
gate's ledger show whether lines are missing at the end. An attacker who can also write these two
files is detected only with a checkpoint stored elsewhere.

If the gate found a gap at a start, the log stays \"not whole\". Once the gap is explained, verify
from a later checkpoint with --checkpoint.")]
    Verify(VerifyArgs),
    /// Prints the latest signed checkpoint, to be stored out of reach of writers of the log
    #[command(after_help = "\
Example:
  tidegate audit checkpoint > /elsewhere/$(date +%F).json")]
    Checkpoint {
        /// Address of the gate.
        #[command(flatten)]
        place: GatePlace,
    },
    /// Prints the public key that verifies the log
    #[command(after_help = "\
Example:
  tidegate audit key > audit-key.pub")]
    Key {
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Makes the gate sign with a new key; the old key confirms the new one in the log and is destroyed
    RotateKey {
        /// Address of the gate, and output format.
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Writes an evidence report for auditors, as a page and as CSV files
    Report(evidence::ReportArgs),
}

/// Runs the command and returns its exit code.
pub(super) async fn run(config: &Path, command: AuditCommand) -> anyhow::Result<u8> {
    match command {
        AuditCommand::Verify(args) => return Ok(verify::run(config, &args).await),
        AuditCommand::Checkpoint { place } => checkpoint(config, &place).await?,
        AuditCommand::Key { remote } => key(config, &remote).await?,
        AuditCommand::RotateKey { remote } => rotate_key(config, &remote).await?,
        AuditCommand::Report(args) => evidence::report(config, &args).await?,
    }
    Ok(0)
}

async fn checkpoint(config: &Path, place: &GatePlace) -> anyhow::Result<()> {
    let line = match asked(config, place).await {
        Ok(line) => line,
        Err(error) => {
            // A gate that is not running has left its last checkpoint beside the log.
            let left = here(config).filter(|_| place.control.is_none() && matches!(error, ClientError::Connect { .. }));
            let Some(kept) = left
                .map(|here| SavedCheckpoint::beside(&here.audit_dir))
                .transpose()?
                .flatten()
            else {
                return Err(error.into());
            };
            complain("the gate does not answer; printing the last checkpoint from its log folder");
            kept.line
        }
    };
    Ok(print(&visible(&line))?)
}

async fn key(config: &Path, remote: &RemoteArgs) -> anyhow::Result<()> {
    let file = here(config)
        .filter(|_| remote.place.control.is_none())
        .map(|here| public_path(&here.audit_key));
    let key = match file.and_then(|file| std::fs::read_to_string(file).ok()) {
        Some(text) => text.parse()?,
        None => {
            SavedCheckpoint::parse(asked(config, &remote.place).await?.as_bytes())?
                .checkpoint
                .key
        }
    };
    told(remote.printing.output, &AuditKeyBody::of(&key))
}

async fn rotate_key(config: &Path, remote: &RemoteArgs) -> anyhow::Result<()> {
    let key: AuditKeyBody = remote
        .place
        .operator(config)?
        .post("/v1/audit/rotate-key", &EmptyBody {})
        .await?;
    note("the gate now signs with a new key; the old one still verifies the log, since it confirmed the new one");
    told(remote.printing.output, &key)
}

/// Returns the line of the gate's last checkpoint.
async fn asked(config: &Path, place: &GatePlace) -> Result<String, ClientError> {
    let mut answer = String::new();
    let line = |line: Option<&[u8]>| match line {
        Some(line) => {
            answer = String::from_utf8_lossy(line).into_owned();
            false
        }
        None => true,
    };
    place.operator(config)?.lines(CHECKPOINT_PATH, &(), line).await?;
    Ok(answer)
}

/// Prints the key. Only the key goes to standard output, so that it can be redirected to a file.
fn told(output: OutputFormat, key: &AuditKeyBody) -> anyhow::Result<()> {
    if output == OutputFormat::Table {
        note(&format!("key {}", key.id));
    }
    show(output, key, |key| key.pem.trim_end().to_owned())
}
