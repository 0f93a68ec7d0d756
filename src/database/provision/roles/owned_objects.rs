//! Handing over and undoing of what a role leaves behind: objects it owned, rights it was given, transactions it prepared.
//!
//! It ends no session. INVARIANT: only what roles of this gate and this target gave or prepared is undone. What others gave stays
//! (`DROP OWNED` is RESTRICT), and the role with it, but it cannot log in.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::de::DeserializeOwned;
use tokio_postgres::SimpleQueryRow;

use super::connection::OpenConnection;
use super::{GrantRolesInner, RoleFault};
use crate::database::provision::profiles::catalogue;
use crate::database::rights::{ForeignTrigger, GivenAway, OwnDefaults, RoleName, as_member, quoted, quoted_text};

/// Application name in the server's `pg_stat_activity`.
const NAME: &str = "tidegate (ends roles)";
/// `invalid_catalog_name`.
const NO_DATABASE: &str = "3D000";

/// Grantors of rights to the role in this database, with the object. Only the grantor can revoke a privilege
/// (`select_best_grantor`, src/backend/utils/adt/acl.c: `DROP OWNED` only warns), and only the table's owner can drop a role from
/// a policy.
const GIFTS: &str = "
    SELECT DISTINCT g.rolname, shobj_description(g.oid, 'pg_authid'), pg_has_role(current_user, g.oid, 'USAGE'), t.thing
    FROM (
        SELECT a.grantor AS giver, o.kind || ' ' || i.identity AS thing
        FROM pg_shdepend d
        CROSS JOIN LATERAL (
            SELECT 'TABLE' AS kind, relacl AS acl FROM pg_class WHERE d.classid = 'pg_class'::regclass AND oid = d.objid
            UNION ALL SELECT 'TABLE', attacl FROM pg_attribute WHERE d.classid = 'pg_class'::regclass AND attrelid = d.objid
            UNION ALL SELECT 'ROUTINE', proacl FROM pg_proc WHERE d.classid = 'pg_proc'::regclass AND oid = d.objid
            UNION ALL SELECT 'TYPE', typacl FROM pg_type WHERE d.classid = 'pg_type'::regclass AND oid = d.objid
            UNION ALL SELECT 'SCHEMA', nspacl FROM pg_namespace WHERE d.classid = 'pg_namespace'::regclass AND oid = d.objid
            UNION ALL SELECT 'LARGE OBJECT', lomacl FROM pg_largeobject_metadata
                WHERE d.classid = 'pg_largeobject'::regclass AND oid = d.objid) AS o
        CROSS JOIN LATERAL aclexplode(o.acl) AS a
        CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) AS i
        WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = $role AND d.deptype = 'a' AND a.grantee = d.refobjid
          AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        UNION ALL
        SELECT c.relowner, NULL
        FROM pg_shdepend d JOIN pg_policy p ON p.oid = d.objid JOIN pg_class c ON c.oid = p.polrelid
        WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = $role AND d.classid = 'pg_policy'::regclass
          AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    ) AS t JOIN pg_roles g ON g.oid = t.giver";

/// Other databases with objects of the role.
const ELSEWHERE: &str = "
    SELECT DISTINCT b.datname FROM pg_shdepend d JOIN pg_database b ON b.oid = d.dbid
    WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = $role AND b.datname <> current_database()";

/// Prepared transactions of the role itself, and of any role (a session may have prepared in its profile's) that lock its row or
/// its name. Locks of a prepared transaction belong to no process; they are found by its transaction id.
const PREPARED: &str = "
    SELECT o.rolname, shobj_description(o.oid, 'pg_authid'), pg_has_role(current_user, o.oid, 'USAGE'), p.gid, p.database
    FROM pg_prepared_xacts p JOIN pg_roles o ON o.rolname = p.owner
    WHERE o.oid = $role OR EXISTS (
        SELECT FROM pg_locks x JOIN pg_locks l USING (virtualtransaction)
        WHERE x.pid IS NULL AND x.locktype = 'transactionid' AND x.transactionid = p.transaction AND l.pid IS NULL
          AND (l.relation = 'pg_authid'::regclass AND l.mode = 'RowExclusiveLock'
               OR l.classid = 'pg_authid'::regclass AND l.objid = $role))";

/// Prepared transactions in one database.
const PREPARED_IN: &str = "
    SELECT o.rolname, shobj_description(o.oid, 'pg_authid'), pg_has_role(current_user, o.oid, 'USAGE'), p.gid, p.database
    FROM pg_prepared_xacts p JOIN pg_roles o ON o.rolname = p.owner WHERE p.database = $database";

/// Facts about a role that is to be dropped.
pub(super) struct RoleAtEnd {
    pub(super) oid: String,
    pub(super) can_login: bool,
    pub(super) backends: bool,
    /// True if the server has prepared transactions; they outlive their session and keep its locks.
    pub(super) prepared: bool,
    pub(super) comment: String,
    pub(super) member_of: Vec<RelatedRole>,
}

/// Role that is related to the one to be dropped.
pub(super) struct RelatedRole {
    pub(super) name: String,
    /// Comment on the role.
    pub(super) comment: String,
    /// True if the account has its rights.
    inherited: bool,
}

impl RelatedRole {
    /// Reads its name, the comment on it and its inheritance, from the column `first` on.
    pub(super) fn read(row: &SimpleQueryRow, first: usize) -> Option<Self> {
        Some(Self {
            name: row.get(first)?.to_owned(),
            comment: row.get(first + 1).unwrap_or_default().to_owned(),
            inherited: row.get(first + 2) == Some("t"),
        })
    }
}

impl GrantRolesInner {
    /// Rolls back prepared transactions that hold the role. Only the role that prepared one may do it, in the same database and
    /// outside a transaction block, so the account becomes that role on a separate connection.
    pub(super) async fn roll_back_prepared(&self, oid: &str) -> Result<(), RoleFault> {
        self.roll_back(&PREPARED.replace("$role", oid)).await
    }

    /// Rolls back prepared transactions in a grant's own database, which could not be dropped with them.
    pub(super) async fn roll_back_prepared_in(&self, database: &str) -> Result<(), RoleFault> {
        self.roll_back(&PREPARED_IN.replace("$database", &quoted_text(database)))
            .await
    }

    /// Rolls back the prepared transactions that a query returns.
    async fn roll_back(&self, prepared: &str) -> Result<(), RoleFault> {
        let place = self.place();
        let _turn = self.legacies.lock().await;
        for row in self.ask(prepared).await? {
            let (Some(owner), Some(gid), Some(database)) = (RelatedRole::read(&row, 0), row.get(3), row.get(4)) else {
                continue;
            };
            if !self.knows(&owner) {
                continue;
            }
            tracing::warn!(
                owner = owner.name,
                gid,
                "rolling back a prepared transaction that blocks the role of an ended grant"
            );
            let session = OpenConnection::open_in(&place.target, database, NAME, &self.clock).await?;
            let (join, leave) = membership([&owner]);
            session.run(&format!("{join}SET ROLE {}", quoted(&owner.name))).await?;
            let done = session.run(&format!("ROLLBACK PREPARED {}", quoted_text(gid))).await;
            session.run(&format!("RESET ROLE; {leave}")).await?;
            done?;
        }
        Ok(())
    }

    /// Hands the role's objects in all databases to its profile, or drops them if the profile is gone; revokes what it was given;
    /// then drops it.
    pub(super) async fn hand_over(&self, role: &RoleName, found: &RoleAtEnd) -> Result<(), RoleFault> {
        let place = self.place();
        let _turn = self.legacies.lock().await;
        // This may take long, so it does not block the connection that other roles are dropped on.
        let session = OpenConnection::open_kept(&place.target, NAME, &self.clock).await?;
        for row in session.run(&ELSEWHERE.replace("$role", &found.oid)).await? {
            let there = OpenConnection::open_in(&place.target, row.get(0).unwrap_or_default(), NAME, &self.clock).await?;
            there.run(&self.freeing(&there, role, found).await?).await?;
        }
        let free = self.freeing(&session, role, found).await?;
        session.run(&format!("{free}DROP ROLE {}", role.quoted())).await.map(drop)
    }

    /// Undoes what sessions of the role's profiles did for others: default privileges, rights given away, triggers on tables of
    /// others. A failure does not stop the rest.
    pub(super) async fn undo_gifts(&self, found: &RoleAtEnd) -> UndoneGifts {
        let mut undone = UndoneGifts::default();
        for holder in found.member_of.iter().filter(|holder| self.is_profile(holder)) {
            if let Err(fault) = self.undo_gifts_of(holder, &mut undone).await {
                undone.fault.get_or_insert(fault);
            }
        }
        undone
    }

    async fn undo_gifts_of(&self, holder: &RelatedRole, undone: &mut UndoneGifts) -> Result<(), RoleFault> {
        let place = self.place();
        let _turn = self.legacies.lock().await;
        let session = match OpenConnection::open_in(&place.target, &place.target.database, NAME, &self.clock).await {
            // The database was dropped, with all that was given in it.
            Err(fault) if fault.code() == NO_DATABASE => return Ok(()),
            opened => opened?,
        };
        for GiftStatements {
            sql,
            as_holder,
            otherwise,
        } in gifts_of(&session, &holder.name).await?
        {
            for (sql, as_holder) in [(sql, as_holder)].into_iter().chain(otherwise.map(|sql| (sql, true))) {
                let statements = if as_holder && !holder.inherited {
                    as_member(&holder.name, &sql)
                } else {
                    sql.clone()
                };
                match session.run(&statements).await {
                    Ok(_) => {
                        undone.statements.push(sql);
                        break;
                    }
                    Err(fault) => {
                        undone.fault.get_or_insert(fault);
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the SQL that frees the role in one database. To hand objects over, the account has to be a member of the profile's
    /// role, and to revoke rights a member of the grantor's; it becomes one for the duration.
    async fn freeing(&self, session: &OpenConnection, role: &RoleName, found: &RoleAtEnd) -> Result<String, RoleFault> {
        let (mut joined, mut taken) = (Vec::new(), String::new());
        let role = role.quoted();
        for row in session.run(&GIFTS.replace("$role", &found.oid)).await? {
            let Some(giver) = RelatedRole::read(&row, 0).filter(|giver| self.knows(giver)) else {
                continue;
            };
            if let Some(thing) = row.get(3) {
                let giver = quoted(&giver.name);
                // Writing to a String cannot fail.
                let _ = write!(
                    taken,
                    "SET LOCAL ROLE {giver}; REVOKE ALL ON {thing} FROM {role} CASCADE; SET LOCAL ROLE NONE; "
                );
            }
            joined.push(giver);
        }
        // Without its profile the role's objects are dropped: functions and views owned by the account would run with the
        // account's rights.
        let heir = found.member_of.iter().find(|holder| self.is_profile(holder));
        let (join, leave) = membership(joined.iter().chain(heir));
        let reassign = heir.map(|heir| format!("REASSIGN OWNED BY {role} TO {}; ", quoted(&heir.name)));
        let reassign = reassign.unwrap_or_default();
        Ok(format!("{join}{taken}{reassign}DROP OWNED BY {role}; {leave}"))
    }
}

/// Result of undoing what sessions gave to others.
#[derive(Default)]
pub(super) struct UndoneGifts {
    /// Statements that were run.
    pub(super) statements: Vec<String>,
    /// First error, if not all could be undone.
    pub(super) fault: Option<RoleFault>,
}

/// Statements that undo something, in one transaction.
struct GiftStatements {
    sql: String,
    /// True if only the profile's role may run them.
    as_holder: bool,
    /// Temporary remedy, run as the profile's role if they fail.
    otherwise: Option<String>,
}

/// Returns the statements that undo default privileges of a profile's role, rights it gave to others, and triggers it has run by
/// others, in the session's database. Each trigger is a transaction of its own: dropping it takes a lock on the table, which
/// others may hold for long. Triggers come first: a trigger that loses a right it uses would make the writes on its table fail.
async fn gifts_of(session: &OpenConnection, holder: &str) -> Result<Vec<GiftStatements>, RoleFault> {
    let defaults: Vec<OwnDefaults> = rows(session, catalogue::OWN_DEFAULTS, holder).await?;
    let given: Vec<GivenAway> = rows(session, &catalogue::given_away(), holder).await?;
    let triggers: Vec<ForeignTrigger> = rows(session, &catalogue::foreign_triggers(), holder).await?;
    let triggers = triggers.into_iter();
    let triggers = triggers.filter(|trigger| trigger.maker == holder && !trigger.is_the_table_owners());
    let mut undo: Vec<GiftStatements> = triggers
        .map(|trigger| GiftStatements {
            sql: trigger.undo(),
            as_holder: !trigger.as_table_owner,
            otherwise: trigger.quiet(),
        })
        .collect();
    let defaults = defaults.iter().filter(|own| !own.is_ours).map(OwnDefaults::undo);
    // Objects of another grant's role are handled when that grant ends.
    let given = given.iter().filter(|given| given.maker == holder).map(GivenAway::undo);
    let statements: Vec<String> = defaults.chain(given).collect();
    if !statements.is_empty() {
        undo.push(GiftStatements {
            sql: statements.join("; "),
            as_holder: true,
            otherwise: None,
        });
    }
    Ok(undo)
}

/// Runs a query about what a role owns, and parses its rows.
async fn rows<T: DeserializeOwned>(session: &OpenConnection, query: &str, role: &str) -> Result<Vec<T>, RoleFault> {
    let roles = format!("ARRAY[{}]::text[]", quoted_text(role));
    let rows = session.run(&query.replace("$1", &roles)).await?;
    let texts = rows.iter().filter_map(|row| row.get(0));
    let read = texts.map(serde_json::from_str).collect::<Result<_, _>>();
    read.map_err(|error| RoleFault::Unreachable(format!("cannot read its catalogue: {error}")))
}

/// Returns the statements by which the account becomes a member of the roles whose rights it lacks, and leaves them again.
fn membership<'a>(roles: impl IntoIterator<Item = &'a RelatedRole>) -> (String, String) {
    let roles = roles.into_iter().filter(|role| !role.inherited);
    let roles: BTreeSet<String> = roles.map(|role| quoted(&role.name)).collect();
    if roles.is_empty() {
        return (String::new(), String::new());
    }
    let roles = roles.into_iter().collect::<Vec<_>>().join(", ");
    (
        format!("GRANT {roles} TO CURRENT_USER; "),
        format!("REVOKE {roles} FROM CURRENT_USER GRANTED BY CURRENT_USER; "),
    )
}
