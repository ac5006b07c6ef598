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

  evaluated = evaluateWith modules;
  evaluateWith = modules: lib.evalModules {
    modules = import ./options ++ modules;
    args = { inherit pkgs; utils = import ./utils.nix { inherit lib; }; };
    specialArgs = { inherit modulesPath; baseModules = [ ]; extraModules = [ ]; noUserModules = evaluateWith [ ]; } // specialArgs;
    inherit hint;
  };

  # pkgs depends on two options only; looking at them must not check all the others, which may need pkgs.
  checked = evaluated // { config = { nixpkgs = { overlays = evaluated.options.nixpkgs.overlays.value; config = evaluated.options.nixpkgs.config.value; }; }; };

  hinted = import ./mentions.nix { inherit lib pkgs; files = builtins.filter builtins.isPath modules; };

  # What is built of an evaluation: only if its assertions hold, and with its warnings.
  buildOf = evaluated:
    let
      own = map (a: a.message) (builtins.filter (a: !a.assertion) evaluated.config.assertions);
      failed = if own != [ ] then own else evaluated.config.standin.failed;
      ignored = lib.listIgnored evaluated.options;
      warnings = evaluated.config.warnings ++ lib.optional (ignored != [ ])
        "the stand-in for nixpkgs accepts these options, and they have no effect in its machines: ${lib.concatStringsSep ", " ignored} (standin/OPTIONS.md says what holds instead; a real nixpkgs has them all: --nixpkgs)";
    in
    if failed != [ ] then throw "\nFailed assertions:\n${lib.concatMapStringsSep "\n" (m: "- ${m}") failed}"
    else lib.foldr (message: builtins.trace "warning: ${message}") evaluated.config.system.build warnings;

  # The configuration with one of its variants merged in, if it has that.
  variant = name:
    let inherit (evaluated.options.virtualisation.${name}) files value; in
    if files == [ ] then evaluated else evaluated.extendModules { modules = [ value ]; };
  build = hinted (buildOf evaluated);
  buildWith = name: if evaluated.options.virtualisation.${name}.files == [ ] then build else hinted (buildOf (variant name));
  inherit (evaluated) config;
in
{
  inherit pkgs lib;
  config = config // {
    # As in NixOS, who reads a variant gets the whole configuration that it makes.
    virtualisation = config.virtualisation // lib.genAttrs [ "vmVariant" "vmVariantWithBootLoader" ] (name: (variant name).config);
    system = config.system // {
      build = {
        inherit (build) toplevel initrd;
        inherit (buildWith "vmVariant") vm standin;
        vmWithBootLoader = (buildWith "vmVariantWithBootLoader").vm;
      } // removeAttrs config.system.build [ "toplevel" "initrd" "vm" "standin" ];
    };
  };
  inherit (evaluated) options;
  # As here, with more modules: what is built of them has their variants and assertions, too.
  extendModules = more: import ./evaluate.nix {
    inherit system;
    modules = modules ++ more.modules or [ ];
    specialArgs = specialArgs // more.specialArgs or { };
  };
}
