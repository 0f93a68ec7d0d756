//! Checks of a target's accounts and settings: missing rights, excessive rights, and server settings that let sessions act past
//! the gate.
//!
//! It changes nothing, and does not judge keepalives: the gate asks for its own. A fact that the account may not see is
//! reported as unknown, never as good. INVARIANT: each refusal names the power, its use, and the SQL that removes it.

use std::sync::Arc;

use self::TargetFinding::{Good, Lack, Refused, Warning};
use super::connection::OpenConnection;
use super::{RoleFault, RoleProfile};
use crate::base::clock::Clock;
use crate::database::copy::CopySource;
use crate::database::rights::{RoleName, profile_role, quoted, quoted_text};
use crate::database::upstream::Target;

/// Application name in the server's `pg_stat_activity`.
const NAME: &str = "tidegate (checks)";

/// Result of one check at a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetFinding {
    /// Requirement that is met.
    Good(String),
    /// Warning: something is open that could be closed, or could not be checked.
    Warning(String),
    /// Missing: without it no role can be created or no session ended.
    Lack(String),
    /// Refused: with it a grant gives more than its profile defines.
    Refused(String),
}

impl TargetFinding {
    /// Returns true if the target should not be served in this state.
    #[must_use]
    pub fn stops(&self) -> bool {
        matches!(self, Self::Lack(_) | Self::Refused(_))
    }
}

impl std::fmt::Display for TargetFinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Good(text) => f.write_str(text),
            Self::Warning(text) => write!(f, "warning: {text}"),
            Self::Lack(text) => write!(f, "missing: {text}"),
            Self::Refused(text) => write!(f, "refused: {text}"),
        }
    }
}

/// Roles that an account can become, itself first, whose attributes or name give a session more than rights on objects; and the
/// role by which the account is a member. (`10`: the first superuser, which cannot lose the attribute.)
const POWERS: &str = "
    SELECT r.rolname, r.oid = me.oid, r.oid = 10, r.rolsuper, r.rolcreaterole, r.rolbypassrls,
        (SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
            WHERE m.member = me.oid AND pg_has_role(g.oid, r.oid, 'MEMBER') ORDER BY g.oid = r.oid DESC, 1 LIMIT 1)
    FROM pg_roles r JOIN pg_roles me ON me.rolname = $role
    WHERE pg_has_role(me.oid, r.oid, 'MEMBER') AND (r.oid = me.oid OR NOT me.rolsuper)
        AND (r.rolsuper OR r.rolcreaterole OR r.rolbypassrls
            OR r.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files', 'pg_signal_backend'))
    ORDER BY r.oid = me.oid DESC, 1";

/// Predefined roles, with the power that a member has.
const PREDEFINED: [(&str, &str); 4] = [
    (
        "pg_execute_server_program",
        "can run any program on the server (COPY ... FROM PROGRAM), even one that outlives the session",
    ),
    (
        "pg_read_server_files",
        "can read any file of the server, whatever its rights on tables",
    ),
    ("pg_write_server_files", "can write any file of the server"),
    ("pg_signal_backend", "can end other sessions and the gate's own connection"),
];

/// Checks the requirements of one role per grant at the target, and excessive rights of the profiles' roles.
pub async fn inspect_roles(
    target: &Arc<Target>,
    profiles: &[RoleProfile],
    clock: &Clock,
) -> Result<Vec<TargetFinding>, RoleFault> {
    let session = OpenConnection::open_in(target, &target.database, NAME, clock).await?;
    let user = quoted(&target.provisioner().user);
    let mut found = account(&session).await?;
    for profile in profiles {
        let role = profile_role(&target.name, &profile.name);
        let apply = match &profile.copy {
            Some(source) => format!("{} --database {}", target.name, source.template),
            None => target.name.to_string(),
        };
        found.extend(holder(&session, &role, &user, &apply).await?);
        found.extend(powers(&session, role.as_str(), "the role of a profile").await?);
        if let Some(source) = &profile.copy {
            found.extend(template(&session, source, &target.provisioner().user).await?);
        }
    }
    found.extend(afterlife(&session).await?);
    found.push(doors(&session, &user).await);
    found.push(lost_host(&session).await?);
    found.extend(maintenance(target, clock).await);
    Ok(found)
}

/// Checks that an account may copy these templates, over a connection as `target` configures it.
pub async fn inspect_templates(
    target: &Arc<Target>,
    sources: impl IntoIterator<Item = &CopySource>,
    account: &str,
    clock: &Clock,
) -> Result<Vec<TargetFinding>, RoleFault> {
    let session = OpenConnection::open_in(target, &target.maintenance_database, NAME, clock).await?;
    let mut found = Vec::new();
    for source in sources {
        found.extend(template(&session, source, account).await?);
    }
    Ok(found)
}

/// Checks the account that all sessions share, and the one that ends them.
pub async fn inspect_shared(target: &Arc<Target>, clock: &Clock) -> Result<Vec<TargetFinding>, RoleFault> {
    let session = OpenConnection::open_in(target, &target.database, NAME, clock).await?;
    let user = target.account.user.as_str();
    let mut found = Vec::new();
    if target.admin.is_some() {
        if let Err(fault) = OpenConnection::try_login(target, &target.account, NAME).await {
            found.push(Lack(format!(
                "a working login as {}, the account of the sessions: {fault}",
                quoted(user)
            )));
        }
        found.extend(admin(&session, user).await?);
    }
    found.extend(powers(&session, user, "the account of all sessions").await?);
    found.extend(afterlife(&session).await?);
    found.push(lost_host(&session).await?);
    found.extend(maintenance(target, clock).await);
    Ok(found)
}

/// Reports a maintenance database that refuses the gate.
async fn maintenance(target: &Arc<Target>, clock: &Clock) -> Option<TargetFinding> {
    let name = &target.maintenance_database;
    let fault = OpenConnection::open_in(target, name, NAME, clock).await.err()?;
    Some(Warning(format!(
        "the maintenance database {0} refuses the gate ({fault}), so the gate's connections are in the target's own \
         database and block DROP DATABASE; as superuser: GRANT CONNECT ON DATABASE {0} TO {1}, or set another maintenance_database",
        quoted(name),
        quoted(&target.provisioner().user)
    )))
}

/// Checks that the account may end the sessions of `user` and see their age, and that `user` cannot act as the account.
async fn admin(session: &OpenConnection, user: &str) -> Result<Vec<TargetFinding>, RoleFault> {
    let rows = session
        .run(&format!(
            "SELECT me.rolname, me.rolsuper, pg_has_role(u.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'), \
             pg_has_role(u.oid, 'USAGE') OR pg_has_role('pg_read_all_stats', 'USAGE'), pg_has_role(u.oid, me.oid, 'MEMBER') \
             FROM pg_roles me CROSS JOIN pg_roles u WHERE me.rolname = current_user AND u.rolname = {}",
            quoted_text(user)
        ))
        .await?;
    let Some(row) = rows.first() else {
        let name = quoted(user);
        return Ok(vec![Lack(format!(
            "the account {name} of the sessions; as superuser: CREATE ROLE {name} LOGIN PASSWORD '...'"
        ))]);
    };
    let is = |column| row.get(column) == Some("t");
    let (name, sessions) = (quoted(row.get(0).unwrap_or_default()), quoted(user));
    if is(1) {
        return Ok(vec![superuser(&name)]);
    }
    let mut found = Vec::new();
    if !is(2) {
        found.push(Lack(format!(
            "the right of {name} to end sessions of {sessions}; as superuser: GRANT pg_signal_backend TO {name}"
        )));
    }
    if !is(3) {
        found.push(Lack(format!(
            "the right of {name} to see the start of a backend, without which a reused process id could end another backend; as superuser: GRANT pg_read_all_stats TO {name}"
        )));
    }
    if is(4) {
        found.push(Refused(format!(
            "{sessions} is a member of {name}, so every session can end the gate's connection; as superuser: REVOKE {name} FROM {sessions}"
        )));
    }
    if found.is_empty() {
        found.push(Good(format!(
            "{name} ends the sessions of {sessions}, and they cannot end its own"
        )));
    }
    Ok(found)
}

fn superuser(name: &str) -> TargetFinding {
    Refused(format!(
        "{name}, which ends sessions and creates roles, is a superuser, so a mistake would have no limit. CREATEROLE and pg_signal_backend \
         are enough; as superuser: CREATE ROLE gate LOGIN CREATEROLE PASSWORD '...'; GRANT pg_signal_backend TO gate"
    ))
}

/// Checks that the account may create roles and end backends, and no more.
async fn account(session: &OpenConnection) -> Result<Vec<TargetFinding>, RoleFault> {
    let rows = session
        .run(
            "SELECT rolname, rolcreaterole OR rolsuper, rolsuper, pg_has_role(oid, 'pg_signal_backend', 'USAGE'), \
             current_setting('server_version'), rolinherit, current_setting('transaction_read_only') FROM pg_roles WHERE rolname = current_user",
        )
        .await?;
    let column = |at| rows.first().and_then(|row| row.get(at)).unwrap_or_default();
    let (name, version) = (column(0), column(4));
    let shown = quoted(name);
    let mut found = vec![if column(1) == "t" {
        Good(format!("PostgreSQL {version}: `{name}` may create roles"))
    } else {
        Lack(format!(
            "the right of `{name}` to create roles; as superuser: ALTER ROLE {shown} CREATEROLE"
        ))
    }];
    if column(2) == "t" {
        found.push(superuser(&shown));
    } else if column(3) != "t" {
        found.push(Lack(format!(
            "the right of `{name}` to end other roles' backends; as superuser: GRANT pg_signal_backend TO {shown}"
        )));
    }
    if column(6) == "on" {
        let text = "a writable server; this one is read-only (a standby, or default_transaction_read_only is on), so no role can be created; \
                    set the primary server as the target's address";
        found.push(Lack(text.to_owned()));
    }
    if column(5) != "t" {
        found.push(Lack(format!(
            "INHERIT for `{name}`, without which it cannot clean up after grants; as superuser: ALTER ROLE {shown} INHERIT"
        )));
    }
    Ok(found)
}

/// Checks that the account may copy a template, and that nobody is in it.
async fn template(session: &OpenConnection, source: &CopySource, account: &str) -> Result<Vec<TargetFinding>, RoleFault> {
    let role = quoted_text(account);
    let account = quoted(account);
    let rows = session
        .run(&format!(
            "SELECT r.rolcreatedb OR r.rolsuper, d.datname IS NOT NULL, \
             d.datistemplate OR r.rolsuper OR pg_has_role(r.oid, d.datdba, 'USAGE'), d.datallowconn, \
             (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid) \
             FROM pg_roles r LEFT JOIN pg_database d ON d.datname = {} WHERE r.rolname = {role}",
            quoted_text(&source.template)
        ))
        .await?;
    let column = |at| rows.first().and_then(|row| row.get(at)).unwrap_or_default();
    let name = quoted(&source.template);
    let mut found = Vec::new();
    if column(0) != "t" {
        found.push(Lack(format!(
            "the right of {account} to create databases, for copies of {name}; as superuser: ALTER ROLE {account} CREATEDB"
        )));
    }
    if column(1) != "t" {
        found.push(Lack(format!(
            "the template {name}; create it, for example with: CREATE DATABASE {name} TEMPLATE another"
        )));
        return Ok(found);
    }
    if column(2) != "t" {
        found.push(Lack(format!(
            "the right of {account} to copy {name}; as its owner or superuser: ALTER DATABASE {name} WITH IS_TEMPLATE true"
        )));
    }
    if column(4) != "0" {
        found.push(Warning(format!(
            "{} sessions are in the template {name}, and while they are it cannot be copied; close them, and keep others out: \
             ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false",
            column(4)
        )));
    } else if column(3) == "t" {
        found.push(Warning(format!(
            "the template {name} takes connections, and while somebody is in it, it cannot be copied; as its owner or superuser: \
             ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false"
        )));
    }
    if found.is_empty() {
        found.push(Good(format!("{account} may copy {name}, and nobody is in it")));
    }
    Ok(found)
}

/// Checks that the profile's role exists and can be granted to grants' roles.
async fn holder(
    session: &OpenConnection,
    role: &RoleName,
    account: &str,
    target: &str,
) -> Result<Option<TargetFinding>, RoleFault> {
    let rows = session
        .run(&format!(
            "SELECT rolcanlogin, current_setting('server_version_num')::int < 160000 \
             OR pg_has_role(current_user, oid, 'MEMBER WITH ADMIN OPTION') FROM pg_roles WHERE rolname = {}",
            quoted_text(role.as_str())
        ))
        .await?;
    let Some(row) = rows.first() else {
        return Ok(Some(Lack(format!(
            "the role {role} of the profile; create it with: tidegate target apply {target}"
        ))));
    };
    let shown = role.quoted();
    if row.get(1) != Some("t") {
        return Ok(Some(Lack(format!(
            "the account's right to grant {shown}; as superuser: GRANT {shown} TO {account} WITH ADMIN OPTION"
        ))));
    }
    let login = row.get(0) == Some("t");
    Ok(login.then(|| {
        Warning(format!(
            "{shown} can log in without the gate; as superuser: ALTER ROLE {shown} NOLOGIN"
        ))
    }))
}

/// Reports things a session could leave behind that go on without it.
async fn afterlife(session: &OpenConnection) -> Result<Vec<TargetFinding>, RoleFault> {
    let rows = session
        .run(
            "SELECT current_setting('max_prepared_transactions')::int > 0, \
             (SELECT string_agg(extname, ', ') FROM pg_extension WHERE extname IN ('pg_cron', 'pg_background', 'dblink', 'postgres_fdw', 'plpython3u', 'plperlu'))",
        )
        .await?;
    let mut found = Vec::new();
    let row = rows.first();
    if row.and_then(|row| row.get(0)) == Some("t") {
        found.push(Warning(
            "max_prepared_transactions is not 0: prepared transactions and their locks outlive a session".to_owned(),
        ));
    }
    if let Some(extensions) = row.and_then(|row| row.get(1)) {
        found.push(Warning(format!(
            "installed extensions let a session act elsewhere or later: {extensions}; grant their functions to no profile"
        )));
    }
    Ok(found)
}

/// Reports rules of the server that let a grant's role in from other addresses than the gate's: each role may set its own
/// password.
async fn doors(session: &OpenConnection, account: &str) -> TargetFinding {
    let rows = session
        .run(
            "SELECT h.line_number, concat_ws(' ', h.type, array_to_string(h.database, ','), array_to_string(h.user_name, ','), \
                 h.address, h.auth_method) \
             FROM pg_hba_file_rules h \
             WHERE h.error IS NULL AND h.auth_method <> 'reject' \
               AND (h.type <> 'local' OR h.auth_method IN ('trust', 'md5', 'password', 'scram-sha-256')) \
               AND (h.database && ARRAY['all', current_database()::text]) AND ('all' = ANY (h.user_name) OR h.user_name::text LIKE '%/%') \
               AND (h.type = 'local' OR inet_client_addr() IS NULL OR coalesce(h.address, '') <> host(inet_client_addr()) \
                    OR h.netmask IS DISTINCT FROM CASE family(inet_client_addr()) WHEN 4 THEN '255.255.255.255' \
                       ELSE 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff' END) \
             ORDER BY 1",
        )
        .await;
    match rows {
        Err(fault) if fault.code() == "42501" => Warning(format!(
            "cannot check whether pg_hba.conf admits grants' roles from other hosts; as superuser: \
             GRANT SELECT ON pg_hba_file_rules TO {account}; GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO {account}"
        )),
        Err(fault) => Warning(format!(
            "cannot check whether pg_hba.conf admits grants' roles from other hosts: {fault}"
        )),
        Ok(rows) if rows.is_empty() => Good("pg_hba.conf admits grants' roles only from this machine".to_owned()),
        Ok(rows) => {
            let line = |row: &tokio_postgres::SimpleQueryRow| {
                format!("line {} ({})", row.get(0).unwrap_or("?"), row.get(1).unwrap_or("?"))
            };
            let rules: Vec<String> = rows.iter().take(5).map(line).collect();
            Warning(format!(
                "pg_hba.conf admits all roles from other hosts, so also a grant's role once its session has set a password: {}; \
                 admit these roles only from the gate's address",
                rules.join("; ")
            ))
        }
    }
}

/// Returns the powers that an account of sessions must not have; `whose` describes the account.
async fn powers(session: &OpenConnection, account: &str, whose: &str) -> Result<Vec<TargetFinding>, RoleFault> {
    let rows = session.run(&POWERS.replace("$role", &quoted_text(account))).await?;
    let mut found = Vec::new();
    for row in rows {
        let is = |column| row.get(column) == Some("t");
        let (role, own, first) = (row.get(0).unwrap_or_default(), is(1), is(2));
        let shown = quoted(account);
        let name = if own {
            format!("{whose} {shown}")
        } else {
            format!("{whose} {shown} may take the role {}, which", quoted(role))
        };
        // Remove the attribute from the account itself, or the membership that leads to it.
        let mend = |attribute: &str| match row.get(6) {
            None => format!("ALTER ROLE {shown} {attribute}"),
            Some(through) => format!("REVOKE {} FROM {shown}", quoted(through)),
        };
        let mut refuse = |what: &str, mend: String| found.push(Refused(format!("{name} {what}; as superuser: {mend}")));
        if is(3) {
            let what = "is a superuser: rights and row security do not apply to it, and it can run programs on the server (COPY ... FROM PROGRAM)";
            if own && first {
                let other = "CREATE ROLE another LOGIN PASSWORD '...', and configure that role: the server's first superuser cannot lose this";
                refuse(what, other.to_owned());
            } else {
                refuse(what, mend("NOSUPERUSER"));
            }
            continue;
        }
        if is(4) {
            refuse(
                "has CREATEROLE: its sessions can create accounts that outlive every grant",
                mend("NOCREATEROLE"),
            );
        }
        if is(5) {
            refuse(
                "has BYPASSRLS: row security does not apply to its sessions",
                mend("NOBYPASSRLS"),
            );
        }
        if let Some((_, what)) = PREDEFINED.iter().find(|(name, _)| *name == role) {
            let through = row.get(6).unwrap_or(role);
            found.push(Refused(format!(
                "{whose} {shown} is a member of {role}, so each of its sessions {what}; as superuser: REVOKE {} FROM {shown}",
                quoted(through)
            )));
        }
    }
    Ok(found)
}

/// Reports the setting that ends a backend when the gate's machine disappears while the backend sends. Keepalives do not run
/// then (RFC 1122, section 4.2.3.6), and `client_connection_check_interval` detects only connections that were closed.
async fn lost_host(session: &OpenConnection) -> Result<TargetFinding, RoleFault> {
    let names = [
        "tcp_user_timeout",
        "tcp_keepalives_idle",
        "tcp_keepalives_interval",
        "tcp_keepalives_count",
    ];
    let columns = names.map(|name| format!("coalesce((SELECT reset_val FROM pg_settings WHERE name = '{name}'), 'unknown')"));
    let rows = session.run(&format!("SELECT {}", columns.join(", "))).await?;
    let value = |at| rows.first().and_then(|row| row.get(at)).unwrap_or("unknown");
    let keepalives = format!(
        "tcp_keepalives_idle {}, tcp_keepalives_interval {}, tcp_keepalives_count {} there; the gate asks for 30 s, 10 s, 3",
        value(1),
        value(2),
        value(3)
    );
    Ok(match value(0) {
        timeout @ ("0" | "unknown") => Warning(format!(
            "tcp_user_timeout is {timeout}: if the gate's machine fails while a result is being sent, its backends live until the \
             server's system gives up (15 minutes on Linux); as superuser: ALTER SYSTEM SET tcp_user_timeout = '60s' ({keepalives})"
        )),
        timeout => Good(format!(
            "if the gate's machine fails while a result is being sent, its backends end after tcp_user_timeout, {timeout} ms ({keepalives})"
        )),
    })
}
