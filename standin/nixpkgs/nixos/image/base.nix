# Layer 1: the kernel and Debian's base system, as a derivation of its own.
#
# It depends on nothing that a configuration can say, so it is built once a host. mmdebstrap works unsandboxed, with the
# host's tools; base.sh says which of them is missing.
{ debian, system }:

derivation {
  name = "standin-base-${debian.suite}";
  inherit system;
  builder = "/bin/sh";
  args = [ ./base.sh ];
  customize = ./base-customize.sh;
  quieten = ./quieten.sh;
  trim = ./trim.sh;
  linkPrograms = ./link-programs.sh;
  library = ./build-lib.sh;
  modules = ./kernel-modules.txt;
  vmlinux = ./extract-vmlinux.py;
  allowSubstitutes = false;
  inherit (debian) suite mirror kernelPackage;
  include = builtins.concatStringsSep "," debian.basePackages;
}
