#!/usr/bin/env bash
# Runs nixvm-test as the inputs of the action say. Its status is that of nixvm-test.
#
# Annotations and the summary of the job are nixvm-test's own. If it ends before it has written one (a file that does not
# compile, a host without Nix), the summary says so.
set -euo pipefail
: "${SCENARIOS:?}" "${REPORT:?}" "${JUNIT:?}" "${RUNS:?}"

# lines TEXT: the lines that are not empty, into the array `lines`.
lines() {
    lines=()
    local line
    while IFS= read -r line || [ -n "$line" ]; do
        [ -z "$line" ] || lines+=("$line")
    done <<<"$1"
}

case ${KVM:-required} in
required) export NIXVM_ACCELERATOR=kvm ;;
optional) ;;
*) echo "::error::the input kvm is \"$KVM\": write required or optional"; exit 2 ;;
esac
# An input that is empty leaves the choice to the job's own variables and to nixvm.toml.
[ -z "${NIXPKGS-}" ] || export NIXVM_NIXPKGS=$NIXPKGS
[ -z "${RETRIES-}" ] || export NIXVM_RETRIES=$RETRIES
[ -z "${RUN_TIMEOUT-}" ] || export NIXVM_RUN_TIMEOUT=$RUN_TIMEOUT
export NIXVM_RUNS=$RUNS NIXVM_REPORT="junit=$JUNIT,html=$REPORT"
mkdir -p "$(dirname "$REPORT")" "$(dirname "$JUNIT")" "$RUNS"
unset KVM NIXPKGS RETRIES RUN_TIMEOUT

lines "$SCENARIOS"
scenarios=(${lines[@]+"${lines[@]}"})
lines "${ARGUMENTS-}"
# Files stand before the arguments for the harness.
options=() harness=()
for line in ${lines[@]+"${lines[@]}"}; do
    if [ "$line" = -- ] || [ ${#harness[@]} -gt 0 ]; then harness+=("$line"); else options+=("$line"); fi
done

status=0
nixvm-test ${options[@]+"${options[@]}"} "${scenarios[@]}" ${harness[@]+"${harness[@]}"} || status=$?
if [ "$status" != 0 ] && [ -n "${GITHUB_STEP_SUMMARY-}" ] && [ ! -s "$GITHUB_STEP_SUMMARY" ]; then
    echo "nixvm-test ended with status $status before any scenario ran: the log of the step says why." >>"$GITHUB_STEP_SUMMARY"
fi
exit "$status"
