//! State folder of the gate: created for its owner only, and locked for this process before anything in it is read.
//!
//! Two gates on one store would each let in what the other has revoked, since each has its own memory and its own log.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::StartError;
use crate::base::error_chain::display_chain;
use crate::base::folder_lock::{self, FolderLockError};

/// File with the id of the process that holds the folder, for the error message of a second gate.
const PID_FILE: &str = "gate.pid";

/// Creates the folder (mode 0700) if needed and locks it. Returns `None` if the audit log is in the same folder, since the
/// log's own lock holds it then.
pub(super) fn take(dir: &Path, audit_dir: &Path) -> Result<Option<File>, StartError> {
    let failed = |source| StartError::State {
        path: dir.to_owned(),
        source,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed)?;
    let same = |(a, b)| a == b;
    if std::fs::canonicalize(dir)
        .ok()
        .zip(std::fs::canonicalize(audit_dir).ok())
        .is_some_and(same)
    {
        return Ok(None);
    }
    let lock = match folder_lock::take(dir) {
        Ok(lock) => lock,
        Err(FolderLockError::Io(source)) => return Err(failed(source)),
        Err(FolderLockError::Held) => {
            return Err(StartError::StateInUse {
                path: dir.to_owned(),
                holder: holder(dir),
            });
        }
    };
    if let Err(error) = note_pid(dir) {
        tracing::warn!(error = %display_chain(&error), "cannot write the process id to the state folder");
    }
    Ok(Some(lock))
}

fn note_pid(dir: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    writeln!(options.open(dir.join(PID_FILE))?, "{}", std::process::id())
}

/// Returns a description of the process that holds the folder.
fn holder(dir: &Path) -> String {
    let noted = std::fs::read_to_string(dir.join(PID_FILE)).ok();
    let pid = noted.and_then(|text| text.trim().parse::<u32>().ok());
    pid.map_or_else(|| "another gate".to_owned(), |pid| format!("the gate with process id {pid}"))
}
