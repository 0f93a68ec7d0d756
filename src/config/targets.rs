//! `targets.NAME`: a database, its accounts and their authentication; its values as written, and the settings made from them.
//!
//! `profiles` reads the profiles of a target. No connection is opened; a CA is loaded and dropped again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::host_port;
use super::checker::SettingsChecker;
use super::profiles::{self, ProfileSettings};
use super::reader::TableSection;
use super::settings::{AccountSettings, SharedAccount, TargetSettings};
use crate::audit::values::ParameterPolicy;
use crate::base::error_chain::display_chain;
use crate::base::tls::{ClientTls, TlsMode};
use crate::database::upstream::{ApplicationName, AuthMethod, Target};
use crate::model::names::TargetName;

/// Values of `[targets.NAME]`.
#[derive(Debug)]
pub(super) struct TargetTable {
    pub(super) name: TargetName,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
    pub(super) maintenance_database: String,
    pub(super) user: String,
    pub(super) password_file: Option<PathBuf>,
    pub(super) password_env: Option<String>,
    pub(super) admin: AdminTable,
    pub(super) shared_account: SharedAccount,
    pub(super) sslmode: TlsMode,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) auth: Vec<AuthMethod>,
    pub(super) connect_timeout: Duration,
    pub(super) check_interval: Duration,
    pub(super) replication: bool,
    pub(super) max_sessions: Option<u32>,
    pub(super) application_name: ApplicationName,
    pub(super) parameters: ParameterPolicy,
    pub(super) profiles: Vec<ProfileSettings>,
}

/// Values of the `admin_...` keys of a target.
#[derive(Debug)]
pub(super) struct AdminTable {
    pub(super) user: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) password_env: Option<String>,
}

const POSTGRES_PORT: u16 = 5432;

/// Names that `tidegate request` takes for commands of its own.
pub(crate) const RESERVED_NAMES: [&str; 2] = ["help", "show"];

const SSL_MODES: &[(&str, TlsMode)] = &[
    ("disable", TlsMode::Disable),
    ("prefer", TlsMode::Prefer),
    ("require", TlsMode::Require),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-full", TlsMode::VerifyFull),
];

const PARAMETER_POLICIES: &[(&str, ParameterPolicy)] = &[
    ("full", ParameterPolicy::Full),
    ("hashed", ParameterPolicy::Hashed),
    ("none", ParameterPolicy::None),
];

const SHARED_ACCOUNTS: &[(&str, SharedAccount)] = &[("refused", SharedAccount::Refused), ("accepted", SharedAccount::Accepted)];

const AUTH_METHODS: &[(&str, AuthMethod)] = &[
    ("scram-sha-256", AuthMethod::ScramSha256),
    ("md5", AuthMethod::Md5),
    ("password", AuthMethod::Password),
    ("trust", AuthMethod::Trust),
];

fn named(name: &str, table: &TableSection<'_, '_>) -> Option<TargetName> {
    match name.parse::<TargetName>() {
        Ok(name) if RESERVED_NAMES.contains(&name.as_str()) => {
            table.mistake_here(format!(
                "a target cannot be named `{name}`, for `tidegate request {name}` is a command of its own: give it another name"
            ));
            None
        }
        Ok(name) => Some(name),
        Err(error) => {
            table.mistake_here(error.to_string());
            None
        }
    }
}

pub(super) fn read(name: &str, table: &TableSection<'_, '_>) -> Option<TargetTable> {
    let name = named(name, table);
    let address = table.required("address", "set the database server: address = \"127.0.0.1:5432\"");
    let address = address.and_then(|text| match host_port(&text, POSTGRES_PORT) {
        Ok(address) => Some(address),
        Err(error) => {
            table.mistake_at("address", error, None);
            None
        }
    });
    let database = table.text("database");
    // Up to 0.1 this key listed the parameters that clients may set. Clients may now set what a session may; the key is still
    // read so that older files stay valid.
    let _no_longer_needed = table.texts("startup_parameters");
    let user = table.required("user", "set the account that the gate uses: user = \"orders_app\"");
    let read = TargetTable {
        database: database.unwrap_or_else(|| name.as_ref().map(ToString::to_string).unwrap_or_default()),
        maintenance_database: table
            .text("maintenance_database")
            .unwrap_or_else(|| Target::MAINTENANCE_DATABASE.to_owned()),
        password_file: table.path("password_file"),
        password_env: table.text("password_env"),
        admin: AdminTable {
            user: table.text("admin_user"),
            password_file: table.path("admin_password_file"),
            password_env: table.text("admin_password_env"),
        },
        shared_account: table
            .one_of("shared_account", SHARED_ACCOUNTS)
            .unwrap_or(SharedAccount::Refused),
        sslmode: table.one_of("sslmode", SSL_MODES).unwrap_or(TlsMode::Prefer),
        ca_file: table.path("ca_file"),
        auth: table
            .some_of("auth", AUTH_METHODS)
            .unwrap_or_else(|| vec![AuthMethod::ScramSha256, AuthMethod::Trust]),
        connect_timeout: table
            .duration("connect_timeout", Duration::from_millis(1))
            .unwrap_or(Duration::from_secs(10)),
        check_interval: table
            .duration("check_interval", Duration::ZERO)
            .unwrap_or(Duration::from_secs(1)),
        replication: table.yes_no("replication").unwrap_or(false),
        max_sessions: table.number("max_sessions", 1, u32::MAX),
        application_name: table
            .one_of(
                "application_name",
                &[("prefix", ApplicationName::Prefix), ("pass", ApplicationName::Pass)],
            )
            .unwrap_or(ApplicationName::Prefix),
        parameters: table.one_of("parameters", PARAMETER_POLICIES).unwrap_or_default(),
        profiles: profiles::read(table),
        name: name?,
        host: address.as_ref()?.0.clone(),
        port: address?.1,
        user: user?,
    };
    Some(read)
}

impl TargetTable {
    /// Removes the places of the passwords, for callers that use none.
    pub(super) fn forget_passwords(&mut self) {
        for place in [&mut self.password_file, &mut self.admin.password_file] {
            *place = None;
        }
        for variable in [&mut self.password_env, &mut self.admin.password_env] {
            *variable = None;
        }
    }
}

impl SettingsChecker<'_> {
    pub(super) fn target(&mut self, table: &TargetTable) -> TargetSettings {
        let at = |key: &str| format!("targets.{}.{key}", table.name);
        let ca_file = table.ca_file.as_ref().map(|path| self.base.join(path));
        if let Some(ca) = &ca_file {
            self.ca_file(table, ca, &at("ca_file"));
        }
        if table.auth.is_empty() {
            self.note(
                &at("auth"),
                "the list of methods is empty",
                "write auth = [\"scram-sha-256\"], or remove the key",
            );
        }
        let admin = self.admin(table);
        let admin_user = admin.as_ref().map_or(&table.user, |admin| &admin.user);
        for (text, value) in [
            ("database", &table.database),
            ("maintenance_database", &table.maintenance_database),
            ("user", &table.user),
            ("admin_user", admin_user),
        ] {
            if value.is_empty() || value.contains('\0') || value.len() > 63 {
                self.note(&at(text), "expected a name of 1 to 63 bytes", "");
            }
        }
        TargetSettings {
            password: self.secret(
                &format!("targets.{}", table.name),
                "password",
                table.password_file.as_ref(),
                table.password_env.as_ref(),
            ),
            admin,
            shared_account: table.shared_account,
            name: table.name.clone(),
            host: table.host.clone(),
            port: table.port,
            database: table.database.clone(),
            maintenance_database: table.maintenance_database.clone(),
            user: table.user.clone(),
            sslmode: table.sslmode,
            ca_file,
            auth: table.auth.clone(),
            connect_timeout: table.connect_timeout,
            check_interval: table.check_interval,
            replication: table.replication,
            max_sessions: table.max_sessions,
            application_name: table.application_name,
            parameters: table.parameters,
            profiles: table.profiles.clone(),
        }
    }

    /// Returns the account that ends the target's sessions, if it is a separate one.
    fn admin(&mut self, table: &TargetTable) -> Option<AccountSettings> {
        let at = |key: &str| format!("targets.{}.{key}", table.name);
        let admin = &table.admin;
        let password = self.secret(
            &format!("targets.{}", table.name),
            "admin_password",
            admin.password_file.as_ref(),
            admin.password_env.as_ref(),
        );
        let Some(user) = admin.user.clone() else {
            if admin.password_file.is_some() || admin.password_env.is_some() {
                let key = if admin.password_file.is_some() {
                    "admin_password_file"
                } else {
                    "admin_password_env"
                };
                self.note(
                    &at(key),
                    "the password has no account",
                    "set the account too: admin_user = \"gate\"",
                );
            }
            return None;
        };
        if user == table.user {
            let reason = "it is also the account of the sessions that it must end";
            self.note(&at("admin_user"), reason, "use another account, or remove the key");
        }
        Some(AccountSettings { user, password })
    }

    /// Checks the root certificates that verify a target.
    fn ca_file(&mut self, table: &TargetTable, ca: &Path, key: &str) {
        if self.readable(key, ca).is_some()
            && let Err(error) = ClientTls::new(table.sslmode, Some(ca))
        {
            self.note(key, display_chain(&error), "");
        }
        if matches!(table.sslmode, TlsMode::Disable | TlsMode::Prefer) {
            self.note(
                key,
                "it has no effect with this sslmode",
                "set sslmode = \"verify-full\", or remove ca_file",
            );
        }
    }
}
