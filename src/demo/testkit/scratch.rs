//! Temporary folder owned by the account that its server runs under.
//!
//! Once a keeper has the folder, the keeper removes it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;

use super::binaries::SystemAccount;

/// Maximum length of the parent folder's path in bytes: `sockaddr_un` holds 107, of which this folder and the gate's
/// `state/control.sock` in it take some.
const MAX_PATH_BYTES: usize = 60;

/// Private folder, removed on drop until [`ScratchFolder::hand_over`].
pub(super) struct ScratchFolder {
    folder: TempDir,
    account: Option<SystemAccount>,
}

impl ScratchFolder {
    pub(super) fn new(account: Option<SystemAccount>) -> anyhow::Result<Self> {
        let parent = parent(account);
        let folder = tempfile::Builder::new().prefix("tidegate-lab-").tempdir_in(&parent);
        let folder = folder.with_context(|| format!("making a temporary folder in {}", parent.display()))?;
        own(folder.path(), 0o700, account)?;
        Ok(Self { folder, account })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file that only its owner can read; `name` may have a folder before it.
    pub(super) fn write(&self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        let path = self.path().join(name);
        if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
            fs::create_dir(folder).with_context(|| format!("making {}", folder.display()))?;
            own(folder, 0o700, self.account)?;
        }
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        own(&path, 0o600, self.account)?;
        Ok(path)
    }

    /// Hands the folder over to a keeper, which removes it.
    pub(super) fn hand_over(self) -> PathBuf {
        self.folder.keep()
    }
}

fn own(path: &Path, mode: u32, account: Option<SystemAccount>) -> anyhow::Result<()> {
    let set = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    set.with_context(|| format!("setting the mode of {}", path.display()))?;
    if let Some(SystemAccount { uid, gid }) = account {
        let given = chown(path, Some(uid), Some(gid));
        given.with_context(|| format!("giving {} to the account of the server", path.display()))?;
    }
    Ok(())
}

/// Returns the system's temporary folder, unless the other account cannot reach it or its path is too long for a socket.
fn parent(account: Option<SystemAccount>) -> PathBuf {
    let usual = std::env::temp_dir();
    let reachable = account.is_none()
        || usual
            .ancestors()
            .all(|folder| fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o001 != 0));
    if reachable && usual.is_absolute() && usual.as_os_str().len() <= MAX_PATH_BYTES {
        usual
    } else {
        PathBuf::from("/tmp")
    }
}
