#!/bin/sh
# The OpenID provider of the tests, from npm into target/oidc, once per lock file. Where it cannot be had this says so and is
# content: tests/it/oidc.rs then serves keys of its own, and says that too.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
home=$here/../../target/oidc
say() { printf 'oidc: %s; the tests serve keys of their own instead\n' "$1" >&2; }
. "$here/../npm.sh"
if npm_is_there; then exit 0; fi
command -v node >/dev/null 2>&1 || { say 'Node.js or npm is not installed'; exit 0; }
if ! node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'; then
    say "Node.js $(node --version) is older than 20.19"
    exit 0
fi
echo "oidc: fetching the tests' OpenID provider from npm (once) ..." >&2
npm_fetch
