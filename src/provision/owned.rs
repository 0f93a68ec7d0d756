//! What the roles of profiles own and gave away, as queries: for profiles that are compared, and for grants that end.
//!
//! It runs nothing and decides nothing. Each row is one JSON text, read into the values of `rights`; `$1` are the roles' names.

/// What things come with that one of the roles makes (rows of [`crate::rights::OwnDefaults`]). Ours is what `target apply` makes:
/// functions for nobody but their owner.
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

/// What one of the roles owns and others may use, other profiles too (rows of [`crate::rights::GivenAway`]). Without a list of its own a
/// function is everybody's, and everything else its owner's; that everybody may use a type is as it should be. What is temporary goes with its
/// session.
pub(super) const GIVEN_AWAY: &str = "
WITH owned AS (
    SELECT o.oid, o.rolname FROM pg_roles AS o WHERE o.rolname = ANY ($1)
), things AS (
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
SELECT jsonb_build_object('owner', owned.rolname, 'what', things.what, 'as_owner', bool_or(things.as_owner),
    'to', jsonb_agg(DISTINCT g.rolname))::text
FROM things JOIN owned ON owned.oid = things.owner LEFT JOIN pg_roles AS g ON g.oid = things.grantee
WHERE things.grantee <> things.owner AND (things.grantee = 0 OR g.oid IS NOT NULL)
GROUP BY owned.rolname, things.what ORDER BY 1";
