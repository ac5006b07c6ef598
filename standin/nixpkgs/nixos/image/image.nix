# Layer 2: the disk image, the base system with the packages that a configuration uses.
#
# It is keyed by the sorted list of packages and by nothing else of the configuration, so that machines with the same
# packages share it, and only a changed list downloads anything.
{ debian, system, base, groups }:

derivation {
  name = "standin-image";
  inherit system base;
  outputs = [ "out" "programs" ];
  builder = "/bin/sh";
  args = [ ./image.sh ];
  customize = ./image-customize.sh;
  quieten = ./quieten.sh;
  linkPrograms = ./link-programs.sh;
  library = ./build-lib.sh;
  allowSubstitutes = false;
  inherit (debian) suite mirror;
  inherit groups;
}
