# Runs inside the base system's root: turns off what of Debian would only slow a test machine's boot.
# Under emulation every process of the boot costs between a twentieth and half a second, and every udev rule is read for
# every device. Turned off by a link to /dev/null in /etc, as an administrator would; nothing is deleted.
set -eu

off() {
    folder=$1
    shift
    mkdir -p "$folder"
    for name in "$@"; do ln -sf /dev/null "$folder/$name"; done
}

# For cryptsetup, /etc/fstab, GPT's automatic partitions, SysV's scripts …: the machine has none of them.
# What the kernel line can ask for (getty, debug, run) stays.
for name in cryptsetup fstab gpt-auto hibernate-resume integritysetup rc-local system-update sysv veritysetup; do
    off /etc/systemd/system-generators "systemd-$name-generator"
done

# For hardware that no virtual machine has. Disks, network cards, seats, input devices and serial lines stay.
for name in 50-firmware 60-autosuspend 60-cdrom_id 60-drm 60-evdev 60-fido-id 60-infiniband 60-persistent-alsa \
    60-persistent-storage-tape 60-persistent-v4l 60-sensor 60-serial 64-btrfs 70-camera 70-joystick 70-memory 70-mouse \
    70-touchpad 73-special-net-names 75-net-description 75-probe_mtd 78-sound-card 85-hwclock 96-e2scrub; do
    off /etc/udev/rules.d "$name.rules"
done

for name in home journal-nocow legacy passwd provision systemd-pstore x11; do
    off /etc/tmpfiles.d "$name.conf"
done

# Read by systemd-modules-load, which runs only if the configuration names modules.
rm -f /etc/modules-load.d/modules.conf
