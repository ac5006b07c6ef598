#!/usr/bin/env bash
# Says where things go, and a key for what is compiled: outputs of the step, in the file $GITHUB_OUTPUT.
set -euo pipefail
: "${GITHUB_ACTION_PATH:?}" "${GITHUB_WORKSPACE:?}" "${GITHUB_OUTPUT:?}" "${HOME:?}"

# What is compiled holds for one compiler, these sources, and the folder that they lie in.
key=$({
    rustc -vV
    echo "$GITHUB_ACTION_PATH"
    cd "$GITHUB_ACTION_PATH"
    find Cargo.toml Cargo.lock build.rs src macros -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
} | sha256sum | cut -c1-16)

{
    echo "key=$key"
    echo "program=$HOME/.local/share/nixvm-test-action"
    echo "compiled=${XDG_CACHE_HOME:-$HOME/.cache}/nixvm-test/scenarios"
    echo "report=$GITHUB_WORKSPACE/nixvm-test-report/report.html"
    echo "junit=$GITHUB_WORKSPACE/nixvm-test-report/junit.xml"
    echo "runs=$GITHUB_WORKSPACE/nixvm-test-report/runs"
} >>"$GITHUB_OUTPUT"
