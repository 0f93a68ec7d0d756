//! A copy of a gate's audit log, fetched over its API to be verified and read on this machine.
//!
//! It judges nothing. The copy lies in a folder of its own, for its owner only, and goes with the command that fetched it.
//!
//! INVARIANT: a file that the gate sends gets a name only if it is that of a part of a log.

use std::io::{self, Read, Write as _};
use std::path::Path;

use anyhow::Context as _;
use tempfile::TempDir;

use super::remembered::RememberedEnd;
use crate::audit::segment::Segment;
use crate::audit::verify::SavedCheckpoint;
use crate::audit::{CHECKPOINT_FILE, LEDGER_CHECKPOINT_FILE};
use crate::cli::client::ControlClient;

/// A copy of a log.
#[derive(Debug)]
pub(in crate::cli) struct LogCopy {
    folder: TempDir,
    /// The end of the log as the gate's ledger knows it.
    ledger: Option<SavedCheckpoint>,
    from: String,
}

impl LogCopy {
    /// Fetches the log of a gate.
    pub(in crate::cli) async fn fetch(client: &ControlClient) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("tidegate-log-").tempdir()?;
        let from = client.address().to_string();
        let (pieces, mut send) = io::pipe()?;
        let dir = folder.path().to_owned();
        let unpacking = tokio::task::spawn_blocking(move || unpack(pieces, &dir));
        let fetched = client
            .bytes("/v1/audit/files", &(), |piece| send.write_all(piece).is_ok())
            .await;
        drop(send);
        let unpacked = unpacking.await.context("cannot unpack the copy of the log")?;
        // Where the answer broke off, so did what was unpacked of it.
        fetched.with_context(|| format!("the copy of the log from the gate at {from} is incomplete; try again"))?;
        let ledger = unpacked.with_context(|| format!("the gate at {from} sent no log"))?;
        Ok(Self { folder, ledger, from })
    }

    /// Returns the folder of the copy.
    pub(in crate::cli) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The end of the log as the gate's ledger knows it, and what there is to say of it all.
    pub(in crate::cli) fn remembered(&self) -> RememberedEnd {
        let from = &self.from;
        let mut remarks = vec![format!(
            "the log and its last checkpoints came from the gate at {from}; if that machine is compromised, only a key (--key) and a checkpoint (--checkpoint of audit verify) stored elsewhere prove the log"
        )];
        if self.ledger.is_none() {
            remarks.push("the end of the log was not compared with the gate's ledger, which has no checkpoint yet".to_owned());
        }
        RememberedEnd {
            kept: self.ledger.clone(),
            remarks,
        }
    }
}

/// Writes the files of an archive into the folder. Returns the checkpoint that the ledger remembers.
fn unpack(archive: impl Read, dir: &Path) -> anyhow::Result<Option<SavedCheckpoint>> {
    let (mut archive, mut ledger) = (tar::Archive::new(archive), None);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        let of_log = !name.contains('/') && (name == CHECKPOINT_FILE || Segment::at(Path::new(&name)).is_some());
        if name == LEDGER_CHECKPOINT_FILE {
            ledger = Some(SavedCheckpoint::read(&mut entry)??);
        } else if of_log {
            let mut file = std::fs::File::create_new(dir.join(&name))?;
            io::copy(&mut entry, &mut file)?;
        } else {
            anyhow::bail!("it sent a file `{name}`, which is not part of a log");
        }
    }
    Ok(ledger)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut head = tar::Header::new_gnu();
            // Names that `set_path` would refuse.
            head.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            head.set_size(content.len() as u64);
            head.set_cksum();
            archive.append(&head, *content).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn only_parts_of_a_log_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let good = archive(&[("checkpoint.json", b"{}"), ("audit-000001.jsonl", b"line\n")]);
        assert_eq!(unpack(&good[..], dir.path()).unwrap(), None);
        assert_eq!(std::fs::read(dir.path().join("audit-000001.jsonl")).unwrap(), b"line\n");
        for name in [
            "../audit-000002.jsonl",
            "/tmp/audit-000002.jsonl",
            "x",
            "a/audit-000002.jsonl",
            "audit-000001.index",
            "audit-000001.summary",
        ] {
            let error = unpack(&archive(&[(name, b"x")])[..], dir.path()).unwrap_err().to_string();
            assert!(error.contains("not part of a log"), "{name}: {error}");
        }
        // None is replaced, and what is no checkpoint is not taken for one.
        assert!(unpack(&good[..], dir.path()).is_err());
        assert!(unpack(&archive(&[("ledger-checkpoint.json", b"{}")])[..], dir.path()).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
