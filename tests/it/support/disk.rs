//! Disks that are full, read-only, or lose writes, for real: file systems of the test's own, if the tests run as root.
//!
//! It knows nothing of gates.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// File system of its own; unmounted on drop.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts one of this size, like `128k`. Returns `None`, and prints a line, if this account may not mount.
    #[expect(clippy::print_stdout, reason = "a test that is skipped has to say so")]
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

    /// Fills it to the last byte; can be called again after something was freed.
    pub(crate) fn fill(&self) {
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .create(true)
            .append(true)
            .open(self.folder("ballast"))
            .expect("a file");
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

/// Disk that accepts writes and cannot keep them, as a failing or thinly provisioned one does: a write into the page cache
/// succeeds, and the following sync fails. It is a file system in a file with holes, on a [`SmallDisk`].
pub(crate) struct Unkept {
    folder: tempfile::TempDir,
    below: SmallDisk,
}

impl Unkept {
    /// Mounts one. Returns `None` if this account may not mount, or has no loop device. Space freed on it is free on the disk
    /// below, too (`discard`).
    #[expect(clippy::print_stdout, reason = "a test that is skipped has to say so")]
    pub(crate) fn mount() -> Option<Self> {
        let below = SmallDisk::mount("64m")?;
        let image = below.folder("image");
        let file = fs::File::create(&image).expect("a file");
        file.set_len(256 << 20).expect("its size");
        // The file system's own metadata is written at its creation, so it is never in a hole.
        let books = [
            "-q",
            "-F",
            "-O",
            "^has_journal",
            "-E",
            "nodiscard,lazy_itable_init=0",
            "-N",
            "1024",
        ];
        let folder = tempfile::tempdir().expect("a folder");
        let made = done(Command::new("mkfs.ext4").args(books).arg(&image));
        if !made
            || !done(
                Command::new("mount")
                    .args(["-o", "loop,discard"])
                    .arg(&image)
                    .arg(folder.path()),
            )
        {
            println!("SKIPPED: a file system in a file cannot be made or mounted");
            return None;
        }
        Some(Self { folder, below })
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn fill(&self) {
        self.below.fill();
    }

    pub(crate) fn clear(&self) {
        self.below.clear();
    }
}

impl Drop for Unkept {
    fn drop(&mut self) {
        umount(self.folder.path());
    }
}

/// Empty, read-only file system mounted over a folder. A disk whose files are open for writing cannot be made read-only by hand;
/// this has the same effect under the path.
pub(crate) struct ReadOnly {
    folder: PathBuf,
    there: AtomicBool,
}

impl ReadOnly {
    /// Prepares the mount without making it.
    pub(crate) fn over(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            there: AtomicBool::new(false),
        }
    }

    pub(crate) fn mount(&self) {
        if !self.there.swap(true, Ordering::SeqCst) {
            assert!(tmpfs(&self.folder, "ro"), "mounted");
        }
    }

    pub(crate) fn umount(&self) {
        if self.there.swap(false, Ordering::SeqCst) {
            umount(&self.folder);
        }
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        self.umount();
    }
}

fn tmpfs(folder: &Path, options: &str) -> bool {
    let mount = ["-t", "tmpfs", "-o", options, "tidegate-test"];
    done(Command::new("mount").args(mount).arg(folder))
}

fn done(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn umount(folder: &Path) {
    let _ = Command::new("umount").arg("--lazy").arg(folder).output();
}
