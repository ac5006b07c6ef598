#!/usr/bin/env bash
# Installs QEMU, where there is none, and nixvm-test from the sources of this action into the folder $PROGRAM.
set -euo pipefail
: "${GITHUB_ACTION_PATH:?}" "${GITHUB_PATH:?}" "${PROGRAM:?}"

if ! command -v qemu-system-x86_64 >/dev/null || ! command -v qemu-img >/dev/null; then
    sudo apt-get update -q
    sudo apt-get install -q -y --no-install-recommends qemu-system-x86 qemu-utils
fi

if [ -x "$PROGRAM/bin/nixvm-test" ]; then
    echo "nixvm-test is in the cache"
else
    # Built outside of the sources: what scenarios are linked with lies in the cache then, whether the program was built in
    # this job or came from the cache.
    build=$(mktemp -d)
    trap 'rm -rf "$build"' EXIT
    cargo install --locked --path "$GITHUB_ACTION_PATH" --root "$PROGRAM" --target-dir "$build"
fi
echo "$PROGRAM/bin" >>"$GITHUB_PATH"
