# `make demo` and `make test` do all their own set-up; `make help` lists the rest.

export PATH := $(PATH):$(if $(CARGO_HOME),$(CARGO_HOME),$(HOME)/.cargo)/bin

.PHONY: help demo test bench figures deadline kill9 taken disk strangers soak hostile regress versions fuzz fuzz-targets drivers suites lint docs setup
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):[^#]*## /  make \1\t/' | expand -t 22

demo: setup ## see it work: a database, the gate, a tester's psql whose time runs out (ARGS=--stay to try it by hand)
	@echo 'Building (the first time takes some minutes) ...'
	@cargo build --locked
	@cargo run --locked --quiet -- demo $(ARGS)

test: ## all tests, against real PostgreSQL servers they start themselves
	@.ci/setup node
	@tests/oidc/setup.sh
	@tests/drivers/setup.sh short
	@tests/browser/setup.sh
	cargo test --locked $(ARGS)

bench: setup ## the figures, side by side: writes benches/RESULTS.md
	cargo bench --locked --bench gate -- $(ARGS)

figures: setup ## the promised figures, on a quiet machine: decisions, first rows, approvals, changes, the deadline
	cargo test --locked --release --lib -- --ignored --nocapture --test-threads=1 policy:: audit:: sql_filter::
	cargo test --locked --release --test it -- --ignored --nocapture --test-threads=1 deadline:: frozen:: pipelines:: figures:: audit::

# Proofs: TIDEGATE_STDERR=blocked, closed or failing gives every gate such a standard error.
deadline: setup ## a thousand sessions in every state at one deadline, again and again (MINUTES=60): none early, none left, nothing begins after it
	TIDEGATE_MINUTES=$(or $(MINUTES),0) cargo test --locked --release --test it -- --ignored --nocapture --test-threads=1 states::

kill9: setup ## two hundred times kill -9 under load (KILLS=1000 for more): nothing runs that is not on record
	TIDEGATE_KILLS=$(or $(KILLS),200) cargo test --locked --test it -- --nocapture --test-threads=1 kill9::whatever

taken: setup ## three hundred times kill -9 in the middle of revocations, disablings and approvals (KILLS=1000 for more): none comes back
	TIDEGATE_TAKEN=$(or $(KILLS),300) cargo test --locked --release --test it -- --nocapture --test-threads=1 taking_away::after

soak: setup ## mixed traffic for ten minutes (MINUTES=60 for more): memory, descriptors, threads and log stay flat
	TIDEGATE_MINUTES=$(or $(MINUTES),10) cargo test --locked --release --test it -- --ignored --nocapture --test-threads=1 soak::

disk: setup ## a disk that is full two hundred times under load (DISKS=1000 for more; as root): the same
	TIDEGATE_DISKS=$(or $(DISKS),200) cargo test --locked --test it -- --nocapture --test-threads=1 disk::

strangers: setup ## strangers attack a gate whose log has a disk of 6 MB (MINUTES=10; as root): nobody else notices
	TIDEGATE_MINUTES=$(or $(MINUTES),10) cargo test --locked --release --test it -- --nocapture --test-threads=1 strangers::strangers_who_attack

hostile: setup ## two hundred script texts in every field, each on every page that shows it: chromium runs none of them
	@tests/browser/setup.sh
	TIDEGATE_HOSTILE=all cargo test --locked --test it -- --ignored --nocapture hostile::

regress: setup ## PostgreSQL's own regression suite, direct and through the gate
	tests/regress/run.sh $(ARGS)

versions: setup ## the tests of roles and escapes on PostgreSQL 13, 15, 16 and 18 (VERSIONS="14 17" for others)
	tests/versions/run.sh $(VERSIONS)

fuzz: setup ## hostile clients, and changed proofs, for a long time (CLIENTS=5000 INPUTS=20000, TIDEGATE_SEED=... to repeat a run)
	TIDEGATE_FUZZ=$(or $(CLIENTS),5000) cargo test --locked --test it hostile_clients
	TIDEGATE_FUZZ_INPUTS=$(or $(INPUTS),20000) cargo test --locked --lib control::tests::forged

fuzz-targets: ## libFuzzer on each reader of bytes from outside (RUNS=1000000 of each, TARGETS="frame jwt"); needs cargo-fuzz
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	@for target in $(or $(TARGETS),$(notdir $(wildcard fuzz/seeds/*))); do \
	  mkdir -p fuzz/corpus/$$target && \
	  RUSTC_BOOTSTRAP=1 cargo fuzz run -s none $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
	    -runs=$(or $(RUNS),1000000) -rss_limit_mb=2048 -timeout=20 -max_len=16384 || exit 1; \
	done

drivers: setup ## published drivers and ORMs through the gate, which they verify: psycopg, asyncpg, SQLAlchemy, Django, dbt, node-postgres, knex ...
	tests/drivers/run.sh

suites: setup ## SQLAlchemy's own tests through the gate, green and with one seeded change: `tidegate run diff` names it
	tests/suites/run.sh

lint: setup ## formatting, lints, documentation
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

docs: ## the generated parts of docs/ anew: commands, calls, metrics, keys of the configuration
	TIDEGATE_BLESS=1 cargo test --locked --test examples reference::

setup: ## what building and testing needs, installed if missing (Debian, Ubuntu)
	@.ci/setup
