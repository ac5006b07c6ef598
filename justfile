# What is done with this repository: `./just RECIPE`. The wrapper ./just installs what is missing first.

set shell := ["bash", "-euo", "pipefail", "-c"]

# Where ./just puts what it fetches.
export PATH := env("PATH") + ":" + (justfile_directory() / "target/tools/bin")

export CARGO_TERM_COLOR := env("CARGO_TERM_COLOR", "auto")

# nextest runs the tests where it is installed, cargo itself where it is not.
nextest := `cargo nextest --version >/dev/null 2>&1 && echo yes || echo no`

# Twice as many tests as processors: many of them wait. How many machines run at once is decided in .config/nextest.toml.
threads := `echo $(( 2 * $(nproc) ))`

# How many machines there may be for the tests: more than run at once, so that none waits for a load that tests make.
machines := threads

# One cache for all tests and the programs that they start: a VM boots once, and every other machine is a clone.
cache := justfile_directory() / "target/tmp/cache"

# The tests of properties, by a part of their names.
properties := "escape:: text::tests dbus:: frame:: report::ci secrets:: screen:: allowed:: frames:: matching:: oracle::generated network::tests::properties network::tests::dhcp network::capture hardware::packet::"

# Not a crate of the workspace: build.rs compiles it.
guest_helper := "src/channel/guest/helper/main.rs"

# Lists the recipes.
[private]
default:
    @just --justfile {{ quote(justfile()) }} --list --unsorted

# Installs what this host lacks: QEMU, Nix, mmdebstrap, …
setup:
    @./just setup

# Builds the VM of configuration.nix and leaves ./result, as nix-build does.
build *options:
    cargo run --quiet --bin nixvm-test -- build {{ options }}

# Builds the VM of configuration.nix, boots it, logs in as alice and checks: scenarios/login.rs.
login *options:
    @./just login {{ options }}

# Runs every test but those of `test-long`.
test: test-rust test-doc test-standin

# Runs the Rust tests; `./just test-rust NAME` those whose name contains NAME.
test-rust *filter: test-tools
    @export NIXVM_CACHE_DIR={{ quote(cache) }} NIXVM_HOST_CORES={{ machines }}; if [ {{ nextest }} = yes ]; then set -x; \
        exec cargo nextest run --workspace --all-features --no-fail-fast --test-threads {{ threads }} {{ filter }}; \
    else set -x; \
        RUST_TEST_THREADS={{ threads }} exec cargo test --workspace --all-features --no-fail-fast --lib --bins --tests {{ filter }}; fi

# Runs the long tests: fuzzing for SECONDS; properties with many cases; soaks, ten rounds for one.
test-long seconds="600": test-tools
    NIXVM_FUZZ_SECONDS={{ seconds }} cargo test --workspace --all-features --lib channel::tests::hostile
    NIXVM_FUZZ_SECONDS=60 cargo test --workspace --all-features --lib network::tests::hostile
    PROPTEST_CASES=20000 cargo test --workspace --all-features --lib --test it -- {{ properties }}
    NIXVM_CACHE_DIR={{ quote(cache) }} NIXVM_TEST_SOAK=10 cargo test --workspace --all-features --test it -- many_machines:: template_trouble::killed real_vm::snapshots

# It compiles into a target folder of its own, with a cache of its own, and prints the times of compiling, linking and running.
# Runs the Rust tests from nothing and shows the slowest; `./just test-times NAME` those whose name contains NAME.
test-times *filter: test-tools
    #!/usr/bin/env bash
    set -euo pipefail
    log=target/test-times.log
    # Another linker would have cargo compile everything again, and once more afterwards.
    export CARGO_TARGET_DIR=$PWD/target/times
    trap 'rm -rf "$CARGO_TARGET_DIR"' EXIT
    rm -rf "$CARGO_TARGET_DIR"
    mkdir -p "$CARGO_TARGET_DIR"
    export NIXVM_HOST_CORES={{ machines }}
    export NIXVM_CACHE_DIR=$CARGO_TARGET_DIR/tmp/cache LINK_TIMES=$CARGO_TARGET_DIR/links CARGO_TERM_COLOR=never
    host=$(rustc -vV | sed -n 's/^host: //p' | tr a-z- A-Z_)
    export "CARGO_TARGET_${host}_LINKER=$PWD/.ci/timed-linker"
    SECONDS=0
    cargo nextest run --workspace --all-features --no-run 2>&1 | tee "$log"
    compiled=$SECONDS
    linked=$(awk '{ sum += $1 } END { printf "linking: %.0f s, added up over %d links", sum, NR }' "$LINK_TIMES")
    cargo nextest run --workspace --all-features --no-fail-fast --test-threads {{ threads }} {{ filter }} 2>&1 | tee -a "$log" && result=0 || result=$?
    ran=$((SECONDS - compiled))
    .ci/slowest "$log"
    printf '%s\n' "compiling and linking: $compiled s" "$linked" "running: $ran s"
    exit "$result"

# Three times as many tests run at once as there are processors.
# Looks for flaky tests: repeats the quick ones beside two VMs that have booted.
test-flaky rounds="20": test-tools
    cargo nextest run --workspace --all-features --profile quick --no-run
    NIXVM_CACHE_DIR={{ quote(cache) }} tests/beside-vms.sh 2 cargo nextest run --workspace --all-features --profile quick \
        --stress-count {{ rounds }} --test-threads $((3 * $(nproc)))

# Looks for flaky clones of several machines: starts them again and again beside two VMs that have booted.
test-cluster rounds="20":
    cargo build --all-features
    NIXVM_CACHE_DIR={{ quote(cache) }} tests/beside-vms.sh 2 sh -c 'for round in $(seq {{ rounds }}); do \
        target/debug/nixvm-test scenarios/networks/cluster.rs -- a_connection_goes_on || exit; done'

# Tests `nixvm-test editor` with the real rust-analyzer, which rustup gets if it is missing: a minute.
test-editor:
    #!/usr/bin/env bash
    set -euo pipefail
    rust-analyzer --version 2>/dev/null || rustup component add rust-analyzer
    [ -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ] || rustup component add rust-src
    NIXVM_CACHE_DIR={{ quote(cache) }} NIXVM_TEST_RUST_ANALYZER=1 cargo test --workspace --all-features --test it -- cli::editor_server

# The examples of the macros need the library, so they are run there, from the book.
# Runs the examples in the documentation.
test-doc:
    cargo test --workspace --exclude nixvm-test-macros --all-features --doc

# Runs the stand-in's own tests.
test-standin:
    standin/tests/run.sh

# Runs the benchmarks; a table at the end.
bench *options:
    cargo bench {{ options }}

# Compares `./just login` from nothing with that of a commit: a quarter of an hour, as root.
bench-first-run commit="HEAD~1":
    benches/first-run.sh {{ quote(commit) }}

# Checks that the oldest Rust that Cargo.toml allows (rust-version) compiles everything; rustup gets it if it is missing.
msrv:
    #!/usr/bin/env bash
    set -euo pipefail
    oldest=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    rustup run "$oldest" cargo --version || rustup toolchain install --profile minimal --no-self-update "$oldest"
    # Another compiler would have cargo compile everything again, and once more afterwards.
    CARGO_TARGET_DIR=target/msrv rustup run "$oldest" cargo check --workspace --all-features

# Formats the code.
fmt:
    cargo fmt --all
    rustfmt --edition 2024 {{ guest_helper }}

# Checks formatting, and denies every warning of clippy.
lint: components
    cargo fmt --all -- --check
    rustfmt --edition 2024 --check {{ guest_helper }}
    cargo clippy --workspace --all-targets -- -D warnings
    cargo clippy --workspace --all-targets --all-features -- -D warnings
    # What users compile: without what tests bring along, with the program and without it.
    cargo clippy --package nixvm-test --lib --bins -- -D warnings
    cargo clippy --package nixvm-test --lib --no-default-features -- -D warnings
    clippy-driver --edition 2024 --crate-name helper --emit=metadata --out-dir target -Cpanic=abort -Dwarnings \
        -Wclippy::unwrap_used -Wclippy::expect_used -Wclippy::undocumented_unsafe_blocks {{ guest_helper }}

# Compares the files for CI systems with their schemas; pip gets the program for it.
schemas:
    #!/usr/bin/env bash
    set -euo pipefail
    site=$PWD/target/tools/check-jsonschema-0.39.0
    [ -d "$site" ] || python3 -m pip install --quiet --target "$site" check-jsonschema==0.39.0
    check() { PYTHONPATH=$site python3 -m check_jsonschema --builtin-schema "vendor.$@"; }
    check github-actions action.yml
    check github-workflows .github/workflows/*.yml examples/ci/github.yml
    check github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/wish.yml
    check github-issue-config .github/ISSUE_TEMPLATE/config.yml
    check gitlab-ci --data-transform gitlab-ci ci/gitlab/nixvm-test.yml examples/ci/gitlab.yml

# Builds the documentation and denies its warnings; compares the public items with docs/public-items.txt.
docs:
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --all-features --no-deps --document-private-items
    RUSTDOCFLAGS=-Dwarnings cargo doc --all-features --no-deps --lib
    .ci/public-items

# Builds the book: target/book/index.html. Its links and examples are tested by `./just test-rust book`.
book: book-tools
    mdbook build docs

# Makes the pages of the book's reference from the code.
book-write:
    SNAPSHOTS=overwrite cargo test --quiet --workspace --all-features --test it book::reference

# What continuous integration runs: formatting, lints, documentation, every test.
ci: lint docs book test

# What tests need beside what everything needs: shells, tesseract, Chromium, tshark.
[private]
test-tools:
    @./just test-tools

[private]
book-tools:
    @./just book-tools

# rustup's minimal profile has neither.
[private]
components:
    @cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    @cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
