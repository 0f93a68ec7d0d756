//! Settings of a target: its address, its accounts with their credentials, and the state that is kept about it between
//! connections.
//!
//! This module does not connect.
//!
//! INVARIANT: an account made for one grant serves no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::liveness::LivenessSettings;
use crate::base::secret::Secret;
use crate::base::tls::ClientTls;
use crate::model::grant::Permit;
use crate::model::ids::GrantId;
use crate::model::names::TargetName;
use crate::protocol::scram::ClientKeys;

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
    pub auth: Vec<AuthMethod>,
    /// Time limit for a whole connection attempt, from name resolution to the first ReadyForQuery.
    pub connect_timeout: Duration,
    /// Interval at which the target checks its connection to the gate while a statement runs (`client_connection_check_interval`,
    /// milliseconds); zero: no checks.
    pub check_interval: Duration,
    /// True if replication connections are allowed.
    pub replication: bool,
    /// Maximum number of concurrent sessions.
    pub max_sessions: Option<u32>,
    /// Maximum number of databases of grants, each a copy of a template.
    pub max_copies: u32,
    /// Value of `application_name` that the target gets.
    pub application_name: ApplicationName,
    pub(super) liveness: LivenessSettings,
    /// True once the log has a warning that the maintenance database rejects the gate.
    maintenance_told: AtomicBool,
}

impl Target {
    /// Creates a target with the defaults: port 5432, no password, SCRAM or trust (neither reveals the password), 10 s to
    /// connect, a check every second.
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
            auth: vec![AuthMethod::ScramSha256, AuthMethod::Trust],
            connect_timeout: Duration::from_secs(10),
            // A backend in pg_sleep ends within this time after its gate was killed; the check itself is one poll().
            check_interval: Duration::from_secs(1),
            replication: false,
            max_sessions: None,
            max_copies: 20,
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

/// Method by which a server authenticates a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// SCRAM-SHA-256 and -PLUS: both sides prove that they know the password, neither reveals it.
    ScramSha256,
    /// An MD5 challenge: an eavesdropper can try passwords against it, and a hostile server can use the answer elsewhere.
    Md5,
    /// The password in clear text; it is sent over TLS only, but the peer gets it.
    Password,
    /// No proof is required, and the server gives none.
    Trust,
}

impl AuthMethod {
    /// Returns PostgreSQL's name in `pg_hba.conf`.
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

/// Account at a target: the target's own, for all its sessions, or a grant's.
#[derive(Debug)]
pub struct TargetAccount {
    /// User that the gate logs in as.
    pub user: String,
    /// Password of that user.
    pub password: Option<Secret<String>>,
    /// Properties of a grant's account; `None` for the target's own.
    pub grant: Option<GrantAccount>,
    /// SCRAM keys of the password.
    pub keys: KeyCache,
}

/// Properties of the account that only one grant uses.
#[derive(Debug)]
pub struct GrantAccount {
    /// Grant of the account.
    pub grant: GrantId,
    /// Role in which its sessions start, if it is not the user; the user must be a member of it.
    pub role: Option<String>,
    /// Connection limit of the account at the server.
    pub connections: u32,
    /// Schema that is put before the search path that a client asks for, as SQL text.
    pub path_front: Option<String>,
    /// Database of its sessions, if it is not the target's: a copy that only this grant has.
    pub database: Option<Arc<str>>,
}

impl TargetAccount {
    /// Returns the target's own account.
    #[must_use]
    pub fn own(user: String) -> Self {
        Self {
            user,
            password: None,
            grant: None,
            keys: KeyCache::default(),
        }
    }

    /// Returns the `search_path` that sessions get if a client asks for `asked`.
    pub(super) fn path(&self, asked: &str) -> String {
        match self.grant.as_ref().and_then(|of| of.path_front.as_deref()) {
            Some(front) if asked.trim().is_empty() => front.to_owned(),
            Some(front) => format!("{front}, {asked}"),
            None => asked.to_owned(),
        }
    }

    /// Returns the grant's own database, if its sessions are in one.
    #[must_use]
    pub fn own_database(&self) -> Option<&Arc<str>> {
        self.grant.as_ref()?.database.as_ref()
    }

    /// Returns true if a session with this permit may use the account.
    pub(super) fn serves(&self, permit: &Permit) -> bool {
        self.grant.as_ref().is_none_or(|of| of.grant == *permit.grant())
    }
}

/// Cache of the SCRAM keys of the last login: they save the PBKDF2, which is most of the cost of a login.
#[derive(Debug, Default)]
pub struct KeyCache(Mutex<Option<CachedKeys>>);

#[derive(Debug)]
struct CachedKeys {
    salt: Vec<u8>,
    iterations: u32,
    keys: Arc<OnceCell<ClientKeys>>,
}

impl KeyCache {
    /// Creates a cache with the keys of a password that was just made, so that no login has to derive them.
    #[must_use]
    pub fn filled(keys: ClientKeys, salt: &[u8], iterations: u32) -> Self {
        Self(Mutex::new(Some(CachedKeys {
            salt: salt.to_vec(),
            iterations,
            keys: Arc::new(keys.into()),
        })))
    }

    /// Returns the cell of the keys for this salt and number of rounds. The first login that needs them fills it, and
    /// concurrent logins wait for it.
    pub(super) fn place(&self, salt: &[u8], iterations: u32) -> Arc<OnceCell<ClientKeys>> {
        let mut cached = self.0.lock();
        cached.take_if(|cached| cached.salt != salt || cached.iterations != iterations);
        let cached = cached.get_or_insert_with(|| CachedKeys {
            salt: salt.to_vec(),
            iterations,
            keys: Arc::default(),
        });
        Arc::clone(&cached.keys)
    }
}
