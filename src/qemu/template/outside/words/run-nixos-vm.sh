#! /nix/store/ai4b1pygqzcac8gaq0d8wadb0h4yafac-debian-trixie/usr/bin/bash

export PATH=/nix/store/0fqx3i1y2m02ibddckq01zplxzjhjiq8-coreutils/bin${PATH:+:}$PATH

set -e

# Create an empty ext4 filesystem image. A filesystem image does not
# contain a partition table but just a filesystem.
createEmptyFilesystemImage() {
  local name=$1
  local size=$2
  local temp=$(mktemp)
  /nix/store/5ikcc331xc3048i6fvnh6g56kqa3azfd-qemu-host/bin/qemu-img create -f raw "$temp" "$size"
  /nix/store/dl4mf6r97arjlf21v19zm4rnc2p1pxsv-e2fsprogs/bin/mkfs.ext4 -L nixos "$temp"
  /nix/store/5ikcc331xc3048i6fvnh6g56kqa3azfd-qemu-host/bin/qemu-img convert -f raw -O qcow2 "$temp" "$name"
  rm "$temp"
}

NIX_DISK_IMAGE=$(readlink -f "${NIX_DISK_IMAGE:-./nixos.qcow2}") || test -z "$NIX_DISK_IMAGE"

if test -n "$NIX_DISK_IMAGE" && ! test -e "$NIX_DISK_IMAGE"; then
    echo "Disk image do not exist, creating the virtualisation disk image..."

    createEmptyFilesystemImage "$NIX_DISK_IMAGE" "1024M"

    echo "Virtualisation disk image created."
fi

# Create a directory for storing temporary data of the running VM.
if [ -z "$TMPDIR" ] || [ -z "$USE_TMPDIR" ]; then
    TMPDIR=$(mktemp -d nix-vm.XXXXXXXXXX --tmpdir)
fi



# Create a directory for exchanging data with the VM.
mkdir -p "$TMPDIR/xchg"







cd "$TMPDIR"




# Start QEMU.
exec /nix/store/5ikcc331xc3048i6fvnh6g56kqa3azfd-qemu-host/bin/qemu-kvm -cpu max \
    -name nixos \
    -m 1024 \
    -smp 1 \
    -device virtio-rng-pci \
    -net nic,netdev=user.0,model=virtio -netdev user,id=user.0,"$QEMU_NET_OPTS" \
    -virtfs local,path=/nix/store,security_model=none,mount_tag=nix-store \
    -virtfs local,path="${SHARED_DIR:-$TMPDIR/xchg}",security_model=none,mount_tag=shared \
    -virtfs local,path="$TMPDIR"/xchg,security_model=none,mount_tag=xchg \
    -drive cache=writeback,file="$NIX_DISK_IMAGE",id=drive1,if=none,index=1,werror=report -device virtio-blk-pci,bootindex=1,drive=drive1,serial=root \
    -device virtio-keyboard \
    -usb \
    -device usb-tablet,bus=usb-bus.0 \
    -kernel ${NIXPKGS_QEMU_KERNEL_nixos:-/nix/store/444il9vwkb9gd2z4madmrslj08pjjryz-nixos-system-nixos-25.05pre-git/kernel} \
    -initrd /nix/store/k62idifpm18lkxbn2n3d0kc167zbi6vw-initrd-linux-6.12.117+deb13-amd64/initrd \
    -append "$(cat /nix/store/444il9vwkb9gd2z4madmrslj08pjjryz-nixos-system-nixos-25.05pre-git/kernel-params) init=/nix/store/444il9vwkb9gd2z4madmrslj08pjjryz-nixos-system-nixos-25.05pre-git/init regInfo=/nix/store/y195p07bhd33nd4v13lc3mhpa825x39r-closure-info/registration console=ttyS0,115200n8 console=tty0 $QEMU_KERNEL_PARAMS" \
    $QEMU_OPTS \
    "$@"
