#!/bin/sh
# Starts the machine "@machine@". Made by the stand-in for nixpkgs in the image of NixOS's run-NAME-vm; it honours the same
# variables: NIX_DISK_IMAGE, TMPDIR with USE_TMPDIR, SHARED_DIR, QEMU_NET_OPTS, QEMU_OPTS, QEMU_KERNEL_PARAMS,
# NIXPKGS_QEMU_KERNEL_@variable@. NIX_EFI_VARS, NIX_SWTPM_DIR and NIX_SSL_CERT_FILE are accepted: the machine has no
# firmware variables, no TPM, and Debian's certificates.

# coreutils first, as NixOS; Debian has them and QEMU in these.
export PATH=/usr/bin:/bin:/usr/sbin:/sbin${PATH:+:}$PATH

set -e

# Create an empty ext4 filesystem image: NixOS. Here: a layer over the image that has the packages.
createEmptyFilesystemImage() {
    local name=$1
    local size=$2
    local least=$(cat @image@/size)
    if [ "$size" -lt "$least" ]; then size=$least; fi
    qemu-img create -q -f qcow2 -b @image@/root.qcow2 -F qcow2 "$name" "${size}M"
}

NIX_DISK_IMAGE=$(readlink -f "${NIX_DISK_IMAGE:-@diskImage@}") || test -z "$NIX_DISK_IMAGE"

if ! command -v qemu-system-x86_64 >/dev/null || ! command -v qemu-img >/dev/null; then
    echo "$0: qemu-system-x86_64 and qemu-img are needed: apt-get install qemu-system-x86 qemu-utils" >&2
    exit 1
fi

if [ -n "$NIX_DISK_IMAGE" ] && ! test -e "$NIX_DISK_IMAGE"; then
    echo "Disk image do not exist, creating the virtualisation disk image..."
    createEmptyFilesystemImage "$NIX_DISK_IMAGE" "@disk@"
    echo "Virtualisation disk image created."
fi

# Create a directory for storing temporary data of the running VM.
if [ -z "$TMPDIR" ] || [ -z "$USE_TMPDIR" ]; then
    TMPDIR=$(mktemp -d nix-vm.XXXXXXXXXX --tmpdir)
fi

# A machine with a mounted share can't be saved or cloned, so there is one only when it is asked for.
sharedOptions=
sharedParameter=
if [ -n "$SHARED_DIR" ]; then
    sharedOptions="-virtfs local,path=$SHARED_DIR,security_model=none,mount_tag=shared"
    # Tells the machine to mount it (tmp-shared.mount).
    sharedParameter=" standin.shared"
fi

cd "$TMPDIR"

# Disks that virtualisation.emptyDiskImages asks for.
extraDisks=
index=0
for size in @emptyDisks@; do
    if ! test -e "empty$index.qcow2"; then
        qemu-img create -q -f qcow2 "empty$index.qcow2" "${size}M"
    fi
    extraDisks="$extraDisks -drive cache=writeback,file=$(pwd)/empty$index.qcow2,id=drive$((index + 2)),if=none,index=$((index + 2)),werror=report -device virtio-blk-pci,drive=drive$((index + 2))"
    index=$((index + 1))
done

# Start QEMU. Its options in NixOS's order; QEMU_OPTS and the arguments come last and win.
exec qemu-system-x86_64 -machine accel=kvm:tcg -cpu max \
    -name @machine@ \
    -m @memory@ \
    -smp @cores@ \
    -device virtio-rng-pci \
    -net nic,netdev=user.0,model=virtio -netdev user,id=user.0@forwards@${QEMU_NET_OPTS:+,$QEMU_NET_OPTS} \
    $sharedOptions \
    -drive cache=writeback,file="$NIX_DISK_IMAGE",id=drive1,if=none,index=1,werror=report -device virtio-blk-pci,bootindex=1,drive=drive1,serial=root \
    $extraDisks \
    -device virtio-keyboard \
    -usb \
    -device usb-tablet,bus=usb-bus.0 \
    -kernel ${NIXPKGS_QEMU_KERNEL_@variable@:-@base@/vmlinux} \
    -initrd @initrd@ \
    -append "$(cat @toplevel@/kernel-params) init=@toplevel@/init @consoles@$sharedParameter $QEMU_KERNEL_PARAMS"@options@ \
    $QEMU_OPTS \
    "$@"
