#!/bin/sh
# Tests of SQLAlchemy's own through the gate, as `make suites` runs them: its source distribution is unpacked beside the drivers.
set -eu
cd "$(dirname "$0")/../.."
tests/drivers/setup.sh short
home=$PWD/target/drivers
version=2.0.58
if [ ! -e "$home/sqlalchemy-$version" ]; then
    "$home/python/bin/pip" --quiet --disable-pip-version-check install 'pytest==8.*' 'psycopg[binary]==3.*' setuptools cython
    "$home/python/bin/pip" --quiet --disable-pip-version-check download --no-deps --no-binary :all: --no-build-isolation \
        --dest "$home" "sqlalchemy==$version"
    tar -xzf "$home/sqlalchemy-$version.tar.gz" -C "$home"
fi
exec cargo test --locked --test it -- --ignored --nocapture run_report::
