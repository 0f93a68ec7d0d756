//! A disk that is full, or can only be read, for real: a file system of the test's own, where the tests run as root.
//!
//! It knows nothing of gates.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own; unmounted on drop.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Of this size, like `128k`. Nothing, and a word about it, where this account may not mount.
    pub(crate) fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = tmpfs(folder.path(), &format!("size={size},mode=0700"));
        if !mounted {
            println!("SKIPPED: a file system can only be mounted by root");
        }
        mounted.then_some(Self(folder))
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Fills it to the last byte.
    pub(crate) fn fill(&self) {
        let mut file = fs::File::create(self.folder("ballast")).expect("a file");
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    pub(crate) fn clear(&self) {
        fs::remove_file(self.folder("ballast")).expect("removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount(self.0.path());
    }
}

/// An empty file system over a folder, in which nothing can be written; gone on drop. A disk whose files are open for writing
/// cannot be made read-only by hand; under this path it is all the same.
pub(crate) struct ReadOnly(PathBuf);

impl ReadOnly {
    pub(crate) fn over(folder: &Path) -> Self {
        assert!(tmpfs(folder, "ro"), "mounted");
        Self(folder.to_owned())
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        umount(&self.0);
    }
}

fn tmpfs(folder: &Path, options: &str) -> bool {
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "tidegate-test"])
        .arg(folder)
        .output();
    mount.is_ok_and(|output| output.status.success())
}

fn umount(folder: &Path) {
    let _ = Command::new("umount").arg("--lazy").arg(folder).output();
}
