//! Attributes and memberships that give an account more than its profile defines, and that no account of sessions may have.
//!
//! It changes nothing. INVARIANT: each refusal names the power, its use, and the SQL that removes it.

use super::RoleFault;
use super::connection::OpenConnection;
use super::finding::TargetFinding;
use crate::database::rights::{quoted, quoted_text};

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

/// Returns the powers that an account of sessions must not have; `whose` describes the account.
pub(super) async fn refused(session: &OpenConnection, account: &str, whose: &str) -> Result<Vec<TargetFinding>, RoleFault> {
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
        let mut refuse =
            |what: &str, mend: String| found.push(TargetFinding::Refused(format!("{name} {what}; as superuser: {mend}")));
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
            found.push(TargetFinding::Refused(format!(
                "{whose} {shown} is a member of {role}, so each of its sessions {what}; as superuser: REVOKE {} FROM {shown}",
                quoted(through)
            )));
        }
    }
    Ok(found)
}
