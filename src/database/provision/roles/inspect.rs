//! Checks of a target's accounts and settings: missing rights, excessive rights, and server settings that let sessions act past
//! the gate.
//!
//! It changes nothing. A fact that the account may not see is reported as unknown, never as good.

use std::sync::Arc;

use super::connection::OpenConnection;
use super::finding::TargetFinding;
use super::lost_host::lost_host;
use super::powers;
use super::{RoleFault, RoleProfile};
use crate::base::clock::Clock;
use crate::database::rights::{RoleName, profile_role, quoted, quoted_text};
use crate::database::upstream::Target;

/// Application name in the server's `pg_stat_activity`.
const NAME: &str = "tidegate (checks)";

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
        found.extend(holder(&session, &role, &user, target.name.as_str()).await?);
        found.extend(powers::refused(&session, role.as_str(), "the role of a profile").await?);
    }
    found.extend(afterlife(&session).await?);
    found.push(doors(&session, &user).await);
    found.push(lost_host(&session).await?);
    found.extend(maintenance(target, clock).await);
    Ok(found)
}

/// Checks the account that all sessions share, and the one that ends them.
pub async fn inspect_shared(target: &Arc<Target>, clock: &Clock) -> Result<Vec<TargetFinding>, RoleFault> {
    let session = OpenConnection::open_in(target, &target.database, NAME, clock).await?;
    let user = target.account.user.as_str();
    let mut found = Vec::new();
    if target.admin.is_some() {
        if let Err(fault) = OpenConnection::try_login(target, &target.account, NAME).await {
            found.push(TargetFinding::Lack(format!(
                "a working login as {}, the account of the sessions: {fault}",
                quoted(user)
            )));
        }
        found.extend(admin(&session, user).await?);
    }
    found.extend(powers::refused(&session, user, "the account of all sessions").await?);
    found.extend(afterlife(&session).await?);
    found.push(lost_host(&session).await?);
    found.extend(maintenance(target, clock).await);
    Ok(found)
}

/// Reports a maintenance database that refuses the gate.
async fn maintenance(target: &Arc<Target>, clock: &Clock) -> Option<TargetFinding> {
    let name = &target.maintenance_database;
    let fault = OpenConnection::open_in(target, name, NAME, clock).await.err()?;
    Some(TargetFinding::Warning(format!(
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
        let text = format!("the account {name} of the sessions; as superuser: CREATE ROLE {name} LOGIN PASSWORD '...'");
        return Ok(vec![TargetFinding::Lack(text)]);
    };
    let is = |column| row.get(column) == Some("t");
    let name = quoted(row.get(0).unwrap_or_default());
    if is(1) {
        return Ok(vec![superuser(&name)]);
    }
    let mut found = Vec::new();
    if !is(2) {
        let text = format!(
            "the right of {name} to end sessions of {}; as superuser: GRANT pg_signal_backend TO {name}",
            quoted(user)
        );
        found.push(TargetFinding::Lack(text));
    }
    if !is(3) {
        let text = format!(
            "the right of {name} to see the start of a backend, without which a reused process id could end another backend; as superuser: GRANT pg_read_all_stats TO {name}"
        );
        found.push(TargetFinding::Lack(text));
    }
    if is(4) {
        let text = format!(
            "{0} is a member of {name}, so every session can end the gate's connection; as superuser: REVOKE {name} FROM {0}",
            quoted(user)
        );
        found.push(TargetFinding::Refused(text));
    }
    if found.is_empty() {
        found.push(TargetFinding::Good(format!(
            "{name} ends the sessions of {}, and they cannot end its own",
            quoted(user)
        )));
    }
    Ok(found)
}

fn superuser(name: &str) -> TargetFinding {
    TargetFinding::Refused(format!(
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
    let mut found = vec![if column(1) == "t" {
        TargetFinding::Good(format!("PostgreSQL {version}: `{name}` may create roles"))
    } else {
        TargetFinding::Lack(format!(
            "the right of `{name}` to create roles; as superuser: ALTER ROLE {} CREATEROLE",
            quoted(name)
        ))
    }];
    if column(2) == "t" {
        found.push(superuser(&quoted(name)));
    } else if column(3) != "t" {
        let text = format!(
            "the right of `{name}` to end other roles' backends; as superuser: GRANT pg_signal_backend TO {}",
            quoted(name)
        );
        found.push(TargetFinding::Lack(text));
    }
    if column(6) == "on" {
        let text = "a writable server; this one is read-only (a standby, or default_transaction_read_only is on), so no role can be created; \
                    set the primary server as the target's address";
        found.push(TargetFinding::Lack(text.to_owned()));
    }
    if column(5) != "t" {
        let text = format!(
            "INHERIT for `{name}`, without which it cannot clean up after grants; as superuser: ALTER ROLE {} INHERIT",
            quoted(name)
        );
        found.push(TargetFinding::Lack(text));
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
        let text = format!("the role {role} of the profile; create it with: tidegate target apply {target}");
        return Ok(Some(TargetFinding::Lack(text)));
    };
    if row.get(1) != Some("t") {
        let text = format!(
            "the account's right to grant {0}; as superuser: GRANT {0} TO {account} WITH ADMIN OPTION",
            role.quoted()
        );
        return Ok(Some(TargetFinding::Lack(text)));
    }
    let login = row.get(0) == Some("t");
    Ok(login.then(|| {
        TargetFinding::Warning(format!(
            "{} can log in without the gate; as superuser: ALTER ROLE {} NOLOGIN",
            role.quoted(),
            role.quoted()
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
        found.push(TargetFinding::Warning(
            "max_prepared_transactions is not 0: prepared transactions and their locks outlive a session".to_owned(),
        ));
    }
    if let Some(extensions) = row.and_then(|row| row.get(1)) {
        found.push(TargetFinding::Warning(format!(
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
        Err(fault) if fault.code() == "42501" => TargetFinding::Warning(format!(
            "cannot check whether pg_hba.conf admits grants' roles from other hosts; as superuser: \
             GRANT SELECT ON pg_hba_file_rules TO {account}; GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO {account}"
        )),
        Err(fault) => TargetFinding::Warning(format!(
            "cannot check whether pg_hba.conf admits grants' roles from other hosts: {fault}"
        )),
        Ok(rows) if rows.is_empty() => TargetFinding::Good("pg_hba.conf admits grants' roles only from this machine".to_owned()),
        Ok(rows) => {
            let line = |row: &tokio_postgres::SimpleQueryRow| {
                format!("line {} ({})", row.get(0).unwrap_or("?"), row.get(1).unwrap_or("?"))
            };
            let rules: Vec<String> = rows.iter().take(5).map(line).collect();
            TargetFinding::Warning(format!(
                "pg_hba.conf admits all roles from other hosts, so also a grant's role once its session has set a password: {}; \
                 admit these roles only from the gate's address",
                rules.join("; ")
            ))
        }
    }
}
