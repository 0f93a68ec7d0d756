//! Configuration as written: every key with its type, limits and default.
//!
//! It opens no other file and reads no environment variable; [`super::check`] does. This file is the reference of the keys.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::access::{self, AccessTable, PolicyTable};
use super::address::{host_port, joined};
use super::forward::{self, ForwardTable};
use super::issuers::{self, IssuerTable};
use super::mistake::ConfigMistake;
use super::notify::{self, NotifyTable};
use super::reader::{KeyLines, TableReader, TableSection};
use super::settings::{ConnectionLimits, LogFormat, LoggingSettings, SessionTable};
use super::targets::{self, TargetTable};
use crate::access::quota::QuotaLimits;
use crate::audit::Durability;
use crate::gate::frontend::Plaintext;

/// Values of the whole file.
#[derive(Debug)]
pub(super) struct FileConfig {
    pub(super) listen: Vec<SocketAddr>,
    pub(super) advertise: Option<String>,
    pub(super) state_dir: PathBuf,
    pub(super) targets: Vec<TargetTable>,
    pub(super) tls: TlsTable,
    pub(super) limits: ConnectionLimits,
    pub(super) session: SessionTable,
    pub(super) audit: AuditTable,
    pub(super) control: ControlTable,
    pub(super) access: AccessTable,
    pub(super) policy: PolicyTable,
    pub(super) issuers: Vec<IssuerTable>,
    pub(super) notify: NotifyTable,
    pub(super) drain_limit: Duration,
    pub(super) logging: LoggingSettings,
    /// Line of each key, for mistakes that are found later.
    pub(super) places: KeyLines,
}

/// Values of `[tls]`.
#[derive(Debug)]
pub(super) struct TlsTable {
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) names: Vec<String>,
    pub(super) plaintext: Plaintext,
}

/// Values of `[audit]`.
#[derive(Debug)]
pub(super) struct AuditTable {
    pub(super) dir: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) segment_bytes: u32,
    pub(super) segment_age: Duration,
    pub(super) keep: Option<Duration>,
    pub(super) durability: Durability,
    pub(super) max_sql_bytes: u32,
    pub(super) max_parameter_bytes: u32,
    pub(super) forward: ForwardTable,
}

/// Values of `[control]`.
#[derive(Debug)]
pub(super) struct ControlTable {
    pub(super) socket: Option<PathBuf>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) allow_remote: bool,
    pub(super) tls: Option<bool>,
}

impl FileConfig {
    /// Reads the whole text. Each mistake is listed, and a default takes the place of its value. Fails only if the text is not
    /// TOML.
    pub(super) fn parse(path: &Path, text: &str) -> Result<(Self, Vec<ConfigMistake>), Vec<ConfigMistake>> {
        let reader = TableReader::new(path, text);
        let table = reader.parse()?;
        let root = reader.root(&table);
        let mut config = Self {
            listen: root.list("listen", socket_address).unwrap_or_else(|| vec![DEFAULT_LISTEN]),
            advertise: root.parsed("advertise", |text| host_port(text, DEFAULT_PORT).map(joined)),
            state_dir: root.path("state_dir").unwrap_or_else(|| "tidegate-state".into()),
            targets: root.each("targets", targets::read).into_iter().flatten().collect(),
            tls: root.within("tls", tls),
            limits: root.within("limits", limits),
            session: root.within("session", session),
            audit: root.within("audit", audit),
            control: root.within("control", control),
            access: root.within("access", access::access),
            policy: root.within("policy", access::policy),
            issuers: root.within("identity", |t| {
                t.tables("issuers", issuers::read).into_iter().flatten().collect()
            }),
            notify: root.within("notify", notify::read),
            drain_limit: root
                .within("drain", |t| t.duration("limit", Duration::ZERO))
                .unwrap_or(secs(30)),
            logging: root.within("log", logging),
            places: KeyLines::new(),
        };
        root.finish();
        let (places, mistakes) = reader.finish();
        config.places = places;
        Ok((config, mistakes))
    }
}

/// Default port of the gate: PostgreSQL's with a leading 7.
const DEFAULT_PORT: u16 = 7432;
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), DEFAULT_PORT);

fn tls(table: &TableSection<'_, '_>) -> TlsTable {
    let words = [
        ("refuse", Plaintext::Refuse),
        ("loopback", Plaintext::Loopback),
        ("allow", Plaintext::Allow),
    ];
    TlsTable {
        cert: table.path("cert"),
        key: table.path("key"),
        names: table
            .texts("names")
            .unwrap_or_else(|| vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()]),
        plaintext: table.one_of("plaintext", &words).unwrap_or(Plaintext::Loopback),
    }
}

fn limits(table: &TableSection<'_, '_>) -> ConnectionLimits {
    ConnectionLimits {
        connections: table.number("connections", 1, 1_000_000).unwrap_or(1_000),
        handshakes: table.number("handshakes", 1, 1_000_000).unwrap_or(4096),
        handshakes_per_address: table.number("handshakes_per_address", 1, 1_000_000).unwrap_or(1024),
        handshake_timeout: table
            .duration("handshake_timeout", Duration::from_millis(100))
            .unwrap_or(secs(20)),
        waiting_logins: table.number("waiting_logins", 0, 1_000_000).unwrap_or(200),
        waiting_logins_per_identity: table.number("waiting_logins_per_identity", 1, 1_000_000).unwrap_or(5),
        quota: quota(table),
        session_threads: table.number("session_threads", 1, 1024),
    }
}

fn quota(table: &TableSection<'_, '_>) -> QuotaLimits {
    let usual = QuotaLimits::default();
    let prepared = table.number("prepared_bytes_per_identity", 1 << 20, 1 << 30);
    QuotaLimits {
        prepared_bytes: prepared.map_or(usual.prepared_bytes, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        log_bytes_per_second: table
            .number("log_bytes_per_second_per_identity", 64 << 10, 1 << 30)
            .unwrap_or(usual.log_bytes_per_second),
    }
}

fn session(table: &TableSection<'_, '_>) -> SessionTable {
    SessionTable {
        warnings: table
            .list("warnings", crate::base::duration::parse)
            .unwrap_or_else(|| vec![secs(300), secs(60)]),
        welcome: table.yes_no("welcome").unwrap_or(true),
        idle_timeout: table.duration("idle_timeout", Duration::from_millis(1)),
        end_grace: table.duration("end_grace", Duration::ZERO).unwrap_or(secs(2)),
        renew_hint: table.text("renew_hint"),
    }
}

fn audit(table: &TableSection<'_, '_>) -> AuditTable {
    let words = [("process", Durability::Process), ("power", Durability::Power)];
    AuditTable {
        dir: table.path("dir"),
        key: table.path("key"),
        segment_bytes: table.number("segment_bytes", 64 << 10, u32::MAX).unwrap_or(64 << 20),
        segment_age: table.duration("segment_age", secs(1)).unwrap_or(Duration::from_hours(24)),
        keep: table.duration("keep", Duration::from_hours(1)),
        durability: table.one_of("durability", &words).unwrap_or(Durability::Process),
        max_sql_bytes: table.number("max_sql_bytes", 256, 8 << 20).unwrap_or(64 << 10),
        max_parameter_bytes: table.number("max_parameter_bytes", 16, 16 << 20).unwrap_or(4 << 10),
        forward: table.within("forward", forward::read),
    }
}

fn control(table: &TableSection<'_, '_>) -> ControlTable {
    ControlTable {
        socket: table.path("socket"),
        listen: table.parsed("listen", socket_address),
        allow_remote: table.yes_no("allow_remote").unwrap_or(false),
        tls: table.yes_no("tls"),
    }
}

fn logging(table: &TableSection<'_, '_>) -> LoggingSettings {
    let words = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let level = table.parsed("level", |text| {
        text.parse::<tracing_subscriber::EnvFilter>().map(|_| text.to_owned())
    });
    LoggingSettings {
        format: table.one_of("format", &words).unwrap_or(LogFormat::Text),
        level: level.unwrap_or_else(|| "info".to_owned()),
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is not an address to listen on; write an IP address and a port, like 127.0.0.1:7432, 0.0.0.0:7432 or [::1]:7432")
    })
}
