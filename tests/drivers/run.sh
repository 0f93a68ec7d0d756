#!/bin/sh
# Drivers and tools as they are published, through the gate, verifying its certificate: psycopg 3 and 2, asyncpg, SQLAlchemy, Django,
# pgcli, dbt (PyPI), node-postgres, postgres.js, knex, TypeORM, Sequelize (npm); and DuckDB (PyPI), which reads an export of the log.
# What is not there or cannot be fetched is left out, and said so. `make drivers` runs it; DRIVER=knex runs one of them.
set -eu
cd "$(dirname "$0")/../.."
home=$PWD/target/drivers
mkdir -p "$home"
if command -v python3 >/dev/null; then
    [ -x "$home/python/bin/python" ] || python3 -m venv "$home/python"
    "$home/python/bin/pip" --quiet install 'psycopg[binary]==3.*' 'psycopg2-binary==2.*' asyncpg sqlalchemy django pgcli duckdb ||
        echo 'drivers: PyPI cannot be reached' >&2
    # Later ones fetch a part of theirs from elsewhere than PyPI.
    "$home/python/bin/pip" --quiet install 'dbt-core==1.10.*' 'dbt-postgres==1.*' || echo 'drivers: dbt cannot be installed' >&2
fi
if command -v npm >/dev/null; then
    npm install --silent --prefix "$home" pg@8 postgres@3 knex pg-query-stream typeorm sequelize@6 || echo 'drivers: npm cannot be reached' >&2
fi
DRIVERS=$home exec cargo test --locked --test it -- --ignored --nocapture drivers:: evidence::
