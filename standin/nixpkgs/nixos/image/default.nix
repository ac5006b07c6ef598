# From a configuration to what is built of it (README.md, "How it is layered"):
#
#   base ──────────┬──▶ image ──┬──▶ system ──▶ initrd ──▶ vm
#   references ────┘            │
#   (the packages the           └ which programs the packages have
#   configuration refers to)
#
# `references` is read while the configuration is still being evaluated, because the image is keyed by what it says.
{ lib, pkgs, config }:

let
  inherit (pkgs) system;
  debian = import ./debian.nix;
  spec = config.standin.spec;

  base = import ./base.nix { inherit debian system; };

  # The configuration as the builders get it. With its string context: whatever store path it names is built first, and
  # is in its closure.
  specFile = pkgs.writeText "standin-spec.json" (builtins.toJSON spec);

  # The Debian packages that anything in the configuration's closure needs, sorted, one group a line.
  references = derivation {
    name = "standin-references";
    inherit system;
    builder = "/bin/sh";
    args = [ ./references.sh ];
    PATH = "/usr/bin:/bin";
    exportReferencesGraph = [ "closure" specFile ];
    allowSubstitutes = false;
    preferLocalBuild = true;
  };
  groups = builtins.filter (line: line != "") (lib.splitString "\n" (builtins.readFile references));

  image = import ./image.nix { inherit debian system base; groups = lib.concatStringsSep " " groups; };

  toplevel = derivation {
    name = "nixos-system-${config.system.name}-${lib.strings.sanitizeDerivationName config.system.nixos.label}";
    inherit system base specFile;
    inherit (image) programs;
    inherit (debian) release;
    builder = "/usr/bin/python3";
    args = [ ./system.py ];
    activate = ./activate.pl;
    allowSubstitutes = false;
    preferLocalBuild = true;
  };

  initrd = derivation {
    name = "standin-initrd";
    inherit system base toplevel image;
    builder = "/usr/bin/python3";
    args = [ ./initrd.py ];
    init = ./init.sh;
    exportReferencesGraph = [ "closure" toplevel ];
    allowSubstitutes = false;
    preferLocalBuild = true;
  };

  vm = import ./vm.nix { inherit lib pkgs config base image initrd toplevel; };
in
{
  inherit toplevel initrd;
  vm = vm.package;
  standin = { inherit base image references specFile; inherit (vm) scriptFor; };
}
