# Builder of layer 2 (image.nix). Makes:
#   $out/root.qcow2   the disk that every machine starts from, an ext4 file system
#   $out/size         its size in MiB
#   $programs         "GROUP PROGRAM PATH" for each program of the packages that were added
set -eu
. "$library"

need mmdebstrap mmdebstrap
need mke2fs e2fsprogs
need mount mount
need qemu-img qemu-utils
need_namespace_or_root

count=$(echo $groups | wc -w)
if [ "$count" = 0 ]; then
    step "building the disk image: the base system alone"
else
    step "building the disk image with $count more package(s): $groups"
fi
apt_sources >"$TMPDIR/sources.list"
chmod 755 "$TMPDIR"
# Written to from mmdebstrap's user namespace when not root.
mkdir -m 777 "$TMPDIR/export"
echo "$groups" >"$TMPDIR/groups"
# apt runs inside; quieten.sh takes them away again.
cat /etc/resolv.conf >"$TMPDIR/resolv.conf"
cat /etc/hosts >"$TMPDIR/hosts"

# Beside what is in it: room for the machine to write to, and at least the 1,024 MiB that NixOS's disk has.
# Inode tables are written now, or the kernel would do it in the background of the first boot.
cat >"$TMPDIR/make-file-system" <<'EOF'
set -eu
root=${2%/*}/root image=$2
# The root without what mmdebstrap has mounted in it (/proc, /dev, /sys).
mkdir -p "$root"
mount --bind "$1" "$root"
used=$(du -s -m "$root" | cut -f 1)
size=$((used * 105 / 100 + 512))
[ $size -ge 1024 ] || size=1024
mke2fs -q -t ext4 -L nixos -d "$root" -m 1 -E lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,nodiscard "$image" ${size}M
umount "$root"
rmdir "$root"
chmod 644 "$image"
EOF

# Device nodes only root can make; for others mmdebstrap mounts the host's. The machine has its own either way.
nodes=
[ "$(id -u)" = 0 ] || nodes="--exclude=./dev/*"
run_mmdebstrap --mode=auto --variant=custom --format=null \
    --skip=setup,update,cleanup,check/empty \
    --setup-hook="tar -C \"\$1\" --xattrs --xattrs-include='*' --numeric-owner $nodes -xpf $base/root.tar && mkdir -p \"\$1/dev/pts\" \"\$1/dev/shm\"" \
    --customize-hook="upload $TMPDIR/groups /tmp/groups" \
    --customize-hook="upload $TMPDIR/sources.list /etc/apt/sources.list" \
    --customize-hook="upload $TMPDIR/resolv.conf /etc/resolv.conf" \
    --customize-hook="upload $TMPDIR/hosts /etc/hosts" \
    --customize-hook="upload $customize /tmp/customize" \
    --customize-hook="upload $quieten /tmp/quieten" \
    --customize-hook="upload $linkPrograms /tmp/link-programs" \
    --customize-hook='chroot "$1" sh /tmp/customize' \
    --customize-hook="download /tmp/programs-of-groups $TMPDIR/programs" \
    --customize-hook='cd "$1/tmp" && rm -rf groups customize quieten link-programs programs-of-groups' \
    --customize-hook="sh $TMPDIR/make-file-system \"\$1\" $TMPDIR/export/root.raw" \
    "$suite" - "$TMPDIR/sources.list"

step "packing the disk image"
mkdir "$out"
qemu-img convert -f raw -O qcow2 "$TMPDIR/export/root.raw" "$out/root.qcow2"
echo $(($(stat -c %s "$TMPDIR/export/root.raw") / 1048576)) >"$out/size"
cp "$TMPDIR/programs" "$programs"
rm -f "$TMPDIR/export/root.raw"
step "the disk image is built"
