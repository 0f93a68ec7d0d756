//! Queries that read the part of a database's catalogue that capture is about.
//!
//! It decides nothing; `rights::capture` does. INVARIANT: each row is one JSON text and one value.

use tokio_postgres::Client;

use super::ProfilesError;
use super::catalogue::rows;
use crate::database::rights::capture::{CHANGES, CaptureCatalog, CaptureDefinition};

/// Reads the store of a target and, if there is one or should be, the tables that can be captured.
pub(super) async fn read(client: &Client, capture: &CaptureDefinition) -> Result<CaptureCatalog, ProfilesError> {
    let schema = capture.schema.as_str();
    let store = rows(client, STORE, &[&schema, &capture.account, &CHANGES]).await?.pop();
    let tables = if store.is_some() || !capture.patterns.is_empty() {
        rows(client, TABLES, &[&schema]).await?
    } else {
        Vec::new()
    };
    Ok(CaptureCatalog { store, tables })
}

/// Schema `$1` as the store of the account `$2`, with the table `$3` in it.
const STORE: &str = "
WITH store AS (SELECT n.oid, n.nspname, n.nspowner, n.nspacl FROM pg_namespace AS n WHERE n.nspname = $1),
changes AS (SELECT c.oid, c.relacl FROM pg_class AS c JOIN store ON store.oid = c.relnamespace WHERE c.relname = $3 AND c.relkind = 'r'),
account AS (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = $2),
rights (what, owner, grantee) AS (
    SELECT format('SCHEMA %I', store.nspname), store.nspowner, a.grantee FROM store CROSS JOIN LATERAL aclexplode(store.nspacl) AS a
    UNION SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || format('%I.%I', store.nspname, c.relname), c.relowner, a.grantee
        FROM pg_class AS c JOIN store ON store.oid = c.relnamespace CROSS JOIN LATERAL aclexplode(c.relacl) AS a WHERE c.relkind IN ('r', 'S')
    UNION SELECT format('FUNCTION %I.%I()', store.nspname, p.proname), p.proowner, a.grantee
        FROM pg_proc AS p JOIN store ON store.oid = p.pronamespace
        CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a)
SELECT jsonb_build_object(
    'owner', pg_get_userbyid(store.nspowner),
    'comment', obj_description(store.oid, 'pg_namespace'),
    'columns', (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
        FROM changes JOIN pg_attribute AS a ON a.attrelid = changes.oid AND a.attnum > 0 AND NOT a.attisdropped),
    'functions', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', p.proname, 'source', p.prosrc,
            'settings', coalesce(to_jsonb(p.proconfig), '[]'), 'is_definer', p.prosecdef) ORDER BY p.proname), '[]')
        FROM pg_proc AS p WHERE p.pronamespace = store.oid),
    'rights_of_others', (SELECT coalesce(jsonb_agg(x.line ORDER BY x.line), '[]') FROM (
        SELECT DISTINCT rights.what || ' FROM ' || CASE rights.grantee WHEN 0 THEN 'PUBLIC'
            ELSE quote_ident(pg_get_userbyid(rights.grantee)) END AS line
        FROM rights WHERE rights.grantee <> rights.owner AND rights.grantee NOT IN (SELECT oid FROM account)) AS x),
    'is_open', coalesce((SELECT has_schema_privilege(account.oid, store.oid, 'USAGE')
            AND has_table_privilege(account.oid, changes.oid, 'SELECT')
            AND has_table_privilege(account.oid, changes.oid, 'UPDATE')
            AND has_table_privilege(account.oid, changes.oid, 'DELETE') FROM account CROSS JOIN changes), false))::text
FROM store";

/// Ordinary and partitioned tables, with the triggers on them that run a function of the schema `$1`. What else PostgreSQL calls a
/// table has no transition tables.
const TABLES: &str = "
SELECT jsonb_build_object(
    'schema', n.nspname, 'name', c.relname, 'owner', pg_get_userbyid(c.relowner),
    'parents', (SELECT coalesce(jsonb_agg(jsonb_build_array(pn.nspname, p.relname)), '[]')
        FROM pg_inherits AS i JOIN pg_class AS p ON p.oid = i.inhparent JOIN pg_namespace AS pn ON pn.oid = p.relnamespace
        WHERE i.inhrelid = c.oid),
    'triggers', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'name', t.tgname, 'function', f.proname, 'enabled', t.tgenabled, 'kind', t.tgtype,
            'transitions', to_jsonb(array_remove(ARRAY[t.tgoldtable, t.tgnewtable], NULL)),
            'is_limited', t.tgqual IS NOT NULL OR t.tgattr <> ''::int2vector) ORDER BY t.tgname), '[]')
        FROM pg_trigger AS t JOIN pg_proc AS f ON f.oid = t.tgfoid JOIN pg_namespace AS fn ON fn.oid = f.pronamespace
        WHERE t.tgrelid = c.oid AND fn.nspname = $1))::text
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname <> $1
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY n.nspname, c.relname";
