#!/usr/bin/env bash
# Runs a command while VMs are up: tests/beside-vms.sh COUNT COMMAND …
#
# The VMs are those of configuration.nix. The command starts when all of them have booted, and they end with it: also
# after ctrl-C, and also if this script is killed.
set -euo pipefail

count=$1
shift
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
vms=()

end() {
    # In groups of their own.
    for vm in "${vms[@]}"; do kill -KILL -- "-$vm" 2>/dev/null || :; done
    { wait; } 2>/dev/null
    rm -rf "$folder"
}
trap end EXIT
# A signal waits for the command, which gets ctrl-C as well.
trap 'exit 130' INT
trap 'exit 143' TERM HUP

cargo run --quiet --bin nixvm-test -- build --out-link "$folder/result" >/dev/null
for number in $(seq "$count"); do
    mkdir "$folder/$number"
    # Under TCG they run on every host, and take what a busy host takes. setpriv ends QEMU with this script. The run script
    # goes to TMPDIR, and splits QEMU_OPTS at spaces, which the folder's path may have.
    TMPDIR=$folder/$number USE_TMPDIR=1 NIX_DISK_IMAGE=$folder/$number/disk.qcow2 \
        QEMU_KERNEL_PARAMS="console=ttyS0,115200n8" \
        QEMU_OPTS="-machine accel=tcg -cpu max -display none -monitor none -serial file:console" \
        setsid setpriv --pdeathsig KILL "$folder"/result/bin/run-*-vm </dev/null &>"$folder/$number/log" &
    vms+=("$!")
done

printf '%s\n' "$count VMs boot" >&2
for number in $(seq "$count"); do
    until grep -qs 'login: ' "$folder/$number/console"; do
        if ! kill -0 "${vms[number - 1]}" 2>/dev/null || [ $SECONDS -gt 1200 ]; then
            printf '%s\n' "VM $number does not boot:" >&2
            tail -n 20 "$folder/$number/log" "$folder/$number/console" >&2 || :
            exit 1
        fi
        sleep 1
    done
done
printf '%s\n' "$count VMs are up after $SECONDS s" >&2

status=0
"$@" || status=$?
for number in $(seq "$count"); do
    kill -0 "${vms[number - 1]}" 2>/dev/null || {
        printf '%s\n' "VM $number ended before the command" >&2
        exit 1
    }
done
exit "$status"
