//! Throwaway gate: the built binary with a configuration in a temporary folder.
//!
//! It uses only the gate's external interfaces: command line, configuration file, port, process.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Signal;

use super::keeper::{KeptCommand, ProcessKeeper};
use super::scratch::ScratchFolder;
use crate::base::secret::Secret;

/// Range of ports below those that Linux assigns to outgoing connections (32768 and up), so that no client takes a port before
/// the server does.
const GATE_PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Gate in its own process. It is killed and its files are removed on drop, and also when this process dies.
#[derive(Debug)]
pub struct TestGate {
    // Dropped before the home, in which it runs.
    again: Option<ProcessKeeper>,
    /// Keeper of the first run, which also keeps the folder.
    home: ProcessKeeper,
    binary: PathBuf,
    port: u16,
}

/// Login of a tester.
#[derive(Debug)]
pub struct TestLogin {
    /// Grant id, which is the user name.
    pub grant: String,
    /// Password of the login.
    pub secret: Secret<String>,
}

impl TestLogin {
    /// Reads the answer of `tidegate grant create --output json`.
    #[must_use]
    pub fn read(issued: &serde_json::Value) -> Option<Self> {
        Some(Self {
            grant: issued.pointer("/grant/id")?.as_str()?.to_owned(),
            secret: Secret::new(issued.get("secret")?.as_str()?.to_owned()),
        })
    }
}

impl TestGate {
    /// Starts `binary` and waits until it takes connections and commands (blocks the calling thread).
    ///
    /// `config` is the text of its `tidegate.toml` without `listen` and `state_dir`; `files` (name, content) are written beside
    /// it, readable by the owner only.
    pub fn start(binary: &Path, config: &str, files: &[(&str, &str)]) -> anyhow::Result<Self> {
        let scratch = ScratchFolder::new(None)?;
        let port = free_port()?;
        let head = format!("listen = [\"127.0.0.1:{port}\"]\nstate_dir = \"state\"\n");
        scratch.write("tidegate.toml", &format!("{head}{config}"))?;
        for (name, content) in files {
            scratch.write(name, content)?;
        }
        let home = scratch.path().to_owned();
        Ok(Self {
            again: None,
            home: serve(scratch, binary, &home, port)?,
            binary: binary.to_owned(),
            port,
        })
    }

    /// Starts it again in the same folder, on the same port, after [`TestGate::kill`] or [`TestGate::terminate`].
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.again = None;
        self.again = Some(serve(ScratchFolder::new(None)?, &self.binary, self.home.folder(), self.port)?);
        Ok(())
    }

    /// Returns the address that clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Returns the port that clients connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns its folder, with `tidegate.toml` and `state`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.home.folder()
    }

    /// Returns its configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.folder().join("tidegate.toml")
    }

    /// Returns the folder of its audit log.
    #[must_use]
    pub fn audit_folder(&self) -> PathBuf {
        self.folder().join("state/audit")
    }

    /// Returns the messages of the current run.
    #[must_use]
    pub fn log(&self) -> String {
        let log = std::fs::read(self.run().log()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Returns its process id.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.run().pid()
    }

    /// Returns true if the process has ended.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.run().ended()
    }

    /// Sends SIGKILL, to simulate a crash.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.run().signal(Signal::KILL)
    }

    /// Sends SIGTERM, which makes it drain and stop.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.run().signal(Signal::TERM)
    }

    /// Sends SIGHUP, which makes it read its configuration again.
    pub fn reload(&self) -> anyhow::Result<()> {
        self.run().signal(Signal::HUP)
    }

    /// Runs an operator command (`grant list`) against it.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let output = self.operator(arguments).output();
        output.with_context(|| format!("running `tidegate {}`", arguments.join(" ")))
    }

    /// Returns an operator command against this gate, not yet started.
    #[must_use]
    pub fn operator(&self, arguments: &[&str]) -> Command {
        let mut command = self.program();
        // Options must come before a `--` in the arguments.
        command.arg("--config").arg(self.config_file()).args(arguments);
        command
    }

    /// Returns a command of a token's owner against this gate, not yet started.
    #[must_use]
    pub fn command_of(&self, token: &Secret<String>, arguments: &[&str]) -> Command {
        let mut command = self.program();
        command
            .env("TIDEGATE_CONTROL", self.control())
            .env("TIDEGATE_TOKEN", token.expose())
            .args(arguments);
        command
    }

    /// Returns the address of its control API, as `--control` takes it.
    #[must_use]
    pub fn control(&self) -> String {
        format!("unix:{}", self.folder().join("state/control.sock").display())
    }

    /// Returns the program without input, and without the caller's environment variables that refer to other gates.
    fn program(&self) -> Command {
        let mut command = Command::new(&self.binary);
        for name in ["TIDEGATE_CONFIG", "TIDEGATE_CONTROL", "TIDEGATE_TOKEN", "TIDEGATE_TOKEN_FILE"] {
            command.env_remove(name);
        }
        command.env("XDG_CONFIG_HOME", self.folder()).stdin(Stdio::null());
        command
    }

    /// Runs an operator command that must succeed, and parses its JSON output.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<serde_json::Value> {
        let output = self.command(&[arguments, &["--output", "json"]].concat())?;
        match serde_json::from_slice(&output.stdout) {
            Ok(value) if output.status.success() => Ok(value),
            _ => {
                let said = [output.stdout, output.stderr].concat();
                bail!(
                    "`tidegate {}` failed: {}",
                    arguments.join(" "),
                    String::from_utf8_lossy(&said)
                )
            }
        }
    }

    /// Creates a grant; `more` are further arguments of `tidegate grant create`.
    pub fn grant(&self, identity: &str, target: &str, window: &str, more: &[&str]) -> anyhow::Result<TestLogin> {
        let arguments = [&["grant", "create", target, "--identity", identity, "--for", window], more].concat();
        TestLogin::read(&self.json(&arguments)?).context("the answer to `grant create` has no grant, or no secret")
    }

    fn run(&self) -> &ProcessKeeper {
        self.again.as_ref().unwrap_or(&self.home)
    }
}

fn serve(scratch: ScratchFolder, binary: &Path, home: &Path, port: u16) -> anyhow::Result<ProcessKeeper> {
    let (binary, config) = (binary.to_string_lossy(), home.join("tidegate.toml"));
    let mut keeper = ProcessKeeper::start(
        scratch,
        &KeptCommand {
            what: "the gate",
            signal: "KILL",
            account: None,
            command: &[&binary, "serve", "--config", &config.to_string_lossy()],
            environment: &[],
        },
    )?;
    let control = home.join("state/control.sock");
    keeper.wait_until(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() && healthy(&control).unwrap_or(false))?;
    Ok(keeper)
}

/// Returns true if the control API answers, so that operator commands work.
fn healthy(socket: &Path) -> std::io::Result<bool> {
    let mut control = UnixStream::connect(socket)?;
    control.set_read_timeout(Some(Duration::from_secs(5)))?;
    control.write_all(b"GET /healthz HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    control.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200 "))
}

/// Returns a free port of 127.0.0.1.
pub fn free_port() -> anyhow::Result<u16> {
    for _ in 0..100 {
        let mut random = [0; 2];
        getrandom::fill(&mut random)?;
        let port = GATE_PORTS.start + u16::from_ne_bytes(random) % (GATE_PORTS.end - GATE_PORTS.start);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("looking for a free port: none of 100 was")
}
