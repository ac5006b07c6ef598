# Runs inside the guest's root after packages were installed there.
set -eu

# Debian starts what is installed. Here only the configuration decides what starts.
# /etc/systemd/{system,user} become links to the configuration's units.
rm -rf /etc/systemd/system /etc/systemd/user /etc/rc?.d/* /etc/init.d/* /etc/cron.*/*

# Files that would make every machine the same, or that the configuration writes.
rm -f /etc/machine-id /var/lib/dbus/machine-id /etc/hostname /etc/hosts /etc/resolv.conf /etc/motd /etc/issue /etc/issue.net
rm -rf /etc/update-motd.d /etc/skel/.bashrc /etc/skel/.profile /etc/skel/.bash_logout /root/.bashrc /root/.profile
find /var/log -type f -delete
rm -rf /var/cache/apt/* /var/cache/debconf/*-old /var/lib/dpkg/*-old

# Keys are made by the machine that uses them.
rm -f /etc/ssh/ssh_host_*

# Where the initrd shows the store.
mkdir -p /nix/store
