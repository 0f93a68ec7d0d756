//! What a target's account lacks for a role per grant, and what the server would let happen past the gate.
//!
//! It changes nothing. What the account may not see is said to be unseen, never taken for good.

use std::sync::Arc;

use super::line::{Line, Session};
use super::{Fault, Profile};
use crate::clock::Clock;
use crate::rights::{RoleName, profile_role, quoted_text};
use crate::upstream::Target;

/// What was found at a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It is as it has to be.
    Good(String),
    /// It works, but something is open that could be closed, or could not be looked at.
    Warning(String),
    /// Without it no role can be made or ended.
    Lack(String),
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Good(text) => f.write_str(text),
            Self::Warning(text) => write!(f, "warning: {text}"),
            Self::Lack(text) => write!(f, "missing: {text}"),
        }
    }
}

/// Looks at what a role for each of its grants needs there.
pub async fn inspect(target: &Arc<Target>, profiles: &[Profile], clock: &Clock) -> Result<Vec<Finding>, Fault> {
    let line = Line::new("tidegate (checks)");
    let session = line.session(target, clock).await?;
    let mut found = account(&session).await?;
    for profile in profiles {
        found.extend(holder(&session, &profile_role(&target.name, &profile.name), &target.name.to_string()).await?);
    }
    found.extend(afterlife(&session).await?);
    found.push(doors(&session).await);
    Ok(found)
}

/// Whether the account may make roles and end backends, and no more.
async fn account(session: &Session) -> Result<Vec<Finding>, Fault> {
    let rows = session
        .run(
            "SELECT rolname, rolcreaterole OR rolsuper, rolsuper, pg_has_role(oid, 'pg_signal_backend', 'USAGE'), \
             current_setting('server_version'), rolinherit, current_setting('transaction_read_only') FROM pg_roles WHERE rolname = current_user",
        )
        .await?;
    let column = |at| rows.first().and_then(|row| row.get(at)).unwrap_or_default();
    let (name, version) = (column(0), column(4));
    let mut found = vec![if column(1) == "t" {
        Finding::Good(format!("PostgreSQL {version}: `{name}` may make roles"))
    } else {
        Finding::Lack(format!(
            "`{name}` may not make roles; as superuser: ALTER ROLE {name} CREATEROLE"
        ))
    }];
    if column(2) == "t" {
        let text = format!("`{name}` is a superuser; CREATEROLE and pg_signal_backend are all it needs");
        found.push(Finding::Warning(text));
    } else if column(3) != "t" {
        let text = format!("`{name}` may not end other roles' backends; as superuser: GRANT pg_signal_backend TO {name}");
        found.push(Finding::Lack(text));
    }
    if column(6) == "on" {
        let text = "its server is read-only (a standby, or by default_transaction_read_only), so no role can be made there; \
                    the target has to lead to the primary";
        found.push(Finding::Lack(text.to_owned()));
    }
    if column(5) != "t" {
        let text = format!(
            "`{name}` does not inherit, so it cannot see to what grants' roles leave; as superuser: ALTER ROLE {name} INHERIT"
        );
        found.push(Finding::Lack(text));
    }
    Ok(found)
}

/// Whether the profile's role is there and can be given to grants.
async fn holder(session: &Session, role: &RoleName, target: &str) -> Result<Option<Finding>, Fault> {
    let rows = session
        .run(&format!(
            "SELECT rolcanlogin, current_setting('server_version_num')::int < 160000 \
             OR pg_has_role(current_user, oid, 'MEMBER WITH ADMIN OPTION') FROM pg_roles WHERE rolname = {}",
            quoted_text(role.as_str())
        ))
        .await?;
    let Some(row) = rows.first() else {
        let text = format!("there is no role {role} for the profile; make it with: tidegate target apply {target}");
        return Ok(Some(Finding::Lack(text)));
    };
    if row.get(1) != Some("t") {
        let text = format!(
            "the account may not give {} to grants; as superuser: GRANT {} TO the account WITH ADMIN OPTION",
            role.quoted(),
            role.quoted()
        );
        return Ok(Some(Finding::Lack(text)));
    }
    let login = row.get(0) == Some("t");
    Ok(login.then(|| {
        Finding::Warning(format!(
            "{} can log in by itself; ALTER ROLE {} NOLOGIN",
            role.quoted(),
            role.quoted()
        ))
    }))
}

/// What a session could leave behind that goes on without it.
async fn afterlife(session: &Session) -> Result<Vec<Finding>, Fault> {
    let rows = session
        .run(
            "SELECT current_setting('max_prepared_transactions')::int > 0, \
             (SELECT string_agg(extname, ', ') FROM pg_extension WHERE extname IN ('pg_cron', 'pg_background', 'dblink', 'postgres_fdw', 'plpython3u', 'plperlu'))",
        )
        .await?;
    let mut found = Vec::new();
    let row = rows.first();
    if row.and_then(|row| row.get(0)) == Some("t") {
        found.push(Finding::Warning(
            "max_prepared_transactions is not 0: a prepared transaction outlives its session, and its locks with it".to_owned(),
        ));
    }
    if let Some(extensions) = row.and_then(|row| row.get(1)) {
        found.push(Finding::Warning(format!(
            "extensions by which a session can act elsewhere or later are installed: {extensions}; give their functions to no profile"
        )));
    }
    Ok(found)
}

/// Whether the server would let a grant's role in from elsewhere than here: each role may set its own password.
async fn doors(session: &Session) -> Finding {
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
        Err(fault) if fault.code() == "42501" => Finding::Warning(
            "whether the server lets grants' roles in from elsewhere cannot be seen; as superuser: \
             GRANT SELECT ON pg_hba_file_rules TO the account, GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO the account"
                .to_owned(),
        ),
        Err(fault) => Finding::Warning(format!(
            "whether the server lets grants' roles in from elsewhere cannot be seen: {fault}"
        )),
        Ok(rows) if rows.is_empty() => {
            Finding::Good("no rule of pg_hba.conf lets any role in from elsewhere than here".to_owned())
        }
        Ok(rows) => {
            let line = |row: &tokio_postgres::SimpleQueryRow| {
                format!("line {} ({})", row.get(0).unwrap_or("?"), row.get(1).unwrap_or("?"))
            };
            let rules: Vec<String> = rows.iter().take(5).map(line).collect();
            Finding::Warning(format!(
                "pg_hba.conf lets any role in from elsewhere than the gate, a grant's too once its holder has set a password: {}; \
                 let these roles in from the gate's address only",
                rules.join("; ")
            ))
        }
    }
}
