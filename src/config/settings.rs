//! Settings of the gate: every value with its type, every default filled in.
//!
//! They are plain values: no connection, no lock, no listener. [`super::check`] makes them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::access::AccessTable;
use super::address::joined;
use super::profiles::ProfileSettings;
use crate::access::policy::Policies;
use crate::access::quota::QuotaLimits;
use crate::audit;
use crate::audit::values::ParameterPolicy;
use crate::base::secret::Secret;
use crate::base::tls::TlsMode;
use crate::database::upstream::{ApplicationName, AuthMethod};
use crate::gate::frontend::Plaintext;
use crate::identity::IssuerSettings;
use crate::model::names::{ProfileName, TargetName};
use crate::outbound::forward::ForwardSettings;
use crate::outbound::notify::NotifySettings;

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
    /// Limits and defaults of requests and grants.
    pub access: AccessTable,
    /// Validated policies; `None` means that no identity can request access.
    pub policies: Option<Arc<Policies>>,
    /// Issuers of accepted tokens.
    pub issuers: Vec<IssuerSettings>,
    /// Webhooks that are notified of requests.
    pub notify: NotifySettings,
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
    /// Name of the target; also the database name that clients connect to.
    pub name: TargetName,
    /// Host name or address of its server.
    pub host: String,
    /// Port of its server.
    pub port: u16,
    /// Name of the database at the server.
    pub database: String,
    /// Database of the same server for the connections that the gate keeps open.
    pub maintenance_database: String,
    /// Account of the target's sessions if grants have no roles of their own; also the provisioning account if `admin` is
    /// absent.
    pub user: String,
    /// Password of that account.
    pub password: Option<Secret<String>>,
    /// Account that ends sessions and creates roles, if it is not `user`.
    pub admin: Option<AccountSettings>,
    /// Consent to one account for both purposes, if grants have no roles of their own.
    pub shared_account: SharedAccount,
    /// TLS mode of connections to the target.
    pub sslmode: TlsMode,
    /// CA of the target's certificate; if absent, the system's CAs.
    pub ca_file: Option<PathBuf>,
    /// Methods that the gate may authenticate with.
    pub auth: Vec<AuthMethod>,
    /// Time limit from connecting to ready.
    pub connect_timeout: Duration,
    /// Interval at which a busy backend checks that the gate is still connected; zero disables the check.
    pub check_interval: Duration,
    /// True if replication connections are allowed.
    pub replication: bool,
    /// Number of simultaneous sessions.
    pub max_sessions: Option<u32>,
    /// `application_name` that the target sees.
    pub application_name: ApplicationName,
    /// Policy for parameter values in the audit log.
    pub parameters: ParameterPolicy,
    /// Profiles, from the narrowest to the widest.
    pub profiles: Vec<ProfileSettings>,
}

/// Account at a target's server.
#[derive(Debug, Clone)]
pub struct AccountSettings {
    /// Name of the account.
    pub user: String,
    /// Password of the account.
    pub password: Option<Secret<String>>,
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

/// Values of `[limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Number of simultaneous sessions and logins.
    pub connections: u32,
    /// Number of simultaneous unfinished logins.
    pub handshakes: u32,
    /// Number of simultaneous unfinished logins from one address.
    pub handshakes_per_address: u32,
    /// Time limit from accepting the connection to the end of authentication.
    pub handshake_timeout: Duration,
    /// Number of simultaneous logins that wait for approval. They count neither as handshakes nor as connections.
    pub waiting_logins: u32,
    /// Number of simultaneous logins of one identity that wait for approval.
    pub waiting_logins_per_identity: u32,
    /// Resources that all sessions of one identity together may use.
    pub quota: QuotaLimits,
    /// Number of session threads; if absent, one for every two processors.
    pub session_threads: Option<u32>,
}

/// Values of `[session]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTable {
    /// Times before the end at which the client is warned.
    pub warnings: Vec<Duration>,
    /// True if the client is told at login its grant and the grant's end.
    pub welcome: bool,
    /// Time after which a client that sends nothing is disconnected.
    pub idle_timeout: Option<Duration>,
    /// Time that the end of a session waits for a client that does not read.
    pub end_grace: Duration,
    /// Text that tells the client how to get more time.
    pub renew_hint: Option<String>,
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

/// Values of `[log]`: the gate's own messages, not the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggingSettings {
    /// Format of the messages.
    pub format: LogFormat,
    /// Filter in the syntax of `tracing`, such as `info` or `tidegate=debug`.
    pub level: String,
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
        joined((self.host.clone(), self.port))
    }

    /// Returns the name of the account that ends sessions and creates roles.
    #[must_use]
    pub fn provisioner(&self) -> &str {
        self.admin.as_ref().map_or(&self.user, |admin| &admin.user)
    }

    /// Returns true if the sessions share the account that ends them. A grant can then be used to lock the gate out of the
    /// server.
    #[must_use]
    pub fn is_ended_by_its_sessions_account(&self) -> bool {
        !self.has_rights() && self.admin.is_none()
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
