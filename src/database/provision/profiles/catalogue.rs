//! Queries that read the part of a database's catalogue that rights are about; those for objects that the roles of profiles
//! own, gave rights on, or have run by others serve the end of grants, too.
//!
//! It decides nothing. INVARIANT: each row is one JSON text and one value; an object that vanishes during the read is absent.
//! `$1` are the names of the roles. Objects that a session owns as its grant's role count as the profile's: the profile
//! inherits them at the end of the grant.

use serde::de::DeserializeOwned;
use tokio_postgres::Client;

use super::ProfilesError;
use crate::database::rights::catalogue::{CatalogObject, CatalogSnapshot, DefaultRight, ExistingRole, ServerAccount};
use crate::database::rights::{QUIET, quoted_text};

/// Reads the catalogue for roles of these names that this account grants, and for the owners of objects created under them.
pub(super) async fn read(
    client: &Client,
    roles: &[String],
    owners: &[&str],
    account: &str,
) -> Result<CatalogSnapshot, ProfilesError> {
    let version = client
        .query_one("SELECT current_setting('server_version_num')::int4", &[])
        .await?;
    let version: i32 = version.try_get(0)?;
    let mut objects: Vec<CatalogObject> = Vec::new();
    for part in [DATABASE, SCHEMAS, RELATIONS, ROUTINES] {
        objects.extend(rows(client, &format!("{GRANTEES} {part}"), &[&roles]).await?);
    }
    let parameters = if version >= 150_000 { PARAMETERS } else { "" };
    let role = ROLES.replace("ELSEWHERE", &format!("{ELSEWHERE}{parameters}"));
    Ok(CatalogSnapshot {
        version: u32::try_from(version).unwrap_or_default(),
        account: rows::<ServerAccount>(client, ACCOUNT, &[]).await?.pop().unwrap_or_default(),
        roles: rows::<ExistingRole>(client, &role, &[&roles, &account]).await?,
        gate_roles: rows::<String>(client, GATE_ROLES, &[]).await?.into_iter().collect(),
        owners: rows(client, OWNERS, &[&owners]).await?,
        objects,
        defaults: rows::<DefaultRight>(client, &format!("{GRANTEES} {DEFAULTS}"), &[&roles]).await?,
        own_defaults: rows(client, OWN_DEFAULTS, &[&roles]).await?,
        given_away: rows(client, &given_away(), &[&roles]).await?,
        foreign_triggers: rows(client, &foreign_triggers(), &[&roles]).await?,
    })
}

/// Returns a value that changes with everything that [`read`] looks at.
pub(super) async fn fingerprint(client: &Client, roles: &[String], account: &str) -> Result<String, ProfilesError> {
    let row = client.query_one(FINGERPRINT, &[&roles, &account]).await?;
    Ok(row.try_get(0)?)
}

pub(super) async fn rows<T: DeserializeOwned>(
    client: &Client,
    query: &str,
    parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<Vec<T>, ProfilesError> {
    let rows = client.query(query, parameters).await?;
    let read = |row: &tokio_postgres::Row| {
        let text: &str = row.try_get(0)?;
        serde_json::from_str(text).map_err(|error| ProfilesError::Catalogue(error.to_string()))
    };
    rows.iter().map(read).collect()
}

/// Fingerprint of the catalogue. Each of its rows has the number of the transaction that wrote it last (`xmin`), so a sum over
/// these shows a change. For roles their visible columns have to do. Changes that sessions make all the time are left out:
/// temporary tables, and the roles of grants.
const FINGERPRINT: &str = "
WITH asked AS (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = ANY ($1)),
named AS (SELECT c.oid, c.xmin FROM pg_class AS c WHERE c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')),
seen (part, item, version) AS (
    SELECT 'class', oid::text, xmin::text FROM named
    UNION ALL SELECT 'attribute', a.attrelid || '.' || a.attnum, a.xmin::text
        FROM pg_attribute AS a JOIN named AS n ON n.oid = a.attrelid WHERE a.attnum > 0
    UNION ALL SELECT 'namespace', oid::text, xmin::text FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'
    UNION ALL SELECT 'proc', oid::text, xmin::text FROM pg_proc
    UNION ALL SELECT 'default', oid::text, xmin::text FROM pg_default_acl
    UNION ALL SELECT 'inherits', i.inhrelid || '.' || i.inhparent, i.xmin::text FROM pg_inherits AS i
    UNION ALL SELECT 'rewrite', oid::text, xmin::text FROM pg_rewrite
    UNION ALL SELECT 'trigger', t.oid::text, t.xmin::text FROM pg_trigger AS t JOIN named AS n ON n.oid = t.tgrelid WHERE NOT t.tgisinternal
    UNION ALL SELECT 'policy', oid::text, xmin::text FROM pg_policy
    UNION ALL SELECT 'comment', d.objoid::text, d.xmin::text FROM pg_description AS d
        WHERE d.classoid IN ('pg_class'::regclass, 'pg_namespace'::regclass) AND d.objsubid = 0
    UNION ALL SELECT 'database', oid::text, xmin::text FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT 'role', r.oid::text, r::text || coalesce(shobj_description(r.oid, 'pg_authid'), '')
        FROM pg_roles AS r WHERE r.rolname IN (SELECT unnest($1::text[]) UNION ALL SELECT $2 UNION ALL SELECT current_user)
    UNION ALL SELECT 'left', d.objoid::text, d.xmin::text FROM pg_shdescription AS d WHERE d.description LIKE 'tidegate profile %'
    UNION ALL SELECT 'member', m.roleid || '.' || m.member, m.xmin::text FROM pg_auth_members AS m
        WHERE m.member IN (SELECT oid FROM asked UNION ALL SELECT r.oid FROM pg_roles AS r WHERE r.rolname IN ($2, current_user))
            AND m.roleid NOT IN (SELECT d.objoid FROM pg_shdescription AS d WHERE d.description LIKE 'tidegate grant %')
            OR m.roleid IN (SELECT oid FROM asked)
            AND m.member NOT IN (SELECT d.objoid FROM pg_shdescription AS d WHERE d.description LIKE 'tidegate grant %')
    UNION ALL SELECT 'depends', d.classid || '.' || d.objid || '.' || d.objsubid || '.' || d.refobjid || '.' || d.deptype::text, d.xmin::text
        FROM pg_shdepend AS d JOIN asked ON asked.oid = d.refobjid
        WHERE d.refclassid = 'pg_authid'::regclass AND d.classid <> 'pg_auth_members'::regclass)
SELECT coalesce(sum(hashtextextended(part || ' ' || item || ' ' || version, 0)), 0)::text || ' ' || count(*) FROM seen";

const OWNERS: &str = "SELECT to_jsonb(rolname)::text FROM pg_roles WHERE rolname = ANY ($1)";

const ACCOUNT: &str = "
SELECT jsonb_build_object(
    'name', r.rolname,
    'superuser', r.rolsuper,
    'create_role', r.rolcreaterole,
    'create_schema', has_database_privilege(current_database(), 'CREATE'),
    'acts_as', (
        SELECT coalesce(jsonb_agg(o.rolname), '[]') FROM pg_roles AS o
        WHERE pg_has_role(o.oid, 'USAGE') AND o.oid IN (
            SELECT relowner FROM pg_class UNION SELECT proowner FROM pg_proc
            UNION SELECT nspowner FROM pg_namespace UNION SELECT datdba FROM pg_database UNION SELECT defaclrole FROM pg_default_acl)))::text
FROM pg_roles AS r WHERE r.rolname = current_user";

/// Roles with their attributes and memberships. Before version 16, an account with CREATEROLE may also grant and revoke the
/// membership in any role that is no superuser. Since 16 each membership has a grantor, and accounts that may act as the grantor
/// can revoke it (`check_role_grantor` in commands/user.c).
const ROLES: &str = "
SELECT jsonb_build_object(
    'name', r.rolname,
    'comment', shobj_description(r.oid, 'pg_authid'),
    'powers', array_remove(ARRAY[
        CASE WHEN r.rolcanlogin THEN 'LOGIN' END, CASE WHEN r.rolsuper THEN 'SUPERUSER' END,
        CASE WHEN r.rolcreatedb THEN 'CREATEDB' END, CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END,
        CASE WHEN r.rolinherit THEN 'INHERIT' END, CASE WHEN r.rolreplication THEN 'REPLICATION' END,
        CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END], NULL),
    'member_of', (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'group', g.rolname,
            'grantor', CASE WHEN v.grantors THEN pg_get_userbyid(m.grantor) END,
            'may_leave', CASE WHEN v.grantors
                THEN pg_has_role(g.oid, 'MEMBER WITH ADMIN OPTION') AND pg_has_role(m.grantor, 'USAGE')
                ELSE pg_has_role(g.oid, 'MEMBER WITH ADMIN OPTION') OR NOT g.rolsuper
                    AND (SELECT me.rolcreaterole FROM pg_roles AS me WHERE me.rolname = current_user) END) ORDER BY g.rolname), '[]')
        FROM pg_auth_members AS m JOIN pg_roles AS g ON g.oid = m.roleid
        CROSS JOIN (SELECT current_setting('server_version_num')::int4 >= 160000 AS grantors) AS v WHERE m.member = r.oid),
    'members', (
        SELECT coalesce(jsonb_agg(DISTINCT o.rolname), '[]') FROM pg_auth_members AS m JOIN pg_roles AS o ON o.oid = m.member
        WHERE m.roleid = r.oid AND o.rolname <> $2
            AND coalesce((to_jsonb(m)->>'inherit_option')::bool OR (to_jsonb(m)->>'set_option')::bool, true)
            AND coalesce(shobj_description(o.oid, 'pg_authid') NOT LIKE 'tidegate grant %', true)),
    'elsewhere', (
        SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_object(
            'what', coalesce(o.what, pg_describe_object(d.classid, d.objid, d.objsubid)),
            'grantor', coalesce(pg_get_userbyid(a.grantor), 'somebody'),
            'may_take', coalesce(a.grantor = o.owner AND pg_has_role(o.owner, 'USAGE'), false))), '[]')
        FROM pg_shdepend AS d LEFT JOIN LATERAL (ELSEWHERE) AS o ON true
        LEFT JOIN LATERAL aclexplode(o.acl) AS a ON a.grantee = r.oid
        WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid AND d.deptype = 'a'
            AND d.dbid IN (0, (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database()))
            AND d.classid NOT IN ('pg_class'::regclass, 'pg_namespace'::regclass, 'pg_proc'::regclass,
                'pg_database'::regclass, 'pg_default_acl'::regclass, 'pg_auth_members'::regclass)),
    'is_member', pg_has_role(r.oid, 'USAGE'),
    'may_join', pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION') OR current_setting('server_version_num')::int4 < 160000
        AND (SELECT me.rolcreaterole FROM pg_roles AS me WHERE me.rolname = current_user),
    'handed_out', coalesce((
        SELECT pg_has_role(g.oid, r.oid, 'MEMBER WITH ADMIN OPTION') FROM pg_roles AS g WHERE g.rolname = $2), false))::text
FROM pg_roles AS r WHERE r.rolname = ANY ($1)";

/// Objects that carry rights and that no profile names, each as it is written in `REVOKE`. Settings belong to the first superuser
/// (`ExecGrant_Parameter` in catalog/aclchk.c).
const ELSEWHERE: &str = "
    SELECT format('TYPE %I.%I', n.nspname, t.typname) AS what, t.typowner AS owner, t.typacl AS acl
    FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
    WHERE d.classid = 'pg_type'::regclass AND t.oid = d.objid
    UNION ALL SELECT format('LANGUAGE %I', l.lanname), l.lanowner, l.lanacl FROM pg_language AS l
    WHERE d.classid = 'pg_language'::regclass AND l.oid = d.objid
    UNION ALL SELECT format('FOREIGN DATA WRAPPER %I', w.fdwname), w.fdwowner, w.fdwacl FROM pg_foreign_data_wrapper AS w
    WHERE d.classid = 'pg_foreign_data_wrapper'::regclass AND w.oid = d.objid
    UNION ALL SELECT format('FOREIGN SERVER %I', s.srvname), s.srvowner, s.srvacl FROM pg_foreign_server AS s
    WHERE d.classid = 'pg_foreign_server'::regclass AND s.oid = d.objid
    UNION ALL SELECT format('LARGE OBJECT %s', l.oid), l.lomowner, l.lomacl FROM pg_largeobject_metadata AS l
    WHERE d.classid = 'pg_largeobject'::regclass AND l.oid = d.objid
    UNION ALL SELECT format('TABLESPACE %I', s.spcname), s.spcowner, s.spcacl FROM pg_tablespace AS s
    WHERE d.classid = 'pg_tablespace'::regclass AND s.oid = d.objid";
/// Rights on settings, since version 15.
const PARAMETERS: &str = "
    UNION ALL SELECT format('PARAMETER %s', p.parname), 10::oid, p.paracl FROM pg_parameter_acl AS p
    WHERE d.classid = 'pg_parameter_acl'::regclass AND p.oid = d.objid";

/// Grantees whose rights are read: `PUBLIC` (oid 0), and the roles.
const GRANTEES: &str = "
WITH asked AS (SELECT oid, rolname::text AS name FROM pg_roles WHERE rolname = ANY ($1)),
    grantees AS (SELECT 0::oid AS oid, NULL::text AS name UNION ALL SELECT oid, name FROM asked)";

const DATABASE: &str = "
SELECT jsonb_build_object(
    'kind', 'Database', 'schema', d.datname, 'name', d.datname, 'arguments', '', 'owner', pg_get_userbyid(d.datdba),
    'may_grant', (SELECT coalesce(jsonb_agg(p), '[]') FROM unnest(ARRAY['CONNECT', 'TEMPORARY', 'CREATE']) AS p
        WHERE has_database_privilege(d.oid, p || ' WITH GRANT OPTION')),
    'held', (SELECT coalesce(jsonb_agg(jsonb_build_object('role', g.name, 'privilege', a.privilege_type,
            'grantor', pg_get_userbyid(a.grantor), 'grantable', a.is_grantable)), '[]')
        FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS a JOIN grantees AS g ON g.oid = a.grantee),
    'columns', '[]'::jsonb, 'parents', '[]'::jsonb, 'reads', '[]'::jsonb, 'nature', 'Plain')::text
FROM pg_database AS d WHERE d.datname = current_database()";

const SCHEMAS: &str = "
SELECT jsonb_build_object(
    'kind', 'Schema', 'schema', n.nspname, 'name', n.nspname, 'arguments', '', 'owner', pg_get_userbyid(n.nspowner),
    'may_grant', (SELECT coalesce(jsonb_agg(p), '[]') FROM unnest(ARRAY['USAGE', 'CREATE']) AS p
        WHERE has_schema_privilege(n.oid, p || ' WITH GRANT OPTION')),
    'held', (SELECT coalesce(jsonb_agg(jsonb_build_object('role', CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END,
            'privilege', a.privilege_type,
            'grantor', pg_get_userbyid(a.grantor), 'grantable', a.is_grantable)), '[]')
        FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a
        LEFT JOIN grantees AS g ON g.oid = a.grantee WHERE g.oid IS NOT NULL OR n.nspname = ANY ($1)),
    'columns', '[]'::jsonb, 'parents', '[]'::jsonb, 'reads', '[]'::jsonb, 'nature', 'Plain',
    'comment', obj_description(n.oid, 'pg_namespace'))::text
FROM pg_namespace AS n
WHERE (n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')
    OR EXISTS (SELECT FROM aclexplode(n.nspacl) AS a JOIN asked ON asked.oid = a.grantee)
ORDER BY n.nspname";

/// Tables, views and sequences. Rights on columns are listed with those on the whole relation; the rule of a view shows which
/// relations it reads. A relation that has vanished since the statement began has privileges of NULL.
const RELATIONS: &str = "
SELECT jsonb_build_object(
    'kind', CASE c.relkind WHEN 'S' THEN 'Sequence' ELSE 'Table' END,
    'schema', n.nspname, 'name', c.relname, 'arguments', '', 'owner', pg_get_userbyid(c.relowner),
    'may_grant', coalesce(grants.may, '[]'),
    'held', (SELECT coalesce(jsonb_agg(jsonb_build_object('role', CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END,
            'privilege', a.privilege_type, 'column', a.attname, 'grantor', pg_get_userbyid(a.grantor), 'grantable', a.is_grantable)), '[]')
        FROM (SELECT x.grantee, x.grantor, x.privilege_type, x.is_grantable, NULL::name AS attname FROM aclexplode(c.relacl) AS x
            UNION ALL SELECT x.grantee, x.grantor, x.privilege_type, x.is_grantable, t.attname
            FROM pg_attribute AS t CROSS JOIN LATERAL aclexplode(t.attacl) AS x
            WHERE t.attrelid = c.oid AND t.attacl IS NOT NULL AND NOT t.attisdropped) AS a
        LEFT JOIN grantees AS g ON g.oid = a.grantee WHERE g.oid IS NOT NULL OR n.nspname = ANY ($1)),
    'columns', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', t.attname,
            'kind', format_type(t.atttypid, t.atttypmod)) ORDER BY t.attnum), '[]')
        FROM pg_attribute AS t WHERE t.attrelid = c.oid AND t.attnum > 0 AND NOT t.attisdropped AND c.relkind <> 'S'),
    'parents', (SELECT coalesce(jsonb_agg(jsonb_build_array(pn.nspname, p.relname)), '[]')
        FROM pg_inherits AS i JOIN pg_class AS p ON p.oid = i.inhparent JOIN pg_namespace AS pn ON pn.oid = p.relnamespace
        WHERE i.inhrelid = c.oid),
    'reads', (SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_array(rn.nspname, s.relname)), '[]')
        FROM pg_rewrite AS w
        JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> c.oid
        JOIN pg_class AS s ON s.oid = d.refobjid JOIN pg_namespace AS rn ON rn.oid = s.relnamespace
        WHERE w.ev_class = c.oid AND c.relkind IN ('v', 'm')),
    'comment', obj_description(c.oid, 'pg_class'),
    'definition', CASE WHEN c.relkind = 'v' AND n.nspname = ANY ($1)
        THEN encode(sha256(convert_to(pg_get_viewdef(c.oid), 'UTF8')), 'hex') END,
    'policies', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'name', y.polname,
            'everybody', 0 = ANY (y.polroles),
            'roles', (SELECT coalesce(jsonb_agg(r.rolname), '[]') FROM pg_roles AS r WHERE r.oid = ANY (y.polroles)),
            'by_user', concat(pg_get_expr(y.polqual, y.polrelid), pg_get_expr(y.polwithcheck, y.polrelid)) ~* '(current|session)_user')
            ORDER BY y.polname), '[]')
        FROM pg_policy AS y WHERE y.polrelid = c.oid AND c.relrowsecurity),
    'nature', CASE WHEN c.relkind = 'm' THEN 'Materialized' WHEN c.relrowsecurity THEN 'RowSecurity' ELSE 'Plain' END)::text
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT jsonb_agg(p) FILTER (WHERE may) AS may, bool_or(may IS NULL) AS vanished
    FROM unnest(CASE c.relkind WHEN 'S' THEN ARRAY['USAGE', 'SELECT', 'UPDATE']
        ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']
            || CASE WHEN current_setting('server_version_num')::int4 >= 170000 THEN ARRAY['MAINTAIN'] ELSE '{}' END END) AS p
    CROSS JOIN LATERAL (SELECT CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, p || ' WITH GRANT OPTION')
        ELSE has_table_privilege(c.oid, p || ' WITH GRANT OPTION') END AS may) AS m) AS grants
WHERE NOT grants.vanished AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    AND ((n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')
        OR EXISTS (SELECT FROM aclexplode(c.relacl) AS a JOIN asked ON asked.oid = a.grantee)
        OR EXISTS (SELECT FROM pg_shdepend AS d JOIN asked ON asked.oid = d.refobjid
            WHERE d.refclassid = 'pg_authid'::regclass AND d.classid = 'pg_class'::regclass AND d.objid = c.oid
                AND d.dbid = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())))
ORDER BY n.nspname, c.relname";

/// Functions and procedures. The types of the arguments alone tell routines of one name apart (`oidvectortypes` qualifies those
/// outside pg_catalog). Of the system's own, the list includes those that create large objects, because the contents outlive the
/// session.
const ROUTINES: &str = "
SELECT jsonb_build_object(
    'kind', 'Routine', 'schema', n.nspname, 'name', p.proname, 'arguments', oidvectortypes(p.proargtypes),
    'owner', pg_get_userbyid(p.proowner),
    'may_grant', CASE WHEN has_function_privilege(p.oid, 'EXECUTE WITH GRANT OPTION') THEN '[\"EXECUTE\"]'::jsonb ELSE '[]' END,
    'held', (SELECT coalesce(jsonb_agg(jsonb_build_object('role', g.name, 'privilege', a.privilege_type,
            'grantor', pg_get_userbyid(a.grantor), 'grantable', a.is_grantable)), '[]')
        FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a JOIN grantees AS g ON g.oid = a.grantee),
    'columns', '[]'::jsonb, 'parents', '[]'::jsonb, 'reads', '[]'::jsonb,
    'nature', CASE WHEN p.prosecdef THEN 'Definer' ELSE 'Plain' END)::text
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE (n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')
    OR EXISTS (SELECT FROM aclexplode(p.proacl) AS a JOIN asked ON asked.oid = a.grantee)
    OR n.nspname = 'pg_catalog' AND p.proname IN ('lo_creat', 'lo_create', 'lo_from_bytea')
ORDER BY n.nspname, p.proname, 1";

/// All roles that a gate created, by their comment: only accounts with CREATEROLE can write one.
const GATE_ROLES: &str = "
SELECT to_jsonb(r.rolname::text)::text FROM pg_shdescription AS d JOIN pg_roles AS r ON r.oid = d.objoid
WHERE d.classoid = 'pg_authid'::regclass AND (d.description LIKE 'tidegate profile %' OR d.description LIKE 'tidegate grant %')";

/// Default privileges for the roles and `PUBLIC`; and for all others too, for objects that the account itself creates in the
/// schemas of profiles' views.
const DEFAULTS: &str = "
SELECT jsonb_build_object(
    'owner', pg_get_userbyid(d.defaclrole), 'schema', n.nspname,
    'kind', CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'ROUTINES'
        WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END,
    'role', CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END, 'privilege', a.privilege_type)::text
FROM pg_default_acl AS d LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace
CROSS JOIN LATERAL aclexplode(d.defaclacl) AS a LEFT JOIN grantees AS g ON g.oid = a.grantee
WHERE g.oid IS NOT NULL
    OR a.grantee <> d.defaclrole AND d.defaclrole = (SELECT me.oid FROM pg_roles AS me WHERE me.rolname = current_user)";

/// Default privileges of objects that one of the roles creates (rows of [`crate::database::rights::OwnDefaults`]). The gate's
/// own are those that `target apply` sets: functions are usable by their owner alone.
pub(in crate::database::provision) const OWN_DEFAULTS: &str = "
SELECT jsonb_build_object(
    'owner', o.rolname, 'schema', n.nspname,
    'kind', CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'ROUTINES'
        WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END,
    'to', (SELECT coalesce(jsonb_agg(DISTINCT CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee) END), '[]')
        FROM aclexplode(d.defaclacl) AS a),
    'is_ours', d.defaclobjtype = 'f' AND d.defaclnamespace = 0 AND d.defaclacl = ARRAY[makeaclitem(o.oid, o.oid, 'EXECUTE', false)])::text
FROM pg_default_acl AS d JOIN pg_roles AS o ON o.oid = d.defaclrole LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace
WHERE o.rolname = ANY ($1) ORDER BY 1";

/// The roles and, each with its profile, those of their live grants.
const OWNED: &str = "
WITH owned AS (
    SELECT o.oid, o.rolname, o.rolname AS profile FROM pg_roles AS o WHERE o.rolname = ANY ($1)
    UNION SELECT g.oid, g.rolname, o.rolname FROM pg_roles AS o JOIN pg_auth_members AS m ON m.roleid = o.oid JOIN pg_roles AS g ON g.oid = m.member
    WHERE o.rolname = ANY ($1) AND shobj_description(g.oid, 'pg_authid') LIKE 'tidegate grant %'
)";

/// Returns the query for [`crate::database::rights::GivenAway`].
pub(in crate::database::provision) fn given_away() -> String {
    format!("{OWNED}{GIVEN_AWAY}")
}

/// Returns the query for [`crate::database::rights::ForeignTrigger`].
pub(in crate::database::provision) fn foreign_triggers() -> String {
    format!("{OWNED}{}", FOREIGN_TRIGGERS.replace("QUIET", &quoted_text(QUIET)))
}

/// Triggers on tables and views of others that run a function of one of the roles (rows of
/// [`crate::database::rights::ForeignTrigger`], appended to [`OWNED`]). For a partitioned table only the trigger on the table
/// itself; those on its partitions go with it (`tgparentid`, since version 13). Rules and policies cannot occur: only the owner
/// of a table creates them.
const FOREIGN_TRIGGERS: &str = "
SELECT jsonb_build_object('owner', o.profile, 'maker', o.rolname, 'as_maker', pg_has_role(o.oid, 'USAGE'),
    'name', t.tgname, 'table', format('%I.%I', n.nspname, c.relname), 'table_owner', pg_get_userbyid(c.relowner),
    'as_table_owner', pg_has_role(c.relowner, 'USAGE'),
    'function', format('%I.%I()', f.nspname, p.proname), 'temporary', f.nspname ~ '^pg_temp_', 'is_quiet', p.prosrc = QUIET)::text
FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid JOIN owned AS o ON o.oid = p.proowner JOIN pg_namespace AS f ON f.oid = p.pronamespace
JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE NOT EXISTS (SELECT FROM owned AS w WHERE w.oid = c.relowner AND w.profile = o.profile)
    AND NOT t.tgisinternal AND coalesce((to_jsonb(t)->>'tgparentid')::oid, 0) = 0 ORDER BY 1";

/// Objects that one of the roles owns and others may use, other profiles too (rows of [`crate::database::rights::GivenAway`],
/// appended to [`OWNED`]). An object without an ACL is usable by everybody if it is a function, and by its owner alone
/// otherwise; that everybody may use a type is not reported. Temporary objects end with their session.
const GIVEN_AWAY: &str = ", things AS (
    SELECT c.relowner AS owner, CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || format('%I.%I', n.nspname, c.relname) AS what,
        a.grantee, c.relkind IN ('v', 'm') AS as_owner
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (SELECT x.grantee FROM aclexplode(c.relacl) AS x
        UNION SELECT x.grantee FROM pg_attribute AS t CROSS JOIN LATERAL aclexplode(t.attacl) AS x
        WHERE t.attrelid = c.oid AND NOT t.attisdropped) AS a
    WHERE c.relowner IN (SELECT oid FROM owned) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname !~ '^pg_temp_'
    UNION ALL
    SELECT p.proowner, 'ROUTINE ' || format('%I.%I(%s)', n.nspname, p.proname, oidvectortypes(p.proargtypes)), a.grantee, p.prosecdef
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
    WHERE p.proowner IN (SELECT oid FROM owned) AND n.nspname !~ '^pg_temp_'
    UNION ALL
    SELECT n.nspowner, format('SCHEMA %I', n.nspname), a.grantee, false
    FROM pg_namespace AS n CROSS JOIN LATERAL aclexplode(n.nspacl) AS a WHERE n.nspowner IN (SELECT oid FROM owned)
    UNION ALL
    SELECT t.typowner, format('TYPE %I.%I', n.nspname, t.typname), a.grantee, false
    FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace CROSS JOIN LATERAL aclexplode(t.typacl) AS a
    WHERE t.typowner IN (SELECT oid FROM owned) AND a.grantee <> 0 AND n.nspname !~ '^pg_temp_'
    UNION ALL
    SELECT l.lomowner, format('LARGE OBJECT %s', l.oid), a.grantee, false
    FROM pg_largeobject_metadata AS l CROSS JOIN LATERAL aclexplode(l.lomacl) AS a WHERE l.lomowner IN (SELECT oid FROM owned)
)
SELECT jsonb_build_object('owner', owned.profile, 'maker', owned.rolname, 'as_maker', pg_has_role(owned.oid, 'USAGE'), 'what', things.what, 'as_owner', bool_or(things.as_owner),
    'to', jsonb_agg(DISTINCT g.rolname))::text
FROM things JOIN owned ON owned.oid = things.owner LEFT JOIN pg_roles AS g ON g.oid = things.grantee
WHERE things.grantee <> things.owner AND (things.grantee = 0 OR g.oid IS NOT NULL)
GROUP BY owned.profile, owned.rolname, owned.oid, things.what ORDER BY 1";
