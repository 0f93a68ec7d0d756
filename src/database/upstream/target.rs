//! Settings of a target, and the state that is kept about it between connections.
//!
//! This module does not connect.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::account::TargetAccount;
use super::auth_method::AuthMethods;
use super::liveness::LivenessSettings;
use crate::base::tls::ClientTls;
use crate::model::names::TargetName;

/// Database behind the gate: its address and the way to log in.
#[derive(Debug)]
pub struct Target {
    /// Name by which clients know it.
    pub name: TargetName,
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Name of the database at its server.
    pub database: String,
    /// Another database of the server, for the gate's long-lived connections: in the target's own database they would block `DROP
    /// DATABASE`, and `CREATE DATABASE` with it as template.
    pub maintenance_database: String,
    /// Target's own account, used for sessions if grants have no roles; it also provisions if `admin` is absent.
    pub account: TargetAccount,
    /// Account that ends sessions and creates roles, if not `account`.
    pub admin: Option<TargetAccount>,
    /// TLS settings.
    pub tls: ClientTls,
    /// Authentication methods that the target may ask for.
    pub auth: AuthMethods,
    /// Time limit for a whole connection attempt, from name resolution to the first ReadyForQuery.
    pub connect_timeout: Duration,
    /// Interval at which the target checks its connection to the gate while a statement runs (`client_connection_check_interval`,
    /// milliseconds); zero: no checks.
    pub check_interval: Duration,
    /// True if replication connections are allowed.
    pub replication: bool,
    /// Maximum number of concurrent sessions.
    pub max_sessions: Option<u32>,
    /// Value of `application_name` that the target gets.
    pub application_name: ApplicationName,
    pub(super) liveness: LivenessSettings,
    /// True once the log has a warning that the maintenance database rejects the gate.
    maintenance_told: AtomicBool,
}

impl Target {
    /// Creates a target with the defaults: port 5432, no password, SCRAM or trust, 10 s to connect, a check every second.
    #[must_use]
    pub fn new(name: TargetName, host: String, database: String, user: String, tls: ClientTls) -> Self {
        Self {
            name,
            host,
            port: 5432,
            database,
            maintenance_database: Self::MAINTENANCE_DATABASE.to_owned(),
            account: TargetAccount::own(user),
            admin: None,
            tls,
            auth: AuthMethods::default(),
            connect_timeout: Duration::from_secs(10),
            // Measured: a backend in pg_sleep ends 0.3 s after its client was killed; the check itself is one poll().
            check_interval: Duration::from_secs(1),
            replication: false,
            max_sessions: None,
            application_name: ApplicationName::default(),
            liveness: LivenessSettings::default(),
            maintenance_told: AtomicBool::new(false),
        }
    }

    /// Database that PostgreSQL's own tools connect to when they drop or create another.
    pub const MAINTENANCE_DATABASE: &str = "postgres";

    /// Returns true on the first call only, for a warning that is to be logged once.
    pub(crate) fn warn_of_maintenance_database(&self) -> bool {
        !self.maintenance_told.swap(true, Ordering::Relaxed)
    }

    /// Returns the account of the provisioning connections.
    #[must_use]
    pub fn provisioner(&self) -> &TargetAccount {
        self.admin.as_ref().unwrap_or(&self.account)
    }

    /// Returns true if `other` is a database of the same server: its backends can be ended over one connection.
    #[must_use]
    pub fn same_server(&self, other: &Self) -> bool {
        self.host == other.host && self.port == other.port
    }
}

/// Value of `application_name` that the target gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ApplicationName {
    /// The grant, a slash and the client's own value, so that `pg_stat_activity` shows the grant.
    #[default]
    Prefix,
    /// The client's own value.
    Pass,
}
