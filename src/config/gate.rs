//! Sections about the gate itself: addresses, TLS, limits, sessions, the audit log, the control API, stop and messages.
//!
//! It changes nothing on disk and connects to nothing. A certificate is loaded and dropped again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::address::{host_port, joined};
use super::key::keys;
use super::reader::TableSection;
use super::settings::{ConnectionLimits, ControlSettings, GateSettings, LoggingSettings, SessionTable, TlsFiles};
use super::{access, chat, console, issuers, outbound, targets};
use crate::access::policy::Policies;
use crate::audit::{Durability, JournalSettings};
use crate::base::error_chain::display_chain;
use crate::base::tls::ServerTls;
use crate::chat::ChatSettings;
use crate::gate::frontend::Plaintext;
use crate::outbound::forward::ForwardSettings;
use crate::outbound::notify::NotifySettings;

/// Default port of the gate: PostgreSQL's with a leading 7.
const DEFAULT_PORT: u16 = 7432;
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT);

/// Maximum length of a Unix socket path in bytes: `sun_path` without its terminator (unix(7)), and without the suffix of the
/// temporary name that the socket is created under.
const MAX_SOCKET_PATH_BYTES: usize = 107 - ".new".len();

/// Reads the whole file. Each mistake is noted, and a default takes the place of its value.
pub(super) fn read(root: &TableSection<'_>) -> GateSettings {
    keys! { root;
        /// Addresses where clients connect.
        listen = |key| {
            key.list("list of IP addresses and ports", socket_address, SocketAddr::to_string)
                .or(vec![DEFAULT_LISTEN])
        };
        /// Host and port in connection strings.
        advertise = |key| {
            key.parsed("host and port", |text| host_port(text, DEFAULT_PORT).map(joined))
                .or_none("the first of `listen`")
        };
        /// Folder of the grants, the admin token and the certificate that the gate makes itself. It is made if its parent exists.
        state_dir = |key| key.path_or("tidegate-state");
    }
    check_listen(root, &listen);
    root.writable_folder("state_dir", &state_dir);
    let targets: Vec<_> = root.each("targets", targets::read).into_iter().flatten().collect();
    if !root.has("targets") {
        let remedy = "add at least one: [targets.orders] with address, database and user";
        root.broken_rule("targets", "no target is configured", remedy);
    }
    let (tls, plaintext) = root.within("tls", |table| tls(table, &state_dir));
    let limits = root.within("limits", ConnectionLimits::read);
    let mut session = root.within("session", SessionTable::read);
    session.warnings.sort_unstable_by(|a, b| b.cmp(a));
    session.warnings.dedup();
    let (audit, (forward, checkpoint_every)) = root.within("audit", |table| audit(table, &state_dir));
    let control = root.within("control", |table| control(table, &state_dir, &listen));
    let console = root.within("console", |table| console::read(table, &listen, control.listen));
    let access = root.within("access", access::access);
    let (policy, policies) = root.within("policy", access::policy);
    let (issuers, oauth) = root.within("identity", |table| issuers::read(table, console.address.as_deref()));
    let console_address = console.address(control.listen, control.tls);
    let (notify, chat) = notify_and_chat(root, console_address, policies.as_deref());
    let drain_limit = root.within("drain", drain_limit);
    let logging = root.within("log", LoggingSettings::read);
    let first = || listen.first().map(|address| reachable(*address));
    GateSettings {
        file: root.file().to_owned(),
        advertise: advertise.or_else(first).unwrap_or_default(),
        listen,
        exposed: Vec::new(),
        state_dir,
        targets,
        tls,
        plaintext,
        limits,
        session,
        audit,
        control,
        console,
        access,
        policy,
        policies,
        issuers,
        oauth: Arc::new(oauth),
        notify,
        chat,
        forward,
        checkpoint_every,
        drain_limit,
        logging,
    }
}

/// Reads `[notify]` and `[chat]`: messages have buttons where their answers are taken. `console` is where people open the console.
fn notify_and_chat(
    root: &TableSection<'_>,
    console: Option<String>,
    policies: Option<&Policies>,
) -> (NotifySettings, Option<ChatSettings>) {
    let notify = root.within("notify", |table| outbound::notify(table, console));
    let present = root.has("chat");
    let chat = root.within("chat", |table| {
        if present && let Some(policies) = policies {
            chat::check_policies(table, policies);
        }
        chat::read(table, present, notify.link.as_deref())
    });
    let buttons = chat.is_some();
    (NotifySettings { buttons, ..notify }, chat)
}

fn drain_limit(table: &TableSection<'_>) -> Duration {
    keys! { table;
        /// Time that sessions in use have at SIGTERM. Idle ones end at once.
        limit = |key| key.duration(Duration::ZERO).or(Duration::from_secs(30));
    }
    limit
}

fn check_listen(root: &TableSection<'_>, listen: &[SocketAddr]) {
    if listen.is_empty() {
        root.broken_rule("listen", "no address to listen on", "write listen = [\"127.0.0.1:7432\"]");
    }
    let later = |at: usize| listen.iter().skip(at + 1);
    let twice = |(at, address): &(usize, &SocketAddr)| address.port() != 0 && later(*at).any(|other| other == *address);
    if let Some((_, address)) = listen.iter().enumerate().find(twice) {
        root.broken_rule("listen", format!("{address} is listed twice"), "remove one");
    }
}

fn tls(table: &TableSection<'_>, state_dir: &Path) -> (TlsFiles, Plaintext) {
    const CLIENTS: &[(&str, Plaintext)] = &[
        ("refuse", Plaintext::Refuse),
        ("loopback", Plaintext::Loopback),
        ("allow", Plaintext::Allow),
    ];
    keys! { table;
        /// The gate's certificate chain, PEM.
        cert = |key| key.path().or_none("made by the gate");
        /// Its private key.
        key = |key| key.path().or_none("self-signed");
        /// Names in the certificate that the gate makes itself. With another name it is made anew.
        names = |key| key.texts().or(["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec());
        /// Clients that may connect without TLS: `refuse` none, `loopback` those on this machine, `allow` all.
        plaintext = |key| key.one_of(CLIENTS).or(Plaintext::Loopback);
    }
    match (&cert, &key) {
        (Some(_), None) => {
            let remedy = "set the key too: key = \"server.key\"";
            table.broken_rule("cert", "the certificate has no private key", remedy);
        }
        (None, Some(_)) => {
            let remedy = "set the certificate too: cert = \"server.crt\"";
            table.broken_rule("key", "the private key has no certificate", remedy);
        }
        (Some(cert), Some(key)) if table.opens("key") => {
            table.guarded(key);
            let readable = [table.readable("cert", cert), table.readable("key", key)];
            if readable.iter().all(Option::is_some)
                && let Err(error) = ServerTls::load(cert, key)
            {
                table.broken_rule("", display_chain(&error), "");
            }
        }
        _ => {}
    }
    let dir = state_dir.to_owned();
    let files = match (cert, key) {
        (Some(cert), Some(key)) => TlsFiles::Given { cert, key },
        _ => TlsFiles::SelfSigned { dir, names },
    };
    (files, plaintext)
}

/// Reads `[audit]`, with the receiver of the log and the interval of its checkpoints.
fn audit(table: &TableSection<'_>, state_dir: &Path) -> (JournalSettings, (Option<ForwardSettings>, Duration)) {
    const FAILURES: &[(&str, Durability)] = &[("process", Durability::Process), ("power", Durability::Power)];
    let usual = JournalSettings::in_folder(state_dir);
    keys! { table;
        /// Folder of the log.
        dir = |key| key.path().or_as("`audit` in `state_dir`", usual.dir);
        /// The Ed25519 key that signs the log. It is made if missing (mode 0600), with its public half beside it (`.pub`).
        key = |key| key.path().or_as("`audit-key.pem` in `state_dir`", usual.key);
        /// Size at which a segment of the log is closed. Closed segments are packed (zstd), with a summary beside them.
        segment_bytes = |key| key.number(64 << 10, u32::MAX).or(usual.segment_bytes);
        /// Age at which a segment is closed.
        segment_age = |key| key.duration(Duration::from_secs(1)).or(usual.segment_age);
        /// Age at which closed segments are removed. The log says so.
        keep = |key| key.duration(Duration::from_hours(1)).or_none("for ever");
        /// Durability of a record before its statement is forwarded: `process` survives the death of the gate, `power` that of the
        /// machine (fsync).
        durability = |key| key.one_of(FAILURES).or(usual.durability);
        /// Longer SQL is recorded in part, with its length and hashes: HMAC-SHA-256, and SHA-256 if no word in it speaks of a
        /// secret.
        max_sql_bytes = |key| key.number(256, 8 << 20).or(usual.max_sql_bytes);
        /// The same for parameters.
        max_parameter_bytes = |key| key.number(16, 16 << 20).or(usual.max_parameter_bytes);
    }
    let settings = JournalSettings {
        dir,
        key,
        segment_bytes,
        segment_age,
        keep,
        durability,
        max_sql_bytes,
        max_parameter_bytes,
    };
    (settings, table.within("forward", outbound::forward))
}

fn control(table: &TableSection<'_>, state_dir: &Path, taken: &[SocketAddr]) -> ControlSettings {
    let is_remote = |listen: Option<SocketAddr>| listen.is_some_and(|listen| !listen.ip().is_loopback());
    keys! { table;
        /// The control API's Unix socket (mode 0600).
        socket = |key| key.path().or_as("`control.sock` in `state_dir`", state_dir.join("control.sock"));
        /// A TCP address as well.
        listen = |key| key.parsed("IP address and port", socket_address).or_none("none");
        /// Allows an address other than loopback.
        allow_remote = |key| key.yes_no().or(false);
        /// Serves the TCP address over TLS, with the gate's certificate. Required except on loopback.
        tls = |key| key.yes_no().or_as("where it is not loopback", is_remote(listen));
    }
    let length = socket.as_os_str().len();
    if length > MAX_SOCKET_PATH_BYTES {
        let reason = format!("the socket's path has {length} bytes; the system allows {MAX_SOCKET_PATH_BYTES}");
        let remedy = "use a shorter path: socket = \"/run/tidegate/control.sock\"";
        table.broken_rule("socket", reason, remedy);
    }
    if let Some(listen) = listen {
        let remote = is_remote(Some(listen));
        if remote && !allow_remote {
            let remedy = "use 127.0.0.1, or set allow_remote = true";
            table.broken_rule("listen", format!("{listen} is reachable from other machines"), remedy);
        }
        if remote && !tls {
            let remedy = "remove tls = false, or run a TLS proxy on this machine and set listen = \"127.0.0.1:7433\"";
            table.broken_rule("tls", format!("tokens would be sent to {listen} in clear text"), remedy);
        }
        if listen.port() != 0 && taken.contains(&listen) {
            let remedy = "use another port for the control API";
            table.broken_rule("listen", format!("{listen} is also in `listen`"), remedy);
        }
    }
    ControlSettings {
        socket,
        listen,
        tls,
        token_file: state_dir.join("admin.token"),
    }
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "`{text}` is not an address to listen on; write an IP address and a port, like 127.0.0.1:7432, 0.0.0.0:7432 or \
             [::1]:7432"
        )
    })
}

/// Returns the address to connect to for an address to listen on: the loopback address in place of an unspecified one
/// (`0.0.0.0`).
#[must_use]
pub fn reachable(address: SocketAddr) -> String {
    let host = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(host, address.port()).to_string()
}
