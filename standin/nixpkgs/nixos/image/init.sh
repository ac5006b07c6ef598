#!/busybox sh
# The stand-in's initrd: finds the disk, puts the store into it, activates the configuration, starts systemd.
# Every process costs a twentieth of a second under emulation, so there are few.
export PATH=/
/busybox mount -t devtmpfs dev /dev
/busybox mount -t proc proc /proc
exec </dev/console >/dev/console 2>&1

rescue() {
    echo "standin: initrd: $*"
    echo "standin: initrd: the machine can't start"
    # Like a panic, but with a message of one's own; QEMU goes away if it was told -no-reboot.
    /busybox sleep 1
    /busybox poweroff -f
}

# Nodes whose modules load when they are opened. udev gives them their modes.
/busybox mknod /dev/fuse c 10 229
/busybox mknod /dev/loop-control c 10 237
/busybox mkdir /dev/net
/busybox mknod /dev/net/tun c 10 200

while read -r module; do
    /busybox insmod "/modules/$module" || echo "standin: initrd: $module does not load"
done </modules/order

n=0
while [ ! -b /dev/vda ]; do
    n=$((n + 1))
    [ $n -lt 200 ] || rescue "there is no disk /dev/vda: was NIX_DISK_IMAGE given to QEMU?"
    /busybox usleep 20000
done
# The journal is replayed here if the machine crashed.
/busybox mount -t ext4 -o rw /dev/vda /root || rescue "/dev/vda has no ext4 file system"

/busybox mount -t sysfs sys /root/sys
/busybox mount -t tmpfs -o mode=755,nosuid,nodev,size=25% run /root/run
/busybox mount --move /dev /root/dev

# The configuration's closure came with the initrd. It stays where the kernel unpacked it, and the machine sees it there:
# nothing is copied, and it is always that of the run script, however old the disk.
/busybox mount --bind /nix/store /root/nix/store
/busybox mount -o remount,bind,ro /root/nix/store

/busybox mount --move /proc /root/proc

# The disk was made larger than the image that it started from.
if [ "$(/busybox cat /root/sys/class/block/vda/size)" -gt @sectors@ ]; then
    /busybox chroot /root /usr/sbin/resize2fs /dev/vda >/dev/null 2>&1
fi

# The last init= wins, as with the kernel itself: so a specialisation of the system is booted.
system=@system@
read -r line </root/proc/cmdline
for word in $line; do
    case $word in
        init=/nix/store/*/init)
            word=${word#init=}
            # What specialisation/NAME leads to.
            if [ -x "${word%/init}/activate" ]; then system=$(/busybox readlink -f "${word%/init}"); fi
            ;;
    esac
done

/busybox chroot /root "$system/activate" "$system" boot || echo "standin: initrd: activation failed"

# As switch_root does, but without emptying the initrd, where the store is.
/busybox rm -rf /modules
cd /root
/busybox mount --move . /
exec /busybox chroot . /usr/lib/systemd/systemd
