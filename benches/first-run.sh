#!/usr/bin/env bash
# benches/first-run.sh [COMMIT]: how long `./just login` takes from nothing, at COMMIT (HEAD~1 if not given) and at HEAD, in
# turn on this machine. From nothing: a clone without a target folder, an empty cache and an empty Nix store. Packages are
# installed and crates are downloaded before, since both need the same ones. Then how long the first scenario of an installed
# program takes, one without a machine: no build of the program is at hand, so the library is compiled for it. A quarter of
# an hour; needs root, since each run has a file system of its own at /nix. NIXVM_BENCH_ROUNDS=2 measures twice.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
before=$(git -C "$here" rev-parse --verify --short "${1:-HEAD~1}^{commit}")
now=$(git -C "$here" rev-parse --verify --short 'HEAD^{commit}')
rounds=${NIXVM_BENCH_ROUNDS:-1}

die() { echo "first-run: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "this needs root, for an empty Nix store: sudo -E $0 $before"
unshare --mount true || die "this needs the right to mount file systems (unshare --mount fails)"

work=$(mktemp -d "${TMPDIR:-/tmp}/first-run.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# What the caller has set for runs of their own, and what leads to another place than an empty one.
unset "${!NIXVM_@}" "${!NIX_@}" CARGO_TARGET_DIR CARGO_BUILD_TARGET_DIR RUSTFLAGS CARGO_INCREMENTAL 2>/dev/null || true
mkdir -p /nix
# A just that was got for this repository is not there from nothing.
path=
while IFS= read -r -d : folder; do
    [ -x "$folder/just" ] && [ ! -x "$folder/cargo" ] && [ ! -x "$folder/sh" ] || path=$path${path:+:}$folder
done <<<"$PATH:"
export PATH=$path

# clone NAME COMMIT
clone() {
    git clone --quiet "$here" "$work/$1/nixvm-test"
    git -C "$work/$1/nixvm-test" checkout --quiet "$2"
}

# The seconds since $1.
since() { awk "BEGIN { printf \"%.1f\", $(date +%s.%N) - $1 }"; }

# Runs both once in a fresh clone, and leaves the seconds in $login and $scenario.
run() {
    local name=$1 commit=$2 log=$work/$1.log begun
    rm -rf "${work:?}/$name"
    mkdir -p "$work/$name"/{nix,tmp}
    clone "$name" "$commit"
    begun=$(date +%s.%N)
    # The mount is this run's alone and goes with it.
    if ! (cd "$work/$name/nixvm-test" &&
        XDG_CACHE_HOME=$work/$name/cache XDG_STATE_HOME=$work/$name/state TMPDIR=$work/$name/tmp \
            unshare --mount --propagation private sh -c 'mount --bind "$1" /nix && exec ./just login' sh "$work/$name/nix") \
        </dev/null >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        die "./just login failed at $commit"
    fi
    login=$(since "$begun")
    git clone --quiet "$work/$name/nixvm-test" "$work/$name/library"
    printf '%s\n' 'use nixvm_test::prelude::*;' '#[scenario]' 'async fn none() {}' 'nixvm_test::main!();' >"$work/$name/none.rs"
    begun=$(date +%s.%N)
    NIXVM_LIBRARY=$work/$name/library NIXVM_CACHE_DIR=$work/$name/installed NIXVM_RUNS=$work/$name/runs \
        "$work/$name/nixvm-test/target/debug/nixvm-test" "$work/$name/none.rs" </dev/null >>"$log" 2>&1 ||
        { tail -n 40 "$log" >&2; die "a scenario failed at $commit"; }
    scenario=$(since "$begun")
    echo "--- $commit: what it said" >&2
    grep -v '^ *Compiling' "$log" | cut -c 1-150 | tail -n 25 >&2
    rm -rf "${work:?}/$name"
}

# Packages and crates, for both; not part of the time.
clone now "$now"
(cd "$work/now/nixvm-test" && ./just setup </dev/null && cargo fetch --quiet --locked) >&2
clone before "$before"
(cd "$work/before/nixvm-test" && cargo fetch --quiet --locked) >&2
! command -v just >/dev/null || echo "first-run: there is a just on the PATH, so neither run has to get one" >&2

echo "machine: $(nproc) x $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)," \
    "$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), $(uname -sr)"
echo "versions: $(rustc --version); $(nix-build --version); $(qemu-system-x86_64 --version | head -n 1)"
for round in $(seq "$rounds"); do
    run before "$before"
    login_before=$login scenario_before=$scenario
    run now "$now"
    compare() {
        awk -v round="$round" -v what="$1" -v before="$2" -v now="$3" -v old="$before" -v new="$now" 'BEGIN {
            printf "round %d: %s: %s s at %s, %s s at %s, ratio %.2f\n", round, what, before, old, now, new, now / before
        }'
    }
    compare "./just login from nothing" "$login_before" "$login"
    compare "the first scenario of an installed program" "$scenario_before" "$scenario"
done
