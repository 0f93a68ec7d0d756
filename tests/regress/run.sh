#!/bin/sh
# PostgreSQL's own regression suite, once straight at the server and once through the gate: both must give the same result,
# test by test. Called by `make regress`.
#
#   tests/regress/run.sh [direct|gate|both] [TEST...]     default: both, with the whole parallel schedule
#
# Needs an installed PostgreSQL of Debian or Ubuntu (server and client packages), gcc, apt with a network. It installs nothing:
# the suite's source, and packages where the installed ones do not match it, are fetched with an apt state of its own and
# unpacked in $CACHE. Each run has a new throwaway cluster. Ends with 0 when gate and direct agree (or, with `direct`, when
# every test passed), 1 when they differ, 2 when it could not be run.
#
# Settings: PG_MAJOR (else the newest installed), CACHE (default target/regress), TIDEGATE (the gate's program, else built here),
# SSLMODE (how psql talks to the gate; default prefer, which is TLS with the gate's self-made certificate).
set -eu
umask 022

HERE=$(cd "$(dirname "$0")" && pwd)
TOP=$(cd "$HERE/../.." && pwd)
CACHE=${CACHE:-$TOP/target/regress}
MODE=${1:-both}
[ $# -gt 0 ] && shift
SUPERUSER=postgres
DATABASE=regression # some tests know the database by this name
SERVER_STARTED=""
GATE_PID=""

say() { printf '%s\n' "regress: $*"; }
fail() { printf '%s\n' "regress: $*" >&2; exit 2; }
need() { command -v "$1" >/dev/null 2>&1 || fail "needs $1 ($2)"; }

# The suite must be of the server's own minor version: an older expected/ file is a false difference.
find_server() {
    PG_MAJOR=${PG_MAJOR:-$(ls /usr/lib/postgresql 2>/dev/null | sort -n | tail -1)}
    [ -n "$PG_MAJOR" ] || fail "found no PostgreSQL in /usr/lib/postgresql; install the package postgresql, or run 'make test' once"
    ROOT="" # prefix of the PostgreSQL used: empty for the installed one
    INSTALLED=$(dpkg-query -W -f '${Version}' "postgresql-$PG_MAJOR" 2>/dev/null || true)
}

# An apt state of our own, with the sources turned on, so that the system's lists and settings stay as they are.
private_apt() {
    mkdir -p "$CACHE/apt/parts" "$CACHE/apt/lists/partial" "$CACHE/apt/archives/partial"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        [ -f "$file" ] && grep -qE 'debian|ubuntu|postgresql' "$file" || continue
        case $file in
        *.sources) sed -E 's/^Types:.*/Types: deb deb-src/' "$file" ;;
        *) sed -nE 's/^deb(-src)?([[:space:]].*)/deb\2\ndeb-src\2/p' "$file" | sort -u ;;
        esac >"$CACHE/apt/parts/$(basename "$file")"
    done
    APT="-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=$CACHE/apt/parts -o Dir::State::lists=$CACHE/apt/lists \
        -o Dir::Cache=$CACHE/apt -o Dir::Cache::archives=$CACHE/apt/archives -o APT::Sandbox::User=root -o Debug::NoLocking=1"
    # shellcheck disable=SC2086 # a list of options
    apt-get $APT -qq update || fail "apt-get update did not work; is there a network?"
}

fetch_suite() {
    SOURCE_VERSION=$INSTALLED
    if [ -f "$CACHE/version" ] && [ "$(cat "$CACHE/version")" = "$INSTALLED" ]; then
        say "suite of postgresql-$PG_MAJOR $INSTALLED is in $CACHE"
    else
        need apt-get "Debian or Ubuntu"
        need dpkg-deb dpkg
        need tar tar
        say "fetching the suite of postgresql-$PG_MAJOR with apt-get source (about 25 MB) into $CACHE"
        private_apt
        rm -rf "$CACHE/source" "$CACHE/root" "$CACHE/lib" "$CACHE/version"
        mkdir -p "$CACHE/source" "$CACHE/root"
        cd "$CACHE/source"
        if ! source_of "$INSTALLED"; then
            # shellcheck disable=SC2086
            for SOURCE_VERSION in $(apt-cache $APT showsrc "postgresql-$PG_MAJOR" | sed -n 's/^Version: //p' | sort -uVr) none; do
                [ "$SOURCE_VERSION" != none ] || fail "no source package postgresql-$PG_MAJOR can be had"
                source_of "$SOURCE_VERSION" && break
            done
            say "no source of the installed '$INSTALLED': taking $SOURCE_VERSION and its server and client, unpacked in $CACHE/root"
            unpack "postgresql-$PG_MAJOR" "postgresql-client-$PG_MAJOR" libpq5
        fi
        unpack "postgresql-server-dev-$PG_MAJOR"
        tar xf ./*.orig.tar.* --wildcards '*/src/test/regress' '*/contrib/spi' '*/COPYRIGHT'
        rm -rf ./*.orig.tar.* "$CACHE/apt"
        printf '%s\n' "$INSTALLED" >"$CACHE/version"
        cd "$TOP"
    fi
    [ -x "$CACHE/root/usr/lib/postgresql/$PG_MAJOR/bin/postgres" ] && ROOT=$CACHE/root
    BIN=$ROOT/usr/lib/postgresql/$PG_MAJOR/bin
    PKGLIB=$ROOT/usr/lib/postgresql/$PG_MAJOR/lib
    [ -n "$ROOT" ] && export LD_LIBRARY_PATH="$(dirname "$(find "$ROOT" -name 'libpq.so.5' | head -1)")"
    SUITE=$(echo "$CACHE"/source/postgresql-*/src/test/regress)
    PG_REGRESS=$PKGLIB/pgxs/src/test/regress/pg_regress
    [ -x "$PG_REGRESS" ] || fail "no $PG_REGRESS; it comes with postgresql-client-$PG_MAJOR"
}

source_of() {
    # shellcheck disable=SC2086
    apt-get $APT -qq source --download-only "postgresql-$PG_MAJOR=$1" 2>"$CACHE/apt/source.log"
}

unpack() {
    for package; do
        # shellcheck disable=SC2086
        apt-get $APT -qq download "$package=$SOURCE_VERSION" || fail "no package $package=$SOURCE_VERSION"
        dpkg-deb -x "$package"_*.deb "$CACHE/root"
        rm -f "$package"_*.deb
    done
}

# The suite's C functions, against the server's own headers. autoinc and refint come with the server package.
build_modules() {
    [ -f "$CACHE/lib/regress.so" ] && return 0
    need gcc "package gcc"
    mkdir -p "$CACHE/lib"
    headers="-I $CACHE/root/usr/include/postgresql/$PG_MAJOR/server -I $CACHE/root/usr/include/postgresql -I /usr/include/postgresql"
    # shellcheck disable=SC2086
    gcc -O2 -fPIC -shared -fno-strict-aliasing -fwrapv $headers -o "$CACHE/lib/regress.so" "$SUITE/regress.c" ||
        fail "regress.so did not compile"
    for module in autoinc refint; do
        # shellcheck disable=SC2086
        cp "$PKGLIB/$module.so" "$CACHE/lib/" 2>/dev/null ||
            gcc -O2 -fPIC -shared -fno-strict-aliasing -fwrapv $headers -o "$CACHE/lib/$module.so" "$SUITE/../../../contrib/spi/$module.c" ||
            fail "$module.so did not compile"
    done
}

# PostgreSQL refuses to run as root, and its COPY tests read and write files: server and suite run as one unprivileged user.
as_user() {
    if [ "$(id -u)" = 0 ]; then runuser -u "$RUN_USER" -- "$@"; else "$@"; fi
}

prepare_work() {
    RUN_USER=$(id -un)
    if [ "$(id -u)" = 0 ]; then
        RUN_USER=postgres
        id postgres >/dev/null 2>&1 || RUN_USER=nobody
    fi
    WORK=$(mktemp -d "${TMPDIR:-/tmp}/tidegate-regress.XXXXXX")
    cp -r "$SUITE" "$WORK/suite"
    cp -r "$CACHE/lib" "$WORK/lib"
    chmod 755 "$WORK"
    [ "$(id -u)" = 0 ] && chown -R "$RUN_USER" "$WORK"
    as_user test -x "$BIN/postgres" || fail "user $RUN_USER cannot reach $BIN: set CACHE to a folder everybody may enter"
    trap 'stop_gate; stop_server; rm -rf "$WORK"' EXIT
    trap 'exit 130' INT TERM
}

free_port() {
    port=$1
    while grep -qi ":$(printf '%04X' "$port") " /proc/net/tcp; do port=$((port + 1)); done
    echo "$port"
}

start_server() {
    PORT=$(free_port $((20000 + $$ % 20000)))
    PASSWORD=$(head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n')
    printf '%s' "$PASSWORD" >"$WORK/password"
    chmod 644 "$WORK/password" # read by initdb under the other user; the folder goes away with the run
    as_user "$BIN/initdb" --no-sync --no-locale -E UTF8 -U "$SUPERUSER" -A scram-sha-256 --pwfile="$WORK/password" -D "$WORK/data" >"$WORK/initdb.log" 2>&1 ||
        { cat "$WORK/initdb.log" >&2; fail "initdb failed"; }
    # As pg_regress itself sets up a temporary instance (src/test/regress/pg_regress.c, "Adjust the default postgresql.conf").
    cat >>"$WORK/data/postgresql.conf" <<CONF
log_autovacuum_min_duration = 0
log_checkpoints = on
log_line_prefix = '%m %b[%p] %q%a '
log_lock_waits = on
log_temp_files = 128kB
max_prepared_transactions = 2
fsync = off
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
port = $PORT
CONF
    as_user "$BIN/pg_ctl" -s -w -D "$WORK/data" -l "$WORK/server.log" start || { tail "$WORK/server.log" >&2; fail "the server did not start"; }
    SERVER_STARTED=yes
    export PGPASSWORD="$PASSWORD"
    # As pg_regress's create_database does: the settings that make the expected output independent of the machine.
    "$BIN/psql" -XqAt -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "$PORT" -U "$SUPERUSER" -d postgres <<SQL
CREATE DATABASE $DATABASE TEMPLATE = template0;
ALTER DATABASE $DATABASE SET lc_messages TO 'C';
ALTER DATABASE $DATABASE SET lc_monetary TO 'C';
ALTER DATABASE $DATABASE SET lc_numeric TO 'C';
ALTER DATABASE $DATABASE SET lc_time TO 'C';
ALTER DATABASE $DATABASE SET bytea_output TO 'hex';
ALTER DATABASE $DATABASE SET timezone_abbreviations TO 'Default';
SQL
}

stop_server() {
    [ -n "$SERVER_STARTED" ] || return 0
    as_user "$BIN/pg_ctl" -s -m immediate -D "$WORK/data" stop || true
    SERVER_STARTED=""
    rm -rf "$WORK/data"
}

# A gate with one target, as a superuser: the suite makes roles, tablespaces and functions in C.
start_gate() {
    if [ -z "${TIDEGATE:-}" ]; then
        (cd "$TOP" && cargo build --locked --quiet 2>"$CACHE/build.log") || { cat "$CACHE/build.log" >&2; fail "the gate did not build"; }
        TIDEGATE=${CARGO_TARGET_DIR:-$TOP/target}/debug/tidegate
    fi
    [ -x "$TIDEGATE" ] || fail "no program $TIDEGATE"
    GATE_PORT=$(free_port $((PORT + 1)))
    mkdir -m 700 "$WORK/tidegate"
    printf '%s' "$PASSWORD" >"$WORK/tidegate/target.password"
    chmod 600 "$WORK/tidegate/target.password"
    sed -e "s/@GATE_PORT@/$GATE_PORT/; s/@PORT@/$PORT/; s/@DATABASE@/$DATABASE/g; s/@USER@/$SUPERUSER/" "$HERE/tidegate.toml.in" >"$WORK/tidegate/tidegate.toml"
    "$TIDEGATE" serve --config "$WORK/tidegate/tidegate.toml" >"$WORK/gate.log" 2>&1 &
    GATE_PID=$!
    tries=0
    until "$TIDEGATE" grant list --config "$WORK/tidegate/tidegate.toml" >/dev/null 2>&1; do
        tries=$((tries + 1))
        kill -0 "$GATE_PID" 2>/dev/null && [ "$tries" -lt 100 ] || { tail "$WORK/gate.log" >&2; GATE_PID=""; fail "the gate did not start"; }
        sleep 0.1
    done
    "$TIDEGATE" grant create "$DATABASE" --identity regress --for 2h --max-sessions 100 --output json \
        --config "$WORK/tidegate/tidegate.toml" >"$WORK/grant.json" || fail "no grant"
    GRANT_USER=$(json_field id "$WORK/grant.json")
    PGPASSWORD=$(json_field secret "$WORK/grant.json")
    export PGPASSWORD PGSSLMODE="${SSLMODE:-prefer}"
}

# One string field of a flat or nested JSON document; enough for what the gate prints.
json_field() {
    tr -d '\n' <"$2" | sed -nE "s/.*\"$1\"[[:space:]]*:[[:space:]]*\"([^\"]*)\".*/\1/p"
}

stop_gate() {
    [ -n "$GATE_PID" ] || return 0
    kill "$GATE_PID" 2>/dev/null || true
    wait "$GATE_PID" 2>/dev/null || true
    GATE_PID=""
}

# run_suite NAME PORT USER TEST...: results in $CACHE/NAME, one line "test status" each in $CACHE/NAME.status.
run_suite() {
    name=$1 port=$2 user=$3
    shift 3
    say "$name: running"
    as_user mkdir -p "$WORK/$name"
    selection=$*
    [ -n "$selection" ] || selection="--schedule=$WORK/suite/parallel_schedule"
    [ "$PG_MAJOR" -lt 16 ] || selection="--expecteddir=$WORK/suite $selection" # up to 15 it is --inputdir
    # shellcheck disable=SC2086
    (cd "$WORK" && as_user "$PG_REGRESS" --use-existing \
        --bindir="$BIN" --dlpath="$WORK/lib" --inputdir="$WORK/suite" --outputdir="$WORK/$name" \
        --host=127.0.0.1 --port="$port" --user="$user" --dbname="$DATABASE" --max-concurrent-tests=20 $selection) >"$WORK/$name.log" 2>&1 || true
    rm -rf "${CACHE:?}/$name"
    mkdir -p "$CACHE/$name"
    cp -r "$WORK/$name/." "$CACHE/$name/"
    cp "$WORK/$name.log" "$CACHE/$name/pg_regress.log"
    cp "$WORK/server.log" "$CACHE/$name/server.log"
    # Up to 15: "test boolean ... ok 123 ms"; from 16 on: "ok 2 + boolean 123 ms".
    # Names have dots in them too (collate.icu.utf8).
    sed -nE -e 's/^(test)? +([a-z0-9_.]+) +\.\.\. (ok|FAILED|failed).*/\2 \3/p' \
        -e 's/^(ok|not ok) +[0-9]+ +[-+] ([a-z0-9_.]+) .*/\2 \1/p' "$WORK/$name.log" |
        sed -E 's/ (FAILED|failed|not ok)$/ FAILED/' | sort >"$CACHE/$name.status"
    [ -s "$CACHE/$name.status" ] || { tail -20 "$WORK/$name.log" >&2; fail "$name: no test ran"; }
    if [ -z "$*" ]; then
        # A test whose line was not understood would be one that nobody compares.
        wanted=$(sed -n 's/^test://p' "$WORK/suite/parallel_schedule" | wc -w)
        read=$(wc -l <"$CACHE/$name.status")
        [ "$read" -eq "$wanted" ] || fail "$name: the schedule has $wanted tests, the results of $read were read"
    fi
    say "$name: $(grep -c ' ok$' "$CACHE/$name.status" || true) of $(wc -l <"$CACHE/$name.status") tests pass"
    sed -n 's/ FAILED$//p' "$CACHE/$name.status" | while read -r test; do say "$name: not as expected: $test"; done
}

# A difference is a test with another status, or one that fails on both sides in a different way.
compare() {
    differing=$(diff "$CACHE/direct.status" "$CACHE/gate.status" | sed -nE 's/^[<>] ([a-z0-9_.]+) .*/\1/p' | sort -u)
    for test in $(sed -n 's/ FAILED$//p' "$CACHE/direct.status"); do
        diff -q "$CACHE/direct/results/$test.out" "$CACHE/gate/results/$test.out" >/dev/null 2>&1 || differing="$differing $test"
    done
    if [ -z "$differing" ]; then
        say "the same result through the gate as direct: $(wc -l <"$CACHE/gate.status") tests of PostgreSQL $("$BIN/postgres" --version | awk '{print $3}')"
        return 0
    fi
    for test in $(printf '%s\n' $differing | sort -u); do
        say "differs: $test"
        diff -u "$CACHE/direct/results/$test.out" "$CACHE/gate/results/$test.out" | head -40 || true
    done
    return 1
}

run_direct() {
    start_server
    run_suite direct "$PORT" "$SUPERUSER" "$@"
    stop_server
}

run_gate() {
    start_server
    start_gate
    run_suite gate "$GATE_PORT" "$GRANT_USER" "$@"
    cp "$WORK/gate.log" "$CACHE/gate/gate.log"
    stop_gate
    stop_server
}

case $MODE in direct | gate | both) ;; *) fail "first argument: direct, gate or both" ;; esac
find_server
fetch_suite
build_modules
prepare_work
case $MODE in
direct)
    run_direct "$@"
    ! grep -q ' FAILED$' "$CACHE/direct.status" || exit 1
    ;;
gate)
    run_gate "$@"
    [ -f "$CACHE/direct.status" ] || { say "no direct run to compare with in $CACHE"; exit 0; }
    compare || exit 1
    ;;
both)
    run_direct "$@"
    run_gate "$@"
    compare || exit 1
    ;;
esac
