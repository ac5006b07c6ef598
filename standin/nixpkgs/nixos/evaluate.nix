# A list of modules -> { config, options, pkgs }.
{ system ? builtins.currentSystem, modules, specialArgs ? { } }:

let
  lib = import ../lib;

  # Where `modulesPath + "/profiles/qemu-guest.nix"` and the like are looked for.
  modulesPath = toString ./modules;

  pkgs = import ../pkgs {
    inherit system;
    inherit (checked.config.nixpkgs) overlays config;
  };

  hint = " in the stand-in for nixpkgs, which knows a part of NixOS's options (see standin/README.md; a real nixpkgs has them all: --nixpkgs)";

  evaluated = lib.evalModules {
    modules = import ./options ++ modules;
    args = { inherit pkgs; utils = import ./utils.nix { inherit lib; }; };
    specialArgs = { inherit modulesPath; baseModules = [ ]; extraModules = [ ]; } // specialArgs;
    inherit hint;
  };

  # pkgs depends on two options only; looking at them must not check all the others, which may need pkgs.
  checked = evaluated // { config = { nixpkgs = { overlays = evaluated.options.nixpkgs.overlays.value; config = evaluated.options.nixpkgs.config.value; }; }; };

  hinted = import ./mentions.nix { inherit lib pkgs; files = builtins.filter builtins.isPath modules; };

  failed = map (a: a.message) (builtins.filter (a: !a.assertion) evaluated.config.assertions);
  config =
    hinted (
      if failed != [ ] then throw "\nFailed assertions:\n${lib.concatMapStringsSep "\n" (m: "- ${m}") failed}"
      else lib.foldr (message: builtins.trace "warning: ${message}") evaluated.config evaluated.config.warnings);

  # system.build.vm is that of the configuration with virtualisation.vmVariant merged in.
  variant = evaluated.options.virtualisation.vmVariant;
  withVariant = evaluated.extendModules { modules = [ variant.value ]; };
  build = if variant.files == [ ] then config.system.build else withVariant.config.system.build;
in
{
  inherit pkgs lib;
  config = config // { system = config.system // { build = config.system.build // { inherit (build) vm standin; }; }; };
  inherit (evaluated) options extendModules;
}
