//! `targets.NAME`: a database, its accounts and their authentication.
//!
//! `profiles` reads the profiles of a target. No connection is opened.

use std::sync::Arc;
use std::time::Duration;

use super::address::host_port;
use super::key::keys;
use super::profiles;
use super::reader::TableSection;
use super::settings::{SharedAccount, TargetSettings};
use crate::audit::values::ParameterPolicy;
use crate::base::error_chain::display_chain;
use crate::base::tls::{ClientTls, TlsMode};
use crate::database::upstream::{ApplicationName, AuthMethod, Target, TargetAccount};
use crate::model::names::TargetName;

/// Names that `tidegate request` takes for commands of its own.
pub(crate) const RESERVED_NAMES: [&str; 2] = ["help", "show"];

/// Port of PostgreSQL.
const POSTGRES_PORT: u16 = 5432;
/// Maximum length of the name of a database or an account, in bytes: NAMEDATALEN - 1.
const MAX_NAME_BYTES: usize = 63;

const SHARED_ACCOUNTS: &[(&str, SharedAccount)] = &[("refused", SharedAccount::Refused), ("accepted", SharedAccount::Accepted)];

const APPLICATION_NAMES: &[(&str, ApplicationName)] = &[("prefix", ApplicationName::Prefix), ("pass", ApplicationName::Pass)];

const AUTH_METHODS: &[(&str, AuthMethod)] = &[
    ("scram-sha-256", AuthMethod::ScramSha256),
    ("md5", AuthMethod::Md5),
    ("password", AuthMethod::Password),
    ("trust", AuthMethod::Trust),
];

const PARAMETER_POLICIES: &[(&str, ParameterPolicy)] = &[
    ("full", ParameterPolicy::Full),
    ("hashed", ParameterPolicy::Hashed),
    ("none", ParameterPolicy::None),
];

/// Reads `[targets.NAME]`.
pub(super) fn read(name: &str, table: &TableSection<'_>) -> Option<TargetSettings> {
    let name = named(name, table);
    let own_name = name.as_ref().map(ToString::to_string).unwrap_or_default();
    keys! { table;
        /// Host and port of the database server.
        address = |key| {
            key.parsed("host and port", |text| host_port(text, POSTGRES_PORT))
                .required("set the database server: address = \"127.0.0.1:5432\"")
        };
        /// The database's own name; NAME if left out. Call the target as its database is called, if you can: clients then name
        /// what `current_database()` says.
        database = |key| key.text().or(own_name);
    }
    // Up to 0.1 this key listed the parameters that clients may set. Clients may now set what a session may; the key is still
    // read so that older files stay valid.
    let _no_longer_needed = table.key("startup_parameters", "").texts().or_none("");
    keys! { table;
        /// The account that makes roles and ends sessions. Of a target without roles: the account of its sessions.
        user = |key| key.text().required("set the account that the gate uses: user = \"orders_app\"");
    }
    // The rest is read, with its mistakes, even if the target is incomplete.
    let known = name.clone().or_else(|| "unnamed".parse().ok())?;
    let (host, port) = address.clone().unwrap_or_default();
    let no_tls = ClientTls::new(TlsMode::Disable, None).ok()?;
    let mut target = Target::new(known, host, database, user.clone().unwrap_or_default(), no_tls);
    target.port = port;
    accounts(table, &mut target);
    keys! { table;
        /// `accepted`: sessions may share the account that ends them. `check` then warns and does not fail.
        shared_account = |key| key.one_of(SHARED_ACCOUNTS).or(SharedAccount::Refused);
    }
    let tls = tls(table);
    options(table, &mut target);
    keys! { table;
        /// Bound values in the log: `full` the values, `hashed` HMACs under the key in `audit-key.values` beside `audit-key.pem`,
        /// `none` their number. The same value has the same HMAC however it was sent, with two exceptions: a message of more than
        /// 1 MiB is hashed as it was sent, and `bytea` in its escape format differs. The key also hashes statements of which
        /// something is blanked or cut.
        parameters = |key| key.one_of(PARAMETER_POLICIES).or(ParameterPolicy::default());
    }
    let profiles = profiles::read(table);
    if name.is_none() || address.is_none() || user.is_none() {
        return None;
    }
    fit_name(table, "user", &target.account.user);
    fit_name(table, "database", &target.database);
    target.tls = tls?;
    Some(TargetSettings {
        provisioner: target.provisioner().user.clone(),
        upstream: Arc::new(target),
        shared_account,
        parameters,
        profiles,
    })
}

fn named(name: &str, table: &TableSection<'_>) -> Option<TargetName> {
    match name.parse::<TargetName>() {
        Ok(name) if RESERVED_NAMES.contains(&name.as_str()) => {
            let reason = format!(
                "a target cannot be named `{name}`, for `tidegate request {name}` is a command of its own: give it another name"
            );
            table.mistake_at("", reason, "");
            None
        }
        Ok(name) => Some(name),
        Err(error) => {
            table.mistake_at("", error.to_string(), "");
            None
        }
    }
}

fn fit_name(table: &TableSection<'_>, key: &str, name: &str) {
    if name.is_empty() || name.contains('\0') || name.len() > MAX_NAME_BYTES {
        table.broken_rule(key, "expected a name of 1 to 63 bytes", "");
    }
}

/// Reads the maintenance database, and the accounts with their passwords.
fn accounts(table: &TableSection<'_>, target: &mut Target) {
    let maintenance = std::mem::take(&mut target.maintenance_database);
    keys! { table;
        /// Another database of the same server, for the connections that the gate keeps open. The gate has none in the target's
        /// own database while nothing is to be done there, so `DROP DATABASE` and `CREATE DATABASE ... TEMPLATE` work. Where this
        /// database does not let the gate in, the gate uses the target's own and warns.
        maintenance_database = |key| key.text().or(maintenance);
        /// A file with only the password of `user`.
        password_file = |key| key.path().or_none("none");
        /// Instead: an environment variable with the password.
        password_env = |key| key.text().or_none("none");
        /// The account that makes roles and ends sessions, if it is not `user`. Set it where sessions
        /// [share an account](least-privilege.md#one-account-for-all-sessions).
        admin_user = |key| key.text().or_none("`user`");
        /// A file with only that account's password.
        admin_password_file = |key| key.path().or_none("none");
        /// Instead: an environment variable with the password.
        admin_password_env = |key| key.text().or_none("none");
    }
    fit_name(table, "maintenance_database", &maintenance_database);
    target.maintenance_database = maintenance_database;
    target.account.password = table.secret("password", password_file, password_env);
    let place = match (&admin_password_file, &admin_password_env) {
        (Some(_), _) => Some("admin_password_file"),
        (None, Some(_)) => Some("admin_password_env"),
        (None, None) => None,
    };
    let password = table.secret("admin_password", admin_password_file, admin_password_env);
    let Some(user) = admin_user else {
        if let Some(key) = place.filter(|key| table.opens(key)) {
            table.broken_rule(
                key,
                "the password has no account",
                "set the account too: admin_user = \"gate\"",
            );
        }
        return;
    };
    fit_name(table, "admin_user", &user);
    if user == target.account.user {
        let reason = "it is also the account of the sessions that it must end";
        table.broken_rule("admin_user", reason, "use another account, or remove the key");
    }
    let mut account = TargetAccount::own(user);
    account.password = password;
    target.admin = Some(account);
}

/// Reads the TLS settings towards the target, and the CA that is named.
fn tls(table: &TableSection<'_>) -> Option<ClientTls> {
    let modes = TlsMode::ALL.map(|mode| (mode.name(), mode));
    keys! { table;
        /// TLS towards the target, as libpq has it.
        sslmode = |key| key.one_of(&modes).or(TlsMode::Prefer);
        /// The CA for the verifying modes.
        ca_file = |key| key.path().or_none("the system's CAs");
    }
    if !table.opens("ca_file") {
        return ClientTls::new(TlsMode::Disable, None).ok();
    }
    let key = if ca_file.is_some() { "ca_file" } else { "sslmode" };
    let readable = ca_file.as_ref().is_none_or(|ca| table.readable(key, ca).is_some());
    let tls = readable.then(|| ClientTls::new(sslmode, ca_file.as_deref()));
    if let Some(Err(error)) = &tls {
        table.broken_rule(key, display_chain(error), "");
    }
    if ca_file.is_some() && matches!(sslmode, TlsMode::Disable | TlsMode::Prefer) {
        let remedy = "set sslmode = \"verify-full\", or remove ca_file";
        table.broken_rule("ca_file", "it has no effect with this sslmode", remedy);
    }
    tls?.ok()
}

/// Reads everything that a target has a default for.
fn options(table: &TableSection<'_>, target: &mut Target) {
    keys! { table;
        /// Methods by which the target may authenticate the gate; `password` over TLS only.
        auth = |key| key.some_of(AUTH_METHODS).or(vec![AuthMethod::ScramSha256, AuthMethod::Trust]);
        /// Limit from the TCP connect until the connection is ready.
        connect_timeout = |key| key.duration(Duration::from_millis(1)).or(target.connect_timeout);
        /// Interval at which a busy backend checks that the gate is still there; `0s`: never.
        check_interval = |key| key.duration(Duration::ZERO).or(target.check_interval);
        /// Lets replication connections through, for targets
        /// [whose sessions share an account](least-privilege.md#one-account-for-all-sessions) that has REPLICATION.
        /// `pg_basebackup` and `pg_receivewal` come with a grant (`tidegate exec orders -- pg_basebackup -D copy`). The database
        /// they name does not matter. A copy is the whole server, whatever a profile says.
        replication = |key| key.yes_no().or(target.replication);
        /// Sessions at once on this target.
        max_sessions = |key| key.number(1, u32::MAX).or_none("no limit");
        /// Databases of grants at once on this target, each [a copy of a template](copies.md).
        copies = |key| key.number(1, u32::MAX).or(target.max_copies);
        /// `prefix`: the database sees the grant in front of the client's own name, cut at 63 bytes; `pass`: that name alone. A
        /// client that sets its name later shows that alone. Where grants have roles, the session's user is the grant all the
        /// same; where sessions share an account, `tidegate session list` has them.
        application_name = |key| key.one_of(APPLICATION_NAMES).or(target.application_name);
    }
    if auth.is_empty() {
        let remedy = "write auth = [\"scram-sha-256\"], or remove the key";
        table.broken_rule("auth", "the list of methods is empty", remedy);
    }
    target.auth = auth.into_iter().collect();
    target.connect_timeout = connect_timeout;
    target.check_interval = check_interval;
    target.replication = replication;
    target.max_sessions = max_sessions;
    target.max_copies = copies;
    target.application_name = application_name;
}
