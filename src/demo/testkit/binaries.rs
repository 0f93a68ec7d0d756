//! Finds PostgreSQL's server binaries and the account to run them under.
//!
//! It installs nothing and starts nothing.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cli::run::on_path;

/// Folder with `initdb` and `postgres`.
#[derive(Debug, Clone)]
pub struct PostgresBinaries {
    folder: PathBuf,
}

/// Account of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SystemAccount {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl PostgresBinaries {
    /// Searches `PG_BIN` (and only it, if it is set), then `PATH`, then the usual folders of distributions, the newest version
    /// first.
    pub fn find() -> anyhow::Result<Self> {
        if let Some(folder) = std::env::var_os("PG_BIN") {
            return Self::in_folder(Path::new(&folder));
        }
        let mut folders = Vec::new();
        // Resolve symbolic links: initdb finds its sibling programs and its share folder relative to its real folder.
        if let Some(file) = on_path("initdb").and_then(|file| file.canonicalize().ok()) {
            folders.extend(file.parent().map(Path::to_owned));
        }
        for (parent, prefix) in [("/usr/lib/postgresql", ""), ("/usr", "pgsql-"), ("/usr/local", "pgsql")] {
            folders.extend(versions(Path::new(parent), prefix));
        }
        folders
            .iter()
            .find_map(|folder| Self::in_folder(folder).ok())
            .with_context(|| no_binaries("PATH, /usr/lib/postgresql/*/bin, /usr/pgsql-*/bin, /usr/local/pgsql/bin"))
    }

    /// Uses the binaries of one folder.
    pub fn in_folder(folder: &Path) -> anyhow::Result<Self> {
        let complete = ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file());
        anyhow::ensure!(complete, no_binaries(&folder.display().to_string()));
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Returns the folder of the binaries.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the path of a client program (`psql`, `pgbench`): beside the server, otherwise in `PATH`; `None` if there is
    /// none.
    #[must_use]
    pub fn tool(&self, name: &str) -> Option<PathBuf> {
        let beside = self.folder.join(name);
        if beside.is_file() { Some(beside) } else { on_path(name) }
    }
}

fn no_binaries(searched: &str) -> String {
    format!(
        "no PostgreSQL server binaries (initdb, postgres) found in {searched}; install them (Debian: apt install postgresql) or set PG_BIN to their folder"
    )
}

/// Returns the folders `PARENT/PREFIX*/bin`, the highest version number first.
fn versions(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.strip_prefix(prefix)?.to_owned();
            let folder = entry.path().join("bin");
            // Old versions have numbers like 9.6; a folder without a number comes last.
            let major = version.split('.').next().unwrap_or_default().parse().unwrap_or(0);
            folder.is_dir().then_some((major, folder))
        })
        .collect();
    found.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// Returns the account to run the server under: `None` for the current one, an unprivileged one for root, since PostgreSQL
/// refuses to run as root.
pub(super) fn server_account() -> anyhow::Result<Option<SystemAccount>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| account(&accounts, name))
        .map(Some)
        .context("cannot run PostgreSQL as root, and neither the account `postgres` nor `nobody` exists")
}

/// Parses one line of passwd(5): `name:password:uid:gid:...`.
fn account(accounts: &str, name: &str) -> Option<SystemAccount> {
    let mut fields = accounts.lines().map(|line| line.split(':')).find_map(|mut fields| {
        let found = fields.next()? == name;
        found.then_some(fields)
    })?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(SystemAccount { uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_account() {
        let accounts =
            "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash\nbroken\n";
        assert_eq!(account(accounts, "postgres"), Some(SystemAccount { uid: 101, gid: 104 }));
        assert_eq!(account(accounts, "nobody"), None);
        assert_eq!(account(accounts, "broken"), None);
    }

    #[test]
    fn an_empty_folder_has_no_binaries() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let error = PostgresBinaries::in_folder(folder.path()).unwrap_err().to_string();
        assert!(error.starts_with("no PostgreSQL server binaries"), "{error}");
    }

    #[test]
    fn the_newest_version_comes_first() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        for version in ["9.6", "13", "17", "15"] {
            std::fs::create_dir_all(parent.path().join(version).join("bin")).expect("a folder");
        }
        let found = versions(parent.path(), "");
        assert!(found.first().is_some_and(|folder| folder.ends_with("17/bin")));
        assert!(found.last().is_some_and(|folder| folder.ends_with("9.6/bin")));
    }
}
