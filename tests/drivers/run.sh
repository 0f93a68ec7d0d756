#!/bin/sh
# All published drivers and tools through the gate, verifying its certificate. `make drivers` runs it; DRIVER=knex runs one of them.
set -eu
cd "$(dirname "$0")/../.."
tests/drivers/setup.sh
exec cargo test --locked --test it -- --include-ignored --nocapture drivers:: evidence::
