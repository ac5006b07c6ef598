# Runs inside the new root, as its root: sh customize KERNELPACKAGE
# Puts the kernel in and takes out what would slow a test machine down. The configuration's part is not here: it must stay
# out of this layer, or a changed user would rebuild it.
set -eu
kernel_package=$1

# --- The kernel. Unpacked, not installed: its package wants initramfs-tools, which would build an initrd for minutes, and
# the stand-in has an initrd of its own.
cd /tmp
image=$(apt-cache depends "$kernel_package" | sed -n 's/^ *Depends: //p' | head -n 1)
apt-get download -q "$image"
mkdir kernel
dpkg-deb --fsys-tarfile "$image"_*.deb | tar -C kernel -x ./boot ./lib/modules
version=$(ls kernel/lib/modules)
cp "kernel/boot/vmlinuz-$version" vmlinuz

mkdir -p "/lib/modules/$version"
tree=kernel/lib/modules/$version
cp "$tree"/modules.order "$tree"/modules.builtin "$tree"/modules.builtin.modinfo "/lib/modules/$version/"
depmod -b kernel "$version"

# What is asked for, and by modules.dep what that depends on.
grep -v '^#' modules | while read -r entry; do
    [ -e "$tree/kernel/$entry" ] || { echo "no $entry in $image" >&2; continue; }
    (cd "$tree" && find "kernel/$entry" -name '*.ko')
done | sort -u >wanted
awk -F': *' 'NR == FNR { wanted[$0]; next } $1 in wanted { print $1; n = split($2, need, " "); for (i = 1; i <= n; i++) print need[i] }' \
    wanted "$tree/modules.dep" | sort -u >keep
(cd "$tree" && tar -c -T /tmp/keep) | tar -C "/lib/modules/$version" -x
depmod "$version"

# The initrd's modules: the disk and its file system, each after what it needs.
mkdir initrd-modules
for module in virtio_pci virtio_blk crc32c_generic ext4; do
    modprobe --show-depends -S "$version" "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
done | awk '!seen[$0]++' >order
: >initrd-modules/order
while read -r file; do
    cp "$file" initrd-modules/
    basename "$file" >>initrd-modules/order
done <order
tar -C initrd-modules -cf initrd-modules.tar .
rm -rf kernel "$image"_*.deb
cd /

sh /tmp/quieten
sh /tmp/trim
sh /tmp/link-programs base >/tmp/programs-of-base
ls /usr/lib/systemd/system >/tmp/units
