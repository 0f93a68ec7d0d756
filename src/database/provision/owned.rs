//! Queries for objects that the roles of profiles own, gave rights on, or have run by others: for the comparison of profiles, and
//! for grants that end.
//!
//! It runs nothing and decides nothing. Each row is one JSON text, parsed into the values of `rights`; `$1` are the names of the
//! roles. Objects that a session owns as its grant's role count as the profile's: the profile inherits them at the end of the
//! grant.

use crate::database::rights::{QUIET, quoted_text};

/// Default privileges of objects that one of the roles creates (rows of [`crate::database::rights::OwnDefaults`]). The gate's own are those
/// that `target apply` sets: functions are usable by their owner alone.
pub(super) const DEFAULTS: &str = "
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
pub(super) fn given_away() -> String {
    format!("{OWNED}{GIVEN_AWAY}")
}

/// Returns the query for [`crate::database::rights::ForeignTrigger`].
pub(super) fn foreign_triggers() -> String {
    format!("{OWNED}{}", FOREIGN_TRIGGERS.replace("QUIET", &quoted_text(QUIET)))
}

/// Triggers on tables and views of others that run a function of one of the roles (rows of [`crate::database::rights::ForeignTrigger`],
/// appended to [`OWNED`]). For a partitioned table only the trigger on the table itself; those on its partitions go with it
/// (`tgparentid`, since version 13). Rules and policies cannot occur: only the owner of a table creates them.
const FOREIGN_TRIGGERS: &str = "
SELECT jsonb_build_object('owner', o.profile, 'maker', o.rolname, 'as_maker', pg_has_role(o.oid, 'USAGE'),
    'name', t.tgname, 'table', format('%I.%I', n.nspname, c.relname), 'table_owner', pg_get_userbyid(c.relowner),
    'as_table_owner', pg_has_role(c.relowner, 'USAGE'),
    'function', format('%I.%I()', f.nspname, p.proname), 'temporary', f.nspname ~ '^pg_temp_', 'is_quiet', p.prosrc = QUIET)::text
FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid JOIN owned AS o ON o.oid = p.proowner JOIN pg_namespace AS f ON f.oid = p.pronamespace
JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE NOT EXISTS (SELECT FROM owned AS w WHERE w.oid = c.relowner AND w.profile = o.profile)
    AND NOT t.tgisinternal AND coalesce((to_jsonb(t)->>'tgparentid')::oid, 0) = 0 ORDER BY 1";

/// Objects that one of the roles owns and others may use, other profiles too (rows of [`crate::database::rights::GivenAway`], appended to
/// [`OWNED`]). An object without an ACL is usable by everybody if it is a function, and by its owner alone otherwise; that
/// everybody may use a type is not reported. Temporary objects end with their session.
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
