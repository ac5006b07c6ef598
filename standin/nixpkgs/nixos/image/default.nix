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

  # The configuration as the builders get it. It keeps its string context: each store path that it names is built first, and
  # is in its closure.
  specFile = specFileOf spec;
  specFileOf = spec: pkgs.writeText "standin-spec.json" (builtins.toJSON spec);

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
  # Those of other configurations, so that the machine can be switched to them.
  others = lib.concatMap
    (module: (import ../evaluate.nix { inherit system; modules = [ module ]; }).config.system.build.standin.groups)
    config.standin.alsoPackagesOf;

  image = import ./image.nix {
    inherit debian system base;
    groups = lib.concatStringsSep " " (builtins.sort (a: b: a < b) (lib.unique (groups ++ others)));
  };

  # A configuration's system, and those of its specialisations: their programs are in the same image.
  systemOf = { specialisations, ... }@spec: derivation {
    name = "nixos-system-${spec.name}-${lib.strings.sanitizeDerivationName spec.label}";
    inherit system base;
    inherit (image) programs;
    inherit (debian) release;
    specFile = specFileOf (removeAttrs spec [ "specialisations" ]);
    specialisations = builtins.toJSON (lib.mapAttrs (_: systemOf) specialisations);
    debianPackages = lib.concatLines groups;
    builder = "/usr/bin/python3";
    args = [ ./system.py ];
    activate = ./activate.pl;
    switch = ./switch;
    allowSubstitutes = false;
    preferLocalBuild = true;
  };
  toplevel = systemOf spec;

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
  standin = { inherit base image references specFile groups; inherit (vm) scriptFor; };
}
