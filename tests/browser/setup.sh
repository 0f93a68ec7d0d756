#!/bin/sh
# What drives a browser in the tests, from npm into target/browser, once per lock file. The browser is Debian's chromium. Where they cannot
# be had this says so and is content: tests/it/browser.rs is then left out, and says that too.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
home=$here/../../target/browser
say() { printf 'browser: %s; the tests leave it out\n' "$1" >&2; }
. "$here/../npm.sh"
if npm_is_there; then exit 0; fi
command -v chromium >/dev/null 2>&1 || { say 'chromium is not installed (apt install chromium)'; exit 0; }
echo 'browser: fetching playwright-core and axe-core from npm (once) ...' >&2
npm_fetch
