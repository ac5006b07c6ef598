# Builder of layer 1 (base.nix). Makes, in $out:
#   root.tar          the base system
#   vmlinux           the kernel, uncompressed
#   initrd-modules/   what the initrd loads, and `order`, the order to load it in
#   programs          "base PROGRAM PATH" for each program in it
#   units             the names of systemd's own units
#   busybox           static: the initrd's shell and every tool in it
set -eu
. "$library"

need mmdebstrap mmdebstrap
need perl perl
need python3 python3
need tar tar
need_namespace_or_root

step "building the base system (Debian $suite), once a host: 1 to 3 minutes"
mkdir -p "$out"
apt_sources >"$TMPDIR/sources.list"
# mmdebstrap's user namespace is another user, who must get through.
chmod 755 "$TMPDIR"

step "downloading and unpacking the base packages from $(find_mirror)"
# Only our own files of its /tmp are removed: mmdebstrap has its apt configuration there, and would clear the lists of the
# host's apt if that were gone.
# Manuals and translations are most of the files in the image, and nobody reads them on a test machine.
run_mmdebstrap --mode=auto --variant=apt --format=tar --include="$include" \
    --aptopt='Apt::Install-Recommends "false"' \
    --aptopt='Acquire::Languages "none"' \
    --aptopt='Acquire::Retries "3"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-include=/usr/share/locale/locale.alias' \
    --dpkgopt='path-exclude=/usr/share/lintian/*' \
    --customize-hook="upload $modules /tmp/modules" \
    --customize-hook="upload $customize /tmp/customize" \
    --customize-hook="upload $trim /tmp/trim" \
    --customize-hook="upload $quieten /tmp/quieten" \
    --customize-hook="upload $linkPrograms /tmp/link-programs" \
    --customize-hook="chroot \"\$1\" sh /tmp/customize $kernelPackage" \
    --customize-hook="download /tmp/programs-of-base $TMPDIR/programs" \
    --customize-hook="download /tmp/vmlinuz $TMPDIR/vmlinuz" \
    --customize-hook="download /tmp/initrd-modules.tar $TMPDIR/initrd-modules.tar" \
    --customize-hook="download /tmp/units $TMPDIR/units" \
    --customize-hook="download /bin/busybox $TMPDIR/busybox" \
    --customize-hook='cd "$1/tmp" && rm -rf modules customize trim quieten link-programs programs-of-base vmlinuz initrd-modules initrd-modules.tar units wanted keep order' \
    "$suite" "$out/root.tar" "$TMPDIR/sources.list"

step "unpacking the kernel"
python3 "$vmlinux" "$TMPDIR/vmlinuz" "$out/vmlinux"
mkdir "$out/initrd-modules"
tar -C "$out/initrd-modules" -xf "$TMPDIR/initrd-modules.tar"
cp "$TMPDIR/busybox" "$TMPDIR/programs" "$TMPDIR/units" "$out/"
chmod 755 "$out/busybox"
step "the base system is built"
