//! The configuration as meant: every value with its type, every default in its place.
//!
//! It holds values, no live objects: nothing here is connected, locked or listening. [`super::check`] makes it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::access::AccessTable;
use super::file::{Control, Limits, Logging, SessionTable, joined};
use super::profiles::ProfileSettings;
use super::targets::SharedAccount;
use crate::audit;
use crate::audit::values::ParameterPolicy;
use crate::forward::ForwardSettings;
use crate::frontend::Plaintext;
use crate::identity::IssuerSettings;
use crate::names::{ProfileName, TargetName};
use crate::notify::NotifySettings;
use crate::policy::Policies;
use crate::secret::Secret;
use crate::tls::TlsMode;
use crate::upstream::{ApplicationName, AuthMethod};

/// Everything the gate is told by its operator.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file it comes from.
    pub file: PathBuf,
    /// Where PostgreSQL clients connect.
    pub listen: Vec<SocketAddr>,
    /// Host and port as clients are told them (in connection strings).
    pub advertise: String,
    /// Files with secrets that everybody on the machine may read.
    pub exposed: Vec<PathBuf>,
    /// What the gate keeps between runs.
    pub state_dir: PathBuf,
    /// The databases, by name.
    pub targets: Vec<TargetSettings>,
    /// TLS towards clients.
    pub tls: TlsFiles,
    /// Who may connect without TLS.
    pub plaintext: Plaintext,
    /// Connections and logins.
    pub limits: Limits,
    /// What sessions are told and how they end.
    pub session: SessionTable,
    /// The audit log.
    pub audit: audit::Settings,
    /// The control API.
    pub control: Control,
    /// What people get who ask for access.
    pub access: AccessTable,
    /// What decides on it, validated; `None`: nobody can ask.
    pub policies: Option<Arc<Policies>>,
    /// Whose tokens prove who somebody is.
    pub issuers: Vec<IssuerSettings>,
    /// Who is told of requests.
    pub notify: NotifySettings,
    /// Where the audit log is sent on, if anywhere.
    pub forward: Option<ForwardSettings>,
    /// How often webhooks that want checkpoints of the audit log are sent the newest.
    pub checkpoint_every: Duration,
    /// How long sessions in use are waited for at shutdown.
    pub drain_limit: Duration,
    /// The gate's own messages.
    pub logging: Logging,
}

/// One database.
#[derive(Debug, Clone)]
pub struct TargetSettings {
    /// Its name; also the database name clients ask for.
    pub name: TargetName,
    /// Its server's host name or address.
    pub host: String,
    /// Its server's port.
    pub port: u16,
    /// The database's own name there.
    pub database: String,
    /// The database of the same server for the connections that the gate keeps open.
    pub maintenance_database: String,
    /// The account of its sessions where no grant has a role of its own; it also provisions where `admin` is absent.
    pub user: String,
    /// That account's password.
    pub password: Option<Secret<String>>,
    /// The account that ends sessions and makes roles, if not `user`.
    pub admin: Option<AccountSettings>,
    /// Whether one account may do both where no grant has a role of its own.
    pub shared_account: SharedAccount,
    /// TLS towards the target.
    pub sslmode: TlsMode,
    /// The CA the target's certificate must come from; absent: the system's.
    pub ca_file: Option<PathBuf>,
    /// How the gate may prove who it is.
    pub auth: Vec<AuthMethod>,
    /// From dialling to ready.
    pub connect_timeout: Duration,
    /// How often a busy backend looks whether the gate is still there; zero: never.
    pub check_interval: Duration,
    /// Whether replication connections are let through.
    pub replication: bool,
    /// Sessions at once.
    pub max_sessions: Option<u32>,
    /// What the target sees as `application_name`.
    pub application_name: ApplicationName,
    /// What the log tells of parameters' values there.
    pub parameters: ParameterPolicy,
    /// What can be asked for there, the narrowest first.
    pub profiles: Vec<ProfileSettings>,
}

/// An account at a target's server.
#[derive(Debug, Clone)]
pub struct AccountSettings {
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: Option<Secret<String>>,
}

/// The certificate shown to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsFiles {
    /// The operator's own.
    Given {
        /// Certificate chain, PEM.
        cert: PathBuf,
        /// Private key, PEM.
        key: PathBuf,
    },
    /// One the gate makes once and keeps.
    SelfSigned {
        /// Where.
        dir: PathBuf,
        /// The names in it.
        names: Vec<String>,
    },
}

impl TargetSettings {
    /// `host:port`, for people.
    #[must_use]
    pub fn address(&self) -> String {
        joined((self.host.clone(), self.port))
    }

    /// The name of the account that ends sessions and makes roles.
    #[must_use]
    pub fn provisioner(&self) -> &str {
        self.admin.as_ref().map_or(&self.user, |admin| &admin.user)
    }

    /// Returns true where all sessions share the account that is to end them: whoever has a grant can lock the gate out with it.
    #[must_use]
    pub fn is_ended_by_its_sessions_account(&self) -> bool {
        !self.has_rights() && self.admin.is_none()
    }

    /// The names of its profiles, the narrowest first.
    #[must_use]
    pub fn profile_names(&self) -> Vec<ProfileName> {
        self.profiles.iter().map(|profile| profile.name.clone()).collect()
    }

    /// Whether its profiles say what they may do, so that each grant has a role of its own; if not, all sessions share the
    /// target's account.
    #[must_use]
    pub fn has_rights(&self) -> bool {
        self.profiles.iter().any(|profile| profile.rights.is_some())
    }
}
