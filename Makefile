# Nothing here needs a database or a service that is already running.

PREFIX ?= /usr/local
DEMO_ARGS ?=
CHAOS_ARGS ?=
MINUTES ?= 1
BENCH_ARGS ?=

# Most of a test is waiting for a server, so more of them than cores run side by side.
export RUST_TEST_THREADS ?= 6
# Where rustup puts cargo, for shells that do not know it.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help setup demo test test-examples test-upgrade test-systemd test-prometheus test-browser screenshots chaos soak bench fuzz lint prepare install deb static clean

help:
	@echo 'make demo      the daemon against a simulated Feather API and a private Postgres; DEMO_ARGS=… for its options'
	@echo 'make test      format, clippy and all tests'
	@echo 'make chaos     everything goes wrong for 90 s, and nothing may be lost; CHAOS_ARGS=… for its options, --help lists them'
	@echo 'make test-examples  what docs/enqueue.md shows, in the languages that are here; fetches their drivers at first use'
	@echo 'make test-upgrade  the last release and this one side by side; builds the former at first use (some minutes)'
	@echo 'make test-systemd  the Debian package under a real systemd, in a throw-away system. Needs root and Debian or its kin'
	@echo 'make test-prometheus  a real Prometheus beside a running daemon: metrics, labels, rules, alerts. Unpacks it at first use'
	@echo 'make test-browser  the dashboard in a real, headless Chromium. Installs it at first use, where apt-get has it'
	@echo 'make screenshots  the pictures of the README, anew, into docs/images; and all pages in every look into target/tmp/looks'
	@echo 'make soak      a backlog of a million requests, and a snapshot that stays open for SOAK_SNAPSHOT=600 seconds'
	@echo 'make bench     speed, flatness and frugality beside a floor program, about two hours; BENCH_ARGS=… for its options, --help lists them'
	@echo 'make fuzz      mutated answers on their way to rows; MINUTES=1 for each of two targets. Needs a nightly toolchain'
	@echo 'make lint      dependencies, .sqlx, documentation; builds its tools at first use (some minutes)'
	@echo 'make prepare   write .sqlx anew, after a change of a query or a migration'
	@echo 'make install   the release binary, manual pages, completions, systemd units and the sample configuration; DESTDIR and PREFIX are heeded'
	@echo 'make deb       a Debian package of the release binary, in target/deb'
	@echo 'make static    a release binary that needs no library of its machine, linked with musl; rustup brings what that takes'
	@echo 'make setup     install what is missing here: a Postgres server (its binaries only), a C compiler, git, curl, kill'
	@echo 'make clean     remove what was built'

setup:
	@scripts/setup

demo: setup
	@cargo run --quiet --locked -- demo $(DEMO_ARGS)

test: setup
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	@# No part of all targets, because `test = false`.
	cargo clippy --test chaos --locked -- -D warnings
	cargo test --locked

chaos:
	@FEATHER_SYNC_CHAOS=1 scripts/setup
	@cargo test --quiet --locked --test chaos -- $(CHAOS_ARGS)

test-examples: setup
	@scripts/test-examples

# The release's revision may be missing: in a shallow clone, or in an export without git.
test-upgrade: setup
	@last=$$(scripts/last-release) && code=0 || code=$$?; \
	case $$code in \
	  0) FEATHER_SYNC_LAST_RELEASE=$$last cargo test --locked --test it upgrade::side_by_side -- --include-ignored;; \
	  3) echo 'test-upgrade: NOT RUN: the program of the last release cannot be had (see above). `make test` tests its schema and statements';; \
	  *) exit $$code;; \
	esac

test-systemd:
	@FEATHER_SYNC_SYSTEMD=1 scripts/setup
	@scripts/test-systemd

test-prometheus: setup
	@scripts/test-prometheus

test-browser: setup
	@scripts/test-browser

screenshots: setup
	@scripts/test-browser --screenshots

soak: setup
	cargo test --locked --test it backlog -- --ignored --nocapture --test-threads=1

# The measured program is built by itself: tests and benches switch a feature on that no build has that ships.
bench: setup
	cargo build --release --locked
	install -D target/release/feather-sync target/bench/feather-sync
	cargo bench --locked --bench suite -- $(BENCH_ARGS)

fuzz: setup
	@scripts/fuzz $(MINUTES)

lint: setup
	@scripts/lint

prepare: setup
	@scripts/prepare

install:
	cargo build --release --locked
	DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) scripts/install "$${CARGO_TARGET_DIR:-target}/release/feather-sync"

deb: setup
	@scripts/deb

static: setup
	@scripts/static

clean:
	cargo clean
