#!/bin/sh
# Drivers as they are published, through the gate: psycopg 3 and 2, asyncpg (PyPI), node-postgres (npm); and DuckDB (PyPI), which
# reads an export of the log. What is not there or
# cannot be fetched is left out, and said so. `make drivers` runs it.
set -eu
cd "$(dirname "$0")/../.."
home=$PWD/target/drivers
mkdir -p "$home"
if command -v python3 >/dev/null; then
    [ -x "$home/python/bin/python" ] || python3 -m venv "$home/python"
    "$home/python/bin/pip" --quiet install 'psycopg[binary]==3.*' 'psycopg2-binary==2.*' asyncpg duckdb ||
        echo 'drivers: PyPI cannot be reached' >&2
fi
if command -v npm >/dev/null; then
    npm install --silent --prefix "$home" pg@8 || echo 'drivers: npm cannot be reached' >&2
fi
DRIVERS=$home exec cargo test --locked --test it -- --ignored --nocapture drivers:: evidence::
