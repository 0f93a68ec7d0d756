#!/bin/sh
# What drives a browser in the tests, from npm into target/browser, once per lock file. The browser is Debian's chromium. Where they cannot
# be had this says so and is content: tests/it/browser.rs is then left out, and says that too.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
home=$here/../../target/browser
say() { printf 'browser: %s; the tests leave it out\n' "$1" >&2; }
if [ -d "$home/node_modules" ] && cmp -s "$here/package-lock.json" "$home/package-lock.json"; then
    exit 0
fi
command -v chromium >/dev/null 2>&1 || { say 'chromium is not installed (apt install chromium)'; exit 0; }
command -v npm >/dev/null 2>&1 || { say 'Node.js or npm is not installed'; exit 0; }
echo 'browser: fetching playwright-core and axe-core from npm (once) ...' >&2
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
