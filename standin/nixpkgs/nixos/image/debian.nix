# What of Debian the stand-in is made of: the suite, the mirror and the base system's packages.
#
# The suite is bookworm on every host: a test then means the same on every host, and the package table
# (../../pkgs/table.nix) needs to be right for one suite only.
{
  suite = "bookworm";
  release = "12";
  kernelPackage = "linux-image-amd64";

  # "" = the first mirror in the host's own apt sources that carries Debian, else deb.debian.org.
  mirror = builtins.getEnv "STANDIN_MIRROR";

  # Essential packages and apt come by themselves (mmdebstrap's variant `apt`). The rest is what a NixOS system has on
  # its path without being asked (nixos/modules/config/system-path.nix), and what boots it.
  basePackages = [
    # boots it
    "busybox-static" "dbus" "kmod" "libpam-systemd" "systemd" "systemd-sysv" "udev"
    # logs in
    "login" "passwd" "sudo"
    # NixOS's requiredPackages and defaultPackages
    "acl" "attr" "bzip2" "ca-certificates" "cpio" "curl" "file" "gawk" "iproute2" "iputils-ping" "less" "libcap2-bin"
    "nano" "ncurses-base" "ncurses-bin" "ncurses-term" "netbase" "netcat-openbsd" "openssh-client" "patch" "perl" "procps"
    "psmisc" "rsync" "strace" "time" "tzdata" "whois" "xz-utils" "zstd"
    # the firewall, and growing the root file system
    "nftables" "e2fsprogs"
  ];
}
