//! Settings of the gate: every value with its type, every default filled in.
//!
//! They are plain values: no connection, no lock, no listener. [`super::gate`] and [`super::targets`] read them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::PolicyLocation;
use super::access::AccessTable;
use super::address::joined;
use super::console::ConsoleTable;
use super::key::{keys, section};
use super::profiles::ProfileSettings;
use super::reader::TableSection;
use crate::access::policy::Policies;
use crate::access::quota::QuotaLimits;
use crate::access::strangers::StrangerLimits;
use crate::audit;
use crate::audit::values::ParameterPolicy;
use crate::base::duration;
use crate::chat::ChatSettings;
use crate::database::upstream::Target;
use crate::gate::frontend::{OauthLogins, Plaintext};
use crate::identity::IssuerSettings;
use crate::model::names::ProfileName;
use crate::outbound::forward::ForwardSettings;
use crate::outbound::notify::NotifySettings;

/// Maximum of the limits on connections and logins.
const MAX_CONNECTIONS: u32 = 1_000_000;

/// Settings of the gate.
#[derive(Debug, Clone)]
pub struct GateSettings {
    /// File that the settings come from.
    pub file: PathBuf,
    /// Addresses to listen on for PostgreSQL clients.
    pub listen: Vec<SocketAddr>,
    /// Host and port that clients are told to connect to (in connection strings).
    pub advertise: String,
    /// Files with secrets that every user of the machine may read.
    pub exposed: Vec<PathBuf>,
    /// Folder for the gate's persistent state.
    pub state_dir: PathBuf,
    /// Targets, in the order of the file.
    pub targets: Vec<TargetSettings>,
    /// Certificate for TLS with clients.
    pub tls: TlsFiles,
    /// Clients that may connect without TLS.
    pub plaintext: Plaintext,
    /// Limits on connections and logins.
    pub limits: ConnectionLimits,
    /// Warnings, time limits and texts of sessions.
    pub session: SessionTable,
    /// Settings of the audit log.
    pub audit: audit::JournalSettings,
    /// Settings of the control API.
    pub control: ControlSettings,
    /// Limits on sign-ins.
    pub console: ConsoleTable,
    /// Limits and defaults of requests and grants.
    pub access: AccessTable,
    /// Place of the policies.
    pub policy: PolicyLocation,
    /// Validated policies; `None` means that no identity can request access.
    pub policies: Option<Arc<Policies>>,
    /// Issuers of accepted tokens.
    pub issuers: Vec<IssuerSettings>,
    /// Names whose clients sign in at an issuer.
    pub oauth: Arc<OauthLogins>,
    /// Webhooks that are notified of requests.
    pub notify: NotifySettings,
    /// Chat whose users may answer, if one is configured.
    pub chat: Option<ChatSettings>,
    /// Receiver of the audit log, if one is configured.
    pub forward: Option<ForwardSettings>,
    /// Interval at which the newest checkpoint of the audit log is sent to webhooks that subscribe to it.
    pub checkpoint_every: Duration,
    /// Time that a shutdown waits for sessions in use.
    pub drain_limit: Duration,
    /// Format and level of the gate's own messages.
    pub logging: LoggingSettings,
}

/// Settings of a target: one database.
#[derive(Debug, Clone)]
pub struct TargetSettings {
    /// Database behind the gate.
    pub upstream: Arc<Target>,
    /// Account that ends sessions and creates roles, as configured.
    pub provisioner: String,
    /// Consent to one account for both purposes, if grants have no roles of their own.
    pub shared_account: SharedAccount,
    /// Policy for parameter values in the audit log.
    pub parameters: ParameterPolicy,
    /// Profiles, from the narrowest to the widest.
    pub profiles: Vec<ProfileSettings>,
}

/// Certificate that clients see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsFiles {
    /// Certificate from the operator's files.
    Given {
        /// Certificate chain, PEM.
        cert: PathBuf,
        /// Private key, PEM.
        key: PathBuf,
    },
    /// Certificate that the gate creates once and keeps.
    SelfSigned {
        /// Folder of the certificate.
        dir: PathBuf,
        /// Names in the certificate.
        names: Vec<String>,
    },
}

section! {
    /// Limits on connections and logins.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct ConnectionLimits {
        /// Connections at once. Lower where the limit of open files is too low.
        connections: u32 = |key| key.number(1, MAX_CONNECTIONS).or(1_000);
        /// Unfinished logins at once. The newest takes the place of the oldest.
        handshakes: u32 = |key| key.number(1, MAX_CONNECTIONS).or(StrangerLimits::default().connections);
        /// Unfinished logins from one address (IPv6: one /64).
        handshakes_per_address: u32 = |key| {
            key.number(1, MAX_CONNECTIONS).or(StrangerLimits::default().connections_per_address)
        };
        /// Limit from accept to the proof of the secret.
        handshake_timeout: Duration = |key| key.duration(Duration::from_millis(100)).or(Duration::from_secs(20));
        /// Logins that wait at once, for an approval or in line. They count neither as handshakes nor as connections.
        waiting_logins: u32 = |key| key.number(0, MAX_CONNECTIONS).or(200);
        /// Waiting logins of one identity.
        waiting_logins_per_identity: u32 = |key| key.number(1, MAX_CONNECTIONS).or(5);
        /// Grants [in line](exclusive-use.md) at one target at once.
        grants_in_line: u32 = |key| key.number(1, MAX_CONNECTIONS).or(200);
        /// Grants of one identity in line at one target. The jobs of a pipeline share its name.
        grants_in_line_per_identity: u32 = |key| key.number(1, MAX_CONNECTIONS).or(100);
        /// Bytes of prepared statements and portals that all sessions of one identity may hold; the last eighth is for portals. A
        /// message that needs more is an error (54000), and the session goes on. Closed, deallocated and discarded ones no longer
        /// count.
        prepared_bytes_per_identity: usize = |key| key.number(1 << 20, 1 << 30).or(QuotaLimits::default().prepared_bytes);
        /// Bytes of the log that one identity may write per second in the long run, with a burst of one minute. Beyond that its
        /// clients are read more slowly and its calls to the control API are answered later; nothing of these is left out. Its
        /// refused logins and cancels are then counted like those of strangers.
        log_bytes_per_second_per_identity: u32 = |key| {
            key.number(64 << 10, 1 << 30).or(QuotaLimits::default().log_bytes_per_second)
        };
        /// Threads that carry sessions.
        session_threads: Option<u32> = |key| key.number(1, 1024).or_none("one for every two processors");
    }
}

impl ConnectionLimits {
    /// Returns the limits on what all sessions of one identity together may use.
    #[must_use]
    pub fn quota(&self) -> QuotaLimits {
        QuotaLimits {
            prepared_bytes: self.prepared_bytes_per_identity,
            log_bytes_per_second: self.log_bytes_per_second_per_identity,
        }
    }
}

section! {
    /// Warnings, time limits and texts of sessions.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct SessionTable {
        /// Times before the end at which clients get a NOTICE.
        warnings: Vec<Duration> = |key| {
            key.list("list of times", duration::parse, |time| duration::show(*time))
                .or(vec![Duration::from_mins(5), Duration::from_mins(1)])
        };
        /// Sends the NOTICE at login: whose grant, until when.
        welcome: bool = |key| key.yes_no().or(true);
        /// A session ends when its client sends nothing for this long while nothing runs for it.
        idle_timeout: Option<Duration> = |key| key.duration(Duration::from_millis(1)).or_none("off");
        /// Time that a client which does not read has at the end. Its backend does not wait.
        end_grace: Duration = |key| key.duration(Duration::ZERO).or(Duration::from_secs(2));
        /// Text that tells clients how to get more time.
        renew_hint: Option<String> = |key| key.text().or_none("the `extend` command");
    }
}

section! {
    /// The gate's own messages, not the audit log.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct LoggingSettings {
        /// [Filter](https://docs.rs/tracing-subscriber/latest/tracing_subscriber/filter/struct.EnvFilter.html#directives) of these
        /// messages.
        level: String = |key| key.checked("text", str::parse::<tracing_subscriber::EnvFilter>).or("info".to_owned());
        /// Format of the gate's own messages on standard error.
        format: LogFormat = |key| key.one_of(&[("text", LogFormat::Text), ("json", LogFormat::Json)]).or(LogFormat::Text);
    }
}

/// Addresses and token of the control API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlSettings {
    /// Path of the Unix socket.
    pub socket: PathBuf,
    /// TCP address to listen on as well.
    pub listen: Option<SocketAddr>,
    /// True if the TCP address uses TLS.
    pub tls: bool,
    /// File with the admin token.
    pub token_file: PathBuf,
}

/// Format of the gate's own messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Plain lines of text.
    Text,
    /// One JSON object per line.
    Json,
}

/// Consent of the operator to an account that all sessions of a target share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedAccount {
    /// The shared account must not be the one that ends sessions: `tidegate check` fails.
    Refused,
    /// The operator accepts that the shared account also ends sessions, with its risks.
    Accepted,
}

impl TargetSettings {
    /// Returns `host:port`, for display.
    #[must_use]
    pub fn address(&self) -> String {
        joined((self.upstream.host.clone(), self.upstream.port))
    }

    /// Returns true if the sessions share the account that ends them. A grant can then be used to lock the gate out of the
    /// server.
    #[must_use]
    pub fn is_ended_by_its_sessions_account(&self) -> bool {
        !self.has_rights() && self.upstream.admin.is_none()
    }

    /// Returns the names of the profiles, from the narrowest to the widest.
    #[must_use]
    pub fn profile_names(&self) -> Vec<ProfileName> {
        self.profiles.iter().map(|profile| profile.name.clone()).collect()
    }

    /// Returns true if the profiles define rights, so that each grant has its own role; otherwise all sessions share the
    /// target's account.
    #[must_use]
    pub fn has_rights(&self) -> bool {
        self.profiles.iter().any(|profile| profile.rights.is_some())
    }
}
