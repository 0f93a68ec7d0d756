//! Gate started by a shell, which sets its standard error, its limits and its environment.
//!
//! Other commands of the same program are not affected: only `serve` is.

use std::fs;
use std::io::Write as _;
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::OFlags;
use tempfile::TempDir;
use tidegate::demo::testkit::TestGate;

use super::{Database, TARGET, binary, built};

/// Gate with the shell script that starts it.
pub(crate) struct Wrapped {
    gate: TestGate,
    /// Kept because commands of the gate run through it too.
    _script: TempDir,
}

impl Deref for Wrapped {
    type Target = TestGate;

    fn deref(&self) -> &TestGate {
        &self.gate
    }
}

/// Starts a gate in front of a database. `shell` is run before `exec` of the gate, which gets `redirections`.
pub(crate) fn gate_through(database: &Database, shell: &str, redirections: &str, more: &str) -> Wrapped {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("gate");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = serve ] || exec '{binary}' \"$@\"\n{shell}\nexec '{binary}' \"$@\" {redirections}\n",
        binary = binary().display()
    );
    write_program(&program, &script);
    let config = format!("{}{more}", database.shop.target_table(TARGET, ""));
    let gate = TestGate::start(&program, &config, &[database.shop.password_file()]).expect("a gate");
    Wrapped { gate, _script: folder }
}

/// Writes a program that starts gates with a bad standard error: `blocked` (a full pipe that is never read), `closed` (a pipe
/// whose reader has gone) or `failing` (a full disk). Whole runs of the proofs use it.
pub(super) fn stderr_script(stderr: &str) -> PathBuf {
    let redirect = match stderr {
        "blocked" => "mkfifo \"$pipe\" && exec 2<>\"$pipe\" && rm \"$pipe\" && head -c 65536 /dev/zero >&2",
        "closed" => "mkfifo \"$pipe\" && { : <\"$pipe\" & } && exec 2>\"$pipe\" && rm \"$pipe\" && wait",
        "failing" => "exec 2>/dev/full",
        other => panic!("TIDEGATE_STDERR is `blocked`, `closed` or `failing`, not `{other}`"),
    };
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("gate-{stderr}"));
    let script = format!(
        "#!/bin/sh\n[ \"$1\" != serve ] || {{ pipe=$(mktemp -u) && {redirect}; }}\nexec '{}' \"$@\"\n",
        built().display()
    );
    write_program(&program, &script);
    program
}

/// Writes the file in another process: this one forks at any time, and a program that is open for writing in a child cannot be
/// run.
fn write_program(path: &Path, script: &str) {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "cat >\"$1\" && chmod 700 \"$1\"", "sh"]).arg(path);
    let mut shell = shell.stdin(Stdio::piped()).spawn().expect("a shell");
    shell
        .stdin
        .take()
        .expect("its input")
        .write_all(script.as_bytes())
        .expect("written");
    assert!(shell.wait().expect("its end").success());
}

/// Named pipe that is full and whose reader reads nothing.
pub(crate) struct FullPipe {
    folder: TempDir,
    /// Reader that keeps the pipe open.
    _reader: fs::File,
}

impl FullPipe {
    pub(crate) fn make() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipe");
        let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(made.success());
        let mut pipe = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&path)
            .expect("the pipe");
        for size in [4096, 1] {
            while pipe.write_all(&vec![b'\n'; size]).is_ok() {}
        }
        Self { folder, _reader: pipe }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("pipe")
    }
}
