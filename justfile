# What is done with this repository: `./just RECIPE`. The wrapper ./just installs what is missing first.

set shell := ["bash", "-euo", "pipefail", "-c"]

export CARGO_TERM_COLOR := env("CARGO_TERM_COLOR", "auto")

# nextest runs the tests where it is installed, cargo itself where it is not.
nextest := `cargo nextest --version >/dev/null 2>&1 && echo yes || echo no`

# Not a crate of the workspace: build.rs compiles it.
guest_helper := "src/control/guest/helper/main.rs"

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
    cargo run --quiet --bin nixvm-test -- {{ options }} scenarios/login.rs

# Runs every test.
test: test-rust test-doc test-standin

# Runs the Rust tests; `./just test-rust NAME` those whose name contains NAME.
test-rust *filter:
    @if [ {{ nextest }} = yes ]; then set -x; cargo nextest run --workspace --all-features --no-fail-fast {{ filter }}; \
    else set -x; cargo test --workspace --all-features --no-fail-fast --all-targets {{ filter }}; fi

# Runs the examples in the documentation.
test-doc:
    cargo test --workspace --all-features --doc

# Runs the stand-in's own tests.
test-standin:
    standin/tests/run.sh

# Runs the benchmarks; a table at the end.
bench *options:
    cargo bench {{ options }}

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
    clippy-driver --edition 2024 --crate-name helper --emit=metadata --out-dir target -Cpanic=abort -Dwarnings \
        -Wclippy::unwrap_used -Wclippy::expect_used -Wclippy::undocumented_unsafe_blocks {{ guest_helper }}

# Builds the documentation and denies its warnings.
docs:
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --all-features --no-deps --document-private-items

# Builds the book: target/book/index.html. Its links and examples are tested by `./just test-rust book`.
book:
    mdbook build docs

# Makes the pages of the book's reference from the code.
book-write:
    SNAPSHOTS=overwrite cargo test --quiet --test book reference

# What continuous integration runs: formatting, lints, documentation, every test.
ci: lint docs book test

# rustup's minimal profile has neither.
[private]
components:
    @cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    @cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
