//! Builds settings from the parsed configuration: makes paths absolute, reads and tries the named files, checks rules between
//! keys.
//!
//! It changes nothing on disk and connects to nothing. Certificates and CAs are loaded and dropped again.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::ControlAddress;
use super::access::PolicyTable;
use super::checker::{BaseFolder, SettingsChecker};
use super::file::{FileConfig, TlsTable};
use super::mistake::{ConfigMistake, POLICIES_KEY};
use super::settings::{ControlSettings, GateSettings, SessionTable, TlsFiles};
use crate::access::policy::Policies;
use crate::audit;
use crate::base::error_chain::display_chain;
use crate::base::tls::ServerTls;

/// Maximum length of a Unix socket path in bytes: `sun_path` without its terminator (unix(7)), and without the suffix of the
/// temporary name that the socket is created under.
const MAX_SOCKET_PATH_BYTES: usize = 107 - ".new".len();

pub(super) fn control_address(path: &Path, file: &FileConfig) -> ControlAddress {
    let base = BaseFolder::of(path);
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
pub(super) fn settings(path: &Path, file: &FileConfig, mistakes: &mut Vec<ConfigMistake>) -> Option<GateSettings> {
    let mut checker = SettingsChecker::new(path, &file.places, mistakes);
    let state_dir = checker.base.join(&file.state_dir);
    let addresses = control_address(path, file);
    checker.targets_exist(file);
    let listen = checker.listen(file);
    checker.control(file, &addresses.socket);
    checker.writable_folder("state_dir", &state_dir);
    let tls = checker.tls(&file.tls, &state_dir);
    let policies = checker.policies(&file.policy);
    let issuers = super::issuers::check(&mut checker, &file.issuers);
    let notify = super::notify::check(&mut checker, &file.notify);
    let forward = super::forward::check(&mut checker, &file.audit.forward);
    let targets = file.targets.iter().map(|table| checker.target(table)).collect();
    let advertise = file
        .advertise
        .clone()
        .or_else(|| listen.first().map(|address| reachable(*address)));
    Some(GateSettings {
        file: path.to_owned(),
        advertise: advertise?,
        listen,
        targets,
        tls: tls?,
        plaintext: file.tls.plaintext,
        limits: file.limits,
        session: session(&file.session),
        audit: audit::JournalSettings {
            key: addresses.audit_key,
            dir: addresses.audit_dir,
            segment_bytes: file.audit.segment_bytes.into(),
            segment_age: file.audit.segment_age,
            keep: file.audit.keep,
            durability: file.audit.durability,
            max_sql_bytes: bytes(file.audit.max_sql_bytes),
            max_parameter_bytes: bytes(file.audit.max_parameter_bytes),
        },
        control: ControlSettings {
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

impl SettingsChecker<'_> {
    fn targets_exist(&mut self, file: &FileConfig) {
        let tried = file.places.keys().any(|key| key.starts_with("targets"));
        if file.targets.is_empty() && !tried {
            self.note(
                "targets",
                "no target is configured",
                "add at least one: [targets.orders] with address, database and user",
            );
        }
    }

    fn listen(&mut self, file: &FileConfig) -> Vec<SocketAddr> {
        let listen = file.listen.clone();
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

    fn control(&mut self, file: &FileConfig, socket: &Path) {
        if socket.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
            let reason = format!(
                "the socket's path has {} bytes; the system allows {MAX_SOCKET_PATH_BYTES}",
                socket.as_os_str().len()
            );
            self.note(
                "control.socket",
                reason,
                "use a shorter path: socket = \"/run/tidegate/control.sock\"",
            );
        }
        if let Some(listen) = file.control.listen {
            let remote = !listen.ip().is_loopback();
            if remote && !file.control.allow_remote {
                self.note(
                    "control.listen",
                    format!("{listen} is reachable from other machines"),
                    "use 127.0.0.1, or set allow_remote = true",
                );
            }
            if remote && !control_tls(file) {
                self.note(
                    "control.tls",
                    format!("tokens would be sent to {listen} in clear text"),
                    "remove tls = false, or run a TLS proxy on this machine and set listen = \"127.0.0.1:7433\"",
                );
            }
            if listen.port() != 0 && file.listen.contains(&listen) {
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
                self.note(key, format!("{} is not a folder", dir.display()), "set the path of a folder");
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

    fn tls(&mut self, tls: &TlsTable, state_dir: &Path) -> Option<TlsFiles> {
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
                    self.note("tls", display_chain(&error), "");
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

    fn policies(&mut self, table: &PolicyTable) -> Option<Arc<Policies>> {
        match table.load(self.base.0) {
            Ok(policies) => policies,
            Err(mistakes) => {
                for mistake in mistakes {
                    self.note(POLICIES_KEY, mistake, "");
                }
                None
            }
        }
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
