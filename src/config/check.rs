//! Builds settings from the parsed configuration: makes paths absolute, reads and tries the named files, checks rules between
//! keys.
//!
//! It changes nothing on disk and connects to nothing. Certificates and CAs are loaded and dropped again.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ControlAddress;
use super::file::{Control, FileConfig, SessionTable};
use super::mistake::Mistake;
use super::settings::{Settings, TlsFiles};
use crate::audit;
use crate::causes::in_one_line;
use crate::policy::Policies;
use crate::tls::ServerTls;

/// Key that mistakes in the policies are reported under.
pub(super) const POLICIES: &str = "policy.dir";
/// Maximum length of a Unix socket path in bytes: `sun_path` without its terminator (unix(7)), and without the suffix of the
/// temporary name that the socket is created under.
const SOCKET_PATH: usize = 107 - ".new".len();

pub(super) fn control_address(path: &Path, file: &FileConfig) -> ControlAddress {
    let base = Base::of(path);
    let state_dir = base.join(&file.state_dir);
    ControlAddress {
        socket: base.or_in(file.control.socket.as_ref(), &state_dir, "control.sock"),
        token_file: state_dir.join("admin.token"),
        ledger: state_dir.join("ledger.sqlite"),
        audit_dir: base.or_in(file.audit.dir.as_ref(), &state_dir, "audit"),
        audit_key: base.or_in(file.audit.key.as_ref(), &state_dir, "audit-key.pem"),
    }
}

/// Builds settings from the parsed file. Returns `None` only if `mistakes` states the reason.
pub(super) fn settings(path: &Path, file: &FileConfig, mistakes: &mut Vec<Mistake>) -> Option<Settings> {
    let mut checker = Checker::new(path, file, mistakes);
    let state_dir = checker.base.join(&file.state_dir);
    let addresses = control_address(path, file);
    checker.targets_exist();
    let listen = checker.listen();
    checker.control(&addresses.socket);
    checker.writable_folder("state_dir", &state_dir);
    let tls = checker.tls(&state_dir);
    let policies = checker.policies();
    let issuers = super::issuers::check(&mut checker);
    let notify = super::notify::check(&mut checker);
    let forward = super::forward::check(&mut checker);
    let targets = file.targets.iter().map(|table| checker.target(table)).collect();
    let advertise = file
        .advertise
        .clone()
        .or_else(|| listen.first().map(|address| reachable(*address)));
    Some(Settings {
        file: path.to_owned(),
        advertise: advertise?,
        listen,
        targets,
        tls: tls?,
        plaintext: file.tls.plaintext,
        limits: file.limits,
        session: session(&file.session),
        audit: audit::Settings {
            key: addresses.audit_key,
            dir: addresses.audit_dir,
            segment_bytes: file.audit.segment_bytes.into(),
            segment_age: file.audit.segment_age,
            keep: file.audit.keep,
            durability: file.audit.durability,
            max_sql_bytes: bytes(file.audit.max_sql_bytes),
            max_parameter_bytes: bytes(file.audit.max_parameter_bytes),
        },
        control: Control {
            socket: addresses.socket,
            listen: file.control.listen,
            tls: control_tls(file),
            token_file: addresses.token_file,
        },
        access: file.access.clone(),
        policies,
        issuers,
        notify,
        forward,
        checkpoint_every: file.audit.forward.checkpoint_every,
        drain_limit: file.drain_limit,
        logging: file.logging.clone(),
        state_dir,
        exposed: checker.exposed,
    })
}

pub(super) struct Checker<'a> {
    path: &'a Path,
    pub(super) base: Base<'a>,
    pub(super) file: &'a FileConfig,
    mistakes: &'a mut Vec<Mistake>,
    /// Files with secrets that are readable by others than their owner and group.
    exposed: Vec<PathBuf>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(path: &'a Path, file: &'a FileConfig, mistakes: &'a mut Vec<Mistake>) -> Self {
        Self {
            path,
            base: Base::of(path),
            file,
            mistakes,
            exposed: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, key: &str, reason: impl Into<String>, remedy: &str) {
        // A key that is not written is reported at the nearest enclosing table that is.
        let mut place = key;
        let line = loop {
            match (self.file.places.get(place), place.rsplit_once('.')) {
                (Some(line), _) => break Some(*line),
                (None, Some((table, _))) => place = table,
                (None, None) => break None,
            }
        };
        let mistake = Mistake::new(self.path, line, Some(key.to_owned()), reason);
        self.mistakes
            .push(if remedy.is_empty() { mistake } else { mistake.remedy(remedy) });
    }

    fn targets_exist(&mut self) {
        let tried = self.file.places.keys().any(|key| key.starts_with("targets"));
        if self.file.targets.is_empty() && !tried {
            self.note(
                "targets",
                "no target is configured",
                "add at least one: [targets.orders] with address, database and user",
            );
        }
    }

    fn listen(&mut self) -> Vec<SocketAddr> {
        let listen = self.file.listen.clone();
        if listen.is_empty() {
            self.note("listen", "no address to listen on", "write listen = [\"127.0.0.1:7432\"]");
        }
        if let Some(twice) = listen
            .iter()
            .enumerate()
            .find(|(i, address)| address.port() != 0 && listen.iter().skip(i + 1).any(|b| b == *address))
        {
            self.note("listen", format!("{} is listed twice", twice.1), "remove one");
        }
        listen
    }

    fn control(&mut self, socket: &Path) {
        if socket.as_os_str().len() > SOCKET_PATH {
            let reason = format!(
                "the socket's path has {} bytes; the system allows {SOCKET_PATH}",
                socket.as_os_str().len()
            );
            self.note(
                "control.socket",
                reason,
                "use a shorter path: socket = \"/run/tidegate/control.sock\"",
            );
        }
        if let Some(listen) = self.file.control.listen {
            let remote = !listen.ip().is_loopback();
            if remote && !self.file.control.allow_remote {
                self.note(
                    "control.listen",
                    format!("{listen} is reachable from other machines"),
                    "use 127.0.0.1, or set allow_remote = true",
                );
            }
            if remote && !control_tls(self.file) {
                self.note(
                    "control.tls",
                    format!("tokens would be sent to {listen} in clear text"),
                    "remove tls = false, or run a TLS proxy on this machine and set listen = \"127.0.0.1:7433\"",
                );
            }
            if listen.port() != 0 && self.file.listen.contains(&listen) {
                self.note(
                    "control.listen",
                    format!("{listen} is also in `listen`"),
                    "use another port for the control API",
                );
            }
        }
    }

    fn writable_folder(&mut self, key: &str, dir: &Path) {
        match std::fs::metadata(dir) {
            Ok(found) if !found.is_dir() => {
                self.note(key, format!("{} is not a folder", dir.display()), "set the path of a folder")
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // The gate creates only the last part of the path: with a misspelt mount point, creating the whole tree would
                // hide the mistake.
                let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
                if parent.is_some_and(|parent| !parent.is_dir()) {
                    self.note(
                        key,
                        format!("the parent folder of {} does not exist", dir.display()),
                        "create it, or set another path",
                    );
                }
            }
            Err(error) => self.note(
                key,
                format!("{}: {error}", dir.display()),
                "set a folder that the gate can write to",
            ),
        }
    }

    fn tls(&mut self, state_dir: &Path) -> Option<TlsFiles> {
        let tls = &self.file.tls;
        match (&tls.cert, &tls.key) {
            (None, None) => Some(TlsFiles::SelfSigned {
                dir: state_dir.to_owned(),
                names: tls.names.clone(),
            }),
            (Some(cert), Some(key)) => {
                let (cert, key) = (self.base.join(cert), self.base.join(key));
                self.guarded(&key);
                let readable = [self.readable("tls.cert", &cert), self.readable("tls.key", &key)];
                if readable.iter().all(Option::is_some)
                    && let Err(error) = ServerTls::load(&cert, &key)
                {
                    self.note("tls", in_one_line(&error), "");
                }
                Some(TlsFiles::Given { cert, key })
            }
            (Some(_), None) => {
                self.note(
                    "tls.cert",
                    "the certificate has no private key",
                    "set the key too: key = \"server.key\"",
                );
                None
            }
            (None, Some(_)) => {
                self.note(
                    "tls.key",
                    "the private key has no certificate",
                    "set the certificate too: cert = \"server.crt\"",
                );
                None
            }
        }
    }

    fn policies(&mut self) -> Option<Arc<Policies>> {
        match self.file.policy.load(self.base.0) {
            Ok(policies) => policies,
            Err(mistakes) => {
                for mistake in mistakes {
                    self.note(POLICIES, mistake, "");
                }
                None
            }
        }
    }

    /// Notes a file with a secret that every user of the machine may read.
    pub(super) fn guarded(&mut self, path: &Path) {
        const OTHERS_READ: u32 = 0o004;
        let open = std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & OTHERS_READ != 0);
        if open && !self.exposed.contains(&path.to_owned()) {
            self.exposed.push(path.to_owned());
        }
    }

    pub(super) fn readable(&mut self, key: &str, path: &Path) -> Option<String> {
        match std::fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) => {
                let remedy = "set a file that the gate can read (relative paths start at the configuration's folder)";
                self.note(key, format!("cannot read {}: {error}", path.display()), remedy);
                None
            }
        }
    }
}

/// Folder that relative paths are resolved against.
pub(super) struct Base<'a>(&'a Path);

impl<'a> Base<'a> {
    pub(super) fn of(file: &'a Path) -> Self {
        Self(file.parent().unwrap_or_else(|| Path::new("")))
    }

    pub(super) fn join(&self, path: &Path) -> PathBuf {
        self.0.join(path)
    }

    fn or_in(&self, named: Option<&PathBuf>, dir: &Path, usual: &str) -> PathBuf {
        named.map_or_else(|| dir.join(usual), |path| self.join(path))
    }
}

/// Returns true if the control API's TCP address uses TLS; by default, if it is not a loopback address.
fn control_tls(file: &FileConfig) -> bool {
    let remote = file.control.listen.is_some_and(|listen| !listen.ip().is_loopback());
    file.control.tls.unwrap_or(remote)
}

fn session(table: &SessionTable) -> SessionTable {
    let mut session = table.clone();
    session.warnings.sort_unstable_by(|a, b| b.cmp(a));
    session.warnings.dedup();
    session
}

/// Returns the address to connect to for an address to listen on: the loopback address in place of an unspecified one
/// (`0.0.0.0`).
#[must_use]
pub fn reachable(address: SocketAddr) -> String {
    let host = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(host, address.port()).to_string()
}

fn bytes(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
