#!/bin/sh
# The OpenID provider of the tests, from npm into target/oidc, once per lock file. Where it cannot be had this says so and is
# content: tests/it/oidc.rs then serves keys of its own, and says that too.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
home=$here/../../target/oidc
if [ -d "$home/node_modules" ] && cmp -s "$here/package-lock.json" "$home/package-lock.json"; then
    exit 0
fi
say() { printf 'oidc: %s; the tests serve keys of their own instead\n' "$1" >&2; }
if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
    say 'Node.js or npm is not installed'
    exit 0
fi
if ! node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'; then
    say "Node.js $(node --version) is older than 20.19"
    exit 0
fi
echo "oidc: fetching the tests' OpenID provider from npm (once) ..." >&2
# Installed beside, then moved: an interrupted run leaves nothing that looks whole.
rm -rf "$home.new"
mkdir -p "$home.new"
cp "$here/package.json" "$here/package-lock.json" "$home.new/"
if timeout 120 npm ci --prefix "$home.new" --ignore-scripts --no-audit --no-fund --loglevel=error >"$home.new/log" 2>&1; then
    rm -rf "$home"
    mv "$home.new" "$home"
else
    say "npm ci failed ($(grep -m 1 'npm error' "$home.new/log" || echo 'no answer within two minutes'))"
    rm -rf "$home.new"
fi
