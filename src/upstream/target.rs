//! A target as settings, with the little that is remembered about it between connections.
//!
//! It does not connect.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::account::Account;
use super::belts::Belts;
use crate::names::TargetName;
use crate::tls::ClientTls;

/// A database the gate fronts: where it is and how to log in there.
#[derive(Debug)]
pub struct Target {
    /// What clients call it.
    pub name: TargetName,
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The database's own name.
    pub database: String,
    /// Another database of the server, for the connections that the gate keeps open: in the target's own they would be in the way of
    /// `DROP DATABASE`, and of `CREATE DATABASE` from it.
    pub maintenance_database: String,
    /// Its own account: the sessions' where no grant has a role of its own; it also provisions where `admin` is absent.
    pub account: Account,
    /// The account that ends sessions and makes roles, if not `account`.
    pub admin: Option<Account>,
    /// Whether and how TLS is used.
    pub tls: ClientTls,
    /// In which ways the target may let us in.
    pub auth: AuthMethods,
    /// The limit for a whole connection, from the name to the first ReadyForQuery.
    pub connect_timeout: Duration,
    /// How often the target looks whether the gate is still there while a statement runs
    /// (`client_connection_check_interval`, milliseconds); zero: it does not.
    pub check_interval: Duration,
    /// Whether replication connections are allowed.
    pub replication: bool,
    /// The most sessions at once.
    pub max_sessions: Option<u32>,
    /// What the target sees as `application_name`.
    pub application_name: ApplicationName,
    pub(super) belts: Belts,
    /// It was said that the maintenance database does not let the gate in.
    maintenance_told: AtomicBool,
}

impl Target {
    /// A target with everything else at its default: port 5432, no password, SCRAM or trust, 10 s to connect, a check every
    /// 500 ms.
    #[must_use]
    pub fn new(name: TargetName, host: String, database: String, user: String, tls: ClientTls) -> Self {
        Self {
            name,
            host,
            port: 5432,
            database,
            maintenance_database: Self::MAINTENANCE_DATABASE.to_owned(),
            account: Account::own(user),
            admin: None,
            tls,
            auth: AuthMethods::default(),
            connect_timeout: Duration::from_secs(10),
            // Measured: a backend in pg_sleep is gone 0.3 s after its client was killed; the check itself is one poll().
            check_interval: Duration::from_millis(500),
            replication: false,
            max_sessions: None,
            application_name: ApplicationName::default(),
            belts: Belts::default(),
            maintenance_told: AtomicBool::new(false),
        }
    }

    /// The database that PostgreSQL's own tools connect to when they drop or create another.
    pub const MAINTENANCE_DATABASE: &str = "postgres";

    /// Returns true the first time it is asked, for a warning that is to be given once.
    pub(crate) fn warn_of_maintenance_database(&self) -> bool {
        !self.maintenance_told.swap(true, Ordering::Relaxed)
    }

    /// The account of the provisioning connections.
    #[must_use]
    pub fn provisioner(&self) -> &Account {
        self.admin.as_ref().unwrap_or(&self.account)
    }

    /// Returns true where `other` is a database of the same server: its backends can be ended over one connection.
    #[must_use]
    pub fn same_server(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port
    }
}

/// What the target sees as `application_name`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ApplicationName {
    /// The grant, a slash and what the client gave: `pg_stat_activity` shows who it is.
    #[default]
    Prefix,
    /// What the client gave.
    Pass,
}

/// A way in which a server lets a client in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// SCRAM-SHA-256 and -PLUS: both sides prove that they know the password, neither shows it.
    ScramSha256,
    /// An MD5 challenge: whoever hears it can try passwords, and a hostile server can use the answer elsewhere.
    Md5,
    /// The password in clear; given over TLS only, but to whoever is at the other end of it.
    Password,
    /// No proof is asked for, and the server gives none.
    Trust,
}

/// A text that names no method.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown authentication method `{text}`; use scram-sha-256, md5, password or trust")]
pub struct UnknownMethod {
    text: String,
}

impl AuthMethod {
    const ALL: [Self; 4] = [Self::ScramSha256, Self::Md5, Self::Password, Self::Trust];

    /// PostgreSQL's name in `pg_hba.conf`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "scram-sha-256",
            Self::Md5 => "md5",
            Self::Password => "password",
            Self::Trust => "trust",
        }
    }
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for AuthMethod {
    type Err = UnknownMethod;

    fn from_str(text: &str) -> Result<Self, UnknownMethod> {
        Self::ALL
            .into_iter()
            .find(|method| method.name() == text)
            .ok_or_else(|| UnknownMethod {
                text: text.chars().take(80).collect(),
            })
    }
}

/// The ways in which a target may let us in. The default is SCRAM and trust: neither gives the password away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthMethods(Vec<AuthMethod>);

impl AuthMethods {
    /// Whether the method may be used.
    #[must_use]
    pub fn allow(&self, method: AuthMethod) -> bool {
        self.0.contains(&method)
    }
}

impl Default for AuthMethods {
    fn default() -> Self {
        Self(vec![AuthMethod::ScramSha256, AuthMethod::Trust])
    }
}

impl FromIterator<AuthMethod> for AuthMethods {
    fn from_iter<I: IntoIterator<Item = AuthMethod>>(methods: I) -> Self {
        Self(methods.into_iter().collect())
    }
}
