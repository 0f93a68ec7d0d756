//! Lanes: the compared ways from a client to the one server.
//!
//! Each lane has a process of its own, so that its cost can be read from the kernel. No lane outlives the bench.

use std::cell::Cell;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use tidegate::demo::testkit::{TestGate, TestPostgres, free_port};

use crate::process::wait_for;

/// Name of the role and of the database that everything runs under.
pub(crate) const BENCH: &str = "bench";

/// Size of the gates' log segments, in bytes.
const SEGMENT_BYTES: u32 = 4 << 20;

/// Bytes of the log per second that the one identity of the bench may write: more than it can.
const LOG_RATE: u32 = 1 << 30;

/// What stands between client and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Direct,
    Forwarder,
    Pgbouncer,
    Haproxy,
    Gate,
    /// Each statement on the disk before it is forwarded.
    GatePower,
    /// A role per grant, under a profile that may read.
    GateRoles,
    /// The same, with guard rails.
    GateRails,
    /// The log is forwarded to a receiver on this machine.
    GateForward,
    /// Without a log: a gate of its own build, named by `--unlogged`.
    GateUnlogged,
    ForwarderTls,
    PgbouncerTls,
    GateTls,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Forwarder => "forwarder",
            Self::Pgbouncer => "pgbouncer",
            Self::Haproxy => "haproxy",
            Self::Gate => "gate",
            Self::GatePower => "gate, power",
            Self::GateRoles => "gate, roles",
            Self::GateRails => "gate, guard rails",
            Self::GateForward => "gate, forwarding",
            Self::GateUnlogged => "gate, no log",
            Self::ForwarderTls => "forwarder, TLS",
            Self::PgbouncerTls => "pgbouncer, TLS",
            Self::GateTls => "gate, TLS",
        }
    }

    pub(crate) fn tls(self) -> bool {
        matches!(self, Self::ForwarderTls | Self::PgbouncerTls | Self::GateTls)
    }

    /// Returns true for a gate with a setting of its own, which is measured at eight clients only.
    pub(crate) fn is_variant(self) -> bool {
        matches!(
            self,
            Self::GatePower | Self::GateUnlogged | Self::GateRoles | Self::GateRails | Self::GateForward
        )
    }

    /// Returns true if the lane is measured with this number of clients. Variants differ by a cost per statement, which eight clients
    /// show; more than 64 show the gate beside the floor alone, in plaintext.
    pub(crate) fn takes(self, clients: usize) -> bool {
        match clients {
            8 => true,
            ..=64 => !self.is_variant(),
            _ => matches!(self, Self::Direct | Self::Forwarder | Self::Pgbouncer | Self::Gate),
        }
    }

    /// Returns the bare forwarder with the same TLS setting.
    pub(crate) fn floor(self) -> Self {
        if self.tls() { Self::ForwarderTls } else { Self::Forwarder }
    }
}

/// The server, and the files and credentials that the lanes need.
pub(crate) struct Stage {
    pub(crate) server: TestPostgres,
    /// Password of the bench role.
    pub(crate) password: String,
    /// SCRAM verifier of the bench role as the server stores it; pgbouncer gets nothing else.
    pub(crate) verifier: String,
    /// Certificate (for localhost) of every lane with TLS.
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Program of the gate.
    pub(crate) gate: PathBuf,
    /// Program of a gate built without a log.
    pub(crate) unlogged: Option<PathBuf>,
    /// Folder for the lanes' own files.
    pub(crate) folder: PathBuf,
}

/// One way to the server, up and running.
pub(crate) struct Lane {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
    /// Number of queries sent through it so far.
    pub(crate) queries: Cell<f64>,
    process: Process,
}

enum Process {
    None,
    Child(Child),
    Gate(TestGate),
}

impl Lane {
    pub(crate) fn start(kind: Kind, stage: &Stage) -> Result<Self> {
        let port = free_port()?;
        let process = match kind {
            Kind::Direct => Process::None,
            Kind::Forwarder | Kind::ForwarderTls => Process::Child(start(&mut forwarder(kind, stage, port)?, port)?),
            Kind::Pgbouncer | Kind::PgbouncerTls => Process::Child(start(&mut pgbouncer(stage, port)?, port)?),
            Kind::Haproxy => Process::Child(start(&mut haproxy(stage, port)?, port)?),
            Kind::Gate
            | Kind::GatePower
            | Kind::GateUnlogged
            | Kind::GateRoles
            | Kind::GateRails
            | Kind::GateForward
            | Kind::GateTls => return gate(kind, stage),
        };
        Ok(Self {
            kind,
            port: if kind == Kind::Direct { stage.server.port() } else { port },
            user: BENCH.to_owned(),
            password: stage.password.clone(),
            queries: Cell::new(0.0),
            process,
        })
    }

    /// Returns the process id of the process in the middle; `None` for the direct lane.
    pub(crate) fn pid(&self) -> Option<i32> {
        match &self.process {
            Process::None => None,
            Process::Child(child) => child.id().try_into().ok(),
            Process::Gate(gate) => gate.pid(),
        }
    }

    /// Returns the folder of the audit log, if the lane is a gate with one.
    pub(crate) fn audit_folder(&self) -> Option<PathBuf> {
        match &self.process {
            Process::Gate(gate) if self.kind != Kind::GateUnlogged => Some(gate.audit_folder()),
            _ => None,
        }
    }

    /// Returns one of the gate's metrics, if the lane is a gate.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let Process::Gate(gate) = &self.process else { return None };
        let mut control = UnixStream::connect(gate.folder().join("state/control.sock")).ok()?;
        control
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n")
            .ok()?;
        let mut answer = String::new();
        control.read_to_string(&mut answer).ok()?;
        let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line?.parse().ok()
    }

    /// Returns a command with libpq's environment variables for this lane.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .stdin(Stdio::null())
            .envs([
                ("PGHOST", "127.0.0.1"),
                ("PGUSER", &self.user),
                ("PGPASSWORD", &self.password),
            ])
            .envs([
                ("PGDATABASE", BENCH),
                ("PGSSLMODE", if self.kind.tls() { "require" } else { "disable" }),
            ])
            .env("PGPORT", self.port.to_string());
        command
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Process::Child(child) = &mut self.process {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts a process that ends with the bench even if that is killed, and waits until it accepts connections.
fn start(command: &mut Command, port: u16) -> Result<Child> {
    let program = command.get_args().last().unwrap_or_default().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let up = wait_for(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() || !matches!(child.try_wait(), Ok(None)));
    if !up || child.try_wait()?.is_some() {
        let _ = child.kill();
        bail!("{program} did not start");
    }
    Ok(child)
}

/// Returns a command through util-linux's setpriv, which sets the parent-death signal, and another account for programs that
/// refuse to run as root.
fn with_us(account: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(account) = account.filter(|_| rustix::process::geteuid().is_root()) {
        command.args(["--reuid", account, "--regid", account, "--clear-groups"]);
    }
    command
}

/// Returns the command that runs this program as the bare forwarder.
fn forwarder(kind: Kind, stage: &Stage, port: u16) -> Result<Command> {
    let mut command = with_us(None);
    command
        .arg(std::env::current_exe()?)
        .args(["--forward", &format!("127.0.0.1:{port}"), &stage.server.address().to_string()]);
    if kind.tls() {
        command
            .arg("--certificate")
            .arg(&stage.certificate)
            .arg("--key")
            .arg(&stage.key);
    }
    Ok(command)
}

fn pgbouncer(stage: &Stage, port: u16) -> Result<Command> {
    let folder = stage.folder.join(format!("pgbouncer-{port}"));
    fs::create_dir(&folder)?;
    fs::write(folder.join("users"), format!("\"{BENCH}\" \"{}\"\n", stage.verifier))?;
    // server_lifetime 0: one server connection per client connection, as in the other lanes.
    let text = format!(
        "[databases]\n{BENCH} = host=127.0.0.1 port={server} dbname={BENCH}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\npool_mode = session\nauth_type = scram-sha-256\nauth_file = {users}\nmax_client_conn = 2000\n\
         default_pool_size = 1000\nserver_lifetime = 0\nlog_connections = 0\nlog_disconnections = 0\n\
         ignore_startup_parameters = extra_float_digits\nclient_tls_sslmode = allow\nclient_tls_cert_file = {certificate}\n\
         client_tls_key_file = {key}\n",
        server = stage.server.port(),
        users = folder.join("users").display(),
        certificate = stage.certificate.display(),
        key = stage.key.display(),
    );
    fs::write(folder.join("pgbouncer.ini"), text)?;
    let mut command = with_us(Some("postgres"));
    command
        .args(["pgbouncer", "-q"])
        .arg(folder.join("pgbouncer.ini"))
        .stderr(Stdio::null());
    Ok(command)
}

fn haproxy(stage: &Stage, port: u16) -> Result<Command> {
    let file = stage.folder.join(format!("haproxy-{port}.cfg"));
    let text = format!(
        "global\n  nbthread 2\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         frontend f\n  bind 127.0.0.1:{port}\n  default_backend b\nbackend b\n  server s 127.0.0.1:{server}\n",
        server = stage.server.port(),
    );
    fs::write(&file, text)?;
    let mut command = with_us(None);
    command.args(["haproxy", "-q", "-db", "-f"]).arg(file);
    Ok(command)
}

/// Starts a gate with its default behaviour, but for what its lane is about: every statement is recorded before it is forwarded.
fn gate(kind: Kind, stage: &Stage) -> Result<Lane> {
    let program = match kind {
        Kind::GateUnlogged => stage
            .unlogged
            .as_deref()
            .context("build one (cargo build --release --features unlogged), name a copy of it with --unlogged, and set TIDEGATE_NOTHING_ON_RECORD=yes")?,
        _ => &stage.gate,
    };
    let gate = TestGate::start(program, &gate_config(kind, stage)?, &[("target.password", &stage.password)])?;
    // Its connections are accepted a moment before its control API is ready.
    wait_for(|| gate.json(&["grant", "list"]).is_ok());
    let mut terms = vec!["--max-sessions", "2000"];
    if matches!(kind, Kind::GateRoles | Kind::GateRails) {
        gate.json(&["target", "apply", BENCH])?;
        terms.extend(["--profile", "reader"]);
    }
    let login = gate.grant("bench", BENCH, "12h", &terms)?;
    Ok(Lane {
        kind,
        port: gate.port(),
        user: login.grant,
        password: login.secret.expose().clone(),
        queries: Cell::new(0.0),
        process: Process::Gate(gate),
    })
}

/// Returns the configuration of a lane's gate. Small segments let the log be packed while it is measured; the limits on one
/// identity and one address are out of the way, because there is only one of each.
fn gate_config(kind: Kind, stage: &Stage) -> Result<String> {
    let durability = if kind == Kind::GatePower { "power" } else { "process" };
    let forward = match kind {
        Kind::GateForward => format!("[audit.forward]\naddress = \"tcp://{}\"\n", receiver()?),
        _ => String::new(),
    };
    let rails = match kind {
        Kind::GateRails => "rails = { statements = [\"@read\"], max_sql_bytes = 65536 }\n",
        _ => "",
    };
    let (user, profile) = match kind {
        Kind::GateRoles | Kind::GateRails => (
            stage.server.superuser(),
            format!("[targets.{BENCH}.profiles.reader]\nselect = [\"public.*\"]\n{rails}"),
        ),
        _ => (BENCH, String::new()),
    };
    Ok(format!(
        "[audit]\ndurability = \"{durability}\"\nsegment_bytes = {SEGMENT_BYTES}\n{forward}[tls]\ncert = \"{certificate}\"\nkey = \"{key}\"\n\
         plaintext = \"loopback\"\n[limits]\nconnections = 4000\nhandshakes = 1000\nhandshakes_per_address = 1000\n\
         log_bytes_per_second_per_identity = {LOG_RATE}\n[targets.{BENCH}]\naddress = \"{server}\"\ndatabase = \"{BENCH}\"\n\
         user = \"{user}\"\npassword_file = \"target.password\"\nsslmode = \"disable\"\n{profile}",
        certificate = stage.certificate.display(),
        key = stage.key.display(),
        server = stage.server.address(),
    ))
}

/// Starts a receiver of the forwarded log that reads and discards, on a thread of its own, and returns its address.
fn receiver() -> Result<std::net::SocketAddr> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
        }
    });
    Ok(address)
}
