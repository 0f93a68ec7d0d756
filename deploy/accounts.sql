-- The accounts of a database behind the gate: run once, as superuser, in the database. compose.yaml and kubernetes.yaml do, at its
-- first start; elsewhere: psql -d orders -f accounts.sql, where the two files with passwords are.
\set owner_password `cat ${SECRETS:-/run/secrets}/owner_password`
\set gate_password `cat ${SECRETS:-/run/secrets}/gate_password`

-- It owns the tables: migrations run as it, and no session of the gate does.
CREATE ROLE orders_owner LOGIN PASSWORD :'owner_password';
ALTER DATABASE orders OWNER TO orders_owner;
ALTER SCHEMA public OWNER TO orders_owner;

-- The gate's: it makes a role for each grant and ends its sessions. It owns nothing, and may read and write nothing.
CREATE ROLE gate LOGIN CREATEROLE PASSWORD :'gate_password';
GRANT pg_signal_backend TO gate;
-- So that `tidegate check` can see from where the server takes logins.
GRANT SELECT ON pg_hba_file_rules TO gate;
GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO gate;

-- Up to PostgreSQL 14 everybody may make things there.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
